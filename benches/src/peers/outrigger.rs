//! Outrigger with its whole pipeline on: nothing is switched off to look faster.
//!
//! The listener detects the protocol; the request is correlated, matched against twenty rules of an `HTTPRoute`
//! (the cases ask for the eleventh); a `TrafficPolicy` gives it a deadline, retries, a breaker for each of three
//! endpoints, limits and peak-EWMA balancing.

use std::path::Path;

use anyhow::Result;

use super::{Parts, Peer, free_address, version, words, write};

/// Rules of the route.
const RULES: usize = 20;

pub(super) fn prepare(
    name: &str,
    program: &Path,
    workers: usize,
    access_log: Option<&str>,
    parts: &Parts<'_>,
) -> Result<Peer> {
    let (address, admin) = (free_address()?, free_address()?);
    let endpoints: String = parts.origins.iter().map(|o| format!("    - {{ address: \"{o}\" }}\n")).collect();
    let rules: String = (0..RULES)
        .map(|i| {
            format!(
                "    - name: service-{i}
      matches: [{{ path: {{ type: PathPrefix, value: /api/v1/service-{i} }} }}]
      backendRefs: [{{ group: outrigger.dev, kind: Upstream, name: origin }}]
"
            )
        })
        .collect();
    let telemetry = access_log.map_or_else(String::new, |path| {
        format!("  telemetry: {{ accessLog: {{ format: json, path: {path}, sample: 1.0 }} }}\n")
    });
    let text = format!(
        "apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: {{ name: bench }}
spec:
  workers: {workers}
  admin: {{ address: \"{admin}\" }}
{telemetry}  listeners:
    - name: bench
      address: \"{address}\"
      direction: inbound
      protocol: detect
      mtls: disabled
      forwardTo: {{ kind: Upstream, name: origin }}
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: {{ name: origin }}
spec:
  endpoints:
{endpoints}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: bench }}
spec:
  parentRefs: [{{ group: outrigger.dev, kind: Upstream, name: origin }}]
  rules:
{rules}---
apiVersion: outrigger.dev/v1alpha1
kind: TrafficPolicy
metadata: {{ name: bench }}
spec:
  targetRefs: [{{ group: outrigger.dev, kind: Upstream, name: origin }}]
  timeouts: {{ request: 10s, backendRequest: 5s, connect: 1s, idle: 60s }}
  retry: {{ attempts: 2, codes: [502, 503, 504] }}
  circuitBreaker:
    scope: endpoint
    consecutiveFailures: 5
    failureRate: {{ percent: 50, minRequests: 20, window: 10s }}
  limits: {{ maxConnections: 1024, maxRequests: 4096, maxPending: 128 }}
  loadBalancing: {{ algorithm: peakEwma }}
"
    );
    let path = write(parts, &format!("{name}.yaml"), &text)?;
    let program = program.to_string_lossy();
    Ok(Peer {
        name: name.into(),
        command: words(&[&program, "run", "--config", &path.to_string_lossy()]),
        http1: address,
        http2: Some(address),
        version: version(&program, "--version")?,
    })
}
