//! Who may call what: the verdict of the access policies of an upstream. Pure; the proxy enforces it and
//! `explain` prints it.
//!
//! All policies of one upstream are judged as one: a deny rule that holds wins; else an allow rule that
//! holds lets pass; else, if there is any allow rule, the request is refused; else everything passes.
//! Policies in `observe` mode decide nothing. What they would have refused is told apart, judged as if
//! they were enforced together with those that are.
//!
//! Whatever names paths gets them in normal form ([`normal`]), and compares them decoded. A path
//! that is not in that form nevertheless satisfies no allow rule that names paths and every deny rule that does.
//!
//! Where servers are known to be lenient, deny rules are taken at their widest and allow rules at their narrowest, so
//! that a spelling never opens a door. A deny rule holds for methods and paths in any case (`get`, `/Admin`), for a
//! path with a slash more at its end (`/admin/`; but `/admin/*` is not `/admin`), and if any field of a header holds,
//! `X_Name` for `x-name` too; an allow rule takes methods and paths to the letter, and all fields of a header must hold.
//!
//! A rule names what is on the wire. GET is not HEAD, and an app that lets a field such as `X-HTTP-Method-Override` change
//! the method needs a rule on that field, too.
//!
//! A caller without an identity satisfies no allow rule that names identities or namespaces. Where it could have proven
//! one and has not (mutual TLS is offered and not insisted on), it satisfies every deny rule that does: it may be the one
//! that is denied, come in plaintext to hide it.
//!
//! A connection whose bytes are passed on unread ([`evaluate_connection`]) is judged once, when it is accepted, by the
//! same rules. It has a caller and a port, and shows no method, path or header. So an operation that names any of
//! those satisfies no allow rule; and every deny rule of which the caller and the port hold: what cannot be read may be
//! what is forbidden. Rules that name callers and ports alone decide as they do for requests.

use std::{net::IpAddr, sync::Arc};

use crate::{
    matching::{RequestView, host_of, normal, unescape},
    model::{AccessAction, AccessPolicy, AccessRule, Mode, MtlsMode, Operation, Source, ValueMatch},
};

#[cfg(test)]
mod tests;

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The SPIFFE ID that it has proven; `None` in plaintext.
    pub identity: Option<&'a str>,
    /// Without an identity, it may have one all the same: the listener takes mutual TLS.
    pub may_hide: bool,
    /// Its address.
    pub address: IpAddr,
}

impl<'a> Caller<'a> {
    /// Who calls on a listener with this mode.
    #[must_use]
    pub fn new(identity: Option<&'a str>, address: IpAddr, mtls: MtlsMode) -> Self {
        Self { identity, address, may_hide: identity.is_none() && mtls != MtlsMode::Disabled }
    }
}

/// The verdict on one request or opaque connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Access<'m> {
    /// What holds.
    pub verdict: Verdict<'m>,
    /// What an observing policy would have refused, although it passes.
    pub observed: Option<Cause<'m>>,
}

impl Access<'_> {
    /// No policy has a say.
    pub const OPEN: Self = Self { verdict: Verdict::Open, observed: None };

    /// True if it may pass.
    #[must_use]
    pub fn passes(&self) -> bool {
        !matches!(self.verdict, Verdict::Deny(_))
    }
}

/// Pass or not, and by which rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict<'m> {
    /// No rule has a say.
    Open,
    /// A rule lets it pass.
    Allow(Cause<'m>),
    /// A rule refuses, or none allows.
    Deny(Cause<'m>),
}

/// The rule that decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cause<'m> {
    /// The policy.
    pub policy: &'m Arc<AccessPolicy>,
    /// Index of the rule in it; `None`: it has allow rules, and none of them holds.
    pub rule: Option<usize>,
}

/// Judges `request` by the policies of the upstream behind the listener at `port`.
#[must_use]
pub fn evaluate<'m>(
    policies: &'m [Arc<AccessPolicy>],
    caller: &Caller<'_>,
    port: u16,
    request: &impl RequestView,
) -> Access<'m> {
    judge(policies, |rule| rule.holds(caller, port, request))
}

fn judge(policies: &[Arc<AccessPolicy>], holds: impl Fn(&AccessRule) -> bool) -> Access<'_> {
    if policies.is_empty() {
        return Access::OPEN;
    }
    let mut enforced = Tally::default();
    let mut observed = Tally::default();
    for policy in policies {
        let tally = match policy.mode {
            Mode::Enforce => &mut enforced,
            Mode::Observe => &mut observed,
        };
        for (index, rule) in policy.rules.iter().enumerate() {
            tally.add(policy, index, rule, || holds(rule));
        }
    }
    let verdict = enforced.verdict();
    let would_refuse = match verdict {
        Verdict::Deny(_) => None,
        Verdict::Allow(_) => observed.deny,
        Verdict::Open => match observed.verdict() {
            Verdict::Deny(cause) => Some(cause),
            Verdict::Open | Verdict::Allow(_) => None,
        },
    };
    Access { verdict, observed: would_refuse }
}

/// Judges a connection whose bytes are passed on as they are, to the upstream behind the listener at `port`. Rules
/// that name methods, paths or headers fail closed: with `allow` they do not hold, and with `deny` they do.
#[must_use]
pub fn evaluate_connection<'m>(policies: &'m [Arc<AccessPolicy>], caller: &Caller<'_>, port: u16) -> Access<'m> {
    judge(policies, |rule| rule.holds_unread(caller, port))
}

/// What the rules of one mode say together.
#[derive(Default)]
struct Tally<'m> {
    /// The first deny rule that holds.
    deny: Option<Cause<'m>>,
    /// The first allow rule that holds.
    allow: Option<Cause<'m>>,
    /// The first policy with an allow rule.
    closed: Option<Cause<'m>>,
}

impl<'m> Tally<'m> {
    fn add(&mut self, policy: &'m Arc<AccessPolicy>, index: usize, rule: &AccessRule, holds: impl FnOnce() -> bool) {
        let slot = match rule.action {
            AccessAction::Deny => &mut self.deny,
            AccessAction::Allow => {
                self.closed.get_or_insert(Cause { policy, rule: None });
                &mut self.allow
            }
        };
        if slot.is_none() && holds() {
            *slot = Some(Cause { policy, rule: Some(index) });
        }
    }

    fn verdict(&self) -> Verdict<'m> {
        match (self.deny, self.allow, self.closed) {
            (Some(cause), _, _) | (None, None, Some(cause)) => Verdict::Deny(cause),
            (None, Some(cause), _) => Verdict::Allow(cause),
            (None, None, None) => Verdict::Open,
        }
    }
}

impl AccessRule {
    fn holds(&self, caller: &Caller<'_>, port: u16, request: &impl RequestView) -> bool {
        self.is_from(caller) && (self.to.is_empty() || self.to.iter().any(|to| to.holds(self.action, port, request)))
    }

    /// The same for bytes that nobody reads.
    fn holds_unread(&self, caller: &Caller<'_>, port: u16) -> bool {
        self.is_from(caller) && (self.to.is_empty() || self.to.iter().any(|to| to.holds_unread(self.action, port)))
    }

    fn is_from(&self, caller: &Caller<'_>) -> bool {
        self.from.is_empty() || self.from.iter().any(|source| source.holds(self.action, caller))
    }
}

impl Source {
    fn holds(&self, action: AccessAction, caller: &Caller<'_>) -> bool {
        let known = match caller.identity {
            None => {
                let hides = action == AccessAction::Deny && caller.may_hide;
                hides || (self.identities.is_empty() && self.namespaces.is_empty())
            }
            Some(id) => {
                let listed = |names: &[Arc<str>], name: &str| names.iter().any(|n| **n == *name);
                (self.identities.is_empty() || listed(&self.identities, id))
                    && (self.namespaces.is_empty() || namespace_of(id).is_some_and(|ns| listed(&self.namespaces, ns)))
            }
        };
        known
            && (self.cidrs.is_empty() || {
                // A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d.
                let address = caller.address.to_canonical();
                self.cidrs.iter().any(|cidr| cidr.contains(&address))
            })
    }
}

impl Operation {
    fn holds(&self, action: AccessAction, port: u16, request: &impl RequestView) -> bool {
        let wide = action == AccessAction::Deny;
        let method = request.method();
        let same = |m: &http::Method| m == method || (wide && m.as_str().eq_ignore_ascii_case(method.as_str()));
        (self.methods.is_empty() || self.methods.iter().any(same))
            && (self.ports.is_empty() || self.ports.contains(&port))
            && (self.paths.is_empty() || {
                let path = request.path();
                if is_ambiguous(path) { wide } else { self.paths.iter().any(|p| path_holds(p, path, wide)) }
            })
            && self.headers.iter().all(|h| header_holds(h, wide, request))
    }

    fn holds_unread(&self, action: AccessAction, port: u16) -> bool {
        let unread = !(self.methods.is_empty() && self.paths.is_empty() && self.headers.is_empty());
        (self.ports.is_empty() || self.ports.contains(&port)) && (!unread || action == AccessAction::Deny)
    }
}

/// The namespace of `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, whatever the trust domain: a peer of
/// a domain that is not trusted has no identity.
#[must_use]
pub fn namespace_of(identity: &str) -> Option<&str> {
    let mut parts = identity.strip_prefix("spiffe://")?.split('/').skip(1);
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        ("ns", namespace, "sa", _, None) => Some(namespace),
        _ => None,
    }
}

/// Exact, or a prefix in front of a final `*`. `wide`: in any case, and with a slash more at its end.
fn path_holds(pattern: &str, path: &str, wide: bool) -> bool {
    let fold = |byte: u8| if wide { byte.to_ascii_lowercase() } else { byte };
    let mut path = plain(path).map(fold);
    if let Some(prefix) = pattern.strip_suffix('*') {
        return plain(prefix).map(fold).all(|byte| path.next() == Some(byte));
    }
    let begins = plain(pattern).map(fold).all(|byte| path.next() == Some(byte));
    begins
        && match path.next() {
            None => true,
            Some(byte) => wide && byte == b'/' && path.next().is_none(),
        }
}

/// `wide`: it is enough if one of several fields holds; otherwise all of them must, alone and together.
fn header_holds(condition: &ValueMatch, wide: bool, request: &impl RequestView) -> bool {
    let holds = |value: &[u8]| condition.value.holds(value);
    if &*condition.name == "host" {
        // There is one, and it is no field: case, the dot at its end and, for deny, its port say nothing.
        let came = request.authority();
        let host = normal::authority(came);
        let host = host.as_deref().unwrap_or(came);
        return holds(host.as_bytes()) || holds(came.as_bytes()) || (wide && holds(host_of(host).as_bytes()));
    }
    let together = condition.header_holds(request);
    if wide {
        together || request.any_value(&condition.name, &mut |value| holds(value))
    } else {
        together && !request.any_value(&condition.name, &mut |value| !holds(value))
    }
}

/// True if both are the same once decoded.
pub(crate) fn same_path(one: &str, other: &str) -> bool {
    unescape(one.as_bytes()).map(|(b, _)| b).eq(unescape(other.as_bytes()).map(|(b, _)| b))
}

/// The bytes of `path`, decoded once, with several slashes as one.
fn plain(path: &str) -> impl Iterator<Item = u8> {
    let mut last = 0;
    unescape(path.as_bytes()).map(|(byte, _)| byte).filter(move |byte| {
        let repeated = *byte == b'/' && last == b'/';
        last = *byte;
        !repeated
    })
}

/// True if servers differ in what the path means: it has dot segments or backslashes, encoded or not.
fn is_ambiguous(path: &str) -> bool {
    // Only dots at the beginning of a segment matter: `Some(n)` after n of them and nothing else.
    let mut dots = None;
    for (byte, _) in unescape(path.as_bytes()) {
        dots = match (byte, dots) {
            (b'\\', _) | (b'/' | b';', Some(1 | 2)) => return true,
            (b'/', _) => Some(0),
            (b'.', Some(n)) => Some(n + 1),
            _ => None,
        };
    }
    matches!(dots, Some(1 | 2))
}
