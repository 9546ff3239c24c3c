//! Resilience and balancing with real sockets: what clients and origins see of each policy.
//!
//! Every scenario counts at its clients and its origins, and prints what it counted (`--nocapture`). Bounds are
//! those of the product; where a loaded machine may take longer, the slack is said beside the bound.

#[path = "resilience/balancing.rs"]
mod balancing;
#[path = "resilience/breaker.rs"]
mod breaker;
#[path = "resilience/budget.rs"]
mod budget;
#[path = "resilience/failures.rs"]
mod failures;
#[path = "resilience/fallback.rs"]
mod fallback;
#[path = "resilience/limits.rs"]
mod limits;
#[path = "resilience/observed.rs"]
mod observed;
#[path = "resilience/races.rs"]
mod races;
#[path = "resilience/retries.rs"]
mod retries;

use std::{sync::mpsc, thread};

use outrigger_tests::{Reply, wire};

/// `GET path` with these header lines on a connection of its own.
#[track_caller]
fn get(to: std::net::SocketAddr, path: &str, headers: &str) -> Reply {
    wire::once(to, &format!("GET {path} HTTP/1.1\r\nHost: app\r\n{headers}\r\n"))
}

/// The same, on a thread; the answer comes on the channel.
fn get_later(to: std::net::SocketAddr, path: &str) -> mpsc::Receiver<Reply> {
    let (send, receive) = mpsc::sync_channel(1);
    let path = path.to_owned();
    thread::spawn(move || drop(send.send(get(to, &path, ""))));
    receive
}

/// The token of an answer that the proxy made itself, and its status.
#[track_caller]
fn refusal(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["error"].as_str().unwrap_or_default().to_owned())
}

/// What the header `name` says, as a number.
fn number(reply: &Reply, name: &str) -> Option<u64> {
    reply.header(name)?.parse().ok()
}
