//! `/config`: the model in force, with the place where each part was written.
//!
//! Words are those of the documents where the documents have a word for it. Files of identities are named,
//! never read: no key comes near this page. Times are durations as documents write them; `null` is "no limit".

mod policy;

use std::{fmt::Debug, sync::Arc, time::Duration};

use outrigger_config::model::{
    AccessPolicy, EndpointSource, HeaderEdits, IdentitySource, Listener, ListenerTarget, Model, PathEdit, PathMatch,
    ProxySettings, RouteMatch, Rule, StringMatch, Upstream, UpstreamTls, ValueMatch,
};
use serde_json::{Value, json};

use super::views::seconds as since_1970;
use crate::shared::Snapshot;

/// The whole of it.
pub(super) fn view(snapshot: &Snapshot) -> Value {
    let model = &snapshot.model;
    let decisions = model.decisions.iter().map(|d| {
        let losers = d
            .losers
            .iter()
            .map(|(name, origin, why)| json!({ "name": name, "origin": origin.to_string(), "why": why }));
        json!({
            "subject": d.subject,
            "winner": d.winner,
            "origin": d.winner_origin.as_ref().map(ToString::to_string),
            "losers": losers.collect::<Vec<_>>(),
        })
    });
    json!({
        "version": snapshot.version,
        "applied": since_1970(snapshot.applied),
        "warnings": snapshot.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "proxy": proxy(&model.proxy),
        "listeners": model.listeners.iter().map(|l| listener(model, l)).collect::<Vec<_>>(),
        "upstreams": model.upstreams.iter().map(|u| upstream(model, u)).collect::<Vec<_>>(),
        "decisions": decisions.collect::<Vec<_>>(),
    })
}

pub(super) fn proxy(proxy: &ProxySettings) -> Value {
    // Where it is from; what is in it is never read here.
    let identity = proxy.identity.as_ref().map(|source| match source {
        IdentitySource::Files(i) => {
            json!({ "certificate": i.certificate, "privateKey": i.private_key, "trustBundle": i.trust_bundle })
        }
        IdentitySource::WorkloadApi(i) => json!({
            "workloadApi": i.socket.as_ref().map_or("SPIFFE_ENDPOINT_SOCKET".into(), |s| format!("unix://{}", s.display())),
            "hint": i.hint,
        }),
        IdentitySource::ControlPlane => json!({ "controlPlane": true }),
    });
    let log = proxy.telemetry.access_log.as_ref();
    json!({
        "name": proxy.name,
        "workers": proxy.workers,
        "admin": { "address": proxy.admin.to_string() },
        "identity": identity,
        "telemetry": {
            "accessLog": log.map(|l| json!({ "format": camel(&l.format), "path": l.path, "sample": l.sample })),
            "tracing": proxy.telemetry.tracing.as_ref().map(|t| json!({ "otlp": t.otlp, "sample": t.sample })),
        },
        "correlation": {
            "headers": proxy.correlation.headers,
            "attribute": camel(&proxy.correlation.attribute),
        },
        "drainTimeout": time(proxy.drain_timeout),
    })
}

fn listener(model: &Model, listener: &Listener) -> Value {
    let target = match &listener.target {
        ListenerTarget::Forward(id) => json!({ "forwardTo": model.upstream(*id).name }),
        ListenerTarget::ByHost(table) => {
            let exact =
                table.exact.iter().map(|(host, id)| json!({ "host": host, "upstream": model.upstream(*id).name }));
            let wildcard = table
                .wildcard
                .iter()
                .map(|(suffix, id)| json!({ "host": format!("*{suffix}"), "upstream": model.upstream(*id).name }));
            json!({ "byHost": exact.chain(wildcard).collect::<Vec<_>>() })
        }
    };
    let limits = &listener.limits;
    json!({
        "name": listener.name,
        "address": listener.address.to_string(),
        "direction": listener.direction.as_str(),
        "protocol": camel(&listener.protocol),
        "mtls": camel(&listener.mtls),
        "target": target,
        "limits": {
            "maxHeaderBytes": limits.max_header_bytes,
            "maxHeaderCount": limits.max_header_count,
            "maxStreams": limits.max_streams,
            "maxResets": limits.max_resets,
            "headerReadTimeout": limits.header_read_timeout.map(time),
            "idleTimeout": limits.idle_timeout.map(time),
            "maxConnections": limits.max_connections,
        },
        "origin": listener.origin.to_string(),
    })
}

fn upstream(model: &Model, upstream: &Upstream) -> Value {
    let source = match &upstream.source {
        EndpointSource::Static(endpoints) => {
            let list = endpoints
                .iter()
                .map(|e| json!({ "address": e.address.to_string(), "weight": e.weight, "zone": e.zone }));
            json!({ "endpoints": list.collect::<Vec<_>>() })
        }
        EndpointSource::Dns { name, port } => json!({ "dns": { "name": name, "port": port } }),
        EndpointSource::Srv { name } => json!({ "dns": { "srv": name } }),
        EndpointSource::Registry(registry) => json!({ "discovery": registry.describe() }),
        EndpointSource::Discovered => json!("discovered"),
        EndpointSource::Local { port } => json!({ "local": port }),
    };
    let table = &upstream.routes;
    let matches = table.matches.iter().map(|m| route_match(&table.rules, m));
    json!({
        "name": upstream.name,
        "protocol": camel(&upstream.protocol),
        "hostnames": upstream.hostnames,
        "source": source,
        "tls": tls(&upstream.tls),
        "policy": policy::view(model, &upstream.policy),
        "access": upstream.access.iter().map(|a| access(a)).collect::<Vec<_>>(),
        "matches": matches.collect::<Vec<_>>(),
        "rules": table.rules.iter().map(|r| rule(model, r)).collect::<Vec<_>>(),
        "origin": upstream.origin.to_string(),
    })
}

/// The security of connections to an upstream.
pub(super) fn tls(tls: &UpstreamTls) -> Value {
    match tls {
        UpstreamTls::None => json!({ "mode": "none" }),
        UpstreamTls::Simple { sni, ca } => json!({ "mode": "simple", "sni": sni, "ca": ca }),
        UpstreamTls::Mesh { identity } => json!({ "mode": "mesh", "identity": identity }),
    }
}

fn route_match(rules: &[Arc<Rule>], m: &RouteMatch) -> Value {
    let path = match &m.path {
        PathMatch::Exact(value) => json!({ "type": "Exact", "value": value }),
        PathMatch::Prefix(value) => json!({ "type": "PathPrefix", "value": value }),
        PathMatch::Regex(pattern) => json!({ "type": "RegularExpression", "value": pattern.text }),
    };
    let rule = rules.get(m.rule as usize);
    json!({
        "hostnames": m.hostnames,
        "path": path,
        "method": m.method.as_ref().map(http::Method::as_str),
        "headers": values(&m.headers),
        "queryParams": values(&m.query),
        "grpc": m.grpc,
        "route": rule.map(|r| &r.route),
        "rule": rule.map(|r| &r.name),
    })
}

/// Conditions on headers or query parameters.
fn values(matches: &[ValueMatch]) -> Vec<Value> {
    let one = |m: &ValueMatch| match &m.value {
        StringMatch::Exact(value) => json!({ "name": m.name, "type": "Exact", "value": value }),
        StringMatch::Regex(p) => json!({ "name": m.name, "type": "RegularExpression", "value": p.text }),
    };
    matches.iter().map(one).collect()
}

fn rule(model: &Model, rule: &Rule) -> Value {
    let backends = rule.backends.iter().map(|b| {
        json!({
            "upstream": model.upstream(b.upstream).name,
            "weight": b.weight,
            "requestHeaders": edits(&b.request_headers),
            "responseHeaders": edits(&b.response_headers),
        })
    });
    let mirrors = rule.mirrors.iter().map(|m| {
        json!({ "upstream": model.upstream(m.upstream).name, "numerator": m.numerator, "denominator": m.denominator })
    });
    json!({
        "kind": rule.kind.as_str(),
        "route": rule.route,
        "name": rule.name,
        "requestHeaders": edits(&rule.request_headers),
        "responseHeaders": edits(&rule.response_headers),
        "rewrite": rule.rewrite.as_ref().map(|r| {
            json!({ "hostname": r.hostname, "path": r.path.as_ref().map(path_edit) })
        }),
        "redirect": rule.redirect.as_ref().map(|r| json!({
            "scheme": r.scheme,
            "hostname": r.hostname,
            "port": r.port,
            "path": r.path.as_ref().map(path_edit),
            "statusCode": r.status,
        })),
        "mirrors": mirrors.collect::<Vec<_>>(),
        "backends": backends.collect::<Vec<_>>(),
        "policy": policy::view(model, &rule.policy),
        "origin": rule.origin.to_string(),
    })
}

fn path_edit(edit: &PathEdit) -> Value {
    match edit {
        PathEdit::ReplaceFull(path) => json!({ "type": "ReplaceFullPath", "value": path }),
        PathEdit::ReplacePrefix(path) => json!({ "type": "ReplacePrefixMatch", "value": path }),
    }
}

fn edits(edits: &HeaderEdits) -> Value {
    if edits.is_empty() {
        return Value::Null;
    }
    let fields = |list: &[(Arc<str>, Arc<str>)]| -> Vec<Value> {
        list.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
    };
    json!({ "set": fields(&edits.set), "add": fields(&edits.add), "remove": edits.remove })
}

fn access(policy: &AccessPolicy) -> Value {
    let rules = policy.rules.iter().map(|rule| {
        let from = rule.from.iter().map(|s| {
            let cidrs: Vec<_> = s.cidrs.iter().map(ToString::to_string).collect();
            json!({ "identities": s.identities, "namespaces": s.namespaces, "cidrs": cidrs })
        });
        let to = rule.to.iter().map(|o| {
            let methods: Vec<_> = o.methods.iter().map(http::Method::as_str).collect();
            json!({ "methods": methods, "paths": o.paths, "headers": values(&o.headers), "ports": o.ports })
        });
        json!({ "action": camel(&rule.action), "from": from.collect::<Vec<_>>(), "to": to.collect::<Vec<_>>() })
    });
    json!({
        "name": policy.name,
        "mode": camel(&policy.mode),
        "rules": rules.collect::<Vec<_>>(),
        "origin": policy.origin.to_string(),
    })
}

/// The word of the documents for a variant without fields: `PeakEwma` is `peakEwma`.
pub(super) fn camel(variant: &impl Debug) -> String {
    let mut word = format!("{variant:?}");
    if let Some(first) = word.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    word
}

/// As GEP-2257 writes durations, to the millisecond; what is shorter is a fraction that only people read.
fn time(duration: Duration) -> String {
    let ms = duration.as_millis();
    match (ms, ms % 1_000) {
        (0, _) if !duration.is_zero() => format!("{duration:?}"),
        (_, 0) => {
            let s = ms / 1_000;
            match (s / 3_600, s / 60 % 60, s % 60) {
                (0, 0, s) => format!("{s}s"),
                (0, m, 0) => format!("{m}m"),
                (h, 0, 0) => format!("{h}h"),
                (0, m, s) => format!("{m}m{s}s"),
                (h, m, s) => format!("{h}h{m}m{s}s"),
            }
        }
        (ms, _) if ms < 100_000 => format!("{ms}ms"),
        (ms, rest) => format!("{}s{rest}ms", ms / 1_000),
    }
}
