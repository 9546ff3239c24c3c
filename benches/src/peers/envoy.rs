//! Envoy with one worker: the smallest configuration that forwards HTTP/1 and HTTP/2. It is compared on request
//! only, because its package is large and not a distribution's.

use anyhow::Result;

use super::{Parts, Peer, free_address, version, words, write};

pub(super) fn prepare(parts: &Parts<'_>) -> Result<Peer> {
    let address = free_address()?;
    let endpoints: String = parts
        .origins
        .iter()
        .map(|o| {
            format!(
                "        - endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }}\n",
                o.ip(),
                o.port()
            )
        })
        .collect();
    let text = format!(
        "static_resources:
  listeners:
  - name: bench
    address: {{ socket_address: {{ address: {}, port_value: {} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          codec_type: AUTO
          route_config:
            virtual_hosts:
            - name: all
              domains: ['*']
              routes: [{{ match: {{ prefix: / }}, route: {{ cluster: origin }} }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: origin
    type: STATIC
    lb_policy: LEAST_REQUEST
    connect_timeout: 1s
    circuit_breakers: {{ thresholds: [{{ max_connections: 4096, max_pending_requests: 4096, max_requests: 4096 }}] }}
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
{endpoints}",
        address.ip(),
        address.port()
    );
    let path = write(parts, "envoy.yaml", &text)?;
    let program = parts.envoy.to_string_lossy();
    let config = path.to_string_lossy();
    Ok(Peer {
        name: "envoy".into(),
        command: words(&[&program, "--concurrency", "1", "--use-dynamic-base-id", "-l", "warn", "-c", &config]),
        http1: address,
        http2: Some(address),
        version: version(&program, "--version")?,
    })
}
