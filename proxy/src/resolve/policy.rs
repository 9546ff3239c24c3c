//! What an answer of the resolver means, and when to ask again. Pure: randomness is an argument.
//!
//! The rule behind it: only an answer may take endpoints away, never the lack of one. A name server that
//! is down or broken keeps the last good answer for as long as it takes. "There is nothing" is an answer,
//! but it is asked for twice before the last endpoint goes, because a name server that restarts says the
//! same for a moment.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use outrigger_config::model::Endpoint;

use crate::error::Reason;

/// A TTL of 0 must not become a question per request or a busy loop.
const MIN_TTL: Duration = Duration::from_secs(1);
/// A TTL of a day, mistyped or forgotten, must not outlive the patience of whoever fixes it.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// Names of services come and go in seconds; a zone's negative TTL is made for people.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// First pause after a failure, doubled for each further one.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The same for a registry, which is asked by nobody but through one connection, and is good for seconds and not for a TTL.
const REGISTRY_BACKOFF_MAX: Duration = Duration::from_secs(4);
/// "There is nothing" is believed after so many in a row.
const CONFIRMATIONS: u32 = 2;
/// Endpoints of one name. Beyond it balancing gains nothing and each costs memory on every worker.
pub(super) const MAX_ENDPOINTS: usize = 256;
/// Endpoints that a registry lists. More than of a name, because whoever lists them meant each.
pub(super) const MAX_LISTED: usize = 4096;
/// Pause between two answers of a registry: changes that come in a burst become one.
const LISTED_PAUSE: Duration = Duration::from_millis(10);
/// Weight that stands for an SRV weight of 1, so that a weight of 0 among others can be a hundredth of it.
const WEIGHT_UNIT: u32 = 100;

/// What was asked for, or why it was not found.
pub(super) type Found<T> = Result<Records<T>, Miss>;

/// Records and how long they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Records<T> {
    pub(super) list: Vec<T>,
    /// The shortest of all that led there, CNAME records included.
    pub(super) ttl: Duration,
}

/// Why nothing was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Miss {
    /// A name server says that there is nothing (NXDOMAIN, no data).
    Nothing { ttl: Option<Duration>, details: String },
    /// No name server says anything of use.
    Failed { reason: Reason, details: String },
}

/// An SRV record (RFC 2782) with the addresses of its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) addresses: Vec<IpAddr>,
}

/// The answer to the question for endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Found {
        endpoints: Vec<Endpoint>,
        ttl: Duration,
    },
    /// What a registry lists, until it says otherwise.
    Listed {
        endpoints: Vec<Endpoint>,
    },
    Nothing {
        ttl: Option<Duration>,
        details: String,
    },
    Failed {
        reason: Reason,
        details: String,
    },
}

/// What to do with the endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Take these. A TTL of zero: until the source says otherwise.
    Replace { endpoints: Vec<Endpoint>, ttl: Duration },
    /// Have none.
    Empty { details: String },
    /// Leave them; `first` says that it was good before.
    Keep { reason: Reason, details: String, first: bool },
}

/// The memory between two answers for one name.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Longest pause after a failure.
    longest: Duration,
    /// Failures in a row.
    failures: u32,
    /// Answers in a row that there is nothing.
    nothings: u32,
    /// There are endpoints to lose.
    has_endpoints: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { longest: BACKOFF_MAX, failures: 0, nothings: 0, has_endpoints: false }
    }
}

impl Schedule {
    /// Of a source that holds a connection.
    pub(super) fn of_registry() -> Self {
        Self { longest: REGISTRY_BACKOFF_MAX, ..Self::default() }
    }

    /// After an answer with endpoints.
    fn good(&mut self) {
        *self = Self { longest: self.longest, has_endpoints: true, ..Self::default() };
    }

    /// Takes an answer; tells what to do and when to ask again. `random` is from 0 to 1.
    pub(super) fn take(&mut self, answer: Answer, random: f64) -> (Step, Duration) {
        match answer {
            Answer::Found { endpoints, ttl } => {
                self.good();
                let ttl = ttl.clamp(MIN_TTL, MAX_TTL);
                (Step::Replace { endpoints, ttl }, ttl)
            }
            Answer::Listed { endpoints } if !endpoints.is_empty() => {
                self.good();
                (Step::Replace { endpoints: tidy(endpoints, MAX_LISTED), ttl: Duration::ZERO }, LISTED_PAUSE)
            }
            Answer::Listed { .. } => {
                let details = String::from("the registry lists no endpoint");
                match self.take(Answer::Nothing { ttl: None, details }, random) {
                    // Confirmed: from here on the source is waited for, which knows when one comes.
                    (empty @ Step::Empty { .. }, _) => (empty, LISTED_PAUSE),
                    kept => kept,
                }
            }
            Answer::Nothing { ttl, details } => {
                self.failures = 0;
                self.nothings = self.nothings.saturating_add(1);
                if self.has_endpoints && self.nothings < CONFIRMATIONS {
                    return (Step::Keep { reason: Reason::DnsError, details, first: true }, MIN_TTL);
                }
                self.has_endpoints = false;
                let backoff = backoff(self.nothings, self.longest, random);
                (Step::Empty { details }, ttl.unwrap_or(backoff).clamp(MIN_TTL, MAX_NEGATIVE_TTL))
            }
            Answer::Failed { reason, details } => {
                self.nothings = 0;
                self.failures = self.failures.saturating_add(1);
                (
                    Step::Keep { reason, details, first: self.failures == 1 },
                    backoff(self.failures, self.longest, random),
                )
            }
        }
    }
}

impl Miss {
    /// The miss of two that says less: a failure hides what the other might have been.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (failed @ Self::Failed { .. }, _) | (_, failed @ Self::Failed { .. }) => failed,
            (Self::Nothing { ttl: a, details }, Self::Nothing { ttl: b, .. }) => {
                Self::Nothing { ttl: a.into_iter().chain(b).min(), details }
            }
        }
    }
}

impl From<Miss> for Answer {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Nothing { ttl, details } => Self::Nothing { ttl, details },
            Miss::Failed { reason, details } => Self::Failed { reason, details },
        }
    }
}

/// The addresses of one name as endpoints, all at `port`.
pub(super) fn addresses(found: Found<IpAddr>, port: u16) -> Answer {
    match found {
        Ok(Records { list, ttl }) => {
            let endpoint = |ip| Endpoint { address: SocketAddr::new(ip, port), weight: 1, zone: None, identity: None };
            Answer::Found { endpoints: tidy(list.into_iter().map(endpoint).collect(), MAX_ENDPOINTS), ttl }
        }
        Err(miss) => miss.into(),
    }
}

/// The services of one SRV name as endpoints: the group of lowest priority that has an address. A group
/// of higher number takes over only when the lower ones have gone from the answer.
pub(super) fn services(found: Found<Service>) -> Answer {
    let Records { list, ttl } = match found {
        Ok(records) => records,
        Err(miss) => return miss.into(),
    };
    let usable = |s: &&Service| !s.addresses.is_empty();
    let Some(priority) = list.iter().filter(usable).map(|s| s.priority).min() else {
        return Answer::Nothing { ttl: Some(ttl), details: "no target of the SRV records has an address".into() };
    };
    let group: Vec<_> = list.iter().filter(usable).filter(|s| s.priority == priority).collect();
    let weightless = group.iter().all(|s| s.weight == 0);
    let mut endpoints = Vec::new();
    for service in group {
        let weight = match service.weight {
            0 if weightless => WEIGHT_UNIT,
            // RFC 2782: a very small chance, not none.
            0 => 1,
            weight => u32::from(weight) * WEIGHT_UNIT,
        };
        // The weight is the target's; its addresses share it.
        let share = u32::try_from(service.addresses.len()).map_or(1, |n| (weight / n).max(1));
        endpoints.extend(service.addresses.iter().map(|ip| Endpoint {
            address: SocketAddr::new(*ip, service.port),
            weight: share,
            zone: None,
            identity: None,
        }));
    }
    Answer::Found { endpoints: tidy(endpoints, MAX_ENDPOINTS), ttl }
}

/// Sorted, because name servers rotate their answers and a rotation is no change; without doubles; bounded.
fn tidy(mut endpoints: Vec<Endpoint>, most: usize) -> Vec<Endpoint> {
    endpoints.sort_by_key(|e| e.address);
    endpoints.dedup_by_key(|e| e.address);
    if endpoints.len() > most {
        tracing::warn!(found = endpoints.len(), "an upstream has more than {most} addresses; the rest is not used");
        endpoints.truncate(most);
    }
    endpoints
}

/// Doubles from 1 s to `longest`, of which a random part between a half and the whole: proxies that lost their
/// name server together must not come back together.
fn backoff(failures: u32, longest: Duration, random: f64) -> Duration {
    let doubled = BACKOFF_BASE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
    doubled.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests;
