//! Liveness and readiness, in the words of Kubernetes' own components.
//!
//! Alive is a process whose control thread answers; nothing outside it counts. Ready means that listeners
//! are bound, a configuration is applied, what the context asks for is there (identity, if mTLS needs it),
//! and that the proxy is not draining. A lost control plane does not unready a proxy.

use super::Admin;
use crate::shared::Phase;

/// The result of the checks.
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) text: String,
}

/// Runs every check whose name is not in `exclude`.
pub(super) fn readiness(admin: &Admin, verbose: bool, exclude: &[String]) -> Readiness {
    let snapshot = admin.shared.snapshot();
    let phase = *admin.shared.phase().borrow();
    let listeners = if snapshot.listeners.len() == snapshot.model.listeners.len() {
        Ok(())
    } else {
        Err("not all listeners are bound".to_owned())
    };
    let own = [
        ("configuration", (snapshot.version > 0).then_some(()).ok_or_else(|| "none is applied".to_owned())),
        ("listeners", listeners),
        ("serving", if phase == Phase::Serving { Ok(()) } else { Err("draining".to_owned()) }),
    ];
    let further = admin.context.checks.iter().map(|(name, check)| (*name, check()));
    let mut ready = true;
    let mut text = String::new();
    for (name, result) in own.into_iter().chain(further) {
        let line = match result {
            _ if exclude.iter().any(|e| e == name) => format!("[+]{name} excluded: ok\n"),
            Ok(()) => match admin.context.details.iter().find(|(of, _)| *of == name) {
                Some((_, detail)) => format!("[+]{name} ok: {}\n", detail()),
                None => format!("[+]{name} ok\n"),
            },
            Err(missing) => {
                ready = false;
                format!("[-]{name} failed: {missing}\n")
            }
        };
        text.push_str(&line);
    }
    text.push_str(if ready { "readyz check passed\n" } else { "readyz check failed\n" });
    // What is missing is always said: nobody should have to ask again.
    if ready && !verbose {
        text = "ok\n".into();
    }
    Readiness { ready, text }
}
