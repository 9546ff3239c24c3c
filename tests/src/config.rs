//! YAML for scenarios. `${DIR}` is replaced by the test's own directory when a [`Proxy`](crate::Proxy) starts.

use std::net::SocketAddr;

/// An inbound listener `inbound` in front of the upstream `app`.
pub const INBOUND: &str = "{ name: inbound, address: 127.0.0.1:0, direction: inbound, \
     forwardTo: { kind: Upstream, name: app } }";

/// An outbound listener `outbound` that chooses by host.
pub const OUTBOUND: &str = "{ name: outbound, address: 127.0.0.1:0, direction: outbound }";

/// The `Proxy` document with these listeners (YAML flow mappings); JSON access log in `${DIR}/access.log`.
#[must_use]
pub fn proxy(listeners: &[&str]) -> String {
    proxy_with("", listeners)
}

/// The same with more lines of `spec`, indented by two.
#[must_use]
pub fn proxy_with(spec: &str, listeners: &[&str]) -> String {
    let listeners: String = listeners.iter().map(|l| format!("    - {l}\n")).collect();
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: Proxy\nmetadata: {{ name: test }}\nspec:\n  workers: 1\n  \
         admin: {{ address: 127.0.0.1:0 }}\n  \
         telemetry: {{ accessLog: {{ format: json, path: \"${{DIR}}/access.log\" }} }}\n{spec}  listeners:\n{listeners}"
    )
}

/// An `Upstream` of one endpoint.
#[must_use]
pub fn upstream(name: &str, address: SocketAddr) -> String {
    upstream_with(name, &format!("endpoints: [{{ address: \"{address}\" }}]"))
}

/// An `Upstream` with this `spec`: fields of a flow mapping.
#[must_use]
pub fn upstream_with(name: &str, spec: &str) -> String {
    document("outrigger.dev/v1alpha1", "Upstream", name, &format!("{{ {spec} }}"))
}

/// An `Upstream` of several endpoints.
#[must_use]
pub fn upstream_of(name: &str, addresses: &[SocketAddr]) -> String {
    let endpoints: Vec<_> = addresses.iter().map(|a| format!("{{ address: \"{a}\" }}")).collect();
    upstream_with(name, &format!("endpoints: [{}]", endpoints.join(", ")))
}

/// A `TrafficPolicy` for the upstream of the same name: fields of a flow mapping.
#[must_use]
pub fn policy(upstream: &str, spec: &str) -> String {
    let target = format!("targetRefs: [{{ group: outrigger.dev, kind: Upstream, name: {upstream} }}]");
    document("outrigger.dev/v1alpha1", "TrafficPolicy", upstream, &format!("{{ {target}, {spec} }}"))
}

/// An `HTTPRoute` of the upstream with these rules (block YAML, the list items at the margin).
#[must_use]
pub fn http_route(name: &str, parent: &str, rules: &str) -> String {
    route("HTTPRoute", name, parent, rules)
}

/// A `GRPCRoute` likewise.
#[must_use]
pub fn grpc_route(name: &str, parent: &str, rules: &str) -> String {
    route("GRPCRoute", name, parent, rules)
}

/// A flow mapping that refers to an upstream.
#[must_use]
pub fn backend(name: &str) -> String {
    format!("{{ group: outrigger.dev, kind: Upstream, name: {name} }}")
}

/// Any document.
#[must_use]
pub fn document(api_version: &str, kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: {api_version}\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {spec}\n")
}

/// Listener `inbound` in front of one service: the smallest useful configuration.
#[must_use]
pub fn sidecar(app: SocketAddr) -> String {
    proxy(&[INBOUND]) + &upstream("app", app)
}

/// The same with an upstream protocol.
#[must_use]
pub fn sidecar_protocol(app: SocketAddr, protocol: &str) -> String {
    let spec = format!("protocol: {protocol}, endpoints: [{{ address: \"{app}\" }}]");
    proxy(&[INBOUND]) + &upstream_with("app", &spec)
}

/// The same with a `TrafficPolicy`.
#[must_use]
pub fn sidecar_policy(app: SocketAddr, spec: &str) -> String {
    sidecar(app) + &policy("app", spec)
}

/// `INBOUND` with more fields.
#[must_use]
pub fn inbound(more: &str) -> String {
    let fields = INBOUND.strip_suffix(" }").expect("the constant ends so");
    format!("{fields}, {more} }}")
}

fn route(kind: &str, name: &str, parent: &str, rules: &str) -> String {
    let rules: String = rules.trim_start_matches('\n').lines().map(|line| format!("    {line}\n")).collect();
    let spec = format!("\n  parentRefs: [{}]\n  rules:\n{}", backend(parent), rules.trim_end());
    document("gateway.networking.k8s.io/v1", kind, name, &spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_added_inside_the_mapping() {
        assert!(inbound("protocol: http").ends_with("forwardTo: { kind: Upstream, name: app }, protocol: http }"));
    }
}
