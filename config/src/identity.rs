//! Names of who is who in a cluster: what the control plane, the proxies and the chart must spell alike.

use crate::spiffe::{IdError, SpiffeId};

/// Audience of the service-account tokens that prove a pod's identity to the control plane.
///
/// A projected volume asks for it by name, so a token made for the API server or for anyone else proves nothing here, and one made for us
/// opens nothing there.
pub const TOKEN_AUDIENCE: &str = "outrigger.dev";

/// Service account of the control plane, and the last part of its identity.
pub const CONTROL_PLANE_ACCOUNT: &str = "outrigger-control-plane";

/// `ConfigMap` of every namespace that holds the trust bundle, for proxies that start.
pub const TRUST_CONFIG_MAP: &str = "outrigger-trust";

/// Key of [`TRUST_CONFIG_MAP`]: certificates in PEM, the signing root first.
pub const TRUST_CONFIG_MAP_KEY: &str = "ca.crt";

/// Trust domain where nobody chose one.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// Longest life of a workload's certificate, in seconds: a stolen key is worth a day.
pub const MAX_LIFETIME_SECONDS: u32 = 24 * 60 * 60;

/// Extra field of a token's user that names the pod it is bound to (Kubernetes, bound service account tokens).
pub const POD_NAME_EXTRA: &str = "authentication.kubernetes.io/pod-name";

/// Label of a namespace or a pod that asks for a proxy (`enabled`) or asks for none (`disabled`); the pod's wins.
pub const INJECT_LABEL: &str = "outrigger.dev/inject";

/// The identity of a service account: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
///
/// # Errors
/// A part has a character that a SPIFFE ID has no place for; Kubernetes' own names have none.
pub fn workload(trust_domain: &str, namespace: &str, account: &str) -> Result<SpiffeId, IdError> {
    // A slash in a part would move the border between them.
    if [namespace, account].iter().any(|part| part.contains('/')) || trust_domain.contains('/') {
        return Err(IdError::PathCharacter);
    }
    SpiffeId::parse(&format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}"))
}

/// The identity of the control plane that runs in `namespace`: a proxy believes no other.
///
/// # Errors
/// As [`workload`].
pub fn control_plane(trust_domain: &str, namespace: &str) -> Result<SpiffeId, IdError> {
    workload(trust_domain, namespace, CONTROL_PLANE_ACCOUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_cannot_pass_for_several() {
        assert_eq!(workload("a.b", "shop", "web").unwrap().as_str(), "spiffe://a.b/ns/shop/sa/web");
        for (domain, namespace, account) in [
            ("a", "shop/sa/web", "x"),
            ("a", "shop", "web/x"),
            ("a/b", "shop", "web"),
            ("a", "", "web"),
            ("a", "..", "web"),
        ] {
            assert!(workload(domain, namespace, account).is_err(), "{domain} {namespace} {account}");
        }
        assert_eq!(control_plane("a", "mesh").unwrap().as_str(), "spiffe://a/ns/mesh/sa/outrigger-control-plane");
    }
}
