//! Access: whether a request or an opaque connection may pass, and whether what was let in still may.
//!
//! A verdict holds as long as the policies do that it was found by. A worker counts the changes of those
//! ([`View::rulings`]); what lives long looks at the count whenever it is polled, and is judged again when it has moved:
//! the answer of a request that is still under way ([`Standing`]), an opaque connection, an upgraded one ([`Pass`]).
//! Which is one comparison of two integers where nothing has changed, and one pass over what is open where something
//! has. What is denied now is ended, and logged and counted like what is denied at once; the rest never notices.

use std::{cell::Cell, rc::Rc, sync::Arc};

use outrigger_config::{
    access::{self, Access, Caller, Cause, Verdict},
    matching::{
        Destination,
        normal::{self, PathUse},
    },
    model::{Direction, Listener, ListenerTarget, MtlsMode, UpstreamId},
};

use super::{
    connection::Client,
    exchange::Exchange,
    view::{View, Way},
};
use crate::{
    error::{Failure, Reason},
    http::RequestHead,
    observe::AccessNote,
};

/// What was decided, for the log line.
#[derive(Debug, Clone, Default)]
pub struct Ruling {
    verdict: &'static str,
    cause: Option<(Named, Option<usize>)>,
    observed: Option<Named>,
}

/// A policy that is to be named.
#[derive(Debug, Clone)]
enum Named {
    /// By its place among those of an upstream of the request's own view: all workers would write the reference count of
    /// the name for every request.
    At(UpstreamId, usize),
    /// Where the view may be another one by the time that it is named.
    Owned(Arc<str>),
}

impl Named {
    fn text<'a>(&'a self, view: &'a View) -> &'a str {
        match self {
            Self::At(id, index) => view.upstream(*id).config.access.get(*index).map_or("", |policy| &policy.name),
            Self::Owned(name) => name,
        }
    }
}

impl Ruling {
    fn new(access: &Access<'_>, named: impl Fn(&Cause<'_>) -> Named) -> Self {
        let (verdict, cause) = match &access.verdict {
            Verdict::Open => ("open", None),
            Verdict::Allow(cause) => ("allow", Some((named(cause), cause.rule))),
            Verdict::Deny(cause) => ("deny", Some((named(cause), cause.rule))),
        };
        Self { verdict, cause, observed: access.observed.as_ref().map(named) }
    }

    /// One that outlives the view.
    fn owned(access: &Access<'_>) -> Self {
        Self::new(access, |cause| Named::Owned(Arc::clone(&cause.policy.name)))
    }

    /// One by the policies of `destination`, of the view that will be asked for their names.
    fn at(access: &Access<'_>, destination: &Destination<'_>) -> Self {
        Self::new(access, |cause| {
            let index = destination.upstream.access.iter().position(|p| Arc::ptr_eq(p, cause.policy));
            Named::At(destination.id, index.unwrap_or(usize::MAX))
        })
    }

    /// As the log has it. `view`: the one under which it was made.
    #[must_use]
    pub fn note<'a>(&'a self, view: &'a View) -> AccessNote<'a> {
        AccessNote {
            verdict: self.verdict,
            policy: self.cause.as_ref().map_or("", |(policy, _)| policy.text(view)),
            rule: self.cause.as_ref().and_then(|(_, rule)| *rule),
            observed: self.observed.as_ref().map_or("", |policy| policy.text(view)),
        }
    }
}

/// Why what was let in may not go on, and what the log says of it.
pub type Denied = Box<(Failure, Ruling)>;

/// Brings path and host into the form that routes and access rules decide on, and that is forwarded.
///
/// # Errors
/// An access rule decides on the path, and servers differ in what it means.
pub fn normalise(ex: &mut Exchange<'_>, id: UpstreamId) -> Result<(), Failure> {
    let used = ex.view.path_use(ex.client.direction, id);
    if used == PathUse::Forward {
        return Ok(());
    }
    let came = normal_head(ex.head, used)?;
    if let Some(came) = came {
        ex.original.get_or_insert(came);
    }
    Ok(())
}

/// Normalises `head`; authority and target as they came, if that has changed anything.
fn normal_head(head: &mut RequestHead, used: PathUse) -> Result<Option<Box<(String, String)>>, Failure> {
    let refused = |unclear: normal::Unclear| Failure::new(Reason::HttpRequestError, unclear.to_string());
    let (path, authority) = (normal::path(head.path(), used).map_err(refused)?, normal::authority(&head.authority));
    if path.is_none() && authority.is_none() {
        return Ok(None);
    }
    let came = Box::new((head.authority.clone(), head.target.clone()));
    if let Some(path) = path {
        let end = head.path().len();
        head.target.replace_range(..end, &path);
    }
    if let Some(authority) = authority {
        head.authority = authority;
    }
    Ok(Some(came))
}

/// May this caller do this? Fails closed.
///
/// # Errors
/// An access policy of the upstream denies it.
pub fn authorize(ex: &mut Exchange<'_>, destination: &Destination<'_>) -> Result<(), Failure> {
    if destination.upstream.access.is_empty() || destination.listener.direction == Direction::Outbound {
        return Ok(());
    }
    let client = ex.client;
    let caller = caller(client, destination.listener);
    let access = destination.authorize(&caller, &*ex.head);
    if let Some(cause) = access.observed {
        tracing::info!(policy = &*cause.policy.name, request_id = ex.request_id.as_str(), "would be denied");
        ex.view.observed(&client.worker.observer, &cause.policy.name);
    }
    let denied = denial(&caller, &access);
    if denied.is_some() || ex.ruling.is_none() {
        ex.ruling = Some(Ruling::at(&access, destination));
    }
    let Some(denied) = denied else { return Ok(()) };
    ex.view.upstream(destination.id).observer.rejected(Reason::AccessDenied);
    Err(denied)
}

/// The same for the upstream that the rule of a request leads to: its own policies hold, too. Judged is what it would
/// get, after the edits of the rule.
///
/// # Errors
/// As [`authorize`].
pub fn authorize_backend(ex: &mut Exchange<'_>, id: UpstreamId) -> Result<(), Failure> {
    let view = Rc::clone(&ex.view);
    // What goes to the upstream that was addressed was judged as it came; if its rule edits it, it is judged as it goes, too.
    let judged = ex.asked.is_none() && ex.way.is_some_and(|way| way.to == id);
    if judged || ex.client.direction == Direction::Outbound || view.upstream(id).config.access.is_empty() {
        return Ok(());
    }
    let listener = view
        .listener_of(ex.client)
        .ok_or_else(|| Failure::new(Reason::AccessDenied, "the listener of this connection is no longer configured"))?;
    let destination = Destination { listener, id, upstream: &view.upstream(id).config, port: ex.client.port(listener) };
    authorize(ex, &destination)
}

/// The same for an upstream that the request may do without: a mirror, or a fallback.
pub fn may_reach(ex: &mut Exchange<'_>, id: UpstreamId) -> bool {
    let ruling = ex.ruling.take();
    let may = authorize_backend(ex, id).is_ok();
    ex.ruling = ruling;
    may
}

fn caller<'a>(client: &'a Client, listener: &Listener) -> Caller<'a> {
    Caller::new(client.identity.as_deref(), client.peer.ip(), listener.mtls)
}

/// The rule is for the log: outside, the policy's name is enough to ask its owner.
fn denial(caller: &Caller<'_>, access: &Access<'_>) -> Option<Failure> {
    let Verdict::Deny(cause) = access.verdict else { return None };
    let who = caller.identity.unwrap_or("a caller without an identity");
    let policy = &cause.policy.name;
    Some(Failure::new(Reason::AccessDenied, format!("AccessPolicy {policy} does not allow {who} to do this")))
}

/// A listener that takes only proven callers now, and a caller that is none.
pub fn unproven(client: &Client, listener: &Listener) -> Option<Failure> {
    let what = "the listener's mtls is strict, and this connection is not mTLS";
    (listener.mtls == MtlsMode::Strict && client.identity.is_none()).then(|| Failure::new(Reason::AccessDenied, what))
}

/// An access policy sees of an opaque connection who it is, and no method and no path.
///
/// # Errors
/// It is denied; what the log says of it is there either way.
pub fn admit(client: &Client, upstream: &str) -> (Result<(), Failure>, Ruling) {
    if client.direction == Direction::Outbound {
        return (Ok(()), Ruling::default());
    }
    let view = client.worker.view();
    let gone = |what| (Err(Failure::new(Reason::AccessDenied, what)), Ruling::default());
    let Some(listener) = view.listener_of(client) else { return gone("nothing is let in here any more") };
    if let Some(failure) = unproven(client, listener) {
        return (Err(failure), Ruling::default());
    }
    let Some(id) = addressed(&view, listener, upstream) else { return gone("its upstream is no longer configured") };
    let policies = &view.upstream(id).config.access;
    if policies.is_empty() {
        return (Ok(()), Ruling::default());
    }
    let caller = caller(client, listener);
    let access = access::evaluate_connection(policies, &caller, client.port(listener));
    if let Some(cause) = access.observed {
        tracing::info!(policy = &*cause.policy.name, peer = %client.peer, "would be denied");
        view.observed(&client.worker.observer, &cause.policy.name);
    }
    let result = denial(&caller, &access).map_or(Ok(()), Err);
    (result, Ruling::owned(&access))
}

/// Judges an opaque connection again, if what it is judged by has changed since `seen`.
///
/// # Errors
/// It may not go on; with what the log says of it.
pub fn readmit(client: &Client, seen: &Cell<u64>, upstream: &str) -> Result<(), Denied> {
    let now = client.worker.rulings();
    if seen.replace(now) == now || client.direction == Direction::Outbound {
        return Ok(());
    }
    let view = client.worker.view();
    let listener = still_listening(client, &view).map_err(|failure| Box::new((failure, Ruling::default())))?;
    if listener.and_then(|listener| addressed(&view, listener, upstream)).is_none() {
        return Ok(());
    }
    let (result, ruling) = admit(client, upstream);
    result.map_err(|failure| Box::new((failure, ruling)))
}

/// The upstream whose policies hold for what was let in to the one called `name`.
///
/// In a pod the name of what is behind a port changes with the Services that target it, so there the port says which it
/// is: a name that is gone must not free anybody from the policies of its successor.
fn addressed(view: &View, listener: &Listener, name: &str) -> Option<UpstreamId> {
    match (&view.snapshot.routing, &listener.target) {
        (Some(_), ListenerTarget::Forward(id)) => Some(*id),
        _ => named(view, name),
    }
}

fn named(view: &View, name: &str) -> Option<UpstreamId> {
    let index = view.snapshot.model.upstreams.iter().position(|u| *u.name == *name)?;
    u32::try_from(index).ok().map(UpstreamId)
}

/// The listener that lets `client` go on. `None`: a file names it no more; it takes no more work, and what it has may end
/// in peace.
fn still_listening<'a>(client: &Client, view: &'a View) -> Result<Option<&'a Listener>, Failure> {
    match view.listener_of(client) {
        Some(listener) => unproven(client, listener).map_or(Ok(Some(listener)), Err),
        None if view.snapshot.routing.is_none() => Ok(None),
        None => Err(Failure::new(Reason::AccessDenied, "nothing is let in here any more")),
    }
}

/// What a request was let in with, to be judged again: the names of the upstreams and the heads that they were judged by.
pub struct Pass {
    /// The upstream that was addressed.
    addressed: (Arc<str>, Box<RequestHead>),
    /// The backend, where that is another one.
    backend: Option<(Arc<str>, Box<RequestHead>)>,
    seen: Cell<u64>,
}

impl Pass {
    /// Of a request that goes this way. `asked`: its head before the edits of its rule.
    fn new(view: &View, way: Way, head: &RequestHead, asked: Option<&RequestHead>) -> Self {
        let backend = &view.goes_to(way).config.name;
        let addressed = &view.upstream(way.to).config.name;
        let copy = |head: &RequestHead| Box::new(head.clone());
        Self {
            addressed: (Arc::clone(addressed), copy(asked.unwrap_or(head))),
            backend: (asked.is_some() || backend != addressed).then(|| (Arc::clone(backend), copy(head))),
            seen: Cell::new(view.rulings),
        }
    }

    /// Name of the upstream that it goes to.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.backend.as_ref().unwrap_or(&self.addressed).0
    }

    /// Judges again, if what it is judged by has changed.
    ///
    /// # Errors
    /// It may not go on.
    pub fn check(&self, client: &Client) -> Result<(), Denied> {
        let now = client.worker.rulings();
        if self.seen.replace(now) == now || client.direction == Direction::Outbound {
            return Ok(());
        }
        let view = client.worker.view();
        let listener = still_listening(client, &view).map_err(|failure| Box::new((failure, Ruling::default())))?;
        let Some(listener) = listener else { return Ok(()) };
        let (name, head) = &self.addressed;
        if let Some(id) = addressed(&view, listener, name) {
            judge_again(client, &view, listener, id, head)?;
        }
        if let Some((name, head)) = &self.backend
            && let Some(id) = named(&view, name)
        {
            judge_again(client, &view, listener, id, head)?;
        }
        Ok(())
    }
}

fn judge_again(
    client: &Client,
    view: &View,
    listener: &Listener,
    id: UpstreamId,
    head: &RequestHead,
) -> Result<(), Denied> {
    let upstream = &view.snapshot.model.upstreams[id.0 as usize];
    let mut head = head.clone();
    // When it came, nothing may have decided on its path.
    normal_head(&mut head, view.path_use(client.direction, id)).map_err(|failure| {
        let denied = Failure::new(Reason::AccessDenied, failure.details);
        Box::new((denied, Ruling { verdict: "deny", ..Ruling::default() }))
    })?;
    let caller = caller(client, listener);
    let access = Destination { listener, id, upstream, port: client.port(listener) }.authorize(&caller, &head);
    denial(&caller, &access).map_or(Ok(()), |failure| Err(Box::new((failure, Ruling::owned(&access)))))
}

/// The right of a request to its answer, looked at whenever the exchange is polled.
pub struct Standing<'a> {
    client: &'a Client,
    view: &'a View,
    way: Option<Way>,
    head: &'a RequestHead,
    asked: Option<&'a RequestHead>,
    ruling: &'a mut Option<Ruling>,
    seen: u64,
}

impl<'a> Standing<'a> {
    /// Of a request that was judged under `view`.
    pub fn new(
        client: &'a Client,
        view: &'a View,
        way: Option<Way>,
        head: &'a RequestHead,
        asked: Option<&'a RequestHead>,
        ruling: &'a mut Option<Ruling>,
    ) -> Self {
        Self { client, view, way, head, asked, ruling, seen: view.rulings }
    }

    /// Judges again, if what it is judged by has changed.
    ///
    /// # Errors
    /// It may not go on.
    #[inline]
    pub fn check(&mut self) -> Result<(), Failure> {
        let now = self.client.worker.rulings();
        if self.seen == now { Ok(()) } else { self.check_again(now) }
    }

    #[cold]
    fn check_again(&mut self, now: u64) -> Result<(), Failure> {
        self.seen = now;
        let Some(way) = self.way else { return Ok(()) };
        Pass::new(self.view, way, self.head, self.asked).check(self.client).map_err(|denied| {
            let (failure, ruling) = *denied;
            self.view.goes_to(way).observer.rejected(Reason::AccessDenied);
            *self.ruling = Some(ruling);
            failure
        })
    }
}

impl Exchange<'_> {
    /// What this request was let in with.
    #[must_use]
    pub fn pass(&self) -> Option<Pass> {
        self.way.map(|way| Pass::new(&self.view, way, self.head, self.asked.as_deref()))
    }
}
