//! How many connections one address holds, so that no single peer takes all places of a port.
//!
//! The ports of the mesh are open to every pod, and who has not finished a handshake is nobody yet: an address is all that
//! tells peers apart. A peer of several addresses holds several shares; what bounds those are the port's own limits and how
//! soon a connection ends that says nothing. Loopback is counted but not limited: what is there shares our network namespace.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

/// Until the first byte of a connection. A TLS client speaks first and at once; a lost packet is sent again after about 200 ms.
const SILENCE: Duration = Duration::from_secs(1);

/// The connections of one port by address. Has an entry for each address with a connection, so the port's limit of
/// connections bounds it.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    turns: usize,
    held: Mutex<HashMap<IpAddr, Held>>,
}

#[derive(Debug)]
struct Held {
    connections: usize,
    turns: Arc<Semaphore>,
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
    turns: Arc<Semaphore>,
}

impl Places {
    /// `most` connections and `turns` handshakes of one address at once.
    pub(crate) fn new(most: usize, turns: usize) -> Arc<Self> {
        Arc::new(Self { most, turns, held: Mutex::default() })
    }

    /// A place for a connection, unless its address has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        // An IPv4 peer of a socket for both families is the same peer.
        let address = address.to_canonical();
        let mut all = self.lock();
        let held =
            all.entry(address).or_insert_with(|| Held { connections: 0, turns: Arc::new(Semaphore::new(self.turns)) });
        // An entry that was just made has none, and `most` is not 0, so none is left behind without a place.
        if held.connections >= self.most && !address.is_loopback() {
            return None;
        }
        held.connections += 1;
        let turns = Arc::clone(&held.turns);
        drop(all);
        Some(Place { places: Arc::clone(self), address, turns })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The handshakes that this address may run at once.
    pub(crate) fn turns(&self) -> &Arc<Semaphore> {
        &self.turns
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.lock();
        if let Some(held) = all.get_mut(&self.address) {
            held.connections -= 1;
            if held.connections == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// Whether the peer says something (or goes) soon. One that does not costs a socket for a second, and no turn of a handshake.
pub(crate) async fn speaks(stream: &TcpStream) -> bool {
    // Looks at a byte: readiness alone may be announced without one.
    matches!(timeout(SILENCE, stream.peek(&mut [0])).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_and_no_more() {
        let places = Places::new(2, 1);
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = places.enter(a).unwrap();
        let second = places.enter("::ffff:192.0.2.1".parse().unwrap()).unwrap();
        assert!(places.enter(a).is_none());
        assert!(places.enter(b).is_some(), "another has its own");
        let turn = Arc::clone(first.turns()).try_acquire_owned().unwrap();
        assert!(second.turns().try_acquire().is_err(), "turns are the address's");
        drop((turn, first));
        let third = places.enter(a).unwrap();
        drop((second, third));
        assert!(places.lock().is_empty(), "who has gone leaves nothing");
    }

    #[test]
    fn loopback_is_not_limited() {
        let places = Places::new(1, 1);
        let all: Vec<_> = (0..3).filter_map(|_| places.enter("127.0.0.1".parse().unwrap())).collect();
        assert_eq!(all.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _silent = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert!(!speaks(&stream).await);
    }
}
