//! Conditions, as Kubernetes writes them, without times.

use serde_json::{Value, json};

use super::{REFUSED, Refusal};

/// Characters of a message. The API takes 32,768; an author reads fewer.
const MAX_MESSAGE: usize = 1024;

/// The conditions of one entry.
#[derive(Debug)]
pub(super) struct Conditions {
    generation: i64,
    all: Vec<Value>,
}

impl Conditions {
    pub(super) fn new(generation: i64) -> Self {
        Self { generation, all: Vec::new() }
    }

    /// A condition of that name that holds, with itself as the reason.
    pub(super) fn accepted(&mut self, kind: &str, message: &str) {
        self.add(kind, true, kind, message);
    }

    /// A condition that does not hold.
    pub(super) fn refused(&mut self, kind: &str, reason: &str, message: &str) {
        self.add(kind, false, reason, message);
    }

    pub(super) fn add(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let message: String = message.chars().take(MAX_MESSAGE).collect();
        self.all.push(json!({
            "type": kind,
            "status": if holds { "True" } else { "False" },
            "reason": reason,
            "message": message,
            "observedGeneration": self.generation,
        }));
    }

    /// What proxies refused; nothing if none did.
    pub(super) fn proxies(&mut self, refusals: &[Refusal]) {
        let Some(first) = refusals.first() else { return };
        let more = match refusals.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let message = format!("the proxy of pod {} keeps the last good version: {}{more}", first.pod, first.reason);
        self.add(REFUSED, true, "ProxyRefused", &message);
    }

    pub(super) fn finish(self) -> Vec<Value> {
        self.all
    }
}
