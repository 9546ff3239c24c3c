//! The documents of the demo's two proxies, and the words before it.

use std::{fmt::Write as _, net::SocketAddr};

use super::services::SERVICES;

/// The proxy in front of the services: an inbound listener each.
pub(super) fn inbound(services: &[(&str, SocketAddr)]) -> String {
    let mut text = String::from(
        "apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: { name: demo-services }
spec:
  workers: 1
  drainTimeout: 2s
  admin: { address: 127.0.0.1:0 }
  listeners:
",
    );
    for (name, _) in services {
        let listener = format!(
            "    - name: {name}
      address: 127.0.0.1:0
      direction: inbound
      protocol: http
      forwardTo: {{ kind: Upstream, name: {name}-local }}
"
        );
        text.push_str(&listener);
    }
    for (name, address) in services {
        text.push_str(&upstream(&format!("{name}-local"), "", *address));
    }
    text
}

/// The proxy beside the client: one outbound listener, the upstream chosen by host.
pub(super) fn outbound(proxies: &[(String, SocketAddr)], admin: SocketAddr) -> String {
    let mut text = format!(
        "apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: {{ name: demo-client }}
spec:
  workers: 1
  drainTimeout: 2s
  admin: {{ address: \"{admin}\" }}
  listeners:
    - name: outbound
      address: 127.0.0.1:0
      direction: outbound
      protocol: http
"
    );
    for (name, address) in proxies {
        text.push_str(&upstream(name, &format!("  hostnames: [{name}]\n"), *address));
    }
    text.push_str(POLICIES);
    text
}

fn upstream(name: &str, hostnames: &str, address: SocketAddr) -> String {
    format!(
        "---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: {{ name: {name} }}
spec:
{hostnames}  endpoints: [{{ address: \"{address}\" }}]
"
    )
}

/// What is to be seen, and where.
pub(super) fn introduction(documents: &str, entry: SocketAddr, admin: SocketAddr, other: SocketAddr) -> String {
    let mut text = String::from(
        "Outrigger demo: three services, a proxy in front of them, a proxy beside their client.\n\n  \
         client -> proxy (outbound) -> proxy (inbound) -> service\n\n",
    );
    for service in &SERVICES {
        append(&mut text, format_args!("  {:<8}{}\n", service.name, service.about));
    }
    text.push_str("\nThe documents that the client's proxy runs:\n\n");
    for line in documents.lines() {
        append(&mut text, format_args!("  | {line}\n"));
    }
    // Ports have four digits or five.
    let url = |address: SocketAddr, path: &str| format!("{:<33}", format!("http://{address}/{path}"));
    append(
        &mut text,
        format_args!(
            "
Look:  {}the page for people, live
       {}for Prometheus
       {}endpoints and their health
       {}the same of the proxy in front of the services
Try:   curl -i -H 'Host: flaky' http://{entry}/
End:   Ctrl-C

",
            url(admin, ""),
            url(admin, "metrics"),
            url(admin, "upstreams"),
            url(other, ""),
        ),
    );
    text
}

fn append(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("writing to a string cannot fail");
}

const POLICIES: &str = "---
apiVersion: outrigger.dev/v1alpha1
kind: TrafficPolicy
metadata: { name: slow }
spec:
  targetRefs: [{ group: outrigger.dev, kind: Upstream, name: slow }]
  timeouts: { request: 1s, backendRequest: 300ms }
---
apiVersion: outrigger.dev/v1alpha1
kind: TrafficPolicy
metadata: { name: flaky }
spec:
  targetRefs: [{ group: outrigger.dev, kind: Upstream, name: flaky }]
  timeouts: { request: 2s, connect: 250ms }
  retry:
    attempts: 2
    codes: [502, 503, 504]
    backoff: { base: 25ms, max: 250ms }
    budget: { percent: 50, interval: 10s, minRetryRate: { count: 10, interval: 1s } }
  circuitBreaker:
    scope: upstream
    consecutiveFailures: 5
    open: { base: 1s, max: 5s }
";

#[cfg(test)]
mod tests {
    use outrigger_config::{Source, compile};

    use super::*;

    #[test]
    fn the_documents_compile_without_a_warning() {
        let address: SocketAddr = "127.0.0.1:1234".parse().unwrap();
        let services: Vec<_> = SERVICES.iter().map(|s| (s.name, address)).collect();
        let proxies: Vec<_> = SERVICES.iter().map(|s| (s.name.to_owned(), address)).collect();
        for text in [inbound(&services), outbound(&proxies, address)] {
            let compiled = compile(&[Source { name: "demo".into(), text }]).unwrap();
            assert!(compiled.warnings.is_empty(), "{:?}", compiled.warnings);
        }
    }
}
