//! `OUTRIGGER_APP_ENDPOINTS`: what each path under `/app/` stands for, read once and checked whole.
//!
//! Injection writes it, so a fault in it is a fault between two versions of Outrigger, or somebody's hand: it is found at the
//! start, named with its path, and the proxy does not start with half a table, whose other half would be pods that are
//! restarted for nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, uri::PathAndQuery};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use super::PREFIX;

/// Paths in the table: five for each container, of which a pod has some dozens at most.
const MAX_PATHS: usize = 1000;
/// Bytes of the whole table: an environment variable on Linux holds 128 KiB.
const MAX_BYTES: usize = 128 * 1024;
/// Bounds of a time limit in seconds, and what counts where none is said: the API's default for probes, Prometheus' for
/// scrapes. Hooks have none in the API but the pod's grace period, which is seldom longer.
const PROBE_SECONDS: [u64; 2] = [1, 60];
const SCRAPE_SECONDS: [u64; 2] = [10, 60];
const HOOK_SECONDS: [u64; 2] = [60, 600];

/// What the proxy may ask the app, by the path on the admin port.
#[derive(Debug, Clone, Default)]
pub struct AppEndpoints {
    table: BTreeMap<String, Target>,
    pub(super) places: Places,
}

/// The host itself.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where the ports of the app are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The pod's first address, which is the one that the kubelet asks.
    pub ip: IpAddr,
    /// Ports of the pod that the proxy itself listens on for the app (`OUTRIGGER_INBOUND_LISTENERS`), and where the app is.
    pub moved: Vec<(u16, SocketAddr)>,
    /// Ports of the proxy, which are never asked.
    pub own: Vec<u16>,
}

impl Default for Places {
    fn default() -> Self {
        Self { ip: LOOPBACK, moved: Vec::new(), own: Vec::new() }
    }
}

impl Places {
    /// Where the app's `port` is. `loopback`: the app has it on its own host alone.
    pub(super) fn at(&self, port: u16, loopback: bool) -> SocketAddr {
        let moved = self.moved.iter().find(|(from, to)| *from == port || to.port() == port);
        let ip = if loopback { LOOPBACK } else { self.ip };
        moved.map_or_else(|| SocketAddr::new(ip, port), |(_, to)| *to)
    }

    /// True for a port of the proxy behind which there is no app.
    pub(super) fn is_own(&self, port: u16) -> bool {
        self.own.contains(&port) && !self.moved.iter().any(|(from, _)| *from == port)
    }
}

/// One entry of the table.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) purpose: Purpose,
    pub(super) limit: Duration,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Whether it is well.
    Probe,
    /// That it does something at its start or end.
    Hook,
    /// Its metrics.
    Scrape,
}

/// How it is asked.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Http(Box<Http>),
    Tcp { port: u16, loopback: bool },
    Grpc { port: u16, loopback: bool, service: String },
}

/// An HTTP request.
#[derive(Debug, Clone)]
pub(super) struct Http {
    pub(super) port: u16,
    pub(super) path: PathAndQuery,
    pub(super) tls: bool,
    /// The app has the port on its own host alone.
    pub(super) loopback: bool,
    /// The host that is named, empty: the pod's address. It is never where the connection goes.
    pub(super) host: String,
    pub(super) headers: HeaderMap,
}

impl AppEndpoints {
    /// Reads the table.
    ///
    /// # Errors
    /// Every fault with its path, and what would be right.
    pub fn parse(text: &str, places: Places) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("it has {} bytes; at most {MAX_BYTES} are read", text.len()));
        }
        let written: BTreeMap<String, Value> = serde_json::from_str(text)
            .map_err(|e| format!("it is no JSON object from paths to targets: {e}; for example {EXAMPLE}"))?;
        if written.len() > MAX_PATHS {
            return Err(format!("it has {} paths; at most {MAX_PATHS} are served", written.len()));
        }
        let mut table = BTreeMap::new();
        for (path, value) in written {
            let target = entry(&path, value, &places).map_err(|why| format!("{path:?}: {why}"))?;
            table.insert(path, target);
        }
        Ok(Self { table, places })
    }

    /// The entry of `path`.
    pub(super) fn find(&self, path: &str) -> Option<&Target> {
        self.table.get(path)
    }

    /// All paths, sorted.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.table.keys().map(String::as_str)
    }

    /// Ports of the app that are asked, where the app has them: by these it is seen to have ended.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let port = |target: &Target| match &target.kind {
            Kind::Http(http) => http.port,
            Kind::Tcp { port, .. } | Kind::Grpc { port, .. } => *port,
        };
        let mut ports: Vec<_> = self.table.values().map(|target| self.places.at(port(target), false).port()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

const EXAMPLE: &str = r#"{"/app/web/readyz":{"http":{"port":8080,"path":"/ready"},"timeoutSeconds":1}}"#;

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    http: Option<WrittenHttp>,
    tcp: Option<WrittenTcp>,
    grpc: Option<WrittenGrpc>,
    timeout_seconds: Option<u64>,
    #[serde(default)]
    scrape: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHttp {
    port: NonZeroU16,
    #[serde(default)]
    path: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    headers: Vec<WrittenHeader>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHeader {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTcp {
    port: NonZeroU16,
    #[serde(default)]
    host: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGrpc {
    port: NonZeroU16,
    #[serde(default)]
    host: String,
    #[serde(default)]
    service: String,
}

fn entry(path: &str, value: Value, places: &Places) -> Result<Target, String> {
    let clean = path.starts_with(PREFIX) && path.len() > PREFIX.len() && !path.contains(['?', '#', '%']);
    if !clean || path.parse::<PathAndQuery>().is_err() {
        return Err(format!(
            "a path is {PREFIX}CONTAINER/livez, readyz, startupz, post-start or pre-stop, or {PREFIX}metrics"
        ));
    }
    let written: Written = serde_json::from_value(value).map_err(|e| format!("{e}; for example {EXAMPLE}"))?;
    let purpose = match path.rsplit('/').next() {
        _ if written.scrape => Purpose::Scrape,
        Some("post-start" | "pre-stop") => Purpose::Hook,
        _ => Purpose::Probe,
    };
    let [unsaid, most] = match purpose {
        Purpose::Probe => PROBE_SECONDS,
        Purpose::Hook => HOOK_SECONDS,
        Purpose::Scrape => SCRAPE_SECONDS,
    };
    let seconds = written.timeout_seconds.filter(|s| *s > 0).unwrap_or(unsaid).min(most);
    let kind = match (written.http, written.tcp, written.grpc) {
        (Some(http), None, None) => Kind::Http(Box::new(request(http)?)),
        (None, Some(tcp), None) if !written.scrape => {
            Kind::Tcp { port: tcp.port.get(), loopback: is_loopback(&tcp.host) }
        }
        (None, None, Some(grpc)) if !written.scrape => {
            Kind::Grpc { port: grpc.port.get(), loopback: is_loopback(&grpc.host), service: grpc.service }
        }
        _ if written.scrape => return Err("a scrape is made by http alone".into()),
        _ => return Err("it needs exactly one of http, tcp and grpc".into()),
    };
    let port = match &kind {
        Kind::Http(http) => http.port,
        Kind::Tcp { port, .. } | Kind::Grpc { port, .. } => *port,
    };
    if places.is_own(port) {
        return Err(format!("port {port} is the proxy's own"));
    }
    Ok(Target { kind, purpose, limit: Duration::from_secs(seconds) })
}

fn request(written: WrittenHttp) -> Result<Http, String> {
    let tls = match written.scheme.to_ascii_uppercase().as_str() {
        "" | "HTTP" => false,
        "HTTPS" => true,
        _ => return Err(format!("scheme {:?} is neither HTTP nor HTTPS", written.scheme)),
    };
    let mut headers = HeaderMap::new();
    for WrittenHeader { name, value } in written.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
        let value =
            HeaderValue::from_str(&value).map_err(|_| format!("the value of header {name} has bad characters"))?;
        headers.append(name, value);
    }
    let path = path_of(&written.path).ok_or_else(|| format!("path {:?} is none", written.path))?;
    let host = written.host;
    if !host.is_empty() && host.parse::<IpAddr>().is_err() && host.parse::<http::uri::Authority>().is_err() {
        return Err(format!("host {host:?} is none"));
    }
    let loopback = is_loopback(&host);
    let host = if loopback { String::new() } else { host };
    Ok(Http { port: written.port.get(), path, tls, loopback, host, headers })
}

fn is_loopback(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Characters that Go, and with it the kubelet, escapes in a path; what is escaped already stays.
const ESCAPED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// Path and query as they are sent.
pub(super) fn path_of(text: &str) -> Option<PathAndQuery> {
    let text = text.split('#').next().unwrap_or_default();
    let slash = if text.starts_with('/') { "" } else { "/" };
    format!("{slash}{}", utf8_percent_encode(text, ESCAPED)).parse().ok()
}
