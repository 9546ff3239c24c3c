//! Which replica writes status: a Lease of `coordination.k8s.io`, by the rules of client-go's leader election.
//!
//! The holder renews every [`RETRY`]; whoever sees the same record for its whole duration, by its own clock since it first
//! saw it, may take it. Times in the record are for people: no two clocks are ever compared, so skew between them does not
//! matter. A holder that could not renew for [`RENEW_DEADLINE`] stops acting on it, a third of the duration before another may begin.
//! Two writers at once would do no harm either (every write is conditional); one is enough.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, Error, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{observe::Metrics, watch::chain};

#[cfg(test)]
mod tests;

/// How long a record holds that nobody renews.
pub(crate) const DURATION: Duration = Duration::from_secs(15);
/// How long the holder believes in a record that it cannot renew.
pub(crate) const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between attempts.
pub(crate) const RETRY: Duration = Duration::from_secs(2);

/// One replica's part in the election.
pub(crate) struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    leads: watch::Sender<bool>,
    rival: Rival,
    renewed: Option<Instant>,
    /// What went wrong was said.
    told: bool,
}

/// What is known of the record: when, by our clock, it was last seen to change.
#[derive(Debug, Default)]
pub(crate) struct Rival {
    seen: Option<(LeaseSpec, Instant)>,
}

/// What to do about a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// It is ours: say so again.
    Renew,
    /// It is nobody's, or its holder has gone.
    Take,
    /// It is another's.
    Wait,
}

impl Rival {
    pub(crate) fn decide(&mut self, me: &str, record: &LeaseSpec, now: Instant) -> Move {
        let holder = record.holder_identity.as_deref().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if seen == record => *since,
            _ => {
                self.seen = Some((record.clone(), now));
                now
            }
        };
        let seconds = record.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let duration = seconds.map_or(DURATION, Duration::from_secs);
        match holder {
            "" => Move::Take,
            holder if holder == me => Move::Renew,
            _ if now.saturating_duration_since(since) >= duration => Move::Take,
            _ => Move::Wait,
        }
    }
}

impl Elector {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, me: &str) -> (Self, watch::Receiver<bool>) {
        let (leads, receiver) = watch::channel(false);
        let api = Api::namespaced(client, namespace);
        let elector = Self {
            api,
            name: name.to_owned(),
            me: me.to_owned(),
            leads,
            rival: Rival::default(),
            renewed: None,
            told: false,
        };
        (elector, receiver)
    }

    /// Runs for election until `stop`, and then gives the Lease back so that another need not wait.
    pub(crate) async fn run(mut self, metrics: &Metrics, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            // A request that hangs must not keep us in office.
            let left = self.renewed.map_or(RENEW_DEADLINE, |at| RENEW_DEADLINE.saturating_sub(at.elapsed()));
            let outcome = tokio::select! {
                outcome = timeout(left, self.attempt()) => outcome,
                () = &mut stop => break,
            };
            let holds = match outcome {
                Ok(Ok(holds)) => {
                    self.told = false;
                    self.renewed = holds.then(Instant::now);
                    holds
                }
                Ok(Err(error)) => {
                    self.tell(&error);
                    self.renewed.is_some_and(|at| at.elapsed() < RENEW_DEADLINE)
                }
                Err(_) => false,
            };
            // Otherwise there would be no time left for any later attempt.
            self.renewed = self.renewed.filter(|_| holds);
            self.set(holds, metrics);
            tokio::select! {
                () = sleep(RETRY.mul_f64(0.8 + 0.4 * fastrand::f64())) => {}
                () = &mut stop => break,
            }
        }
        if *self.leads.borrow() {
            self.set(false, metrics);
            if timeout(RETRY, self.release()).await.is_err() {
                tracing::debug!("the Lease was not given back in time; it expires by itself");
            }
        }
    }

    fn set(&self, holds: bool, metrics: &Metrics) {
        metrics.leader.set(i64::from(holds));
        if self.leads.send_replace(holds) != holds {
            let what =
                if holds { "this replica writes status from now on" } else { "this replica writes status no more" };
            tracing::info!(lease = self.name, replica = self.me, "{what}");
        }
    }

    /// True: the Lease is ours.
    async fn attempt(&mut self) -> Result<bool, Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.record(None)) };
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let record = lease.spec.take().unwrap_or_default();
        match self.rival.decide(&self.me, &record, Instant::now()) {
            Move::Wait => Ok(false),
            Move::Renew | Move::Take => {
                lease.spec = Some(self.record(Some(&record)));
                // With the version that was read: of two who take it at once, one is refused.
                won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
            }
        }
    }

    fn record(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let ours = before.filter(|b| b.holder_identity.as_deref() == Some(&self.me));
        let transitions = before.and_then(|b| b.lease_transitions);
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: ours.and_then(|b| b.acquire_time.clone()).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: match (before, ours) {
                (None, _) => Some(0),
                (Some(_), Some(_)) => transitions,
                (Some(_), None) => Some(transitions.unwrap_or(0).saturating_add(1)),
            },
            ..LeaseSpec::default()
        }
    }

    async fn release(&mut self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else { return };
        let Some(spec) = lease.spec.as_mut().filter(|s| s.holder_identity.as_deref() == Some(&self.me)) else { return };
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::debug!(error = chain(&error), "the Lease was not given back; it expires by itself");
        }
    }

    fn tell(&mut self, error: &Error) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        match error {
            Error::Api(status) if status.code == 403 => tracing::error!(
                "{}; add to the Role of the control plane the rule: apiGroups: [\"coordination.k8s.io\"], \
                 resources: [\"leases\"], verbs: [get, create, update]",
                status.message
            ),
            error => tracing::warn!(error = chain(error), "the Lease could not be renewed"),
        }
    }
}

/// Another was faster: no fault.
fn won(outcome: Result<Lease, Error>) -> Result<bool, Error> {
    match outcome {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
