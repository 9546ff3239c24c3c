//! `GET /tap`: requests as they pass, one JSON object a line (NDJSON), for as long as the client reads.
//!
//! It shows what others say to each other, so it is for processes on the same host alone, as what changes something is:
//! `kubectl port-forward`, `kubectl exec` and `outrigger tap` reach it, a neighbour in the network does not. The first line
//! says that the tap is open; lines of `status` say what was left out; the last one (`closed`) why it ended. A client
//! that goes away, or stops reading, costs nothing but its place: what it does not take is dropped and counted.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use hyper::body::{Body, Frame};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::{
    Admin, guard,
    routes::{Answer, Query, error, finish_body, refused},
};
use crate::observe::tap::{Counts, Settings, Tap};

/// Life of a tap: one that was forgotten ends by itself.
pub(super) const LIFE: Duration = Duration::from_secs(60 * 60);

/// How soon it is seen that all that was asked for has been shown.
const TICK: Duration = Duration::from_millis(200);

/// Without anything to show, a line is sent this often, so that both sides notice when the other one is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// Bytes that are put into one write, if so many wait.
const CHUNK: usize = 64 * 1024;

/// Marks an answer that lasts: its connection may live longer than others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lasts;

/// Opens a tap.
pub(super) fn answer(admin: &Admin, peer: SocketAddr, headers: &HeaderMap, query: &Query) -> Answer {
    if let Err(refusal) = guard::change(peer, headers) {
        return refused(refusal);
    }
    let settings = match Settings::parse(query.pairs()) {
        Ok(settings) => settings,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why),
    };
    let now = Instant::now();
    let hello = json!({
        "event": "tap",
        "proxy": admin.shared.snapshot().model.proxy.name,
        "version": env!("CARGO_PKG_VERSION"),
        "rate": settings.rate,
        "max": settings.max,
    });
    match admin.shared.observer.taps().open(settings, now) {
        Ok(tap) => {
            let mut answer = finish_body(StatusCode::OK, "application/x-ndjson", Stream::new(tap, &hello, now));
            answer.extensions_mut().insert(Lasts);
            answer
        }
        Err(full) => error(StatusCode::SERVICE_UNAVAILABLE, &full.to_string()),
    }
}

/// The body of the answer.
struct Stream {
    tap: Tap,
    hello: Option<Bytes>,
    ticks: Interval,
    ends: Instant,
    /// When something was sent last, and what was counted then.
    told: (Instant, Counts),
    over: bool,
}

impl Stream {
    fn new(tap: Tap, hello: &Value, now: Instant) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { tap, hello: Some(line(hello)), ticks, ends: now + LIFE, told: (now, Counts::default()), over: false }
    }

    /// What waits, as far as it fits in one write.
    fn gather(&mut self, first: Bytes) -> Bytes {
        if self.tap.lines.is_empty() {
            return first;
        }
        let mut chunk = BytesMut::from(&*first);
        while chunk.len() < CHUNK
            && let Ok(next) = self.tap.lines.try_recv()
        {
            chunk.extend_from_slice(&next);
        }
        chunk.freeze()
    }

    /// A line about the tap itself, if one is due.
    fn report(&mut self, now: Instant) -> Option<Bytes> {
        let counts = self.tap.counts();
        let why = match () {
            () if self.tap.is_over() => Some("max"),
            () if now >= self.ends => Some("time"),
            () => None,
        };
        let (at, before) = self.told;
        let lost = (counts.limited, counts.dropped) != (before.limited, before.dropped);
        let quiet = now.saturating_duration_since(at);
        if why.is_none() && quiet < SILENCE && !(lost && quiet >= Duration::from_secs(1)) {
            return None;
        }
        self.told = (now, counts);
        self.over = why.is_some();
        let event = if self.over { "closed" } else { "status" };
        Some(line(&json!({
            "event": event,
            "why": why,
            "shown": counts.shown,
            "limited": counts.limited,
            "dropped": counts.dropped,
        })))
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        if let Some(hello) = stream.hello.take() {
            return Poll::Ready(Some(Ok(Frame::data(hello))));
        }
        if stream.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Some(first)) = stream.tap.lines.poll_recv(cx) {
            let chunk = stream.gather(first);
            stream.told.0 = Instant::now();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        while let Poll::Ready(now) = stream.ticks.poll_tick(cx) {
            if let Some(line) = stream.report(now) {
                return Poll::Ready(Some(Ok(Frame::data(line))));
            }
        }
        Poll::Pending
    }
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}
