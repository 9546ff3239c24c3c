//! Places for connections to the admin port, in all and for one address: whoever can reach the port must not be able to keep
//! the kubelet's probes out of it, for the app's go by way of it too.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// At once: scrapers, the probes of a pod's containers, and people; so many that it takes a number of hosts to hold all of them.
const ALL: usize = 256;
/// Of one address: the kubelet with three probes for each of ten containers. Loopback is this pod itself, and not bounded.
const OF_ONE: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One that is taken; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// `None`: there is none for this address.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.lock();
        if taken.all >= ALL {
            return None;
        }
        let own = taken.by_address.entry(address).or_default();
        // An entry of zero does not stay: there is one place at least.
        if *own >= OF_ONE && !address.is_loopback() {
            return None;
        }
        *own += 1;
        taken.all += 1;
        Some(Place { places: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_hold_all() {
        let places = Arc::new(Places::default());
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let held: Vec<_> = std::iter::from_fn(|| places.enter(one)).collect();
        assert_eq!(held.len(), OF_ONE);
        assert!(places.enter("::ffff:10.0.0.1".parse().unwrap()).is_none(), "the same in other words");
        assert!(places.enter("10.0.0.2".parse().unwrap()).is_some());
        drop(held);
        assert!(places.lock().by_address.is_empty() && places.enter(one).is_some());
        let own: Vec<_> = std::iter::from_fn(|| places.enter("127.0.0.1".parse().unwrap())).collect();
        assert_eq!((own.len(), places.lock().all), (ALL, ALL));
    }
}
