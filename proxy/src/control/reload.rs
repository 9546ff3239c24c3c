//! Takes a changed configuration over: all of it, or nothing.

use outrigger_config::Fault;

use super::{StartError, announce, compile, watch::Loaded, wiring};
use crate::shared::{Shared, Snapshot};

/// Most faults of one reload that are logged; the rest is counted. `validate` prints them all.
const MAX_LOGGED: usize = 100;

/// Applies what was loaded. False if it is faulty; what was in force then stays in force.
pub(super) fn reload(shared: &Shared, loaded: Loaded) -> bool {
    let before = shared.snapshot();
    let result = compile(loaded).and_then(|compiled| shared.apply(compiled).map_err(StartError::Faults));
    match result {
        Ok(version) => {
            let now = shared.snapshot();
            announce(&now, Some(&before));
            warn_of(&now.warnings);
            warn_of_restart(&before, &now);
            wiring::applied(shared);
            shared.observer.reloaded(true);
            tracing::info!(version, "configuration applied");
            true
        }
        Err(e) => {
            if let StartError::Faults(faults) = &e {
                for fault in faults.iter().take(MAX_LOGGED) {
                    tracing::error!("{fault}");
                }
            }
            shared.observer.reloaded(false);
            tracing::error!(version = before.version, "configuration rejected, the one in force stays: {e}");
            false
        }
    }
}

/// Logs faults that did not stop a configuration.
pub(super) fn warn_of(warnings: &[Fault]) {
    for warning in warnings.iter().take(MAX_LOGGED) {
        tracing::warn!("{warning}");
    }
}

/// Some settings are read once, at the start.
fn warn_of_restart(before: &Snapshot, now: &Snapshot) {
    let (before, now) = (&before.model.proxy, &now.model.proxy);
    for (changed, field) in [(before.workers != now.workers, "spec.workers"), (before.admin != now.admin, "spec.admin")]
    {
        if changed {
            tracing::warn!("the new {field} takes effect at the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use outrigger_config::{Source, compile as compile_sources};

    use super::*;
    use crate::observe::Observer;

    fn source(listener: &str) -> Source {
        let text = format!(
            "apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: {{ name: p }}
spec: {{ listeners: [{{ name: {listener}, address: \"127.0.0.1:0\", direction: outbound }}] }}
"
        );
        Source { name: "test".into(), text }
    }

    fn open_files() -> usize {
        fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
    }

    #[test]
    fn a_thousand_reloads_leave_nothing_behind() {
        let shared = Shared::start(compile_sources(&[source("l0")]).unwrap(), 2, Observer::new(2)).unwrap();
        let mut old = Vec::new();
        let before = open_files();
        for n in 1..=1000 {
            old.push(Arc::downgrade(&shared.snapshot()));
            // Every other one moves the listener, so that sockets come and go.
            assert!(reload(&shared, (vec![source(if n % 2 == 0 { "l0" } else { "l1" })], Vec::new())));
        }
        assert_eq!(shared.snapshot().version, 1001);
        assert!(old.iter().all(|s| s.strong_count() == 0));
        // Other tests of this process open and close files meanwhile; a leak would be two thousand.
        assert!(open_files() < before + 200);
    }

    #[test]
    fn what_is_faulty_changes_nothing() {
        let shared = Shared::start(compile_sources(&[source("l0")]).unwrap(), 1, Observer::new(1)).unwrap();
        let before = shared.snapshot();
        let nonsense = Source { name: "test".into(), text: "kind: Nonsense".into() };
        assert!(!reload(&shared, (vec![nonsense], Vec::new())));
        let unread = Fault {
            origin: outrigger_config::Origin::new("test", 1, 1),
            severity: outrigger_config::Severity::Error,
            message: "cannot read it".into(),
        };
        assert!(!reload(&shared, (vec![source("l1")], vec![unread])));
        assert!(Arc::ptr_eq(&before, &shared.snapshot()));
    }
}
