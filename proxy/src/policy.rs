//! Resilience policies: breaker, bulkhead, rate limit, adaptive concurrency, retries.
//!
//! Each is a state machine without io: time and randomness are arguments, so thousands of seeded histories
//! run in milliseconds. There is one state per proxy, shared by the worker threads through atomics behind
//! an `Arc`. Invariants:
//!
//! - A request that succeeds writes no cache line that another worker writes, unless a limit in force
//!   has to count it (bulkhead, rate limit, adaptive concurrency).
//! - No lock is taken on the way of a request that is let through at once. Locks guard queues and tables
//!   that only exist where something waits or is limited by key.
//! - What was taken is given back by `Drop`, so a request that is cancelled anywhere leaves nothing behind.
//! - `mode: observe` runs the same code and then does not act ([`observe`]).

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

pub mod adaptive;
pub mod breaker;
pub mod limits;
pub mod observe;
pub mod rate_limit;
pub mod retry;
pub mod state;
pub mod target;

mod window;

pub use state::PolicyState;
pub use target::Target;

/// Nanoseconds of `now` since `epoch`, a reading of [`clock::nanos`]; 0 before it.
#[inline]
fn nanos_since(epoch: u64, now: Instant) -> u64 {
    clock::nanos(now).saturating_sub(epoch)
}

/// `time` in nanoseconds, pinned at the end of the range.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
