//! Leaving a pod: the proxy ends after the app, whose calls it carries to the last.
//!
//! The kubelet ends the containers of a pod in one of two ways. A native sidecar gets SIGTERM when the app's containers have
//! ended: there is nothing to wait for but what is in flight. An ordinary container gets it in the same moment as the app, which
//! now finishes its work, calls others while it does so, and gets new connections as long as its endpoint is being taken out.
//! So the proxy unreadies itself, asks the clients of its inbound side to go elsewhere (`connection: close`, GOAWAY)
//! while it goes on serving them, leaves its outbound side as it is, and drains for good when the app is gone.
//!
//! That the app is gone cannot be asked without a privilege: containers share the network, not the processes. It shows in the
//! network: none of its ports listens, it has no connection through the proxy, and it has made none for a while ([`Leave::quiet`]).
//! An app that has closed its port and says nothing for longer is taken for gone; the bound is what the kubelet would cut off anyway.

use std::{
    fs::File,
    io::{self, BufReader},
    sync::atomic::Ordering,
    time::Duration,
};

use outrigger_config::model::Direction;
use tokio::{
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{Ending, Proxy, Signals};
use crate::shared::{Phase, Shared};

/// How often the app is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What is left of the time for the end itself: idle connections are closed within one second of it.
const LAST: Duration = Duration::from_secs(2);
/// Bound of a dial, where the system's list of sockets cannot be read. It is the pod's own address.
const DIAL: Duration = Duration::from_millis(100);
/// Ports of the app that are looked for.
const MAX_PORTS: usize = 64;
/// Lines of the list of sockets that are read: those that listen come first.
const MAX_LINES: usize = 4096;

/// How a proxy leaves its pod.
#[derive(Debug, Clone)]
pub struct Leave {
    /// Most time from the signal to the end; below the pod's `terminationGracePeriodSeconds`.
    pub timeout: Duration,
    /// An app without a port and without a connection is gone when it was so for this long.
    pub quiet: Duration,
    /// It is a native sidecar: the app has ended before the signal comes.
    pub native: bool,
    /// Ports of the app besides those that the control plane names.
    pub ports: Vec<u16>,
}

impl Default for Leave {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(25), quiet: Duration::from_secs(5), native: false, ports: Vec::new() }
    }
}

/// What shows that the app is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signs {
    /// One of its ports listens.
    listens: bool,
    /// Connections that it has through the proxy.
    open: u64,
    /// Those that it has ever made.
    made: u64,
}

/// Judges by signs whether the app is gone.
#[derive(Debug)]
struct Watch {
    quiet: Duration,
    seen: Instant,
    made: u64,
}

impl Watch {
    fn new(quiet: Duration, made: u64, now: Instant) -> Self {
        Self { quiet, seen: now, made }
    }

    /// True if there was no sign for long enough.
    fn is_gone(&mut self, signs: Signs, now: Instant) -> bool {
        if signs.listens || signs.open > 0 || signs.made != self.made {
            self.made = signs.made;
            self.seen = now;
        }
        now.saturating_duration_since(self.seen) >= self.quiet
    }
}

impl Proxy {
    /// Serves until the app is gone, the time is nearly over, or the admin port is told that nothing more is to come. `Some`: the
    /// process ends at once.
    pub(super) async fn outlive_app(&self, leave: &Leave, deadline: Instant, signals: &mut Signals) -> Option<Ending> {
        self.shared.advance(Phase::Leaving);
        tracing::info!(timeout = ?leave.timeout, "draining inbound; outbound goes on until the app is gone");
        let mut phase = self.shared.phase();
        let last = deadline.checked_sub(LAST.min(leave.timeout / 4)).unwrap_or(deadline);
        let gone = gone(&self.shared, leave);
        tokio::select! {
            () = gone => tracing::info!("the app is gone"),
            () = tokio::time::sleep_until(last) => {
                let Signs { listens, open, .. } = signs(&self.shared, leave).await;
                tracing::warn!(listens, connections = open, "the drain time-out is nearly over, and the app is still there");
            }
            () = self.shutdown.notified() => tracing::info!("told that the app has ended"),
            _ = phase.wait_for(|p| *p >= Phase::Draining) => {}
            number = signals.end() => {
                tracing::warn!("second signal: ending at once");
                return Some(Ending::Killed(number));
            }
        }
        None
    }
}

async fn gone(shared: &Shared, leave: &Leave) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::new(leave.quiet, signs(shared, leave).await.made, Instant::now());
    loop {
        ticks.tick().await;
        if watch.is_gone(signs(shared, leave).await, Instant::now()) {
            return;
        }
    }
}

async fn signs(shared: &Shared, leave: &Leave) -> Signs {
    let snapshot = shared.snapshot();
    let outbound = snapshot.model.listeners.iter().zip(&snapshot.listeners);
    let mut signs = Signs { listens: false, open: 0, made: 0 };
    for (_, bound) in outbound.filter(|(listener, _)| listener.direction == Direction::Outbound) {
        signs.open += u64::from(bound.connections.load(Ordering::Relaxed));
        signs.made += bound.accepted.load(Ordering::Relaxed);
    }
    let Some(routing) = &snapshot.routing else { return signs };
    let known = routing.app_addresses().map(|app| app.port());
    let mut ports: Vec<_> = known.chain(leave.ports.iter().copied()).take(MAX_PORTS).collect();
    ports.sort_unstable();
    ports.dedup();
    signs.listens = match listens(&ports) {
        Ok(listens) => listens,
        Err(error) => {
            tracing::debug!(%error, "the sockets of the pod cannot be listed: its ports are dialled");
            answers(routing.app_addresses()).await
        }
    };
    signs
}

/// Whether anybody listens on one of `ports` in this network namespace.
fn listens(ports: &[u16]) -> io::Result<bool> {
    let v4 = any_listens(BufReader::new(File::open("/proc/self/net/tcp")?), ports)?;
    // A kernel without IPv6 has no such file.
    let v6 = File::open("/proc/self/net/tcp6");
    Ok(v4 || v6.is_ok_and(|v6| any_listens(BufReader::new(v6), ports).unwrap_or(false)))
}

/// Reads a list of sockets as proc(5) has it: `sl local_address rem_address st ...`, in hexadecimal.
fn any_listens(list: impl io::BufRead, ports: &[u16]) -> io::Result<bool> {
    /// `TCP_LISTEN`.
    const LISTEN: &str = "0A";
    for line in list.lines().skip(1).take(MAX_LINES) {
        let line = line?;
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
        if state != LISTEN {
            // The kernel lists what listens first.
            return Ok(false);
        }
        let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        if port.is_some_and(|port| ports.contains(&port)) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn answers(apps: impl Iterator<Item = std::net::SocketAddr>) -> bool {
    for app in apps.take(MAX_PORTS) {
        if timeout(DIAL, TcpStream::connect(app)).await.is_ok_and(|made| made.is_ok()) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_gone_when_nothing_shows_it_for_a_while() {
        let now = Instant::now();
        let second = |n: u64| now + Duration::from_secs(n);
        let mut watch = Watch::new(Duration::from_secs(5), 7, now);
        let none = Signs { listens: false, open: 0, made: 7 };
        assert!(!watch.is_gone(Signs { listens: true, ..none }, second(10)));
        assert!(!watch.is_gone(none, second(14)));
        assert!(!watch.is_gone(Signs { open: 1, ..none }, second(14)));
        // A call that came and went between two looks.
        assert!(!watch.is_gone(Signs { made: 8, ..none }, second(18)));
        assert!(!watch.is_gone(Signs { made: 8, ..none }, second(22)));
        assert!(watch.is_gone(Signs { made: 8, ..none }, second(23)));
    }

    #[test]
    fn sockets_that_listen_are_found() {
        let list = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                       0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n\
                       1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1\n\
                       2: 0100007F:0051 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 3 1\n";
        assert!(any_listens(list.as_bytes(), &[8080]).unwrap());
        assert!(any_listens(list.as_bytes(), &[1, 80]).unwrap());
        assert!(!any_listens(list.as_bytes(), &[81]).unwrap());
        assert!(!any_listens(list.as_bytes(), &[]).unwrap());
        assert!(!any_listens(&b"nonsense\n\xff\xff"[..], &[80]).unwrap_or(false));
        assert!(!any_listens(&b"head\n0: :: :: 0A\n1: zz:zzzz 0:0 0A\n"[..], &[80]).unwrap());
        let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = here.local_addr().unwrap().port();
        assert!(listens(&[port]).unwrap());
        drop(here);
        assert!(!listens(&[port]).unwrap());
    }
}
