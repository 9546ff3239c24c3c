//! etcd: keys under a prefix, watched.
//!
//! Spoken to by the JSON gateway that every member of v3.4 and later serves beside gRPC: the same calls over plain HTTP/1.1,
//! without another protocol compiler. The list of all keys comes first, then a watch from the revision after it, so
//! that no change falls between. A watch that ends is begun again with a list and not resumed where it stopped: the list
//! costs one request, needs no rule for compaction, and sees a cluster that was restored to an older state, whose
//! revisions a resumed watch would wait for in vain.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use outrigger_config::model::{Endpoint, RegistryTls};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::json;
use tokio::time::timeout;

use super::{
    policy::Answer,
    registry::{ANSWER_TIMEOUT, Http, MAX_ANSWER, body, endpoint, failed},
    source::Source,
};

/// The keys of one prefix.
pub(super) struct Etcd {
    servers: VecDeque<Arc<str>>,
    prefix: Vec<u8>,
    tls: Option<RegistryTls>,
    watch: Option<Watch>,
    /// What each key says, faulty values left out.
    known: BTreeMap<Vec<u8>, Endpoint>,
}

/// An open watch: an answer without end, of which each line is a message.
struct Watch {
    body: Incoming,
    /// What came of a line that is not whole.
    rest: BytesMut,
    /// Open as long as the body is read.
    _http: Http,
}

impl Etcd {
    pub(super) fn new(servers: Vec<Arc<str>>, prefix: &str, tls: Option<RegistryTls>) -> Self {
        let prefix = format!("{prefix}/").into_bytes();
        Self { servers: servers.into(), prefix, tls, watch: None, known: BTreeMap::new() }
    }

    /// Lists all keys and watches from there.
    async fn list(&mut self) -> Result<(), String> {
        self.watch = None;
        let server = self.servers.front().cloned().ok_or("no servers")?;
        let listed = self.list_from(&server).await.map_err(|why| format!("{server}: {why}"));
        if listed.is_err() {
            // The next try asks the next server.
            self.servers.rotate_left(1);
        }
        listed
    }

    async fn list_from(&mut self, server: &str) -> Result<(), String> {
        let mut http = Http::open(server, self.tls.as_ref()).await?;
        let range = json!({ "key": STANDARD.encode(&self.prefix), "range_end": STANDARD.encode(self.end()) });
        let answer = async { body(http.send(post(server, "/v3/kv/range", &range)?).await?).await };
        let answer = timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| "no answer to a range".to_owned())??;
        let range: Range = parse(&answer)?;
        let mut request = json!({ "key": STANDARD.encode(&self.prefix), "range_end": STANDARD.encode(self.end()) });
        request["start_revision"] = json!((range.header.revision + 1).to_string());
        let create = post(server, "/v3/watch", &json!({ "create_request": request }))?;
        let response =
            timeout(ANSWER_TIMEOUT, http.send(create)).await.map_err(|_| "no answer to a watch".to_owned())??;
        if !response.status().is_success() {
            return Err(format!("a watch is answered {}", response.status()));
        }
        self.known.clear();
        for pair in range.kvs {
            self.put(pair);
        }
        self.watch = Some(Watch { body: response.into_body(), rest: BytesMut::new(), _http: http });
        Ok(())
    }

    /// Waits until the watch says that something changed.
    async fn changed(&mut self) -> Result<(), String> {
        loop {
            let Some(watch) = &mut self.watch else { return Err("no watch".into()) };
            let line = watch.line().await?;
            let message: Message = parse(&line)?;
            let Some(result) = message.result else { return Err("the watch is refused".to_owned()) };
            if result.canceled {
                return Err(format!("the watch is cancelled: {}", result.cancel_reason));
            }
            let some = !result.events.is_empty();
            for event in result.events {
                if event.kind.as_deref() == Some("DELETE") {
                    self.known.remove(&event.kv.key);
                } else {
                    self.put(event.kv);
                }
            }
            if some {
                return Ok(());
            }
        }
    }

    fn put(&mut self, pair: Pair) {
        match endpoint(&pair.value) {
            Ok(endpoint) => {
                self.known.insert(pair.key, endpoint);
            }
            Err(why) => {
                self.known.remove(&pair.key);
                tracing::warn!(key = %String::from_utf8_lossy(&pair.key), "an entry of etcd is left out: {why}");
            }
        }
    }

    /// The key after all those with the prefix: its `/` is a `0`.
    fn end(&self) -> Vec<u8> {
        let mut end = self.prefix.clone();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        end
    }

    fn answer(&self) -> Answer {
        Answer::Listed { endpoints: self.known.values().cloned().collect() }
    }
}

impl Source for Etcd {
    async fn next(&mut self, fresh: bool) -> Answer {
        if !fresh && self.watch.is_some() {
            match self.changed().await {
                Ok(()) => return self.answer(),
                Err(details) => {
                    tracing::info!("the watch of etcd ended, and its keys are listed again: {details}");
                    self.watch = None;
                }
            }
        }
        match self.list().await {
            Ok(()) => self.answer(),
            Err(details) => failed(details),
        }
    }
}

impl Watch {
    /// The next line, within [`MAX_ANSWER`].
    async fn line(&mut self) -> Result<Bytes, String> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                return Ok(self.rest.split_to(end + 1).freeze());
            }
            let frame = self.body.frame().await.ok_or("the watch ended")?.map_err(|e| e.to_string())?;
            if let Ok(data) = frame.into_data() {
                self.rest.extend_from_slice(&data);
            }
            if self.rest.len() > MAX_ANSWER {
                return Err(format!("a message of more than {MAX_ANSWER} bytes"));
            }
        }
    }
}

fn post(server: &str, path: &str, json: &serde_json::Value) -> Result<Request<Full<Bytes>>, String> {
    let request = Request::post(path).header(header::HOST, server).header(header::CONTENT_TYPE, "application/json");
    request.body(Full::from(json.to_string())).map_err(|e| e.to_string())
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|e| format!("not understood: {e}"))
}

#[derive(Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<Pair>,
}

/// 64-bit numbers are strings in the JSON of protobuf.
#[derive(Deserialize)]
struct Header {
    #[serde(deserialize_with = "number")]
    revision: u64,
}

#[derive(Deserialize)]
struct Pair {
    #[serde(deserialize_with = "bytes")]
    key: Vec<u8>,
    #[serde(default, deserialize_with = "bytes")]
    value: Vec<u8>,
}

#[derive(Deserialize)]
struct Message {
    result: Option<WatchResult>,
}

#[derive(Deserialize)]
struct WatchResult {
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    cancel_reason: String,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    /// Absent: `PUT`.
    #[serde(rename = "type")]
    kind: Option<String>,
    kv: Pair,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood() {
        let range: Range =
            parse(br#"{"header":{"revision":"7"},"kvs":[{"key":"YS8x","value":"e30="}],"count":"1"}"#).unwrap();
        assert_eq!((range.header.revision, &*range.kvs[0].key, &*range.kvs[0].value), (7, &b"a/1"[..], &b"{}"[..]));
        let empty: Range = parse(br#"{"header":{"revision":"1"}}"#).unwrap();
        assert!(empty.kvs.is_empty());
        let message: Message = parse(
            br#"{"result":{"header":{},"events":[{"kv":{"key":"YQ=="}},{"type":"DELETE","kv":{"key":"Yg=="}}]}}"#,
        )
        .unwrap();
        let kinds: Vec<_> = message.result.unwrap().events.into_iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [None, Some("DELETE".to_owned())]);
    }

    #[test]
    fn a_prefix_ends_before_the_next_name() {
        let etcd = Etcd::new(vec!["a:1".into()], "/services/a", None);
        assert_eq!((&*etcd.prefix, &*etcd.end()), (&b"/services/a/"[..], &b"/services/a0"[..]));
    }
}
