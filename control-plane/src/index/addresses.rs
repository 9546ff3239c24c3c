//! What stands behind an address: Services that have it, Services whose endpoints have it, pods.

use std::{collections::HashMap, net::IpAddr};

use super::ObjectName;

/// By address.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    all: HashMap<IpAddr, Behind>,
}

/// What stands behind one address. Mostly one of each, so they are lists.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Services whose own address it is.
    pub(super) services: Vec<ObjectName>,
    /// Services that have it among their endpoints, and in how many slices.
    pub(super) endpoints: Vec<(ObjectName, u32)>,
    /// Pods that have it to themselves, and have not ended.
    pub(super) pods: Vec<ObjectName>,
}

impl Addresses {
    pub(super) fn get(&self, ip: IpAddr) -> Option<&Behind> {
        self.all.get(&ip.to_canonical())
    }

    pub(super) fn add_service(&mut self, ip: IpAddr, at: &ObjectName) {
        self.all.entry(ip.to_canonical()).or_default().services.push_one(at.clone());
    }

    pub(super) fn add_pod(&mut self, ip: IpAddr, at: &ObjectName) {
        self.all.entry(ip.to_canonical()).or_default().pods.push_one(at.clone());
    }

    pub(super) fn add_endpoint(&mut self, ip: IpAddr, service: &ObjectName) {
        let endpoints = &mut self.all.entry(ip.to_canonical()).or_default().endpoints;
        match endpoints.iter_mut().find(|(at, _)| at == service) {
            Some((_, count)) => *count += 1,
            None => endpoints.push_one((service.clone(), 1)),
        }
    }

    pub(super) fn remove_service(&mut self, ip: IpAddr, at: &ObjectName) {
        self.edit(ip, |behind| behind.services.retain(|s| s != at));
    }

    pub(super) fn remove_pod(&mut self, ip: IpAddr, at: &ObjectName) {
        self.edit(ip, |behind| behind.pods.retain(|p| p != at));
    }

    pub(super) fn remove_endpoint(&mut self, ip: IpAddr, service: &ObjectName) {
        self.edit(ip, |behind| {
            behind.endpoints.retain_mut(|(at, count)| {
                if at == service {
                    *count -= 1;
                }
                *count > 0
            });
        });
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn edit(&mut self, ip: IpAddr, edit: impl FnOnce(&mut Behind)) {
        let ip = ip.to_canonical();
        let Some(behind) = self.all.get_mut(&ip) else { return };
        edit(behind);
        if behind.services.is_empty() && behind.endpoints.is_empty() && behind.pods.is_empty() {
            self.all.remove(&ip);
        }
    }
}

/// Lists of mostly one: room for four would be most of what an address costs.
trait PushOne<T> {
    fn push_one(&mut self, value: T);
}

impl<T> PushOne<T> for Vec<T> {
    fn push_one(&mut self, value: T) {
        self.reserve_exact(1);
        self.push(value);
    }
}
