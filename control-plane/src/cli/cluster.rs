//! How a command reaches a cluster: as `kubectl` would.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// What every command that asks the API server takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ClusterArgs {
    /// How to reach the API server [default: ~/.kube/config, or the service account of the pod]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Namespace of the control plane
    #[arg(long, env = "OUTRIGGER_NAMESPACE", default_value = "outrigger-system", value_name = "NAMESPACE")]
    pub(super) mesh_namespace: String,
}

impl ClusterArgs {
    /// A client, without asking anything yet. The error says what is missing.
    pub(super) async fn client(&self) -> Result<Client, String> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        // A list of files is merged as kubectl merges it, which the library does for the variable alone.
        let one = |path: &&PathBuf| !path.as_os_str().is_empty() && !is_list(path);
        let file = self.kubeconfig.as_ref().filter(one);
        let mut config = match file {
            Some(path) => {
                let failed = |e: &dyn std::error::Error| format!("the kubeconfig {}: {}", path.display(), chain(e));
                let file = Kubeconfig::read_from(path).map_err(|e| failed(&e))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(|e| failed(&e))?
            }
            None => match Config::from_kubeconfig(&options).await {
                Ok(config) => config,
                Err(e) if self.context.is_some() => return Err(chain(&e)),
                Err(e) => Config::incluster().map_err(|_| format!("no usable kubeconfig: {}", chain(&e)))?,
            },
        };
        config.connect_timeout = Some(CONNECT);
        config.default_retry = false;
        Client::try_from(config).map_err(|e| chain(&e))
    }
}

/// True for `a:b`, which the variable may be.
fn is_list(path: &Path) -> bool {
    env::var_os("KUBECONFIG").is_some_and(|list| list == path.as_os_str() && env::split_paths(&list).count() > 1)
}

/// People wait for it.
const CONNECT: Duration = Duration::from_secs(5);

/// An error with its causes, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        cause = error.source();
    }
    words
}
