//! Where a connection or a request goes in a pod: by the address that it was made for, else by its host.
//!
//! A connection that the system has redirected here knows where it was going, and that decides: the caller has looked
//! its name up already, and a `Host` is only what it says. What is not known is asked for and waited for, once for each
//! destination; with no answer it goes where the app sent it.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    rc::Rc,
    sync::Arc,
};

use outrigger_config::{
    matching::{self, Destination},
    model::{self, Direction, Listener, ListenerTarget, UpstreamId},
};
use socket2::SockRef;

use super::{connection::Client, exchange::Exchange, view::View, worker::Worker};
use crate::{
    discovery::{Routing, Verdict, explicit, host_and_port},
    error::{Failure, Reason},
    upstream::Endpoint,
};

/// How a connection came to a listener that takes redirected ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was made for the listener itself.
    Direct,
    /// It was on its way to this address.
    Redirected(SocketAddr),
    /// It comes from this proxy, or would come back to it.
    Loop,
}

/// An upstream, and the endpoint of it that the client has chosen.
#[derive(Clone)]
pub(super) struct Target {
    /// The upstream.
    pub(super) id: UpstreamId,
    /// `None`: one is chosen.
    pub(super) pinned: Option<Rc<Endpoint>>,
}

/// How `tcp` came to `listener`, whose socket is at `bound`. `own` are the addresses of listeners that lead back here, and
/// `routing` says which addresses are the pod's.
pub(super) fn arrival(
    listener: &Listener,
    tcp: &TcpStream,
    bound: SocketAddr,
    own: impl Iterator<Item = SocketAddr>,
    routing: Option<&Routing>,
) -> Arrival {
    if !listener.original_destination {
        return Arrival::Direct;
    }
    let redirected = tcp.local_addr().ok().map(canonical).and_then(|local| match local.port() == bound.port() {
        true => original(tcp).filter(|original| *original != local),
        // Only TPROXY gives a listener what was made for another port, and leaves it where it was going.
        false => Some(local),
    });
    judge(listener.direction, redirected, own, |ip| routing.is_none_or(|r| r.is_own(ip)))
}

/// `mine`: whether an address may be this machine's.
fn judge(
    direction: Direction,
    redirected: Option<SocketAddr>,
    mut own: impl Iterator<Item = SocketAddr>,
    mine: impl Fn(IpAddr) -> bool,
) -> Arrival {
    // What was made for the pod, and for a port that is ours, would come back whatever address it names.
    let back = |original: SocketAddr, own: SocketAddr| match direction {
        Direction::Inbound => original.port() == own.port(),
        Direction::Outbound => leads_back(original, own, &mine),
    };
    match redirected {
        // Nobody but a proxy in trouble connects to the port that only redirection leads to.
        None if direction == Direction::Inbound => Arrival::Loop,
        None => Arrival::Direct,
        Some(original) if own.any(|own| back(original, own)) => Arrival::Loop,
        Some(original) => Arrival::Redirected(original),
    }
}

/// True if a connection to `original` arrives at the listener `own`, or would if that listened at the pod's address.
fn leads_back(original: SocketAddr, own: SocketAddr, mine: impl Fn(IpAddr) -> bool) -> bool {
    let here = || original.ip().is_loopback() || mine(original.ip());
    let everywhere = own.ip().is_unspecified() || own.ip().to_canonical().is_loopback();
    original.port() == own.port() && (canonical(own).ip() == original.ip() || (everywhere && here()))
}

/// Where the connection was going before a rule of the system redirected it.
fn original(tcp: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(tcp);
    let v4 = tcp.local_addr().ok()?.ip().to_canonical().is_ipv4();
    let found = if v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    found.ok()?.as_socket().map(canonical)
}

/// IPv4 in IPv6, as dual-stack sockets have it, is IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether it is known where the request goes, and this worker uses the snapshot that says so.
pub(super) fn is_known(client: &Client, authority: &str) -> bool {
    let worker = &client.worker;
    let Some(discovery) = worker.shared.discovery() else { return true };
    let directory = discovery.directory();
    let known = match client.original {
        Some(original) => directory.address(original).is_some(),
        None => {
            let (host, port) = host_and_port(client.named.as_deref().unwrap_or(authority));
            directory.name(host, port).is_some()
        }
    };
    // The directory may lead to a service that came after this worker's last look.
    worker.catch_up();
    known
}

/// Waits until it is known where the request goes, or that is not worth waiting for.
pub(super) async fn settle(client: &Client, authority: &str) {
    let worker = &client.worker;
    let Some(discovery) = worker.shared.discovery() else { return };
    match client.original {
        Some(original) => discovery.settle_address(&worker.shared.observer, original).await,
        None => return settle_name(worker, client.named.as_deref().unwrap_or(authority)).await,
    }
    worker.catch_up();
}

/// The same, of a name.
pub(super) async fn settle_name(worker: &Rc<Worker>, authority: &str) {
    if let Some(discovery) = worker.shared.discovery() {
        Box::pin(discovery.settle_name(&worker.shared.observer, authority)).await;
        worker.catch_up();
    }
}

/// Where the bytes of a connection go. `None`: its requests say.
pub(super) fn target(
    worker: &Worker,
    view: &View,
    listener: &Listener,
    original: Option<SocketAddr>,
    named: Option<&Arc<str>>,
) -> Option<Target> {
    match (&listener.target, &view.snapshot.routing, original) {
        (ListenerTarget::Forward(id), Some(routing), Some(original)) if listener.direction == Direction::Inbound => {
            Some(local(view, routing, *id, original))
        }
        (_, Some(routing), Some(original)) => {
            let directory = worker.shared.discovery()?.directory();
            Some(outward(view, routing, directory.address(original), original))
        }
        (ListenerTarget::Forward(id), _, _) => Some(Target { id: *id, pinned: None }),
        // Where it leads nowhere, the requests on it are told why.
        (ListenerTarget::ByHost(_), Some(routing), None) => by_name(worker, view, routing, named?, true).ok(),
        (ListenerTarget::ByHost(_), _, _) => None,
    }
}

/// The upstream of a request, and its endpoint where the client has chosen that.
pub(super) fn destination<'m>(
    ex: &mut Exchange<'_>,
    view: &'m View,
    listener: &'m Listener,
) -> Result<Destination<'m>, Failure> {
    let model = &view.snapshot.model;
    let client = ex.client;
    let target = match (&view.snapshot.routing, client.original) {
        (Some(_), Some(_)) => target(&client.worker, view, listener, client.original, None),
        (Some(routing), None) if listener.direction == Direction::Outbound => {
            let named = client.named.as_ref();
            if let Some(named) = named.filter(|_| is_localhost(ex.head.host())) {
                // The app has called a port of its own host that stands for this one.
                ex.head.authority.clear();
                ex.head.authority.push_str(named);
            }
            let authority = named.map_or(&*ex.head.authority, |named| named);
            Some(by_name(&client.worker, view, routing, authority, named.is_some())?)
        }
        _ => None,
    };
    let Some(Target { id, pinned }) = target else {
        let found = matching::destination(model, listener, &*ex.head);
        return found.map_err(|e| Failure::new(Reason::DestinationNotFound, e.to_string()));
    };
    ex.pinned = pinned.map(|endpoint| (id, endpoint));
    Ok(Destination { listener, id, upstream: model.upstream(id), port: client.port(listener) })
}

/// The pod's own app.
fn local(view: &View, routing: &Routing, id: UpstreamId, original: SocketAddr) -> Target {
    let pinned = routing.app(original).map(|address| view.upstream(id).pinned(&plain(address)));
    Target { id, pinned }
}

/// Where a connection of the app for `original` goes.
fn outward(view: &View, routing: &Routing, verdict: Option<&Verdict>, original: SocketAddr) -> Target {
    let outside = || {
        let pinned = Some(view.upstream(routing.outside).pinned(&plain(routing.past(original))));
        Target { id: routing.outside, pinned }
    };
    match verdict {
        Some(Verdict::Service { slot, pinned }) => match routing.service(*slot) {
            Some(id) => Target { id, pinned: pinned.as_ref().map(|e| view.upstream(id).pinned(e)) },
            // Its documents were refused, and there are no older ones.
            None => outside(),
        },
        Some(Verdict::Pod(endpoint)) => {
            Target { id: routing.pods, pinned: Some(view.upstream(routing.pods).pinned(endpoint)) }
        }
        Some(Verdict::Outside | Verdict::Name(_)) | None => outside(),
    }
}

/// True for a name of the host itself, whoever asks.
fn is_localhost(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Where a connection of the app goes that names `authority` itself, by CONNECT or by the port that it was made to.
///
/// # Errors
/// Nowhere, or not from here.
pub(super) fn tunnel(worker: &Worker, view: &View, authority: &str) -> Result<Target, Failure> {
    let routing = view.snapshot.routing.as_ref();
    let routing = routing.ok_or_else(|| Failure::new(Reason::NotImplemented, "CONNECT is served in a pod alone"))?;
    by_name(worker, view, routing, authority, true)
}

/// Where a request of the app for `authority` goes, on a connection that was made to the proxy itself. `named`: all of the
/// connection goes there.
fn by_name(worker: &Worker, view: &View, routing: &Routing, authority: &str, named: bool) -> Result<Target, Failure> {
    let forbidden = || Failure::new(Reason::AccessDenied, explicit::FORBIDDEN);
    let allowed = |target: Target| match &target.pinned {
        Some(endpoint) if routing.explicit.is_app(endpoint.address()) => Ok(target),
        Some(endpoint) if !routing.may_reach(endpoint.address(), named) => Err(forbidden()),
        _ => Ok(target),
    };
    let missing = |details: String| Failure::new(Reason::DestinationNotFound, details);
    if authority.is_empty() {
        return Err(missing("the request names no host, and was made to the proxy itself".to_owned()));
    }
    let Some(discovery) = worker.shared.discovery() else {
        return Err(missing("this proxy has no control plane".to_owned()));
    };
    let directory = discovery.directory();
    let (host, port) = host_and_port(authority);
    match directory.name(host, port) {
        Some(Verdict::Name(found)) => match found.iter().find(|e| routing.may_reach(e.address, named)) {
            Some(endpoint) => {
                let pinned = Some(view.upstream(routing.outside).pinned(endpoint));
                Ok(Target { id: routing.outside, pinned })
            }
            None if !found.is_empty() => Err(forbidden()),
            None => Err(Failure::new(
                Reason::DnsError,
                "the host is not of the mesh, and no name server knows it".to_owned(),
            )),
        },
        Some(Verdict::Service { slot, .. }) if routing.service(*slot).is_none() => {
            let details = "the host is that of a Service whose configuration was refused; the log says why";
            Err(Failure::new(Reason::ProxyConfigurationError, details))
        }
        Some(verdict) => {
            let nowhere = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0);
            allowed(outward(view, routing, Some(verdict), nowhere))
        }
        None => match literal(authority) {
            Some(address) if !routing.may_reach(address, named) => Err(forbidden()),
            Some(address) => allowed(outward(view, routing, directory.address(address), address)),
            None => Err(missing("it is not known where the host is: the control plane did not answer".to_owned())),
        },
    }
}

/// An authority that is an address.
fn literal(authority: &str) -> Option<SocketAddr> {
    let bare = authority.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(authority);
    let with_default = || bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 80));
    authority.parse().ok().or_else(with_default).map(canonical)
}

/// An endpoint of which nothing is known but where it is.
fn plain(address: SocketAddr) -> model::Endpoint {
    model::Endpoint { address, weight: 1, zone: None, identity: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_would_come_back_is_a_loop() {
        let own = || [at("[::]:9992"), at("127.0.0.1:9991")].into_iter();
        let mine = |ip: IpAddr| ip == at("10.0.0.1:1").ip();
        let outbound = |to: Option<&str>| judge(Direction::Outbound, to.map(at), own(), mine);
        let inbound = |to: Option<&str>| judge(Direction::Inbound, to.map(at), own(), mine);
        assert_eq!(inbound(None), Arrival::Loop);
        assert_eq!(inbound(Some("10.0.0.1:9992")), Arrival::Loop);
        // Whatever address of the pod it names: nothing there is to be reached through a proxy.
        assert_eq!(inbound(Some("10.0.0.1:9991")), Arrival::Loop);
        assert_eq!(inbound(Some("10.0.0.1:8080")), Arrival::Redirected(at("10.0.0.1:8080")));
        assert_eq!(outbound(None), Arrival::Direct);
        assert_eq!(outbound(Some("127.0.0.1:9991")), Arrival::Loop);
        assert_eq!(outbound(Some("127.0.0.1:9992")), Arrival::Loop);
        assert_eq!(outbound(Some("10.0.0.1:9992")), Arrival::Loop);
        assert_eq!(outbound(Some("10.0.0.1:9991")), Arrival::Loop);
        // The same ports elsewhere are somebody else's.
        assert_eq!(outbound(Some("10.9.9.9:9992")), Arrival::Redirected(at("10.9.9.9:9992")));
        assert_eq!(outbound(Some("10.9.9.9:443")), Arrival::Redirected(at("10.9.9.9:443")));
        // Where nobody says which addresses are this machine's, any may be.
        assert_eq!(judge(Direction::Outbound, Some(at("10.9.9.9:9992")), own(), |_| true), Arrival::Loop);
    }

    #[test]
    fn dual_stack_addresses_are_what_they_stand_for() {
        assert_eq!(canonical(at("[::ffff:10.0.0.1]:80")), at("10.0.0.1:80"));
        assert_eq!(canonical(at("[fd00::1]:80")), at("[fd00::1]:80"));
    }
}
