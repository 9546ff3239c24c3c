//! `outrigger explain`: what a request would get, asked of the cluster or of one running proxy.
//!
//! Of the cluster, its objects are read as the control plane reads them, and answered for by the code that answers there: so it is
//! told what proxies would be told, also while no control plane runs. A proxy, or a replica of the control plane, is asked on
//! its admin port.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use outrigger_config::identity::DEFAULT_TRUST_DOMAIN;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::{DONE, FOUND_FAULTS, Output, Usage, cluster::ClusterArgs, print};
use crate::{
    admin::{self, Query},
    index::{Index, Settings},
    live::Live,
    observe::Metrics,
    watch,
};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// URL of the request
    url: String,
    /// Method of the request
    #[arg(short = 'X', long = "method", value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", num_args = 1)]
    headers: Vec<String>,
    /// Identity of the caller
    #[arg(long, value_name = "SPIFFE_ID")]
    from: Option<String>,
    /// Namespace of the pod that calls
    #[arg(short, long, default_value = "default", value_name = "NAMESPACE")]
    namespace: String,
    /// The pod that calls, where it matters which
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
    /// Ask this admin port instead: of a proxy (9990), or of the control plane (9981)
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// With --admin of a proxy: the listener that takes the request
    #[arg(long, value_name = "NAME", requires = "admin")]
    listener: Option<String>,
    /// What names of Services end with
    #[arg(long, env = "OUTRIGGER_CLUSTER_DOMAIN", default_value = "cluster.local", value_name = "DOMAIN")]
    cluster_domain: String,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How the answer is written
    #[arg(short, long, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let (status, text) = runtime.block_on(async {
        let query = query(args);
        match &args.admin {
            Some(address) => ask_admin(address, &query).await,
            None => ask_cluster(args, &query).await,
        }
    })?;
    report(args.output, status, &text)
}

fn report(output: Output, status: StatusCode, text: &str) -> Result<u8> {
    let json: Option<Value> = serde_json::from_str(text).ok();
    if !status.is_success() {
        let words = json.as_ref().and_then(|json| json["error"].as_str()).unwrap_or(text).trim().to_owned();
        if status == StatusCode::BAD_REQUEST {
            return Err(Usage(words).into());
        }
        return Err(anyhow!("{words}"));
    }
    match (output, &json) {
        (Output::Text, Some(json)) if json["outside"] == true => {
            let reason = json["reason"].as_str().unwrap_or("it is not known to the mesh");
            print(&format!("outside the mesh: {reason}\nthe connection goes where the app sends it\n"))?;
        }
        _ => print(&format!("{}\n", text.trim_end()))?,
    }
    // A document that the compiler refuses is a fault of the cluster, not of the question.
    Ok(if json.is_some_and(|json| json["faults"].is_array()) { FOUND_FAULTS } else { DONE })
}

/// Proxies and the control plane name the parameters alike, but for the form of the answer: both names are sent.
fn query(args: &Args) -> String {
    let output = if args.output == Output::Json { "json" } else { "text" };
    let mut parts = vec![
        ("namespace", &*args.namespace),
        ("url", &args.url),
        ("method", &args.method),
        ("output", output),
        ("o", output),
    ];
    parts.extend(args.headers.iter().map(|header| ("header", &**header)));
    let optional = [("from", &args.from), ("pod", &args.pod), ("listener", &args.listener)];
    parts.extend(optional.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
    let parts: Vec<String> = parts.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    parts.join("&")
}

/// Everything but what is safe anywhere in a URL (RFC 3986 2.3).
pub(super) fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let byte = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}

/// Longest answer that is read.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// For an admin port, which answers from memory.
const PATIENCE: Duration = Duration::from_secs(10);
/// For reading a whole cluster.
const LONG_PATIENCE: Duration = Duration::from_secs(60);

async fn ask_admin(address: &str, query: &str) -> Result<(StatusCode, String)> {
    let asked = async {
        let stream = TcpStream::connect(address).await.with_context(|| format!("--admin {address}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(format!("/explain?{query}")).header(header::HOST, address);
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| Usage(format!("--admin {address}: {e}")))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|e| anyhow!("the answer of {address}: {e}"))?.to_bytes();
            anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        // The server may keep the connection; we are done with it.
        let connection = tokio::spawn(connection);
        let answer = exchange.await;
        connection.abort();
        answer
    };
    timeout(PATIENCE, asked).await.map_err(|_| anyhow!("{address} does not answer within {} s", PATIENCE.as_secs()))?
}

async fn ask_cluster(args: &Args, query: &str) -> Result<(StatusCode, String)> {
    let client = args.cluster.client().await.map_err(|e| anyhow!("{e}; `outrigger check` says what to do"))?;
    let settings = Settings {
        trust_domain: DEFAULT_TRUST_DOMAIN.to_owned(),
        cluster_domain: args.cluster_domain.clone(),
        mesh_namespace: args.cluster.mesh_namespace.clone(),
    };
    let metrics = Metrics::new()?;
    let live = Live::new(Index::new(settings), Arc::clone(&metrics));
    let (updates, watching) = watch::start(&client, &metrics);
    let following = tokio::spawn(Arc::clone(&live).follow(updates));
    let mut ready = live.ready();
    let listed = timeout(LONG_PATIENCE, ready.wait_for(|ready| *ready)).await.is_ok_and(|ready| ready.is_ok());
    let answer = if listed {
        let answer = admin::explain(&live, &Query::of(query));
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
    } else {
        let missing = live.missing().join(", ");
        Err(anyhow!("the cluster cannot be read: no list of {missing}; `outrigger check` says what to do"))
    };
    drop(watching);
    following.abort();
    answer
}

const EXAMPLES: &str = "Examples:
  outrigger explain -n shop http://payments/charge                what a pod of `shop` gets
  outrigger explain -n shop -X POST -H 'x-beta: 1' http://payments.ops:8080/charge
  outrigger explain --admin 127.0.0.1:9990 --listener inbound --from spiffe://cluster.local/ns/shop/sa/web http://orders/

It reads Services, EndpointSlices, Pods, routes and policies of the cluster, and changes nothing.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_was_typed() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        use clap::Parser as _;
        let typed = ["x", "http://a/b?c=d&e#f", "-H", "x: ä +", "--from", "spiffe://a/b", "-n", "shop"];
        let line = Line::parse_from(typed);
        let query = Query::of(&query(&line.args));
        assert_eq!(query.get("url"), Some("http://a/b?c=d&e#f"));
        assert_eq!(query.all("header"), ["x: ä +"]);
        assert_eq!((query.get("from"), query.get("namespace")), (Some("spiffe://a/b"), Some("shop")));
        assert_eq!(query.get("listener"), None);
    }
}
