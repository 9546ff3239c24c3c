//! Events into the index, and what each of them touches.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    Changes, Destination, DocumentRef, Event, Index, Namespace, Object, ObjectKind, ObjectName, Pod, Service, Slice,
    Topic,
};

impl Index {
    /// Takes in an event, whatever came before, in any order, any number of times.
    pub fn apply(&mut self, event: Event) -> Changes {
        let mut changes = Changes::default();
        match event {
            Event::Upsert(object) => self.upsert(object, &mut changes),
            Event::Delete(kind, at) => self.delete(kind, &at, &mut changes),
            Event::Replace(kind, objects) => {
                let there: HashSet<ObjectName> = objects.iter().map(name).collect();
                for at in self.all(kind).into_iter().filter(|at| !there.contains(at)) {
                    self.delete(kind, &at, &mut changes);
                }
                for object in objects {
                    self.upsert(object, &mut changes);
                }
            }
        }
        changes
    }

    fn upsert(&mut self, object: Object, changes: &mut Changes) {
        match object {
            Object::Service(mut service) => {
                self.names.object(&mut service.at);
                let at = service.at.clone();
                self.set_service(&at, Some(service), changes);
            }
            Object::Slice(mut slice) => {
                self.share_slice(&mut slice);
                let at = slice.at.clone();
                self.set_slice(&at, Some(slice), changes);
            }
            Object::Pod(mut pod) => {
                self.names.object(&mut pod.at);
                self.names.text(&mut pod.account);
                self.names.labels(&mut pod.labels);
                self.names.ports(&mut pod.ports);
                pod.ips.shrink_to_fit();
                let at = pod.at.clone();
                self.set_pod(&at, Some(pod), changes);
            }
            Object::Namespace(namespace) => self.set_namespace(namespace, changes),
            Object::Grant(grant) => {
                let at = grant.at.clone();
                self.documents.set_grant(&at, Some(grant), changes);
            }
            Object::Document(document) => {
                let at = DocumentRef { kind: document.kind, at: document.at.clone() };
                self.documents.set(&at, Some(document), &self.settings, changes);
            }
        }
    }

    fn delete(&mut self, kind: ObjectKind, at: &ObjectName, changes: &mut Changes) {
        match kind {
            ObjectKind::Service => self.set_service(at, None, changes),
            ObjectKind::Slice => self.set_slice(at, None, changes),
            ObjectKind::Pod => self.set_pod(at, None, changes),
            ObjectKind::Namespace => {
                if self.namespaces.remove(&at.name).is_some() {
                    self.documents.touch_policies(&at.name, changes);
                }
            }
            ObjectKind::Grant => self.documents.set_grant(at, None, changes),
            ObjectKind::Document(kind) => {
                self.documents.set(&DocumentRef { kind, at: at.clone() }, None, &self.settings, changes);
            }
        }
    }

    /// Names of all objects of a kind.
    fn all(&self, kind: ObjectKind) -> Vec<ObjectName> {
        match kind {
            ObjectKind::Service => {
                self.services.iter().filter(|(_, e)| e.service.is_some()).map(|(at, _)| at.clone()).collect()
            }
            ObjectKind::Slice => self.slices.keys().cloned().collect(),
            ObjectKind::Pod => self.pods.keys().cloned().collect(),
            ObjectKind::Namespace => {
                self.namespaces.keys().map(|name| ObjectName { namespace: "".into(), name: Arc::clone(name) }).collect()
            }
            ObjectKind::Grant => self.documents.grants().map(|g| g.at.clone()).collect(),
            ObjectKind::Document(kind) => self.documents.of_kind(kind).map(|d| d.at.clone()).collect(),
        }
    }

    fn set_namespace(&mut self, mut namespace: Namespace, changes: &mut Changes) {
        self.names.text(&mut namespace.name);
        let name = Arc::clone(&namespace.name);
        if self.namespaces.insert(Arc::clone(&name), namespace).is_none() {
            self.documents.touch_policies(&name, changes);
        }
    }

    fn set_service(&mut self, at: &ObjectName, new: Option<Service>, changes: &mut Changes) {
        let old = self.service(at).cloned();
        if old == new {
            return;
        }
        changes.topics.insert(Topic::Service(at.clone()));
        for (service, add) in [(&old, false), (&new, true)] {
            for ip in service.iter().flat_map(|s| &s.addresses) {
                changes.topics.insert(Topic::Address(ip.to_canonical()));
                match add {
                    false => self.addresses.remove_service(*ip, at),
                    true => self.addresses.add_service(*ip, at),
                }
            }
        }
        let inhabitants = &mut self.inhabitants.entry(Arc::clone(&at.namespace)).or_default().services;
        match new {
            Some(_) => drop(inhabitants.insert(Arc::clone(&at.name))),
            None => drop(inhabitants.remove(&at.name)),
        }
        self.forget_deserted(&at.namespace);
        // Pods serve on behalf of it, or did.
        let selected = old.iter().chain(&new).flat_map(|s| self.selected(s)).collect::<BTreeSet<_>>();
        changes.topics.extend(selected.into_iter().map(Topic::Pod));
        changes.topics.extend(self.pods_of(at).into_iter().map(Topic::Pod));
        self.documents.touch_referrers(&Destination::Service(at.clone()), changes);
        self.services.entry(at.clone()).or_default().service = new;
        self.forget_empty(at);
    }

    fn set_slice(&mut self, at: &ObjectName, new: Option<Slice>, changes: &mut Changes) {
        let owner = self.slices.get(at).cloned();
        let of = |name: &Arc<str>| ObjectName { namespace: Arc::clone(&at.namespace), name: Arc::clone(name) };
        // A slice may change its Service: it is removed there, and added here.
        if let Some(moved) = owner.as_ref().filter(|o| new.as_ref().is_none_or(|n| n.service != **o)) {
            let service = of(moved);
            let old = self.services.get_mut(&service).and_then(|e| e.slices.remove(&at.name));
            self.slices.remove(at);
            self.slice_changed(&service, old.as_ref(), None, changes);
            self.forget_empty(&service);
        }
        let Some(new) = new else { return };
        let service = of(&new.service);
        let entry = self.services.entry(service.clone()).or_default();
        if entry.slices.get(&at.name) == Some(&new) {
            return;
        }
        let old = entry.slices.insert(new.clone());
        self.slices.insert(at.clone(), Arc::clone(&new.service));
        self.slice_changed(&service, old.as_ref(), Some(&new), changes);
    }

    /// Endpoints that are in both and the same, on the same ports, are not touched.
    fn slice_changed(&mut self, service: &ObjectName, old: Option<&Slice>, new: Option<&Slice>, changes: &mut Changes) {
        changes.topics.insert(Topic::Endpoints(service.clone()));
        let same_ports = old.map(|s| &s.ports) == new.map(|s| &s.ports);
        let kept: HashSet<(IpAddr, &str, &str)> = match (old, new) {
            (Some(old), Some(new)) if same_ports => {
                let key = |e: &'_ super::SliceEndpoint| (e.ip, Arc::clone(&e.pod), Arc::clone(&e.hostname));
                let new: HashSet<_> = new.endpoints.iter().map(key).collect();
                old.endpoints.iter().filter(|e| new.contains(&key(e))).map(|e| (e.ip, &*e.pod, &*e.hostname)).collect()
            }
            _ => HashSet::new(),
        };
        for (slice, add) in [(old, false), (new, true)] {
            for endpoint in slice.iter().flat_map(|s| &s.endpoints) {
                if kept.contains(&(endpoint.ip, &*endpoint.pod, &*endpoint.hostname)) {
                    continue;
                }
                match add {
                    false => self.addresses.remove_endpoint(endpoint.ip, service),
                    true => self.addresses.add_endpoint(endpoint.ip, service),
                }
                changes.topics.insert(Topic::Address(endpoint.ip.to_canonical()));
                if !endpoint.pod.is_empty() {
                    let name = Arc::clone(&endpoint.pod);
                    changes.topics.insert(Topic::Pod(ObjectName { namespace: Arc::clone(&service.namespace), name }));
                }
            }
        }
    }

    fn set_pod(&mut self, at: &ObjectName, new: Option<Pod>, changes: &mut Changes) {
        if self.pods.get(at) == new.as_ref() {
            return;
        }
        let old = self.pods.remove(at);
        changes.topics.insert(Topic::Pod(at.clone()));
        let pods = &mut self.inhabitants.entry(Arc::clone(&at.namespace)).or_default().pods;
        match new {
            Some(_) => drop(pods.insert(Arc::clone(&at.name))),
            None => drop(pods.remove(&at.name)),
        }
        self.forget_deserted(&at.namespace);
        let mut touched: BTreeSet<IpAddr> = BTreeSet::new();
        for (pod, add) in [(&old, false), (&new, true)] {
            for ip in pod.iter().flat_map(|p| &p.ips) {
                touched.insert(*ip);
                if pod.as_ref().is_some_and(|p| p.host_network || p.ended) {
                    continue;
                }
                match add {
                    false => self.addresses.remove_pod(*ip, at),
                    true => self.addresses.add_pod(*ip, at),
                }
            }
        }
        // The endpoints that it stands behind: by its address, or by its name, for a slice may be known before the pod.
        let mut services: BTreeSet<ObjectName> = BTreeSet::new();
        for ip in &touched {
            changes.topics.insert(Topic::Address(ip.to_canonical()));
            let behind = self.addresses.get(*ip).into_iter().flat_map(|b| &b.endpoints);
            services.extend(behind.map(|(service, _)| service.clone()));
        }
        changes.topics.extend(services.into_iter().map(Topic::Endpoints));
        self.pods.extend(new.map(|pod| (at.clone(), pod)));
    }

    fn share_slice(&mut self, slice: &mut Slice) {
        self.names.object(&mut slice.at);
        self.names.text(&mut slice.service);
        for (name, _) in &mut slice.ports {
            self.names.text(name);
        }
        for endpoint in &mut slice.endpoints {
            self.names.text(&mut endpoint.pod);
            self.names.text(&mut endpoint.hostname);
            self.names.text(&mut endpoint.zone);
            for zone in &mut endpoint.for_zones {
                self.names.text(zone);
            }
            endpoint.for_zones.shrink_to_fit();
        }
        slice.endpoints.shrink_to_fit();
    }

    fn forget_deserted(&mut self, namespace: &Arc<str>) {
        if self.inhabitants.get(namespace).is_some_and(|i| i.services.is_empty() && i.pods.is_empty()) {
            self.inhabitants.remove(namespace);
        }
    }

    fn forget_empty(&mut self, at: &ObjectName) {
        if self.services.get(at).is_some_and(|e| e.service.is_none() && e.slices.is_empty()) {
            self.services.remove(at);
        }
    }
}

fn name(object: &Object) -> ObjectName {
    match object {
        Object::Service(o) => o.at.clone(),
        Object::Slice(o) => o.at.clone(),
        Object::Pod(o) => o.at.clone(),
        Object::Namespace(o) => ObjectName { namespace: "".into(), name: Arc::clone(&o.name) },
        Object::Grant(o) => o.at.clone(),
        Object::Document(o) => o.at.clone(),
    }
}
