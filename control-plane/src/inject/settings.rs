//! How the mesh is set up: what every injected template has in common.

use std::collections::BTreeMap;

use outrigger_config::{
    identity::{CONTROL_PLANE_ACCOUNT, DEFAULT_TRUST_DOMAIN},
    spiffe::check_trust_domain,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::annotations;

/// Namespace of the control plane where nobody chose one.
const NAMESPACE: &str = "outrigger-system";
/// What the cluster needs to start.
const SYSTEM: &str = "kube-system";

/// How the mesh is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// Image of the proxy; its entry point is `outrigger-proxy`.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; empty: what Kubernetes takes for that image.
    pub image_pull_policy: String,
    /// Where proxies find the control plane, `HOST:PORT`.
    pub control_plane: String,
    /// The control plane's namespace, a part of its identity. Never injected.
    pub control_plane_namespace: String,
    /// Of all identities.
    pub trust_domain: String,
    /// Whether the cluster runs native sidecars: nodes of Kubernetes 1.29 or later.
    pub native_sidecars: bool,
    /// Values of annotations where a pod has none: the mesh's own defaults. Names with their prefix.
    pub annotations: BTreeMap<String, String>,
}

/// Whether pods get native sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum NativeSidecars {
    /// If the API server is of 1.29 or later; always where none is asked (`outrigger inject`).
    #[default]
    Auto,
    /// Always.
    True,
    /// Never: some node is older.
    False,
}

/// Settings that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: {why}")]
pub struct SettingsError {
    /// Which.
    pub what: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: concat!("ghcr.io/outrigger-mesh/outrigger:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: String::new(),
            control_plane: Self::control_plane_of(NAMESPACE, "cluster.local"),
            control_plane_namespace: NAMESPACE.to_owned(),
            trust_domain: DEFAULT_TRUST_DOMAIN.to_owned(),
            native_sidecars: true,
            annotations: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Where a control plane is found that the chart installed into `namespace`.
    #[must_use]
    pub fn control_plane_of(namespace: &str, cluster_domain: &str) -> String {
        format!("{CONTROL_PLANE_ACCOUNT}.{namespace}.svc.{cluster_domain}:9980")
    }

    /// Namespaces whose pods are never injected.
    pub(super) fn exempts(&self, namespace: &str) -> bool {
        !namespace.is_empty() && (namespace == SYSTEM || namespace == self.control_plane_namespace)
    }

    /// Whether they can be meant; so that a wrong one is told once, at the start, and not with each pod.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), SettingsError> {
        let wrong = |what: &str, why: String| Err(SettingsError { what: what.to_owned(), why });
        if let Err(why) = super::values::image(&self.image) {
            return wrong("image", why);
        }
        if !self.image_pull_policy.is_empty()
            && let Err(why) = super::values::pull_policy(&self.image_pull_policy)
        {
            return wrong("imagePullPolicy", why);
        }
        if let Err(why) = super::values::host_and_port(&self.control_plane) {
            return wrong("controlPlane", why);
        }
        if let Err(why) = check_trust_domain(&self.trust_domain) {
            return wrong("trustDomain", why.to_string());
        }
        for (name, value) in &self.annotations {
            if let Err(why) = annotations::check(name, value) {
                return wrong(name, why);
            }
        }
        Ok(())
    }
}
