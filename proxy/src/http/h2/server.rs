//! The side of a connection that answers requests.
//!
//! [`Machine`] is the connection as a state machine: bytes go in, requests and bytes come out, and nothing in it reads a
//! socket or a clock. [`Session`] drives it on a socket: one task reads, has frames obeyed, and writes. Each request is
//! served by a task of its own, which holds [`Receive`] and [`Send`], two handles of its stream; all are on one thread.
//!
//! Invariants:
//! - A head is encoded when it is sent, straight into the buffer of the connection, so that blocks leave in the order in
//!   which they changed the table of HPACK.
//! - What the tasks of one wake-up send leaves in one write: the driver is woken by the first and runs after the last.
//! - Everything has a bound: streams by `maxStreams` (and as many again that were reset and are not cleared away), bodies
//!   by their windows, what waits to be written by `WAITING`, beyond which nothing is read, a header block by twice
//!   what its fields may have, resets by `maxResets` in [`RESET_WINDOW`], frames that change nothing by `IDLE_FRAMES`.
//! - A fault of the connection ends it with GOAWAY, one of a stream ends that stream (RFC 9113 5.4).

mod control;
mod core;
mod driver;
mod handle;
mod head;
mod machine;
mod receive;
mod send;
mod slots;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

pub use driver::{Next, Session};
pub use handle::{Receive, Send};
pub use machine::{Machine, Opened};

use super::frame::Reason;
use crate::http::h1;

/// Bytes that may wait for the socket before streams have to wait: about what a socket takes at once, and the answers of
/// some sixty streams.
const WAITING: usize = 64 * 1024;
/// Time in which resets are counted.
pub const RESET_WINDOW: Duration = Duration::from_secs(10);
/// Frames in a row that neither open a stream nor carry a byte of a body: far more than a client needs to give windows
/// back for a hundred streams, far fewer than make a flood (CVE-2019-9512, 9514, 9515, 9518).
const IDLE_FRAMES: u32 = 10_000;

/// What a listener allows a client.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Streams at once.
    pub max_streams: u32,
    /// Streams that the client resets before they are over, within [`RESET_WINDOW`] (CVE-2023-44487).
    pub max_resets: u32,
    /// Of heads and trailers.
    pub head: h1::Limits,
    /// Bytes that a stream may have on their way, or waiting to be taken.
    pub stream_window: u32,
    /// The same for all streams together.
    pub connection_window: u32,
}

/// How a stream ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    /// The code of the frame.
    pub reason: Reason,
    /// By whom.
    pub by: By,
}

/// Who reset a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The client.
    Client,
    /// We, because the client broke the protocol, or nobody wanted the stream any more.
    Us,
    /// Nobody: the connection ended.
    Connection,
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            By::Client => write!(f, "the stream was reset: {}", self.reason.description()),
            By::Us => write!(f, "the stream was reset by the proxy: {}", self.reason.description()),
            By::Connection => f.write_str("the connection ended"),
        }
    }
}
