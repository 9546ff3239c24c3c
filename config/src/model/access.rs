//! Access policies: who may call what.

use std::sync::Arc;

use super::{Mode, ValueMatch};
use crate::Origin;

/// Who may call what.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessPolicy {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// Act or count.
    pub mode: Mode,
    /// In the order of the document.
    pub rules: Vec<AccessRule>,
    /// Where it was written.
    pub origin: Origin,
}

/// One rule of an access policy.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessRule {
    /// Let pass or refuse.
    pub action: AccessAction,
    /// Any of these callers; empty: every caller.
    pub from: Vec<Source>,
    /// Any of these operations; empty: every one.
    pub to: Vec<Operation>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessAction {
    /// Let pass.
    Allow,
    /// Refuse; wins over allow.
    Deny,
}

/// A set of callers; all fields that are not empty must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// Whole SPIFFE IDs.
    pub identities: Vec<Arc<str>>,
    /// Namespaces of SPIFFE IDs.
    pub namespaces: Vec<Arc<str>>,
    /// Address ranges.
    pub cidrs: Vec<ipnet::IpNet>,
}

/// A set of operations; all fields that are not empty must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Operation {
    /// Any of these.
    pub methods: Vec<http::Method>,
    /// Any of these: exact, or a prefix before a final `*`.
    pub paths: Vec<Arc<str>>,
    /// All of these.
    pub headers: Vec<ValueMatch>,
    /// Any of these local ports.
    pub ports: Vec<u16>,
}
