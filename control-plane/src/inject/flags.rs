//! The settings of injection as flags: those of `outrigger control-plane` and of `outrigger inject` are the same.

use super::{NativeSidecars, Settings, SettingsError};

/// Flags that say what proxies are like. For `#[command(flatten)]`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Injected proxies")]
pub struct Flags {
    /// Image of the proxy [default: ghcr.io/outrigger-mesh/outrigger:VERSION, of this program's version]
    #[arg(long, env = "OUTRIGGER_PROXY_IMAGE", value_name = "IMAGE")]
    pub proxy_image: Option<String>,
    /// Always, IfNotPresent or Never [default: what Kubernetes takes for that image]
    #[arg(long, env = "OUTRIGGER_PROXY_IMAGE_PULL_POLICY", value_name = "POLICY")]
    pub proxy_image_pull_policy: Option<String>,
    /// Where proxies find the control plane [default: outrigger-control-plane.NAMESPACE.svc.CLUSTER_DOMAIN:9980]
    #[arg(long, env = "OUTRIGGER_CONTROL_PLANE_ADDRESS", value_name = "HOST:PORT")]
    pub control_plane_address: Option<String>,
    /// Native sidecars: every node must run Kubernetes 1.29 or later; auto goes by the API server
    #[arg(long, env = "OUTRIGGER_NATIVE_SIDECARS", value_enum, default_value_t, value_name = "WHEN")]
    pub native_sidecars: NativeSidecars,
    /// Annotation outrigger.dev/NAME for pods that do not have it; may be repeated (in the environment: one a line)
    #[arg(long = "proxy-default", env = "OUTRIGGER_PROXY_DEFAULTS", value_name = "NAME=VALUE", value_delimiter = '\n')]
    pub proxy_defaults: Vec<String>,
}

impl Flags {
    /// The settings that these flags mean, of a control plane in `namespace`. With `auto`, native sidecars are assumed until the version of
    /// the API server is known.
    ///
    /// # Errors
    /// One cannot be meant.
    pub fn settings(
        &self,
        namespace: &str,
        trust_domain: &str,
        cluster_domain: &str,
    ) -> Result<Settings, SettingsError> {
        let mut settings = Settings {
            control_plane: Settings::control_plane_of(namespace, cluster_domain),
            control_plane_namespace: namespace.to_owned(),
            trust_domain: trust_domain.to_owned(),
            native_sidecars: self.native_sidecars != NativeSidecars::False,
            ..Settings::default()
        };
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(image) = given(&self.proxy_image) {
            settings.image = image;
        }
        settings.image_pull_policy = given(&self.proxy_image_pull_policy).unwrap_or_default();
        if let Some(address) = given(&self.control_plane_address) {
            settings.control_plane = address;
        }
        // An environment variable that a chart writes ends with a line that is empty.
        for line in self.proxy_defaults.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once('=') else {
                let why = format!("write NAME=VALUE, for example {}log-level=debug", super::PREFIX);
                return Err(SettingsError { what: format!("--proxy-default {line:?}"), why });
            };
            let name = name.trim();
            let name = if name.contains('/') { name.to_owned() } else { format!("{}{name}", super::PREFIX) };
            settings.annotations.insert(name, value.trim().to_owned());
        }
        settings.check()?;
        Ok(settings)
    }
}
