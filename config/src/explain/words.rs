//! The model in the words of its documents.

use std::time::Duration;

use crate::{
    access::Cause,
    matching::{RequestView, host_of},
    model::{
        EndpointSource, FallbackAction, HeaderEdits, Listener, ListenerProtocol, ListenerTarget, Mode, Model, MtlsMode,
        PathEdit, PathMatch, Redirect, RouteMatch, Rule, StringMatch, UpstreamProtocol, UpstreamTls, ValueMatch,
    },
};

mod policy;

pub(super) use policy::settings;

pub(super) fn listener_protocol(protocol: ListenerProtocol) -> &'static str {
    match protocol {
        ListenerProtocol::Detect => "detect",
        ListenerProtocol::Http => "http",
        ListenerProtocol::Tcp => "tcp",
    }
}

pub(super) fn mtls(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Strict => "strict",
        MtlsMode::Permissive => "permissive",
        MtlsMode::Disabled => "disabled",
    }
}

pub(super) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}

pub(super) fn upstream_protocol(protocol: UpstreamProtocol) -> &'static str {
    match protocol {
        UpstreamProtocol::Auto => "auto",
        UpstreamProtocol::Http => "http",
        UpstreamProtocol::Http2 => "http2",
        UpstreamProtocol::Grpc => "grpc",
        UpstreamProtocol::Tcp => "tcp",
    }
}

pub(super) fn tls(tls: &UpstreamTls) -> String {
    match tls {
        UpstreamTls::None => "none".to_owned(),
        UpstreamTls::Simple { sni, .. } => format!("simple, sni {sni}"),
        UpstreamTls::Mesh { identity } => format!("mesh, identity {identity}"),
    }
}

pub(super) fn source(source: &EndpointSource) -> String {
    match source {
        EndpointSource::Static(_) => "endpoints".to_owned(),
        EndpointSource::Dns { name, port } => format!("dns {name}, port {port}"),
        EndpointSource::Srv { name } => format!("dns srv {name}"),
        EndpointSource::Registry(registry) => registry.describe(),
        EndpointSource::Discovered => "those of the Service, by the control plane".to_owned(),
        EndpointSource::Local { port: 0 } => "the pod itself".to_owned(),
        EndpointSource::Local { port } => format!("the pod itself, port {port}"),
    }
}

pub(super) fn why_upstream(listener: &Listener, request: &impl RequestView) -> String {
    match &listener.target {
        ListenerTarget::Forward(_) => "the listener forwards everything to it".to_owned(),
        ListenerTarget::ByHost(_) => format!("it has the host name {}", host_of(request.authority())),
    }
}

pub(super) fn why_access(verdict: &str, cause: Option<&Cause<'_>>) -> String {
    match cause {
        Some(Cause { policy, rule: Some(rule) }) => format!("rule {rule} of AccessPolicy {} says so", policy.name),
        Some(Cause { policy, rule: None }) => {
            format!("AccessPolicy {} has allow rules, and none of them holds", policy.name)
        }
        None if verdict == "unchecked" => "access is judged by the proxy of the upstream".to_owned(),
        None => "no access policy has a say".to_owned(),
    }
}

/// The conditions of a match.
pub(super) fn matched(matched: &RouteMatch) -> String {
    let mut all = vec![match &matched.path {
        PathMatch::Exact(path) => format!("path is {path}"),
        PathMatch::Prefix(prefix) => format!("path starts with {prefix}"),
        PathMatch::Regex(pattern) => format!("path matches {}", pattern.text),
    }];
    all.extend(matched.method.iter().map(|method| format!("method is {method}")));
    all.extend(matched.headers.iter().map(|header| format!("header {}", value(header))));
    all.extend(matched.query.iter().map(|parameter| format!("query parameter {}", value(parameter))));
    if !matched.hostnames.is_empty() {
        all.push(format!("host is {}", matched.hostnames.join(" or ")));
    }
    if matched.grpc {
        all.push("content type is gRPC".to_owned());
    }
    all.join(", ")
}

pub(super) fn value(condition: &ValueMatch) -> String {
    match &condition.value {
        StringMatch::Exact(exact) => format!("{} is {exact:?}", condition.name),
        StringMatch::Regex(pattern) => format!("{} matches {}", condition.name, pattern.text),
    }
}

/// What a rule does, in the order in which it does it.
pub(super) fn filters(model: &Model, rule: &Rule) -> Vec<String> {
    let mut all = edits("request", &rule.request_headers);
    if let Some(rewrite) = &rule.rewrite {
        all.extend(rewrite.hostname.iter().map(|host| format!("rewrite host to {host}")));
        all.extend(rewrite.path.iter().map(|path| format!("rewrite {}", path_edit(path))));
    }
    all.extend(rule.redirect.iter().map(redirect));
    all.extend(rule.mirrors.iter().map(|mirror| {
        let name = &model.upstream(mirror.upstream).name;
        format!("mirror {} of {} requests to {name}", mirror.numerator, mirror.denominator)
    }));
    all.extend(edits("response", &rule.response_headers));
    all
}

pub(super) fn edits(side: &str, edits: &HeaderEdits) -> Vec<String> {
    let set = edits.set.iter().map(|(name, value)| format!("{side} header: set {name}: {value}"));
    let add = edits.add.iter().map(|(name, value)| format!("{side} header: add {name}: {value}"));
    let remove = edits.remove.iter().map(|name| format!("{side} header: remove {name}"));
    set.chain(add).chain(remove).collect()
}

pub(super) fn redirect(redirect: &Redirect) -> String {
    let mut text = format!("redirect with {}", redirect.status);
    let scheme = redirect.scheme.iter().map(|scheme| format!("scheme {scheme}"));
    let host = redirect.hostname.iter().map(|host| format!("host {host}"));
    let port = redirect.port.iter().map(|port| format!("port {port}"));
    for change in scheme.chain(host).chain(port).chain(redirect.path.iter().map(path_edit)) {
        text.push_str(", ");
        text.push_str(&change);
    }
    text
}

fn path_edit(edit: &PathEdit) -> String {
    match edit {
        PathEdit::ReplaceFull(path) => format!("path to {path}"),
        PathEdit::ReplacePrefix(prefix) => format!("matched prefix to {prefix:?}"),
    }
}

fn fallback(model: &Model, action: &FallbackAction) -> String {
    match action {
        FallbackAction::StaleIfError(age) => format!("the last good answer, at most {} old", duration(*age)),
        FallbackAction::Response(response) => format!("status {}", response.status),
        FallbackAction::Backend(id) => format!("upstream {}", model.upstream(*id).name),
    }
}

/// GEP-2257, canonical.
pub(super) fn duration(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    let units = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (millis.into(), "ms")];
    let text: String =
        units.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}
