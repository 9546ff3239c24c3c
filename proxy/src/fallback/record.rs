//! Which answers are kept, and taking them down while they pass.
//!
//! A [`Recorder`] sees the head of an answer and the pieces of its body on their way to the client. It gives
//! up silently when one gets too large or the store has lent out all its room for recordings; the client
//! notices nothing of it. Only a body that came whole is kept.
//!
//! Kept are answers to GET and HEAD with a status of 200 to 299 (not 206: a part), that RFC 9111 section 3
//! lets a shared cache keep, of requests without `Authorization` and, unless the answer says `public`,
//! without `Cookie`, and that set no cookie. Fields that belong to one exchange are left out.

use std::{sync::Arc, time::Duration};

use http::Method;
use tokio::time::Instant;

use super::{
    cache_control::{self, CacheControl},
    store::{Good, Store},
};
use crate::http::{Headers, Known, RequestHead, ResponseHead};

/// Largest body that is kept: pages and API answers, not downloads.
pub const LARGEST_BODY: usize = 256 * 1024;
/// Largest head that is kept, and largest set of values that an answer varies by.
const LARGEST_HEAD: usize = 16 * 1024;
/// More fields than this in `Vary` mean that hardly any request is like another.
const MOST_VARY: usize = 8;
/// An answer with the `ETag` of the kept one replaces it only if that is older than this and than a tenth of
/// the time for which it is kept: a busy resource would be copied for nothing.
const RENEW: Duration = Duration::from_secs(1);

/// A request, as the store sees it. The head is that which goes to the upstream, edits included; it has to
/// be the same when an answer is recorded and when it is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Name of the upstream.
    pub upstream: &'a str,
    /// Route and rule, if there is one: rules edit requests and answers.
    pub rule: Option<&'a str>,
    /// Identity of the caller: another may see something else.
    pub caller: Option<&'a str>,
    /// The request.
    pub head: &'a RequestHead,
}

impl Asked<'_> {
    /// True if a kept answer may be given to this request.
    pub(super) fn takes_kept(&self) -> bool {
        let head = self.head;
        let asks = CacheControl::of(&head.headers);
        matches!(head.method, Method::GET | Method::HEAD)
            && !head.is_grpc()
            && !head.headers.has(Known::Authorization)
            && !head.headers.has(Known::Upgrade)
            && !asks.no_store
            && !asks.no_cache
    }

    /// The resource; `None` if its name is too long.
    pub(super) fn key(&self) -> Option<Vec<u8>> {
        let parts = [self.upstream, &self.head.target, &self.head.authority];
        let length = parts.iter().map(|p| p.len() + 4).sum::<usize>();
        if length > LARGEST_HEAD {
            return None;
        }
        let mut key = Vec::with_capacity(length);
        parts.iter().for_each(|part| push(part.as_bytes(), &mut key));
        // Hosts have no case (RFC 3986 3.2.2).
        let authority = key.len() - self.head.authority.len();
        key[authority..].make_ascii_lowercase();
        Some(key)
    }

    /// What tells apart requests for one resource: method, rule, caller, and the fields in `vary`. `None` if
    /// there is too much of it.
    pub(super) fn values(&self, vary: &[Box<[u8]>]) -> Option<Vec<u8>> {
        let mut values = vec![u8::from(self.head.method == Method::HEAD)];
        for part in [self.rule, self.caller] {
            push(part.unwrap_or("").as_bytes(), &mut values);
        }
        for name in vary {
            let before = values.len();
            values.extend_from_slice(&[0; 4]);
            // RFC 9111 4.1: the same fields, in the same order; `host` is the authority here.
            for (i, value) in self.head.headers.all(name).enumerate() {
                if i > 0 {
                    values.extend_from_slice(b", ");
                }
                values.extend_from_slice(value);
            }
            let present = u32::from(self.head.headers.get(name).is_some());
            let length = u32::try_from(values.len() - before - 4).ok()?;
            values[before..before + 4].copy_from_slice(&(length << 1 | present).to_be_bytes());
            if values.len() > LARGEST_HEAD {
                return None;
            }
        }
        Some(values)
    }
}

/// Length first, so that no two lists of parts look alike.
fn push(part: &[u8], key: &mut Vec<u8>) {
    key.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    key.extend_from_slice(part);
}

/// Takes an answer down. See the module.
#[derive(Debug)]
pub struct Recorder {
    store: Arc<Store>,
    key: Vec<u8>,
    vary: Box<[Box<[u8]>]>,
    values: Vec<u8>,
    head: ResponseHead,
    age: Duration,
    /// For how long it may be used at most.
    usable: Duration,
    body: Vec<u8>,
    /// Room lent by the store.
    lent: usize,
    gave_up: bool,
}

impl Recorder {
    /// Begins to record the answer `head` to `asked`, if it may be kept and is worth it. `keep` is the
    /// policy's `staleIfError`; `head` is as the client gets it.
    #[must_use]
    pub fn begin(
        store: &Arc<Store>,
        asked: &Asked<'_>,
        head: &ResponseHead,
        keep: Duration,
        now: Instant,
    ) -> Option<Self> {
        let usable = usable(asked.head, head, keep)?;
        let length = head.headers.get_known(Known::ContentLength).map(|v| cache_control::seconds(Some(v)));
        if asked.head.method != Method::HEAD && length.is_some_and(|l| l > LARGEST_BODY as u64)
            || head.headers.list_size() > LARGEST_HEAD
            || !asked.takes_kept()
        {
            return None;
        }
        let key = asked.key()?;
        let vary = vary(&head.headers)?;
        let values = asked.values(&vary)?;
        let same =
            head.headers.get(b"etag").is_some_and(|tag| store.has(&key, &values, tag, RENEW.max(keep / 10), now));
        if same {
            return None;
        }
        let age = Duration::from_secs(cache_control::seconds(head.headers.get(b"age")));
        let mut head = head.clone();
        head.headers.retain(|known, name, _| !is_of_exchange(known, name));
        let lent = head.headers.list_size() + key.len() + values.len();
        if !store.lend(lent) {
            return None;
        }
        let (store, body) = (Arc::clone(store), Vec::new());
        Some(Self { store, key, vary, values, head, age, usable, body, lent, gave_up: false })
    }

    /// A piece of the body.
    pub fn push(&mut self, piece: &[u8]) {
        if self.gave_up || piece.is_empty() {
            return;
        }
        if self.body.len() + piece.len() > LARGEST_BODY || !self.store.lend(piece.len()) {
            self.give_up();
            return;
        }
        self.lent += piece.len();
        self.body.extend_from_slice(piece);
    }

    /// The body came whole: the answer is kept from now on.
    pub fn finish(mut self, now: Instant) {
        if self.gave_up {
            return;
        }
        let good = Good::new(
            std::mem::take(&mut self.head),
            std::mem::take(&mut self.body).into_boxed_slice().into(),
            self.age,
            now,
            self.usable,
        );
        let (key, values) = (std::mem::take(&mut self.key), std::mem::take(&mut self.values));
        self.store.put(key, std::mem::take(&mut self.vary), values, good);
    }

    /// True if nothing more is taken down.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        self.gave_up
    }

    fn give_up(&mut self) {
        self.gave_up = true;
        self.body = Vec::new();
        self.store.take_back(std::mem::take(&mut self.lent));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.store.take_back(self.lent);
    }
}

/// For how long the answer may be used, if it may be kept.
fn usable(request: &RequestHead, response: &ResponseHead, keep: Duration) -> Option<Duration> {
    let says = CacheControl::of(&response.headers);
    let personal = response.headers.has(Known::SetCookie) || request.headers.has(Known::Cookie) && !says.public;
    let good = (200..300).contains(&response.status) && response.status != 206;
    if !good || personal || says.no_store || says.no_cache || says.private {
        return None;
    }
    if !says.revalidate {
        return Some(keep);
    }
    // RFC 9111 5.2.2.2: not to be used once it is stale, whatever happens.
    let age = Duration::from_secs(cache_control::seconds(response.headers.get(b"age")));
    let fresh = says.fresh_for().saturating_sub(age).min(keep);
    (!fresh.is_zero()).then_some(fresh)
}

/// The fields that the answer varies by, in lower case and order; `None` if that is everything.
fn vary(headers: &Headers) -> Option<Box<[Box<[u8]>]>> {
    let mut names: Vec<Box<[u8]>> = Vec::new();
    for value in headers.all(b"vary") {
        for name in value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|n| !n.is_empty()) {
            let name: Box<[u8]> = name.to_ascii_lowercase().into();
            if *name == *b"*" {
                return None;
            }
            // The authority is a part of the key as it is.
            if *name != *b"host" && !names.contains(&name) {
                names.push(name);
            }
            if names.len() > MOST_VARY {
                return None;
            }
        }
    }
    names.sort_unstable();
    Some(names.into())
}

/// Of this exchange or connection, not of the answer.
fn is_of_exchange(known: Known, name: &[u8]) -> bool {
    use Known as K;
    match known {
        K::Other => name.eq_ignore_ascii_case(b"age"),
        K::B3 | K::Traceparent | K::Tracestate | K::XB3Flags | K::XB3ParentSpanId | K::XB3Sampled => true,
        K::XB3SpanId | K::XB3TraceId | K::XCorrelationId | K::XRequestId => true,
        K::Connection | K::KeepAlive | K::ProxyConnection | K::Te | K::Trailer | K::TransferEncoding => true,
        K::Upgrade | K::ContentLength | K::ProxyStatus | K::RetryAfter => true,
        K::XOutriggerAttempt | K::XOutriggerDegraded | K::XOutriggerTimeoutMs => true,
        _ => false,
    }
}
