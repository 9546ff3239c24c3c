//! Ports for programs that have to be told where to listen.
//!
//! A port that the kernel has just handed out is one that it hands out again, to a client's end of a connection or to
//! whoever asks for port 0, before the program that was meant to have it starts. So these are from below the kernel's
//! own range, where nobody is put by chance, and each belongs to one test process until that ends.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    ops::Range,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
    sync::{Mutex, OnceLock, PoisonError},
};

/// Above what services of a machine use by custom, and enough for every test there is a hundred times over.
const LOWEST: u16 = 20_000;

/// Those taken so far, each as the abstract socket that says so to other test processes: it goes with this one.
static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// Distinct ports of 127.0.0.1 that nothing listens on, and that nothing else is given.
///
/// # Panics
///
/// If all are taken.
#[must_use]
#[track_caller]
pub fn free_ports<const N: usize>() -> [SocketAddr; N] {
    [(); N].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())))
}

/// One port on which nothing listens, for TCP and UDP alike.
///
/// # Panics
///
/// If all are taken.
#[must_use]
#[track_caller]
pub fn free_port() -> u16 {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let range = range();
    // Processes start at different places, so that they seldom meet.
    let start = usize::try_from(std::process::id()).unwrap_or(0) * 97 + taken.len();
    let (port, lock) = range
        .clone()
        .cycle()
        .skip(start % range.len())
        .take(range.len())
        .find_map(|port| claim(port).map(|lock| (port, lock)))
        .expect("not every port is taken");
    taken.push(lock);
    port
}

/// Ours, if nobody has claimed it and nothing uses it.
fn claim(port: u16) -> Option<UnixListener> {
    let name = UnixAddr::from_abstract_name(format!("outrigger-tests-port-{port}")).expect("a short name");
    let lock = UnixListener::bind_addr(&name).ok()?;
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok()?;
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).ok()?;
    Some(lock)
}

/// From [`LOWEST`] to where the kernel chooses itself.
fn range() -> Range<u16> {
    static RANGE: OnceLock<Range<u16>> = OnceLock::new();
    RANGE
        .get_or_init(|| {
            let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
            let low = text.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768);
            if low > LOWEST + 1_000 { LOWEST..low } else { 2_000..low.max(3_000) }
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{claim, free_port, free_ports};

    #[test]
    fn none_is_given_twice() {
        let ports: HashSet<_> = (0..200).map(|_| free_port()).chain(free_ports::<50>().map(|a| a.port())).collect();
        assert_eq!(ports.len(), 250);
        for port in ports {
            assert!(claim(port).is_none(), "{port}");
        }
    }
}
