//! Traffic capture: pods in network namespaces whose connections the kernel leads through their proxies, by the rules of
//! `outrigger-proxy redirect install`.
//!
//! Needs root, `ip`, `nft` and `setpriv`. Proxies have real certificates and speak mutual TLS; the control plane is a double
//! that says which address is which pod (the real one is in `kube_e2e.rs`, with the same rules).

#[path = "capture_netns/exclusions.rs"]
mod exclusions;
#[path = "capture_netns/loops.rs"]
mod loops;
#[path = "capture_netns/mesh.rs"]
mod mesh;
#[path = "capture_netns/protocols.rs"]
mod protocols;
#[path = "capture_netns/rules.rs"]
mod rules;
#[path = "capture_netns/tproxy.rs"]
mod tproxy;
