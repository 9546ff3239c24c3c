//! The programs and the kernel that rules are installed with: nothing here knows what a rule is.
//!
//! Programs are looked for in `PATH` and nowhere else, so that what is found can be told and changed. They are not
//! waited for with a bound of our own: netlink answers at once, and `iptables` is told how long it may wait for its lock.

use std::{
    ffi::OsString,
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where programs are if nobody says it.
const DEFAULT_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Number of the capability in the masks of the kernel (`linux/capability.h`).
const CAP_NET_ADMIN: u32 = 12;
/// The lock of iptables, and the variable that names another.
const LOCK: &str = "/run/xtables.lock";
/// See [`LOCK`].
const LOCK_VARIABLE: &str = "XTABLES_LOCKFILE";
/// Of what a program says; the rest is a repetition.
const MAX_SAID: usize = 400;

/// See the module.
#[derive(Debug, Clone)]
pub struct System {
    path: OsString,
    /// Whether this process may change rules; `None`: that cannot be told without trying.
    net_admin: Option<bool>,
    ipv6: bool,
    /// `/proc/net`
    net: PathBuf,
}

/// What became of a program.
#[derive(Debug)]
pub struct Ran {
    /// It exited with 0.
    pub ok: bool,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr, on one line and cut short.
    pub said: String,
}

impl Ran {
    /// True if the kernel said that this process may not.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        !self.ok
            && ["Operation not permitted", "Permission denied", "must be root"].iter().any(|t| self.said.contains(t))
    }
}

impl System {
    /// The one that this process runs on.
    #[must_use]
    pub fn this() -> Self {
        Self {
            path: std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()),
            net_admin: fs::read_to_string("/proc/self/status").ok().as_deref().and_then(net_admin),
            ipv6: Path::new("/proc/sys/net/ipv6").exists(),
            net: "/proc/net".into(),
        }
    }

    /// One with programs from `path` alone, where the kernel's files are, too.
    #[cfg(test)]
    pub(super) fn with(path: &Path, net_admin: Option<bool>, ipv6: bool) -> Self {
        Self { path: path.into(), net_admin, ipv6, net: path.to_owned() }
    }

    /// Whether this process may change rules; `None`: that cannot be told without trying.
    #[must_use]
    pub fn net_admin(&self) -> Option<bool> {
        self.net_admin
    }

    /// Whether the kernel has IPv6.
    #[must_use]
    pub fn ipv6(&self) -> bool {
        self.ipv6
    }

    /// Whether the older iptables (of before nf_tables) has made this table here. Its program makes it when it is asked.
    #[must_use]
    pub fn has_legacy_table(&self, ipv6: bool, table: &str) -> bool {
        let names = self.net.join(if ipv6 { "ip6_tables_names" } else { "ip_tables_names" });
        fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == table))
    }

    /// Where the program is.
    #[must_use]
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path)
            .map(|dir| dir.join(program))
            .find(|file| fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&self, program: &Path, args: &[&str], input: &str) -> io::Result<Ran> {
        let mut command = Command::new(program);
        command.args(args).env("PATH", &self.path).env("LC_ALL", "C");
        if legacy_lock_is_out_of_reach() {
            command.env(LOCK_VARIABLE, "/dev/null");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends without reading has said why. Neither writes before it has read all.
            stdin.write_all(input.as_bytes()).ok();
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        Ok(Ran {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            said: if said.is_empty() { output.status.to_string() } else { said.chars().take(MAX_SAID).collect() },
        })
    }
}

/// Whether the older iptables would fail for want of its lock: under a read-only root, where nobody else is who could hold it.
fn legacy_lock_is_out_of_reach() -> bool {
    let mut open = fs::OpenOptions::new();
    std::env::var_os(LOCK_VARIABLE).is_none() && open.create(true).append(true).open(LOCK).is_err()
}

/// What `/proc/self/status` says of the capability.
fn net_admin(status: &str) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some(mask >> CAP_NET_ADMIN & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_read_from_the_mask() {
        assert_eq!(net_admin("Name:\tx\nCapEff:\t0000000000001000\n"), Some(true));
        assert_eq!(net_admin("CapEff:\t000001ffffffffff\n"), Some(true));
        assert_eq!(net_admin("CapEff:\t0000000000002000\n"), Some(false));
        assert_eq!(net_admin("Name:\tx\n"), None);
    }
}
