//! Two pods and who they are.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
};

use outrigger_config::discovery::{Binding, Endpoint, Workload, resource::Body};
use outrigger_tests::{
    LONG, Origin, Proxy, Response, binary,
    discovery::{ControlPlane, service_key},
    eventually,
    guard::Guarded,
    netns::{Net, Pod},
};
use tempfile::TempDir;

/// Where apps listen.
pub(crate) const PORT: u16 = 8080;
/// A user that apps run as.
pub(crate) const APP: u32 = 1000;
/// Address of a Service, which no machine has.
pub(crate) const VIP: &str = "10.96.0.10";
/// Who calls.
pub(crate) const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// A pod and its proxy.
pub(crate) struct Member {
    pub(crate) pod: Pod,
    pub(crate) proxy: Proxy,
    account: &'static str,
}

/// `web`, which calls, and `api`, which is called.
pub(crate) struct Mesh {
    // Proxies go before what they talk to.
    pub(crate) web: Member,
    pub(crate) api: Member,
    pub(crate) control: ControlPlane,
    pub(crate) net: Net,
}

impl Mesh {
    /// Both pods captured with no flags, callers without identity refused.
    pub(crate) fn start(scenario: &str) -> Option<Self> {
        Self::start_with(scenario, "strict", |pod| pod.capture())
    }

    /// Callers are treated as `mtls` says, and `capture` installs the rules of each pod.
    pub(crate) fn start_with(scenario: &str, mtls: &str, capture: impl Fn(&Pod)) -> Option<Self> {
        let net = Net::start(scenario)?;
        let control = ControlPlane::start_at(net.host().into());
        control.put("workload", Body::Workload(Workload { mtls: mtls.into(), ..Workload::default() }));
        let [web, api] = ["web", "api"].map(|account| {
            let pod = net.pod();
            capture(&pod);
            let proxy = control.proxy_in(&pod, account, pod.command(binary::proxy()));
            Member { pod, proxy, account }
        });
        for member in [&web, &api] {
            member.proxy.wait_ready();
        }
        let mesh = Self { web, api, control, net };
        let endpoints: Vec<_> = [PORT].map(|port| mesh.api.endpoint(mesh.api.pod.ip(), port)).into();
        mesh.control.service("api", 80, &endpoints, &[]);
        let binding = Binding { service: service_key("api", 80), pinned: None };
        mesh.control.put(&format!("address/{VIP}:80"), Body::Binding(binding));
        mesh.known(&mesh.api, &[PORT]);
        Some(mesh)
    }

    /// The control plane knows these ports of a pod, at both of its addresses.
    pub(crate) fn known(&self, member: &Member, ports: &[u16]) {
        for ip in [member.pod.ip(), member.pod.ip6()] {
            for port in ports {
                let pinned = member.endpoint(ip, *port);
                let key = format!("address/{}", pinned.address);
                self.control.put(&key, Body::Binding(Binding { service: String::new(), pinned: Some(pinned) }));
            }
        }
    }
}

impl Member {
    pub(crate) fn endpoint(&self, ip: IpAddr, port: u16) -> Endpoint {
        Endpoint {
            address: SocketAddr::new(ip, port).to_string(),
            identity: format!("spiffe://cluster.local/ns/shop/sa/{}", self.account),
            ..Endpoint::default()
        }
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.pod.ip(), port)
    }

    pub(crate) fn at6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.pod.ip6(), port)
    }

    /// An app that says its name, and records what it is asked.
    pub(crate) fn app(&self, port: u16) -> Origin {
        serve(&self.pod, port, self.account)
    }

    /// What the app's proxy has counted of connections in this direction.
    pub(crate) fn connections(&self, direction: &str, side: &str, tls: &str) -> f64 {
        self.proxy.metrics().sum("connections_total", &[("direction", direction), ("side", side), ("tls", tls)])
    }

    /// A foreign server in the pod, as its app, which is waited for at `port`.
    pub(crate) fn server(&self, name: &str, program: &Path, args: &[&str], port: u16) -> Guarded {
        let dir = TempDir::new().expect("a temporary directory").keep();
        let mut command = self.pod.exec(program);
        command.args(args).env("PYTHONPATH", binary::target_dir().join("test-venv")).env("PYTHONUNBUFFERED", "1");
        let running = Guarded::start(name, &command, &dir);
        eventually(&format!("{name} listens"), LONG, || {
            assert!(running.runs(), "{}", running.tail(20));
            let socket = format!("( sport = :{port} )");
            let listening = self.pod.exec(Path::new("ss")).args(["-Hltn", &socket]).output().expect("ip runs");
            (!listening.stdout.is_empty()).then_some(())
        });
        running
    }

    /// Runs a program of the app to its end: what it printed.
    #[track_caller]
    pub(crate) fn run(&self, program: &Path, args: &[&str]) -> String {
        let mut command = self.pod.exec_as(APP, program);
        command.args(args).env("PYTHONPATH", binary::target_dir().join("test-venv")).env("GRPC_VERBOSITY", "NONE");
        let output = command.stdin(Stdio::null()).output().expect("ip runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// `GET URL` of the app with curl, which must be answered.
    #[track_caller]
    pub(crate) fn get(&self, url: &str) -> String {
        let (ok, text) = self.pod.curl(APP, &[url]);
        assert!(ok, "{url}: {text}");
        text
    }
}

/// A server in a pod that says `name`, at every address.
pub(crate) fn serve(pod: &Pod, port: u16, name: &'static str) -> Origin {
    pod.inside(move || {
        let listener = TcpListener::bind(("::", port)).expect("the port is free in the pod");
        Origin::on(listener, move |wire, _, recorder| {
            while let Ok(Some(request)) = wire.request() {
                recorder.record(&request);
                if wire.try_send(Response::text(name).wire(&request.method)).is_err() {
                    break;
                }
            }
        })
    })
}
