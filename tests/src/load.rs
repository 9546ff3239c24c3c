//! Steady traffic, and what its clients saw of it.
//!
//! Requests are due at fixed times, whatever became of the ones before: a proxy that stalls cannot slow down
//! the traffic that measures it, unless all clients wait for it at once. Each client keeps its connection.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Reply, Wire};

/// One request as its client saw it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was sent, since the traffic began.
    pub at: Duration,
    /// Until the whole answer was there, or nothing more came.
    pub took: Duration,
    /// Of the answer; 0: there was none.
    pub status: u16,
    /// What the answer's `x-endpoint` says.
    pub endpoint: String,
    /// What the client found wrong. A status of 500 or more is wrong too.
    pub problem: Option<String>,
}

/// Traffic that runs until it is stopped.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    request: String,
    began: Instant,
    gap: Duration,
    due: AtomicU32,
    stopped: AtomicBool,
    samples: Mutex<Vec<Sample>>,
}

impl Traffic {
    /// Sends `request` to `to`, `rate` times a second, over at most `clients` connections at once.
    #[must_use]
    pub fn start(to: SocketAddr, rate: u32, clients: usize, request: &str) -> Self {
        let shared = Arc::new(Shared {
            to,
            request: request.to_owned(),
            began: Instant::now(),
            gap: Duration::from_secs(1) / rate,
            due: AtomicU32::new(0),
            stopped: AtomicBool::new(false),
            samples: Mutex::default(),
        });
        let client = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.client())
        };
        Self { threads: (0..clients).map(client).collect(), shared }
    }

    /// Time since it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Lets it run until so long after it began.
    pub fn run_until(&self, end: Duration) {
        wait_until(self.shared.began + end);
    }

    /// What was sent so far and is over, from `from` on, in the order in which it ended.
    #[must_use]
    pub fn since(&self, from: Duration) -> Vec<Sample> {
        let samples = self.shared.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().filter(|s| s.at >= from).cloned().collect()
    }

    /// Ends it, and waits for what is under way.
    #[must_use]
    pub fn stop(self) -> Vec<Sample> {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().ok();
        }
        self.shared.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn client(&self) {
        let mut wire = None;
        while !self.stopped.load(Ordering::SeqCst) {
            wait_until(self.began + self.gap * self.due.fetch_add(1, Ordering::SeqCst));
            let at = self.began.elapsed();
            let sent = Instant::now();
            let result = self.exchange(&mut wire);
            let took = sent.elapsed();
            let sample = match result {
                Ok(reply) => {
                    let endpoint = reply.header("x-endpoint").unwrap_or_default().to_owned();
                    let problem = if !reply.whole {
                        Some("the body ended early".to_owned())
                    } else {
                        (reply.status >= 500).then(|| format!("{} {}", reply.status, reply.text()))
                    };
                    if problem.is_some() || reply.header("connection").is_some_and(|v| v == "close") {
                        wire = None;
                    }
                    Sample { at, took, status: reply.status, endpoint, problem }
                }
                Err(error) => {
                    wire = None;
                    Sample { at, took, status: 0, endpoint: String::new(), problem: Some(error.to_string()) }
                }
            };
            self.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        }
    }

    fn exchange(&self, kept: &mut Option<Wire>) -> std::io::Result<Reply> {
        let wire = match kept {
            Some(wire) => wire,
            None => kept.insert(Wire::new(TcpStream::connect(self.to)?)),
        };
        wire.try_send(&self.request)?;
        wire.try_reply(self.request.split(' ').next().unwrap_or_default())
    }
}

/// Those with a problem.
#[must_use]
pub fn failed(samples: &[Sample]) -> Vec<&Sample> {
    samples.iter().filter(|s| s.problem.is_some()).collect()
}

/// The `percent`th percentile of the times that `samples` took.
#[must_use]
pub fn percentile(samples: &[&Sample], percent: usize) -> Duration {
    let mut times: Vec<_> = samples.iter().map(|s| s.took).collect();
    times.sort();
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn wait_until(due: Instant) {
    while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, Response};

    #[test]
    fn traffic_is_counted() {
        let origin = Origin::start(|r| match &*r.target {
            "/bad" => Response::new(500),
            _ => Response::text("ok").header("x-endpoint", "a"),
        });
        for (path, bad) in [("/", false), ("/bad", true)] {
            let traffic = Traffic::start(origin.address(), 500, 4, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            traffic.run_until(Duration::from_millis(100));
            let samples = traffic.stop();
            assert!(samples.len() > 20, "{}", samples.len());
            assert_eq!(failed(&samples).len(), if bad { samples.len() } else { 0 });
        }
    }
}
