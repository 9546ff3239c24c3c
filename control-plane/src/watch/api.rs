//! The requests of a watch, and what their failures mean.
//!
//! Plain requests with types of ours instead of `kube::Api`, for two reasons: objects are read straight into their trimmed
//! form, and the resource version stays in our hands (see [`super::reflect`] for what it is needed for).

use std::{pin::pin, time::Duration};

use futures::{Stream, StreamExt as _};
use http::Request;
use kube::{
    Client, Error,
    core::{Status, WatchEvent},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::Resource;

/// Why asking the API server came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0} are not served: their definitions are not installed")]
    NotInstalled(&'static str),
    #[error("the history from which to resume is gone")]
    Gone,
    #[error(
        "the history of the API server is older than what was seen of it (at {ours}, it is at {theirs}): it was replaced or restored"
    )]
    OlderHistory { ours: u64, theirs: u64 },
    #[error("forbidden: {0}")]
    Forbidden(String),
    #[error("streaming lists are not supported")]
    NoStreaming,
    /// `answered`: by the API server, which is there and cannot.
    #[error("{message}")]
    Unavailable { message: String, answered: bool, retry_after: Option<Duration> },
}

impl Fault {
    /// Label of metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NotInstalled(_) => "not_installed",
            Self::Gone => "gone",
            Self::OlderHistory { .. } => "older_history",
            Self::Forbidden(_) => "forbidden",
            Self::NoStreaming => "no_streaming",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// What a status of the API server means.
    pub(crate) fn of_status(resource: &Resource, status: &Status) -> Self {
        match status.code {
            403 => Self::Forbidden(status.message.clone()),
            404 => Self::NotInstalled(resource.plural),
            410 => Self::Gone,
            // The version is newer than anything that the server knows (504, with a cause): it has another history.
            504 if status.message.contains("Too large resource version") => Self::Gone,
            _ => Self::Unavailable {
                message: format!("the API server answered {}: {}", status.code, status.message),
                answered: true,
                retry_after: status
                    .details
                    .as_ref()
                    .filter(|d| d.retry_after_seconds > 0)
                    .map(|d| Duration::from_secs(u64::from(d.retry_after_seconds))),
            },
        }
    }

    pub(crate) fn of(resource: &Resource, error: &Error) -> Self {
        match error {
            Error::Api(status) => Self::of_status(resource, status),
            other => Self::unavailable(chain(other)),
        }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable { message: message.into(), answered: false, retry_after: None }
    }
}

/// An error with its causes, which is where what happened stands, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Of a list.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub(crate) struct Page<T> {
    #[serde(default)]
    pub(crate) metadata: PageMetadata,
    #[serde(default = "Vec::new", deserialize_with = "or_empty")]
    pub(crate) items: Vec<T>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PageMetadata {
    pub(crate) resource_version: String,
    #[serde(rename = "continue")]
    pub(crate) next: Option<String>,
}

/// `items` may be `null`.
fn or_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Any item, of which nothing is wanted.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Unread {}

/// Asks for one kind.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) resource: &'static Resource,
}

impl Api {
    /// One page of a consistent list.
    pub(crate) async fn page<T: DeserializeOwned>(&self, limit: u32, next: Option<&str>) -> Result<Page<T>, Fault> {
        let mut path = format!("{}?limit={limit}", self.resource.path());
        if let Some(next) = next {
            let token = percent_encode(next);
            path.push_str("&continue=");
            path.push_str(&token);
        }
        self.get(&path, PAGE_TIME).await
    }

    /// Whether the kind is served, by the group's own list of kinds. A 404 for a list may come from a server that is only starting.
    pub(crate) async fn is_served(&self) -> Result<bool, Fault> {
        #[derive(Deserialize)]
        struct Kinds {
            #[serde(default)]
            resources: Vec<Kind>,
        }
        #[derive(Deserialize)]
        struct Kind {
            name: String,
        }
        match self.get::<Kinds>(&self.resource.group_path(), ANSWER_TIME).await {
            Ok(kinds) => Ok(kinds.resources.iter().any(|k| k.name == self.resource.plural)),
            Err(Fault::NotInstalled(_)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Events after `version`; `None`: all objects first, as events, up to a marked bookmark.
    pub(crate) async fn watch<T: DeserializeOwned + Clone + Send>(
        &self,
        version: Option<&str>,
        seconds: u32,
    ) -> Result<impl Stream<Item = Result<WatchEvent<T>, Error>> + Send + use<T>, Fault> {
        let from = match version {
            Some(version) => format!("resourceVersion={}", percent_encode(version)),
            None => "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".into(),
        };
        let path =
            format!("{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&{from}", self.resource.path());
        let asked = self.client.request_events::<T>(request(&path)?);
        match tokio::time::timeout(ANSWER_TIME, asked).await {
            Ok(Ok(events)) => Ok(events),
            // 400 and 422: the parameters are not known, or their feature gate is closed.
            Ok(Err(Error::Api(status))) if version.is_none() && matches!(status.code, 400 | 422) => {
                Err(Fault::NoStreaming)
            }
            Ok(Err(error)) => Err(Fault::of(self.resource, &error)),
            Err(_) => Err(Fault::unavailable("the API server does not answer")),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, time: Duration) -> Result<T, Fault> {
        match tokio::time::timeout(time, self.client.request::<T>(request(path)?)).await {
            Ok(answer) => answer.map_err(|error| Fault::of(self.resource, &error)),
            Err(_) => Err(Fault::unavailable("the API server does not answer")),
        }
    }
}

/// For the head of an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// For a page with its body; the API server's own limit for a request is a minute.
const PAGE_TIME: Duration = Duration::from_secs(60);

fn request(path: &str) -> Result<Request<Vec<u8>>, Fault> {
    Request::get(path).body(Vec::new()).map_err(|error| Fault::unavailable(error.to_string()))
}

/// Of a query's value (RFC 3986 2.3: everything but the unreserved).
fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String succeeds");
        }
    }
    out
}

/// The next event, or `None` where the stream ended or nothing came within `time`.
pub(crate) async fn next<T>(
    events: &mut (impl Stream<Item = Result<WatchEvent<T>, Error>> + Unpin),
    time: Duration,
) -> Option<Result<WatchEvent<T>, Error>> {
    tokio::time::timeout(time, pin!(events.next())).await.ok().flatten()
}
