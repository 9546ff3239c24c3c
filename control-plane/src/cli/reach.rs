//! How a command reaches proxies: one by its admin address, or those of a mesh through the API server.
//!
//! What may be read by whoever scrapes goes by the pod's `proxy` subresource, one request each, which needs no connection of
//! its own. What only a process of the pod's host may ask for (`/tap`, the page) goes by `portforward`, where the kubelet is
//! that process. Both are bounded in number and in time, and a pod that does not answer is named and left out.

mod http1;
mod pods;

use std::{fmt, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::{
    Usage,
    cluster::{ClusterArgs, chain},
};
pub(super) use http1::Exchange;

/// For one answer of one proxy: it answers from memory, and people wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Proxies that are asked at once: an API server serves more, and a slow pod must not hold up the rest.
const AT_ONCE: usize = 16;

/// The admin port of a proxy in a pod.
const ADMIN_PORT: u16 = 9990;

/// Which proxies are meant.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Target {
    /// A pod, or what selects pods: pod/NAME, deploy/NAME, sts/NAME, ds/NAME, rs/NAME, job/NAME, svc/NAME [default: all
    /// pods of the namespace that have a proxy]
    #[arg(value_name = "TARGET", conflicts_with_all = ["admin", "all_namespaces"])]
    what: Option<String>,
    /// Namespace of the pods [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Pods of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Pods with these labels, as kubectl has it
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "what")]
    selector: Option<String>,
    /// Ask this admin port alone instead, without a cluster
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["all_namespaces", "selector"])]
    admin: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl Target {
    /// The admin address, if it was given.
    pub(super) fn admin(&self) -> Option<&str> {
        self.admin.as_deref()
    }

    /// True if neither a target nor a selector was given: the mesh itself is meant.
    pub(super) fn is_open(&self) -> bool {
        self.what.is_none() && self.selector.is_none() && self.admin.is_none()
    }

    pub(super) fn cluster(&self) -> &ClusterArgs {
        &self.cluster
    }

    /// The proxies that are meant, in the order of their names; at least one.
    pub(super) async fn proxies(&self) -> anyhow::Result<Vec<Proxy>> {
        if let Some(address) = &self.admin {
            return Ok(vec![Proxy::Admin(address.clone())]);
        }
        let client = self.cluster.client().await;
        let client = client
            .map_err(|e| anyhow::anyhow!("{e}; `outrigger check` says what to do, --admin ADDR asks one proxy"))?;
        let own = self.namespace.as_deref().unwrap_or_else(|| client.default_namespace()).to_owned();
        let namespace = (!self.all_namespaces).then_some(&*own);
        let selector = match &self.what {
            Some(what) => pods::select(&client, &own, what).await?,
            None => pods::Select::Labels(self.selector.clone().unwrap_or_default()),
        };
        let found = pods::meshed(&client, namespace, &selector).await?;
        if found.is_empty() {
            let place = namespace.map_or_else(|| "any namespace".to_owned(), |n| format!("the namespace {n}"));
            return Err(anyhow::anyhow!(
                "no running pod of {place} that is meant has a proxy: another namespace goes with -n, all with -A; \
                 `outrigger check` says which pods should have one"
            ));
        }
        Ok(found
            .into_iter()
            .map(|(namespace, name)| Proxy::Pod { client: client.clone(), namespace, name, port: ADMIN_PORT })
            .collect())
    }
}

/// One proxy, or another program with an admin port.
#[derive(Clone)]
pub(super) enum Proxy {
    /// At this address.
    Admin(String),
    /// In a pod.
    Pod {
        /// The API server's.
        client: Client,
        /// Of the pod.
        namespace: String,
        /// Of the pod.
        name: String,
        /// The admin port in the pod.
        port: u16,
    },
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(address) => f.write_str(address),
            Self::Pod { namespace, name, .. } => write!(f, "{namespace}/{name}"),
        }
    }
}

/// Both ways of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Proxy {
    /// What it answers to `GET PATH`.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, String> {
        let answer = async {
            let (status, body) = match self {
                Self::Admin(address) => http1::get(self.connect().await?, address, path).await?,
                Self::Pod { client, namespace, name, port } => {
                    let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy{path}");
                    http1::get_through(client, &uri).await?
                }
            };
            if status.is_success() { Ok(body) } else { Err(said(status, &body)) }
        };
        timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
    }

    /// Begins `GET PATH` on a connection of its own, of which the answer's body may go on.
    pub(super) async fn open(&self, path: &str) -> Result<Exchange, String> {
        let host = match self {
            Self::Admin(address) => address,
            Self::Pod { .. } => "localhost",
        };
        let answer = async { http1::open(self.connect().await?, host, path).await };
        let mut exchange = timeout(PATIENCE, answer)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))?;
        if exchange.status().is_success() {
            return Ok(exchange);
        }
        let body = exchange.rest().await;
        Err(said(exchange.status(), &body))
    }

    /// A connection to its admin port, as a process on the same host has it where it is in a pod.
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        match self {
            Self::Admin(address) => {
                let stream = TcpStream::connect(address).await.map_err(|e| format!("cannot connect: {e}"))?;
                Ok(Box::new(stream))
            }
            Self::Pod { client, namespace, name, port } => {
                let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
                let mut forwarder = pods.portforward(name, &[*port]).await.map_err(|e| forwarding(&e))?;
                let stream = forwarder.take_stream(*port).ok_or("the API server forwards no port")?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Asks all of them for the same; each answer, or why there is none, in their order.
pub(super) async fn ask_all(proxies: &[Proxy], path: &str) -> Vec<Result<Bytes, String>> {
    stream::iter(proxies).map(|proxy| proxy.get(path)).buffered(AT_ONCE).collect().await
}

/// What an answer that is no success says.
fn said(status: StatusCode, body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let field = |name: &str| json.as_ref().and_then(|json| json[name].as_str()).map(str::to_owned);
    let words =
        field("error").or_else(|| field("message")).unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let words = words.trim().chars().take(300).collect::<String>();
    format!("{} {words}", status.as_u16()).trim_end().to_owned()
}

fn forwarding(error: &kube::Error) -> String {
    let remedy = "it takes the right to `create` and `get` pods/portforward";
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("the API server does not let you forward a port: {remedy}")
        }
        error => format!("the API server forwards no port ({remedy}): {}", chain(error)),
    }
}

/// A query of names and values.
pub(super) fn query(pairs: &[(&str, String)]) -> String {
    let encoded: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{name}={}", super::explain::encode(value))).collect();
    encoded.join("&")
}

/// Wrong usage.
pub(super) fn usage(words: impl Into<String>) -> anyhow::Error {
    Usage(words.into()).into()
}
