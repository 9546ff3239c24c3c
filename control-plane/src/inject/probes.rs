//! Probes and lifecycle hooks of the app, by way of the proxy's admin port.
//!
//! The kubelet has no identity, so an inbound listener with `mtls: strict` refuses it; and where connections are captured a TCP probe
//! would always succeed, for the proxy accepts. So the kubelet asks the admin port at `/app/CONTAINER/PROBE`, and the proxy asks the app,
//! and nothing else than what is fixed here. Left alone is what the kubelet does not send to the pod (another `host`), what it runs in the
//! container (`exec`), and what it could not do before either (a named port that does not exist, two handlers in one, a header that is none).

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::{ADMIN_PORT, Capture, Choices, OWN_PORTS, record::Record, tree};

/// Fields of a container and the last segment of their paths.
const PROBES: [(&str, &str); 3] =
    [("livenessProbe", "livez"), ("readinessProbe", "readyz"), ("startupProbe", "startupz")];
/// Fields of `lifecycle`, likewise.
const HOOKS: [(&str, &str); 2] = [("postStart", "post-start"), ("preStop", "pre-stop")];
/// Longest that the proxy waits for the app to answer a probe, and for a hook to end, in seconds.
const LONGEST: u64 = 60;
/// See [`LONGEST`].
const LONGEST_HOOK: u64 = 600;
/// Of a pod that does not say how long it takes to end.
const GRACE: u64 = 30;

/// Rewrites those of one container. `endpoints` gets what the proxy is to ask instead.
pub(super) fn rewrite(
    container: &mut Value,
    choices: &Choices,
    grace: Option<u64>,
    endpoints: &mut Map<String, Value>,
    record: &mut Record,
) {
    let name = tree::text(container, "name").to_owned();
    for (place, segment) in PROBES {
        let Some((field, target)) = container.get(place).and_then(|probe| handler(probe, container, choices)) else {
            continue;
        };
        let seconds = container[place]["timeoutSeconds"].as_u64().unwrap_or(1);
        let Some(probe) = container.get_mut(place).and_then(Value::as_object_mut) else { continue };
        endpoints.insert(path(&name, segment), timed(target, seconds.clamp(1, LONGEST)));
        replace(probe, field, &path(&name, segment), |was| record.handler(&name, place, field, was));
    }
    for (hook, segment) in HOOKS {
        let lifecycle = container.get("lifecycle").and_then(|lifecycle| lifecycle.get(hook));
        let Some((field, target)) = lifecycle.and_then(|hook| handler(hook, container, choices)) else { continue };
        let Some(hook_of) = container["lifecycle"][hook].as_object_mut() else { continue };
        endpoints.insert(path(&name, segment), timed(target, grace.unwrap_or(GRACE).clamp(1, LONGEST_HOOK)));
        let place = format!("lifecycle.{hook}");
        replace(hook_of, field, &path(&name, segment), |was| record.handler(&name, &place, field, was));
    }
}

fn path(container: &str, segment: &str) -> String {
    format!("/app/{container}/{segment}")
}

fn timed(mut target: Value, seconds: u64) -> Value {
    target["timeoutSeconds"] = seconds.into();
    target
}

/// The field of the one handler that goes to the pod, and what it asks for.
fn handler(probe: &Value, container: &Value, choices: &Choices) -> Option<(&'static str, Value)> {
    let said: Vec<&str> = probe.as_object()?.iter().filter(|(_, v)| v.is_object()).map(|(k, _)| k.as_str()).collect();
    let &[only] = said.as_slice() else { return None };
    let field = *["httpGet", "tcpSocket", "grpc"].iter().find(|known| **known == only)?;
    let asked = &probe[field];
    if !tree::text(asked, "host").is_empty() {
        return None;
    }
    let port = port(&asked["port"], container)?;
    if !is_proxied(port, choices) || OWN_PORTS.contains(&port) {
        return None;
    }
    let target = match field {
        "httpGet" => http(asked, port)?,
        "tcpSocket" => json!({ "port": port }),
        _ => json!({ "port": port, "service": tree::text(asked, "service") }),
    };
    let kind = match field {
        "httpGet" => "http",
        "tcpSocket" => "tcp",
        other => other,
    };
    Some((field, json!({ kind: target })))
}

/// Does what arrives at `port` of the pod meet the proxy? Elsewhere the kubelet gets to the app by itself.
pub(super) fn is_proxied(port: u16, choices: &Choices) -> bool {
    choices.capture != Capture::None || choices.inbound_listeners.iter().any(|(from, _)| *from == port)
}

/// `None`: a request that the proxy could not send. One entry that it cannot read would keep it from starting.
fn http(asked: &Value, port: u16) -> Option<Value> {
    let said = |key: &str, otherwise: &str| match tree::text(asked, key) {
        "" => otherwise.to_owned(),
        said => said.to_owned(),
    };
    let scheme = said("scheme", "HTTP");
    let good = |header: &Value| {
        let name = HeaderName::from_bytes(tree::text(header, "name").as_bytes());
        name.is_ok() && HeaderValue::from_str(tree::text(header, "value")).is_ok()
    };
    if !matches!(&*scheme, "HTTP" | "HTTPS") || !tree::items(asked, "httpHeaders").all(good) {
        return None;
    }
    let mut target = json!({ "port": port, "path": said("path", "/"), "scheme": scheme });
    let headers: Vec<Value> = tree::items(asked, "httpHeaders")
        .map(|header| json!({ "name": tree::text(header, "name"), "value": tree::text(header, "value") }))
        .collect();
    if !headers.is_empty() {
        target["headers"] = headers.into();
    }
    Some(target)
}

/// A number, or the name of a port of this container, as the kubelet resolves it.
pub(super) fn port(said: &Value, container: &Value) -> Option<u16> {
    let number = match said {
        Value::Number(number) => number.as_u64()?,
        Value::String(name) => {
            let named = tree::items(container, "ports").find(|port| tree::text(port, "name") == name);
            named.map_or_else(|| name.parse().ok(), |port| port["containerPort"].as_u64())?
        }
        _ => return None,
    };
    u16::try_from(number).ok().filter(|port| *port > 0)
}

/// Puts our handler in the place of another.
fn replace(probe: &mut Map<String, Value>, field: &str, path: &str, note: impl FnOnce(Value)) {
    if let Some(was) = probe.get(field) {
        note(was.clone());
    }
    let ours = json!({ "path": path, "port": ADMIN_PORT, "scheme": "HTTP" });
    if probe.contains_key("httpGet") {
        // It may say nothing, beside another that does: they change places.
        probe.insert(field.to_owned(), Value::Null);
        probe.insert("httpGet".to_owned(), ours);
    } else {
        tree::rename(probe, field, "httpGet", &ours);
    }
}

/// Puts back a handler, if ours is still there.
pub(super) fn restore(container: &mut Value, name: &str, place: &str, was: &Map<String, Value>) {
    let segment = PROBES.into_iter().chain(HOOKS).find(|(known, _)| place.ends_with(known)).map_or("", |(_, s)| s);
    let mut parent = Some(container);
    for step in place.split('.') {
        parent = parent.and_then(|parent| parent.get_mut(step));
    }
    let Some(probe) = parent.and_then(Value::as_object_mut) else { return };
    let ours = probe.get("httpGet").is_some_and(|http| tree::text(http, "path") == path(name, segment));
    let (true, Some((field, handler))) = (ours, was.iter().next()) else { return };
    if probe.contains_key(field) {
        probe.insert("httpGet".to_owned(), Value::Null);
        probe.insert(field.clone(), handler.clone());
    } else {
        tree::rename(probe, "httpGet", field, handler);
    }
}
