//! Consul: the health API of an agent, by blocking queries.
//!
//! The rules for clients of blocking queries (Consul's "Blocking Queries" page): the index of an answer is opaque but for
//! comparison; one that goes backwards, or is 0, means that the server's state began anew, and the next query does not
//! block; queries are rate-limited, because an index may move without a change; the wait is bounded and spread at
//! random, so that proxies do not ask in step.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use outrigger_config::model::{Endpoint, RegistryKind, RegistryTls};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    policy::Answer,
    registry::{ANSWER_TIMEOUT, Http, body, failed, made},
    source::Source,
};

/// Longest wait of a query, of which a random part up to a sixth is taken off.
const WAIT: Duration = Duration::from_secs(60);
/// Least time between two queries.
const PAUSE: Duration = Duration::from_millis(100);

/// The instances of one service.
pub(super) struct Consul {
    kind: RegistryKind,
    tls: Option<RegistryTls>,
    http: Option<Http>,
    index: Index,
    asked: Option<Instant>,
    last: Option<Vec<Endpoint>>,
}

/// The index of the last answer; 0: none, so that the next query does not block.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Index(u64);

impl Index {
    /// What the next query waits for the change of, after an answer with this header.
    fn after(self, header: Option<&str>) -> Self {
        match header.and_then(|text| text.parse().ok()) {
            Some(index) if index >= self.0 => Self(index),
            _ => Self(0),
        }
    }
}

impl Consul {
    pub(super) fn new(kind: RegistryKind, tls: Option<RegistryTls>) -> Self {
        Self { kind, tls, http: None, index: Index::default(), asked: None, last: None }
    }

    async fn query(&mut self) -> Result<Vec<Endpoint>, String> {
        if let Some(asked) = self.asked {
            sleep_until(asked + PAUSE).await;
        }
        self.asked = Some(Instant::now());
        let RegistryKind::Consul { address, passing, .. } = &self.kind else { return Err("no Consul".into()) };
        let wait = WAIT.mul_f64(1.0 - fastrand::f64() / 6.0);
        let request = self.request(wait)?;
        let mut http = match self.http.take().filter(Http::is_open) {
            Some(http) => http,
            None => Http::open(address, self.tls.as_ref()).await?,
        };
        // The agent itself adds up to a sixteenth to the wait.
        let patience = ANSWER_TIMEOUT + if self.index.0 == 0 { Duration::ZERO } else { wait + wait / 16 };
        let answer = async {
            let response = http.send(request).await?;
            let index = response.headers().get("x-consul-index").and_then(|v| v.to_str().ok()).map(str::to_owned);
            Ok::<_, String>((body(response).await?, index))
        };
        let (json, index) =
            timeout(patience, answer).await.map_err(|_| format!("{address}: no answer in {patience:?}"))??;
        let endpoints = endpoints(&json, *passing)?;
        self.index = self.index.after(index.as_deref());
        self.http = Some(http);
        Ok(endpoints)
    }

    fn request(&self, wait: Duration) -> Result<Request<Full<Bytes>>, String> {
        let RegistryKind::Consul { address, service, tag, datacenter, passing, token } = &self.kind else {
            return Err("no Consul".into());
        };
        let quoted = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut uri = format!("/v1/health/service/{}?index={}&wait={}s", quoted(service), self.index.0, wait.as_secs());
        if *passing {
            uri.push_str("&passing=true");
        }
        for (name, value) in [("tag", tag), ("dc", datacenter)] {
            if let Some(value) = value {
                uri.push_str(&format!("&{name}={}", quoted(value)));
            }
        }
        let mut request = Request::get(uri).header(header::HOST, &**address);
        if let Some(file) = token {
            let token = std::fs::read_to_string(file).map_err(|e| format!("tokenFile {}: {e}", file.display()))?;
            let mut value = header::HeaderValue::from_str(token.trim())
                .map_err(|_| format!("tokenFile {}: no token in it", file.display()))?;
            value.set_sensitive(true);
            request = request.header("x-consul-token", value);
        }
        request.body(Full::default()).map_err(|e| e.to_string())
    }
}

impl Source for Consul {
    async fn next(&mut self, fresh: bool) -> Answer {
        if fresh {
            self.index = Index::default();
        }
        loop {
            match self.query().await {
                Ok(endpoints) if !fresh && self.last.as_ref() == Some(&endpoints) => {}
                Ok(endpoints) => {
                    self.last = Some(endpoints.clone());
                    return Answer::Listed { endpoints };
                }
                Err(details) => {
                    self.http = None;
                    return failed(details);
                }
            }
        }
    }
}

/// One instance, of what `/v1/health/service/NAME` says of it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    node: Node,
    service: Service,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    /// Empty: that of the node.
    #[serde(default)]
    address: String,
    port: u16,
    weights: Option<Weights>,
    meta: Option<HashMap<String, String>>,
    locality: Option<Locality>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
    warning: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Locality {
    #[serde(default)]
    zone: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    status: String,
}

/// The instances of an answer, those with critical checks left out. The agent has left out those with warnings if asked to.
fn endpoints(json: &[u8], passing: bool) -> Result<Vec<Endpoint>, String> {
    let instances: Vec<Instance> = serde_json::from_slice(json).map_err(|e| format!("no list of instances: {e}"))?;
    let mut endpoints = Vec::with_capacity(instances.len());
    for instance in instances {
        let has = |status: &str| instance.checks.iter().any(|c| c.status == status);
        // "maintenance" is a critical check, too; a status of the future is not one that passes.
        let warns = has("warning");
        let other = instance.checks.iter().any(|c| c.status != "passing" && c.status != "warning");
        if other || (passing && warns) {
            continue;
        }
        match instance.endpoint(warns) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(why) => tracing::warn!("an instance of Consul is left out: {why}"),
        }
    }
    Ok(endpoints)
}

impl Instance {
    fn endpoint(self, warns: bool) -> Result<Endpoint, String> {
        let Self { node, service, .. } = self;
        let host = if service.address.is_empty() { node.address } else { service.address };
        let ip = host.parse().map_err(|_| format!("{host:?} is no IP address"))?;
        let weight = service.weights.map_or(1, |w| if warns { w.warning } else { w.passing });
        let zone = service.locality.map(|l| l.zone).filter(|z| !z.is_empty());
        let zone = zone.or_else(|| service.meta.and_then(|mut meta| meta.remove("zone")));
        made(SocketAddr::new(ip, service.port), weight, zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_goes_backwards_begins_anew() {
        let index = Index::default().after(Some("7"));
        assert_eq!(index, Index(7));
        assert_eq!(index.after(Some("7")), Index(7));
        assert_eq!(index.after(Some("9")), Index(9));
        for lost in [Some("3"), Some("0"), Some("x"), None] {
            assert_eq!(index.after(lost), Index(0), "{lost:?}");
        }
    }

    #[test]
    fn instances_are_understood() {
        let json = r#"[
          {"Node":{"Address":"10.0.0.1","Meta":null},
           "Service":{"Address":"","Port":80,"Weights":{"Passing":10,"Warning":1},"Meta":{"zone":"a"}},
           "Checks":[{"Status":"passing"}]},
          {"Node":{"Address":"10.0.0.1"},"Service":{"Address":"10.0.0.2","Port":81,"Weights":{"Passing":10,"Warning":3}},
           "Checks":[{"Status":"warning"},{"Status":"passing"}]},
          {"Node":{"Address":"10.0.0.1"},"Service":{"Address":"10.0.0.3","Port":82},"Checks":[{"Status":"critical"}]},
          {"Node":{"Address":"10.0.0.1"},"Service":{"Address":"host.internal","Port":83}}]"#;
        let list = |passing| -> Vec<_> {
            let all = endpoints(json.as_bytes(), passing).unwrap();
            all.into_iter().map(|e| (e.address.to_string(), e.weight, e.zone)).collect()
        };
        let first = ("10.0.0.1:80".to_owned(), 10, Some("a".into()));
        assert_eq!(list(true), vec![first.clone()]);
        assert_eq!(list(false), vec![first, ("10.0.0.2:81".to_owned(), 3, None)]);
        assert!(endpoints(b"{}", true).is_err());
    }
}
