//! The client of the demo: a steady stream of requests to each service, and what came of them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::services::{SERVICES, Service};

/// Pause between two requests of one connection.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections to each service: so that a slow answer holds up only its own.
const CONNECTIONS: usize = 2;
/// How long the client waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest body that the client reads; `/metrics` is the largest there is.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// Latencies kept for the summary; later ones replace random earlier ones.
const MAX_LATENCIES: usize = 10_000;

/// What came of the requests, indexed as [`SERVICES`].
#[derive(Debug, Default)]
pub(super) struct Tallies([Mutex<Tally>; SERVICES.len()]);

/// What came of the requests to one service.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Answered with 2xx.
    pub(super) good: u64,
    /// Everything else, by what it was. At most a handful: statuses and tokens are closed sets.
    pub(super) bad: Vec<(String, u64)>,
    latencies: Vec<Duration>,
}

impl Tally {
    /// The latency below which the share `of` (0 to 1) of the requests was.
    pub(super) fn latency(&self, of: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let index = (of * sorted.len() as f64) as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    fn count(&mut self, outcome: Result<(), String>, time: Duration) {
        match outcome {
            Ok(()) => self.good += 1,
            Err(what) => match self.bad.iter_mut().find(|(known, _)| *known == what) {
                Some((_, n)) => *n += 1,
                None => self.bad.push((what, 1)),
            },
        }
        if self.latencies.len() < MAX_LATENCIES {
            self.latencies.push(time);
        } else {
            let place = fastrand::usize(..MAX_LATENCIES);
            self.latencies[place] = time;
        }
    }
}

impl Tallies {
    /// The tallies now, in the order of [`SERVICES`].
    pub(super) fn read(&self) -> Vec<Tally> {
        self.0.iter().map(|t| t.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    fn count(&self, service: usize, outcome: Result<(), String>, time: Duration) {
        self.0[service].lock().unwrap_or_else(PoisonError::into_inner).count(outcome, time);
    }
}

/// Sends requests to every service through the listener at `entry`, until `tasks` ends.
pub(super) fn start(entry: SocketAddr, tallies: &Arc<Tallies>, tasks: &mut JoinSet<()>) {
    for (service, Service { name, .. }) in SERVICES.iter().enumerate() {
        for _ in 0..CONNECTIONS {
            let tallies = Arc::clone(tallies);
            tasks.spawn(async move {
                let mut client = Client::new(entry);
                let mut ticks = interval(PAUSE);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    let begin = Instant::now();
                    let outcome = client.get(name, "/").await.and_then(|answer| answer.outcome());
                    tallies.count(service, outcome, begin.elapsed());
                }
            });
        }
    }
}

/// A small HTTP/1 client that keeps one connection.
pub(super) struct Client {
    address: SocketAddr,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The token of `proxy-status`, if a proxy made the answer.
    pub(super) token: Option<String>,
    pub(super) body: Bytes,
}

impl Answer {
    fn outcome(&self) -> Result<(), String> {
        match (&self.token, self.status.is_success()) {
            (None, true) => Ok(()),
            (None, false) => Err(self.status.as_str().to_owned()),
            (Some(token), _) => Err(format!("{} {token}", self.status.as_str())),
        }
    }
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// One request. An error is told in a few words, always the same for the same cause.
    pub(super) async fn get(&mut self, host: &str, path: &str) -> Result<Answer, String> {
        match timeout(PATIENCE, self.exchange(host, path)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => {
                self.connection = None;
                Err("connection lost".into())
            }
            Err(_) => {
                self.connection = None;
                Err("no answer".into())
            }
        }
    }

    async fn exchange(&mut self, host: &str, path: &str) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut sender = match self.connection.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        if sender.ready().await.is_err() {
            // The proxy closed it between two requests, as it may.
            sender = self.connect().await?;
        }
        let request = Request::get(path).header(HOST, host).body(Empty::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let field = response.headers().get("proxy-status").and_then(|v| v.to_str().ok());
        let token = field.and_then(|v| v.split("error=").nth(1)?.split(';').next()).map(|t| t.trim().to_owned());
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await?.to_bytes();
        self.connection = Some(sender);
        Ok(Answer { status, token, body })
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends when the sender is dropped.
        drop(tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("demo client: {e}");
            }
        }));
        Ok(sender)
    }
}
