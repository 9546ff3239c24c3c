//! From resources to what is in force: compile, publish, tell the control plane.

use std::collections::BTreeSet;

use outrigger_config::{
    Fault,
    discovery::{Binding, Key},
};

use super::{Agent, Changes};
use crate::{
    control::wiring,
    discovery::{Directory, Verdict, assemble, assemble::Assembled, cache::Body, isolate, saved},
};

/// Reasons of one refusal; the first say enough.
const MAX_REASONS: usize = 20;

impl Agent {
    /// Puts a batch in force.
    pub(super) fn settle(&mut self, changes: Changes) {
        if let Some((key, version)) = changes.trust {
            self.trust(key, version);
        }
        self.complete(changes.bindings);
        if changes.documents {
            self.compile();
        } else if changes.directory {
            self.publish();
        }
    }

    /// Asks for services that bindings lead to and that did not come before them, as they should have.
    fn complete(&mut self, bindings: Vec<String>) {
        for key in bindings {
            let Some(Body::Binding(binding)) = self.cache.get(&key) else { continue };
            let service = binding.service.clone();
            if !service.is_empty() && self.cache.get(&service).is_none() && !self.cache.is_pending(&service) {
                self.explicit.insert(service.clone());
                self.subscribe(&service);
            }
        }
    }

    /// Compiles all that is held, with as much of what is new as can be.
    pub(super) fn compile(&mut self) {
        let batch = self.cache.pending();
        self.number();
        let outcome = {
            let (boot, mesh, slots, cache, shared) = (&self.boot, &self.mesh, &self.slots, &self.cache, &self.shared);
            let compile = |taken: &BTreeSet<String>| {
                let Assembled { compiled, routing } = assemble::assemble(boot, mesh, cache.union(taken), slots)?;
                let warnings = compiled.warnings.clone();
                shared.apply_with(compiled, Some(routing))?;
                Ok(warnings)
            };
            let union: Vec<_> = cache.union(&batch).collect();
            let blame = |fault: &Fault| {
                let of = |body: &Body| body.documents().iter().any(|d| d.origin == *fault.origin.file);
                union.iter().filter(|(_, body)| of(body)).map(|(key, _)| (*key).to_owned()).collect()
            };
            isolate::isolate(&batch, compile, blame)
        };
        let isolate::Outcome { result, refused } = outcome;
        let refused_keys: BTreeSet<_> = refused.iter().map(|(key, _)| key.clone()).collect();
        let applied = result.is_some();
        let warnings: Vec<Fault> = result.unwrap_or_default();
        for key in batch.iter().filter(|k| applied && !refused_keys.contains(*k)) {
            let Some(version) = self.cache.accept(key) else { continue };
            let documents = self.cache.get(key).map_or(&[][..], |b| b.documents());
            let own = |w: &&Fault| documents.iter().any(|d| d.origin == *w.origin.file);
            let told = warnings.iter().filter(own).take(MAX_REASONS).map(ToString::to_string).collect();
            self.acknowledge(key.clone(), version, told);
        }
        for (key, faults) in refused {
            let Some(version) = self.cache.refuse(&key) else { continue };
            self.endpoints(&key);
            self.shared.observer.reloaded(false);
            let reasons = faults.iter().take(MAX_REASONS).map(ToString::to_string).collect();
            self.refuse(key, version, reasons);
        }
        if applied {
            wiring::applied(&self.shared);
            self.shared.observer.reloaded(true);
            (self.applied)();
        } else {
            tracing::error!("nothing that the control plane has sent can be put in force");
        }
        self.publish();
    }

    /// Gives services a number that stays theirs.
    fn number(&mut self) {
        for key in self.cache.services() {
            if !self.slots.contains_key(&key) {
                self.slots.insert(key, self.next_slot);
                self.next_slot += 1;
            }
        }
    }

    /// Puts the endpoints of one service in force, and nothing else.
    pub(super) fn endpoints(&self, key: &str) {
        let Some(Body::Service(service)) = self.cache.get(key) else { return };
        let Some(name) = assemble::upstream_name(key) else { return };
        let snapshot = self.shared.snapshot();
        if let Some(state) = snapshot.upstreams.iter().find(|u| &*u.config.name == name) {
            state.discovered(&assemble::usable(&self.boot, &service.endpoints), self.shared.workers);
        }
    }

    /// Makes the directory anew, and tells those who wait for what is in it now.
    pub(super) fn publish(&mut self) {
        let snapshot = self.shared.snapshot();
        let Some(routing) = &snapshot.routing else { return };
        let mut addresses = Vec::new();
        let mut names = Vec::new();
        let keys: Vec<String> = self.wants.keys().map(str::to_owned).collect();
        for key in keys {
            let Ok(parsed) = key.parse::<Key>() else { continue };
            let verdict = match self.cache.get(&key) {
                Some(Body::Binding(binding)) => self.verdict(binding, routing),
                Some(Body::Absent) | None => match &parsed {
                    Key::Address(_) if self.cache.get(&key).is_some() => Some(Verdict::Outside),
                    Key::Name { .. } => self.wants.outside(&key, self.cache.get(&key).is_some()).map(Verdict::Name),
                    _ => None,
                },
                Some(_) => None,
            };
            let Some(verdict) = verdict else { continue };
            let entry = self.wants.entry(&key, verdict);
            match parsed {
                Key::Address(address) => addresses.push((address, entry)),
                Key::Name { host, port } => names.push((format!("{host}:{port}").into_boxed_str(), entry)),
                _ => {}
            }
        }
        self.discovery.publish(Directory::new(addresses, names));
        self.wants.tell();
    }

    /// Where a binding leads. `None`: to a service that has not come yet.
    fn verdict(&self, binding: &Binding, routing: &crate::discovery::Routing) -> Option<Verdict> {
        let pinned = binding.pinned.as_ref().and_then(|e| assemble::endpoint(&self.boot, e)).map(std::sync::Arc::new);
        if binding.service.is_empty() {
            return Some(pinned.map_or(Verdict::Outside, Verdict::Pod));
        }
        let slot = *self.slots.get(&binding.service)?;
        // One that was refused and has no older version is known too: it is waited for in vain.
        let known = routing.service(slot).is_some() || !self.cache.is_pending(&binding.service);
        known.then_some(Verdict::Service { slot, pinned })
    }

    /// Takes what an earlier run has saved.
    pub(super) fn restore(&mut self) {
        let Some(dir) = &self.boot.state_dir else { return };
        let (mesh, resources) = match saved::load(dir, &self.boot) {
            Ok(saved) => saved,
            Err(e) => {
                tracing::info!("nothing is taken over from {}: {e}", dir.display());
                return;
            }
        };
        let count = resources.len();
        for resource in resources {
            if let Ok(Key::Address(_) | Key::Name { .. }) = resource.key.parse::<Key>() {
                self.wants.restore(&resource.key, tokio::time::Instant::now());
            }
            self.cache.resource(resource);
        }
        self.mesh = mesh;
        self.compile();
        tracing::info!(resources = count, "the last good state is in force until the control plane is reached");
    }

    /// Saves what is in force.
    pub(super) fn save(&mut self) {
        self.unsaved = false;
        let Some(dir) = &self.boot.state_dir else { return };
        if let Err(e) = saved::store(dir, &self.boot, &self.mesh, self.cache.all()) {
            tracing::warn!("the state is not saved in {}: {e}", dir.display());
        }
    }
}
