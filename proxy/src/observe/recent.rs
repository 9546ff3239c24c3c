//! What has failed lately, for the page and for whoever has only this proxy to ask.
//!
//! A ring of the last [`KEPT`] errors. It is fed where errors are logged, at most [`PER_SECOND`] times a second: when all
//! requests fail, the lock would otherwise be what workers meet at. What is left out is counted; metrics count all of it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    route::{ConnectionRecord, Record, RouteObserver},
    tap::redact,
};
use crate::error::Failure;

/// Errors that are kept: what fits on a screen, about 50 KiB at worst.
const KEPT: usize = 50;

/// Errors that are noted within a second.
const PER_SECOND: u64 = 25;

/// Bytes of a value.
const VALUE: usize = 256;

/// See the module.
#[derive(Default)]
pub(super) struct Recent {
    /// Unix second, and the errors noted in it (low 16 bits).
    window: AtomicU64,
    left_out: AtomicU64,
    ring: Mutex<VecDeque<Entry>>,
}

#[derive(Serialize)]
struct Entry {
    /// Seconds since 1970.
    time: f64,
    direction: &'static str,
    upstream: String,
    route: String,
    method: String,
    /// Without what is secret in it.
    path: String,
    status: u16,
    reason: &'static str,
    details: String,
    request_id: String,
    peer: Option<String>,
    endpoint: Option<SocketAddr>,
    attempts: u32,
}

impl Recent {
    /// A request has failed.
    #[cold]
    pub(super) fn request(&self, route: &RouteObserver, record: &Record<'_>, now: SystemTime) {
        if !self.has_room(now) {
            return;
        }
        self.push(Entry {
            time: seconds(now),
            direction: route.direction.as_str(),
            upstream: bounded(&route.upstream),
            route: bounded(&route.route),
            method: bounded(record.method.as_str()),
            path: bounded(&redact::url(record.target)),
            status: record.status,
            reason: record.failure.map_or("", |f| f.reason.token()),
            details: record.failure.map_or_else(String::new, |f| bounded(&f.details)),
            request_id: bounded(&String::from_utf8_lossy(record.request_id)),
            peer: record.peer_identity.map(|p| bounded(p)),
            endpoint: record.endpoint,
            attempts: record.attempts,
        });
    }

    /// A connection whose bytes are passed on unread was refused, or broke.
    #[cold]
    pub(super) fn connection(
        &self,
        route: &RouteObserver,
        record: &ConnectionRecord<'_>,
        failure: &Failure,
        now: SystemTime,
    ) {
        if !self.has_room(now) {
            return;
        }
        self.push(Entry {
            time: seconds(now),
            direction: route.direction.as_str(),
            upstream: bounded(&route.upstream),
            route: bounded(&route.route),
            method: String::new(),
            path: String::new(),
            status: 0,
            reason: failure.reason.token(),
            details: bounded(&failure.details),
            request_id: String::new(),
            peer: record.peer_identity.map(|p| bounded(p)),
            endpoint: record.endpoint,
            attempts: 0,
        });
    }

    /// The latest first.
    pub(super) fn view(&self) -> Value {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        json!({ "errors": ring.iter().rev().collect::<Vec<_>>(), "left_out": self.left_out.load(Ordering::Relaxed) })
    }

    /// One more in this second?
    fn has_room(&self, now: SystemTime) -> bool {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let count = |word: u64| match word >> 16 == second {
            true if word & 0xffff >= PER_SECOND => None,
            true => Some(word + 1),
            false => Some(second << 16 | 1),
        };
        let room = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok();
        if !room {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    fn push(&self, entry: Entry) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() >= KEPT {
            ring.pop_front();
        }
        ring.push_back(entry);
    }
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(VALUE)].to_owned()
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(n: u32) -> Entry {
        Entry {
            time: 0.0,
            direction: "inbound",
            upstream: "u".into(),
            route: String::new(),
            method: "GET".into(),
            path: bounded(&redact::url(&format!("/x?token=abc&n={n}"))),
            status: 503,
            reason: "circuit_open",
            details: String::new(),
            request_id: String::new(),
            peer: None,
            endpoint: None,
            attempts: n,
        }
    }

    #[test]
    fn the_ring_keeps_the_latest() {
        let recent = Recent::default();
        (0..200).for_each(|n| recent.push(entry(n)));
        let view = recent.view();
        let errors = view["errors"].as_array().unwrap();
        assert_eq!((errors.len(), &errors[0]["attempts"], &errors[49]["attempts"]), (KEPT, &json!(199), &json!(150)));
        assert_eq!(errors[0]["path"], "/x?token=[redacted]&n=199");
    }

    #[test]
    fn a_flood_is_counted_and_left_out() {
        let recent = Recent::default();
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        let noted = (0..100).filter(|_| recent.has_room(at(5))).count();
        assert_eq!((noted as u64, recent.left_out.load(Ordering::Relaxed)), (PER_SECOND, 100 - PER_SECOND));
        assert!(recent.has_room(at(6)));
    }
}
