//! Pods on one machine: network namespaces on a bridge, with the traffic capture that a pod has (`redirect install` of the real
//! binary), and addresses of both versions of IP.
//!
//! Needs root, `ip` and `nft`. The test process itself runs the apps: a thread that has joined a namespace ([`Pod::inside`])
//! makes sockets of that pod, also those of the threads that it starts. The proxy runs as uid 2112, whose connections are
//! not captured; everybody else's are.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use crate::{binary, peers};

/// A bridge that pods are on. The test process reaches them, and they reach it at [`Net::host`].
#[derive(Debug)]
pub struct Net {
    name: String,
    subnet: u8,
    next: AtomicU8,
}

/// A network namespace with one interface.
#[derive(Debug)]
pub struct Pod {
    namespace: String,
    ip: Ipv4Addr,
    ip6: Ipv6Addr,
}

/// The proxy's user.
pub const PROXY_UID: u32 = 2112;

/// Where `ip netns exec` looks for files that a namespace has instead of the machine's.
const FILES: &str = "/etc/netns";

impl Net {
    /// Makes the bridge. `None`: this user or machine cannot, and that was said.
    #[must_use]
    pub fn start(scenario: &str) -> Option<Self> {
        peers::program(scenario, "ip")?;
        peers::program(scenario, "nft")?;
        peers::program(scenario, "setpriv")?;
        // SAFETY: it only reads the user's id.
        #[allow(unsafe_code)]
        let root = unsafe { libc::geteuid() } == 0;
        if !root {
            return peers::skip(scenario, "root needed for network namespaces");
        }
        let subnet = claim();
        let net = Self { name: format!("ogbr{subnet}"), subnet, next: AtomicU8::new(2) };
        sh(&format!("ip link del {0} 2>/dev/null; ip link add {0} type bridge", net.name));
        sh(&format!("ip addr add {}/24 dev {1} && ip link set {1} up", net.host(), net.name));
        sh(&format!("ip addr add {}/24 dev {}", net.second(), net.name));
        sh(&format!("ip -6 addr add {}/64 dev {} nodad", net.host6(), net.name));
        Some(net)
    }

    /// The address of the test process on the bridge.
    #[must_use]
    pub fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, self.subnet, 1)
    }

    /// Another address of the test process, for a second server at the same port.
    #[must_use]
    pub fn second(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 88, self.subnet, 254)
    }

    /// The same of IPv6.
    #[must_use]
    pub fn host6(&self) -> Ipv6Addr {
        self.at6(1)
    }

    fn at6(&self, n: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd88, self.subnet.into(), 0, 0, 0, 0, 0, n.into())
    }

    /// A new pod.
    #[must_use]
    pub fn pod(&self) -> Pod {
        let n = self.next.fetch_add(1, Ordering::SeqCst);
        let ip = Ipv4Addr::new(10, 88, self.subnet, n);
        let pod = Pod { namespace: format!("og{}-{n}", self.subnet), ip, ip6: self.at6(n) };
        let (ns, veth, host) = (&pod.namespace, format!("ogv{}-{n}", self.subnet), self.host());
        sh(&format!("ip netns del {ns} 2>/dev/null; ip netns add {ns} && ip -n {ns} link set lo up"));
        sh(&format!(
            "ip link add {veth} type veth peer name eth0 netns {ns} && ip link set {veth} master {} up",
            self.name
        ));
        sh(&format!("ip -n {ns} addr add {}/24 dev eth0 && ip -n {ns} link set eth0 up", pod.ip));
        sh(&format!("ip -n {ns} route add default via {host}"));
        sh(&format!("ip -n {ns} -6 addr add {}/64 dev eth0 nodad", pod.ip6));
        sh(&format!("ip -n {ns} -6 route add default via {}", self.host6()));
        pod
    }
}

/// Each subnet taken so far, as the abstract socket that says so to other test processes: it goes with this one. None is
/// taken twice by one process, for interfaces go a moment after their namespace.
static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A subnet that no other test has, here or in another process.
fn claim() -> u8 {
    // Processes start at different places, so that they seldom meet.
    let start = std::process::id().wrapping_mul(8);
    let mut subnets = (0..200).map(|n| u8::try_from(start.wrapping_add(n) % 200).unwrap_or(0) + 20);
    let claimed = |subnet| {
        let name = UnixAddr::from_abstract_name(format!("outrigger-tests-net-{subnet}")).expect("a short name");
        Some((subnet, UnixListener::bind_addr(&name).ok()?))
    };
    let (subnet, lock) = subnets.find_map(claimed).expect("not every subnet is taken");
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
    subnet
}

impl Drop for Net {
    fn drop(&mut self) {
        for n in 2..self.next.load(Ordering::SeqCst) {
            try_sh(&format!("ip netns del og{0}-{n}; rm -rf {FILES}/og{0}-{n}", self.subnet));
        }
        try_sh(&format!("ip link del {}", self.name));
    }
}

impl Pod {
    /// Its address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ip.into()
    }

    /// What programs of the pod that [`Pod::command`] starts find in `/etc` (`hosts`, `resolv.conf`).
    pub fn etc(&self, name: &str, text: &str) {
        let dir = Path::new(FILES).join(&self.namespace);
        fs::create_dir_all(&dir).expect("root may");
        fs::write(dir.join(name), text).expect("root may");
    }

    /// Its address of IPv6.
    #[must_use]
    pub fn ip6(&self) -> IpAddr {
        self.ip6.into()
    }

    /// What its capture container does: what the app sends goes to the proxy's outbound listener (9991), and what comes from
    /// elsewhere to its inbound one (9992).
    #[track_caller]
    pub fn capture(&self) {
        self.capture_with(&[]);
    }

    /// The same with these flags.
    #[track_caller]
    pub fn capture_with(&self, flags: &[&str]) {
        let output = self.redirect("install", flags).output().expect("ip runs");
        assert!(output.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `outrigger-proxy redirect ACTION FLAGS` as root.
    #[must_use]
    pub fn redirect(&self, action: &str, flags: &[&str]) -> Command {
        let mut command = self.exec(binary::proxy());
        command.args(["redirect", action]).args(flags);
        command
    }

    /// All rules of the pod, without counters.
    #[must_use]
    #[track_caller]
    pub fn rules(&self) -> String {
        let output = self.exec(Path::new("nft")).args(["-s", "list", "ruleset"]).output().expect("ip runs");
        String::from_utf8(output.stdout).expect("rules are text")
    }

    /// A command that runs `program` in the pod as root: an app, whose connections are captured.
    #[must_use]
    pub fn exec(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// The same as another user.
    #[must_use]
    pub fn exec_as(&self, uid: u32, program: &Path) -> Command {
        let mut command = self.exec(Path::new("setpriv"));
        command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".into()]).arg(program);
        command
    }

    /// `curl` in the pod: its exit code and the answer's body.
    #[must_use]
    #[track_caller]
    pub fn curl(&self, uid: u32, args: &[&str]) -> (bool, String) {
        let mut command = self.exec_as(uid, Path::new("curl"));
        command.args(["-sS", "-g", "--noproxy", "*", "-m", "10"]).args(args);
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().expect("ip runs");
        let text = if status.success() { stdout } else { stderr };
        (status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// A command that runs `program` in the pod as the proxy's user.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        self.exec_as(PROXY_UID, program)
    }

    /// Runs `work` on a thread of the pod: its sockets, and those of threads that it starts, are the pod's.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.namespace)).expect("the namespace is there");
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: it changes the network namespace of this thread alone, which the test starts and ends.
                #[allow(unsafe_code)]
                let joined = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(joined, 0, "{}", std::io::Error::last_os_error());
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn sh(script: &str) {
    assert!(try_sh(script), "{script}");
}

fn try_sh(script: &str) -> bool {
    let status = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
