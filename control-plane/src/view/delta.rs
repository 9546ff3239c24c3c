//! The difference between two versions of a Service whose endpoints alone differ.

use std::collections::HashMap;

use outrigger_config::discovery::{Endpoint, EndpointDelta, Resource, Service, resource::Body};

/// The change from `old` to `new`, if they are the same Service with other endpoints and a delta is the smaller message.
#[must_use]
pub fn delta(old: &Resource, new: &Resource) -> Option<EndpointDelta> {
    let (Some(Body::Service(before)), Some(Body::Service(after))) = (&old.body, &new.body) else { return None };
    if old.key != new.key || !same_but_endpoints(before, after) {
        return None;
    }
    let known: HashMap<&str, &Endpoint> = before.endpoints.iter().map(|e| (&*e.address, e)).collect();
    let upsert: Vec<Endpoint> = after.endpoints.iter().filter(|e| known.get(&*e.address) != Some(e)).cloned().collect();
    let left: HashMap<&str, ()> = after.endpoints.iter().map(|e| (&*e.address, ())).collect();
    let remove: Vec<String> =
        before.endpoints.iter().map(|e| &e.address).filter(|a| !left.contains_key(a.as_str())).cloned().collect();
    // With half of them changed the whole is as small, and simpler.
    let changed = upsert.len() + remove.len();
    (changed == 0 || changed <= after.endpoints.len().max(1)).then(|| EndpointDelta {
        key: new.key.clone(),
        base: old.version.clone(),
        version: new.version.clone(),
        upsert,
        remove,
    })
}

fn same_but_endpoints(a: &Service, b: &Service) -> bool {
    a.namespace == b.namespace
        && a.name == b.name
        && a.port == b.port
        && a.documents == b.documents
        && a.references == b.references
}
