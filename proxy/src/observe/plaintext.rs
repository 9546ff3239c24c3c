//! Who still comes without mutual TLS to listeners that let him: what has to be known before `strict`.
//!
//! A counter for each listener, by kind of address and of connection, and a table of the source addresses for the
//! admin port (`/plaintext`), which a metric could not carry. One entry for each accepted connection, so a lock is
//! cheap enough. Of a source that the table has no room for (1,024) the one that was seen longest ago goes, if none
//! of its connections is open; else the new one is only counted.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{Counter, WorkerCore, families::Family};

/// Sources that are remembered, all listeners together: 100 KiB at most.
const SOURCES: usize = 1024;
/// Sources that are shown, those with open connections and the latest first.
const SHOWN: usize = 200;

/// What came in without a proven peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// Plaintext.
    Plaintext,
    /// TLS of the app's own, passed through.
    AppTls,
}

impl Unproven {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::AppTls => "app_tls",
        }
    }
}

/// The table.
#[derive(Default)]
pub(super) struct Sources(Mutex<HashMap<(Arc<str>, IpAddr), Row>>);

struct Row {
    connections: u64,
    open: u64,
    kind: Unproven,
    first: SystemTime,
    last: SystemTime,
}

/// One worker's counters.
#[derive(Default)]
pub(super) struct Cells(RefCell<Vec<Cell>>);

/// Listener, kind of source, kind of connection, and what counts them.
type Cell = (Arc<str>, &'static str, Unproven, Arc<Counter>);

/// A connection of the table that is open.
pub struct Open {
    sources: Arc<Sources>,
    key: (Arc<str>, IpAddr),
}

impl Cells {
    /// Counts one connection.
    pub(super) fn add(&self, worker: &WorkerCore, listener: &Arc<str>, source: IpAddr, kind: Unproven) {
        let class = class(source);
        let mut cells = self.0.borrow_mut();
        if let Some((.., cell)) = cells.iter().find(|(l, c, k, _)| *l == *listener && *c == class && *k == kind) {
            cell.add(1);
            return;
        }
        let cell = worker.counter(Family::PermissivePlaintext, &[listener, class, kind.as_str()]);
        cell.add(1);
        // Listeners that are gone leave their cells behind; this many are no listeners in use.
        if cells.len() < SOURCES {
            cells.push((Arc::clone(listener), class, kind, cell));
        }
    }
}

impl Sources {
    /// Notes a connection that has come.
    pub(super) fn open(self: &Arc<Self>, listener: &Arc<str>, source: IpAddr, kind: Unproven, now: SystemTime) -> Open {
        let key = (Arc::clone(listener), source.to_canonical());
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() >= SOURCES && !rows.contains_key(&key) {
            let oldest = rows.iter().filter(|(_, row)| row.open == 0).min_by_key(|(_, row)| row.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                rows.remove(&oldest);
            }
        }
        if rows.len() < SOURCES || rows.contains_key(&key) {
            let new = || Row { connections: 0, open: 0, kind, first: now, last: now };
            let row = rows.entry(key.clone()).or_insert_with(new);
            row.connections += 1;
            row.open += 1;
            (row.kind, row.last) = (kind, now);
        }
        Open { sources: Arc::clone(self), key }
    }

    /// The table as the admin port shows it.
    pub(super) fn view(&self) -> Value {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> = rows.iter().collect();
        sorted.sort_by_key(|((listener, source), row)| {
            (std::cmp::Reverse((row.open > 0, row.last)), Arc::clone(listener), *source)
        });
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let shown = sorted.into_iter().take(SHOWN).map(|((listener, source), row)| {
            json!({
                "listener": listener,
                "source": source.to_string(),
                "kind": row.kind.as_str(),
                "connections": row.connections,
                "open": row.open,
                "firstSeen": seconds(row.first),
                "lastSeen": seconds(row.last),
            })
        });
        json!({ "sources": shown.collect::<Vec<_>>(), "known": rows.len(), "room": SOURCES })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut rows = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.get_mut(&self.key) {
            row.open = row.open.saturating_sub(1);
            row.last = row.last.max(SystemTime::now());
        }
    }
}

/// The kind of an address: a label that no caller chooses.
fn class(source: IpAddr) -> &'static str {
    match source.to_canonical() {
        ip if ip.is_loopback() => "loopback",
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() || is_shared(ip.octets()) => "private",
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => "private",
        _ => "public",
    }
}

/// 100.64.0.0/10 (RFC 6598), from which some clusters take the addresses of pods.
fn is_shared([a, b, ..]: [u8; 4]) -> bool {
    a == 100 && b & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn addresses_have_one_of_three_kinds() {
        for (ip, kind) in [
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("10.1.2.3", "private"),
            ("100.64.0.1", "private"),
            ("100.128.0.1", "public"),
            ("169.254.1.1", "private"),
            ("fd00::1", "private"),
            ("fe80::1", "private"),
            ("8.8.8.8", "public"),
            ("2001:db8::1", "public"),
        ] {
            assert_eq!(class(ip.parse().unwrap()), kind, "{ip}");
        }
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_open() {
        let (sources, listener): (Arc<Sources>, Arc<str>) = (Arc::default(), "in".into());
        let at = |n: u64| UNIX_EPOCH + Duration::from_secs(n);
        let ip = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(n));
        let held = sources.open(&listener, ip(0), Unproven::Plaintext, at(0));
        for n in 1..3000 {
            drop(sources.open(&listener, ip(n), Unproven::AppTls, at(n.into())));
        }
        let view = sources.view();
        assert_eq!(view["known"], 1024);
        assert_eq!(view["sources"].as_array().unwrap().len(), SHOWN);
        let first = &view["sources"][0];
        assert_eq!(
            (&first["source"], &first["open"], &first["kind"]),
            (&"0.0.0.0".into(), &1.into(), &"plaintext".into())
        );
        drop(held);
        assert_eq!(sources.view()["sources"].as_array().unwrap().iter().filter(|s| s["open"] != 0).count(), 0);
        let all: Vec<_> = (5000..7000).map(|n| sources.open(&listener, ip(n), Unproven::Plaintext, at(1))).collect();
        assert_eq!(sources.view()["known"], 1024);
        drop(all);
    }
}
