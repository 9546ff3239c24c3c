//! Moves the messages of one stream.
//!
//! What goes out waits for the proxy, not the other way round: a message is made when there is room for it, of what is true then
//! ([`Session::next`]), so nothing queues up. Acknowledgements are read all the while, but for one case: what can only be answered at once
//! (a key that is none) waits as an answer, and with [`READ_AHEAD`] of those nothing more is read until some have gone. A proxy that takes
//! nothing for [`Limits::slow`] although something waits is cut off: it is stuck, or its connection is dead, and it keeps what it has.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use futures::FutureExt as _;
use outrigger_config::discovery::{GoAway, ProxyMessage, control_message, proxy_message::Message};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tonic::{Status, Streaming};

use super::{
    proxies::Proxy,
    session::{Misuse, Session},
};
use crate::live::encode;

/// Times of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Without progress although something waits.
    pub slow: Duration,
    /// For `Hello`.
    pub hello: Duration,
    /// For the watch to bring a pod whose proxy is faster than it, and for the first lists after a start.
    pub patience: Duration,
    /// After `GoAway` and its spread, for the proxy to go by itself.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { slow: seconds(30), hello: seconds(10), patience: seconds(5), grace: seconds(1) }
    }
}

/// Why a stream ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The proxy closed it, or its connection broke.
    Closed,
    /// It took nothing.
    Slow,
    /// Its certificate, or we, ended.
    Gone,
    Misuse(Misuse),
}

impl End {
    /// Label of metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Slow => "slow",
            Self::Gone => "go_away",
            Self::Misuse(_) => "misuse",
        }
    }

    /// What the proxy is told, if there is anybody to tell.
    pub(crate) fn status(&self) -> Option<Status> {
        match self {
            Self::Closed | Self::Gone => None,
            Self::Slow => Some(Status::resource_exhausted("the proxy took nothing although something waited for it")),
            Self::Misuse(misuse) => Some(Status::invalid_argument(misuse.to_string())),
        }
    }
}

/// A stream that has been let in.
pub(crate) struct Stream<'a> {
    pub(crate) session: Session,
    pub(crate) proxy: &'a Proxy,
    pub(crate) questions: mpsc::Receiver<Question>,
    /// Set to the spread when this replica stops.
    pub(crate) stop: watch::Receiver<Option<Duration>>,
    /// End of the certificate.
    pub(crate) expires: Instant,
    pub(crate) limits: Limits,
}

/// What a proxy has: keys, versions, acknowledged or not.
pub(crate) type Holdings = Vec<(String, String, bool)>;
pub(crate) type Question = oneshot::Sender<Holdings>;

/// Messages of a proxy that are read before answers go out: those of a reconnect come together, and known versions of
/// what a binding leads to shall be known before it is answered. Also the answers that may wait when more is read: each
/// repeats a key of at most 512 bytes and says why, so a stream holds about a MiB of them at most.
const READ_AHEAD: usize = 1024;

impl Stream<'_> {
    /// Until one of both ends it.
    pub(crate) async fn run(
        mut self,
        inbound: &mut Streaming<ProxyMessage>,
        out: &mpsc::Sender<Result<Bytes, Status>>,
    ) -> End {
        let mut going: Option<Bytes> = None;
        let mut end_at = None;
        let mut waits_since: Option<Instant> = None;
        let mailbox = self.session.mailbox().clone();
        loop {
            let wants = going.is_some() || self.session.has_more();
            let end = end_at.unwrap_or(self.expires);
            let now = Instant::now();
            let since = *waits_since.get_or_insert(now);
            if !wants {
                waits_since = None;
            }
            tokio::select! {
                biased;
                changed = self.stop.changed(), if end_at.is_none() => {
                    let spread = changed.ok().and_then(|()| *self.stop.borrow_and_update());
                    going = Some(go_away("this replica stops", spread.unwrap_or_default()));
                    end_at = Some(Instant::now() + spread.unwrap_or_default() + self.limits.grace);
                }
                () = sleep_until(end) => match end_at {
                    Some(_) => return End::Gone,
                    None => {
                        going = Some(go_away("the certificate of the proxy has expired", Duration::ZERO));
                        end_at = Some(Instant::now() + self.limits.grace);
                    }
                },
                message = inbound.message(), if self.session.backlog() < READ_AHEAD => match message {
                    Ok(Some(message)) => if let Err(misuse) = self.take(message, inbound) { return End::Misuse(misuse) },
                    Ok(None) | Err(_) => return End::Closed,
                },
                permit = out.reserve(), if wants => {
                    let Ok(permit) = permit else { return End::Closed };
                    waits_since = None;
                    if let Some(message) = going.take().or_else(|| self.session.next()) {
                        permit.send(Ok(message));
                    }
                    self.proxy.note(self.session.len(), mailbox.len());
                }
                () = sleep_until(since + self.limits.slow), if wants => return End::Slow,
                () = mailbox.more(), if !wants => {}
                Some(question) = self.questions.recv() => self.answer(question),
            }
        }
    }

    /// One message, and those that have arrived behind it.
    fn take(&mut self, first: ProxyMessage, inbound: &mut Streaming<ProxyMessage>) -> Result<(), Misuse> {
        self.handle(first)?;
        for _ in 0..READ_AHEAD {
            if self.session.backlog() >= READ_AHEAD {
                break;
            }
            // What ends the stream is found again by the caller.
            let Some(Ok(Some(message))) = pin!(inbound.message()).now_or_never() else { break };
            self.handle(message)?;
        }
        self.session.tidy();
        Ok(())
    }

    fn handle(&mut self, message: ProxyMessage) -> Result<(), Misuse> {
        match message.message {
            Some(Message::Subscribe(ask)) => self.session.subscribe(ask)?,
            Some(Message::Unsubscribe(ask)) => self.session.unsubscribe(&ask.key),
            Some(Message::Acknowledge(ack)) => {
                if let Some(key) = self.session.acknowledge(&ack, Instant::now()) {
                    self.proxy.accepted(&key);
                }
            }
            Some(Message::Refuse(refusal)) => {
                if let Some((key, reasons)) = self.session.refuse(&refusal) {
                    self.proxy.refused(&key, refusal.version, reasons);
                }
            }
            Some(Message::Hello(_)) => return Err(Misuse::Hello),
            // A newer proxy's: it does without.
            None => {}
        }
        Ok(())
    }

    fn answer(&self, question: Question) {
        let holdings = self.session.versions().map(|(key, version, acknowledged)| {
            (key.to_string(), version.unwrap_or_default().to_owned(), acknowledged)
        });
        // Whoever asked may have gone.
        drop(question.send(holdings.collect()));
    }
}

fn go_away(reason: &str, spread: Duration) -> Bytes {
    let spread_millis = u32::try_from(spread.as_millis()).unwrap_or(u32::MAX);
    encode(control_message::Message::GoAway(GoAway { reason: reason.into(), spread_millis }))
}
