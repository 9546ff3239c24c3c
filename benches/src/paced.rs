//! An open loop at a fixed rate: a request leaves when it is due, however fast those before it are answered, so a proxy that
//! stalls is charged for every request that fell due meanwhile.
//!
//! One thread and epoll with a time-out in nanoseconds. The client shares a CPU with the origin: a thread for each connection
//! sleeps and wakes twice for each request.
//! A request takes the connection that has been idle longest, so all are used in turn.

use std::{collections::VecDeque, os::fd::AsFd, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};
use tokio::time::Instant;

use crate::stats;

/// A connection that does not block, and carries one request at a time.
pub trait Lane: AsFd {
    /// Sends a request. It is small, and nothing else is under way, so there is room for it.
    ///
    /// # Errors
    /// The connection's.
    fn send(&mut self) -> Result<()>;

    /// Reads what there is of the answer; true once it is whole.
    ///
    /// # Errors
    /// The connection's, and an answer that is none.
    fn receive(&mut self) -> Result<bool>;
}

/// What [`run`] has seen.
#[derive(Debug)]
pub struct Paced {
    /// Requests answered: all that were due.
    pub requests: u64,
    /// Median latency, counted from the moment at which a request was due, not from when it could be sent.
    pub p50: Duration,
    /// The 99th percentile of the same.
    pub p99: Duration,
    /// From the first that was due to the last answer: longer than was asked for when the rate is more than the machine sustains.
    pub took: Duration,
}

/// Sends `rate` requests a second for `time`.
///
/// # Errors
/// Any request that fails, and one that is not answered in time.
pub fn run<L: Lane>(lanes: &mut [L], rate: u32, time: Duration) -> Result<Paced> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (index, lane) in lanes.iter().enumerate() {
        epoll::add(&epoll, lane, EventData::new_u64(index as u64), EventFlags::IN)?;
    }
    let step = Duration::from_secs(1) / rate.max(1);
    let total = usize::try_from(time.as_nanos() / step.as_nanos().max(1))?;
    let begin = Instant::now();
    let due = |n: usize| begin + step * u32::try_from(n).unwrap_or(u32::MAX);

    let mut idle: VecDeque<usize> = (0..lanes.len()).collect();
    let mut asked = vec![begin; lanes.len()];
    let mut latencies = Vec::with_capacity(total);
    let (mut sent, mut events) = (0, Vec::with_capacity(lanes.len()));
    while latencies.len() < total {
        let mut wait = ANSWER;
        while sent < total
            && let Some(index) = idle.front().copied()
        {
            let left = due(sent).saturating_duration_since(Instant::now());
            if !left.is_zero() {
                wait = left;
                break;
            }
            idle.pop_front();
            lanes[index].send()?;
            asked[index] = due(sent);
            sent += 1;
        }
        events.clear();
        let timeout = Timespec::try_from(wait).context("a time-out")?;
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
        if events.is_empty() && wait == ANSWER {
            bail!("no answer within {ANSWER:?}");
        }
        for Event { data, .. } in events.iter().copied() {
            let index = usize::try_from(data.u64())?;
            if lanes[index].receive()? {
                latencies.push(u64::try_from(asked[index].elapsed().as_nanos())?);
                idle.push_back(index);
            }
        }
    }
    let took = begin.elapsed().max(time);
    latencies.sort_unstable();
    let at = |q| Duration::from_nanos(stats::quantile(&latencies, q));
    Ok(Paced { requests: total as u64, p50: at(0.5), p99: at(0.99), took })
}

/// An answer that takes this long is lost.
const ANSWER: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::{fd::BorrowedFd, unix::net::UnixStream},
        thread,
    };

    use super::*;

    struct Echo(UnixStream);

    impl AsFd for Echo {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Lane for Echo {
        fn send(&mut self) -> Result<()> {
            Ok(self.0.write_all(b"?")?)
        }

        fn receive(&mut self) -> Result<bool> {
            Ok(self.0.read(&mut [0; 8])? == 1)
        }
    }

    #[test]
    fn as_many_leave_as_are_due() {
        let mut lanes = Vec::new();
        for _ in 0..4 {
            let (near, mut far) = UnixStream::pair().unwrap();
            near.set_nonblocking(true).unwrap();
            lanes.push(Echo(near));
            thread::spawn(move || {
                let mut byte = [0];
                while far.read(&mut byte).is_ok_and(|n| n == 1) && far.write_all(&byte).is_ok() {}
            });
        }
        let seen = run(&mut lanes, 1_000, Duration::from_millis(200)).unwrap();
        assert_eq!(seen.requests, 200);
        assert!(seen.took >= Duration::from_millis(200) && seen.p50 <= seen.p99);
    }
}
