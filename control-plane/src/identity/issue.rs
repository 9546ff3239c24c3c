//! `Identity.Issue`: a certificate for whoever proves to be a pod's service account.
//!
//! In order of cost: is there a token, is the request one that would be signed, does the API server know the token, is it the one that
//! the request is for. Only then is the key of the CA touched. What may run at once is bounded, and what is beyond that is told to come
//! back: the API server is asked once for every request.

use std::{sync::Arc, time::Duration};

use outrigger_config::{
    discovery::{IssueRequest, IssueResponse, identity_server},
    identity::MAX_LIFETIME_SECONDS,
};
use prometheus::IntCounterVec;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::{Account, CaWatch, Reviewer, judge};
use crate::ca::Csr;

/// Reviews at once. At some 5 ms each that is thousands a second, more than the pods of a mesh ask for when they all start.
const AT_ONCE: usize = 32;
/// How long a request waits for its turn.
const WAIT: Duration = Duration::from_secs(2);
/// Longest token, in bytes. A bound token has about 1,200; one of a cluster with long names perhaps 3,000.
const MAX_TOKEN: usize = 16 * 1024;

/// What came of a request; the label of the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A certificate was signed.
    Signed,
    /// No token, or none that the API server accepts.
    Unauthenticated,
    /// A good token, and a request for somebody else.
    Denied,
    /// No request that could be signed, whoever asks.
    Invalid,
    /// The API server is away, or the CA cannot sign.
    Unavailable,
    /// Too many at once.
    Busy,
}

/// All labels.
pub const OUTCOMES: [Outcome; 6] =
    [Outcome::Signed, Outcome::Unauthenticated, Outcome::Denied, Outcome::Invalid, Outcome::Unavailable, Outcome::Busy];

impl Outcome {
    /// As metrics spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::Busy => "busy",
        }
    }
}

/// The service.
pub struct IssueService {
    reviewer: Arc<dyn Reviewer>,
    ca: CaWatch,
    clock: fn() -> u64,
    turns: Semaphore,
    outcomes: IntCounterVec,
}

impl IssueService {
    /// `outcomes` has one label, the [`Outcome`]; `clock` gives seconds since 1970.
    #[must_use]
    pub fn new(reviewer: Arc<dyn Reviewer>, ca: CaWatch, clock: fn() -> u64, outcomes: IntCounterVec) -> Self {
        for outcome in OUTCOMES {
            outcomes.with_label_values(&[outcome.as_str()]);
        }
        Self { reviewer, ca, clock, turns: Semaphore::new(AT_ONCE), outcomes }
    }

    async fn decide(&self, request: &Request<IssueRequest>) -> Result<IssueResponse, Refused> {
        let token = bearer(request)?;
        let Ok(Ok(_turn)) = tokio::time::timeout(WAIT, self.turns.acquire()).await else {
            let status = Status::unavailable("too many proxies ask for certificates at once: try again");
            return Err((Outcome::Busy, status));
        };
        let asked = request.get_ref();
        let csr = Csr::parse(&asked.csr);
        let csr = csr.map_err(|e| (Outcome::Invalid, Status::invalid_argument(e.to_string())))?;
        let account = self.account(token).await?;
        self.sign(&account, &csr, asked.lifetime_seconds)
    }

    /// Whose token it is.
    async fn account(&self, token: &str) -> Result<Account, Refused> {
        let review = self.reviewer.review(token).await.map_err(|e| {
            tracing::warn!(error = %e, "a token could not be reviewed");
            (Outcome::Unavailable, Status::unavailable(e.to_string()))
        })?;
        judge(&review).map_err(|e| match e.is_unauthenticated() {
            true => (Outcome::Unauthenticated, Status::unauthenticated(e.to_string())),
            false => (Outcome::Denied, Status::permission_denied(e.to_string())),
        })
    }

    fn sign(&self, account: &Account, csr: &Csr, asked_seconds: u32) -> Result<IssueResponse, Refused> {
        let ca = Arc::clone(&self.ca.borrow());
        let proven = account.id(ca.bundle.trust_domain());
        let Some(proven) = proven.filter(|proven| *proven == csr.id) else {
            let (namespace, name) = (&account.namespace, &account.name);
            let message = format!("the token proves the account {namespace}/{name}, and the request is for {}", csr.id);
            return Err((Outcome::Denied, Status::permission_denied(message)));
        };
        let lifetime = match asked_seconds {
            0 => MAX_LIFETIME_SECONDS,
            asked => asked.min(MAX_LIFETIME_SECONDS),
        };
        let issued = ca.authority.issue(&proven, &csr.key, &[], lifetime.into(), (self.clock)()).map_err(|e| {
            tracing::error!(error = %e, "the CA cannot sign");
            (Outcome::Unavailable, Status::unavailable(e.to_string()))
        })?;
        tracing::info!(identity = %proven, pod = account.pod, not_after = issued.not_after, "signed a certificate");
        let chain = issued.chain.iter().map(|der| der.to_vec().into()).collect();
        Ok(IssueResponse { chain, trust: Some(ca.bundle.to_message()) })
    }
}

/// What is counted, and what the proxy is told.
type Refused = (Outcome, Status);

#[tonic::async_trait]
impl identity_server::Identity for IssueService {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let (outcome, answer) = match self.decide(&request).await {
            Ok(response) => (Outcome::Signed, Ok(Response::new(response))),
            Err((outcome, status)) => {
                tracing::info!(outcome = outcome.as_str(), why = status.message(), "a certificate was refused");
                (outcome, Err(status))
            }
        };
        self.outcomes.with_label_values(&[outcome.as_str()]).inc();
        answer
    }
}

/// The token of `authorization: Bearer TOKEN` (RFC 6750 2.1; the scheme's case does not matter, RFC 9110 11.1).
fn bearer<T>(request: &Request<T>) -> Result<&str, Refused> {
    let refuse = |message: &str| (Outcome::Unauthenticated, Status::unauthenticated(message));
    let mut values = request.metadata().get_all("authorization").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(refuse("exactly one service account token is needed, in authorization: Bearer TOKEN"));
    };
    let value = value.to_str().map_err(|_| refuse("the authorization is no text"))?;
    let token = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Err(refuse("the authorization is of another kind than Bearer")),
    };
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(refuse("the token is empty or longer than 16 KiB"));
    }
    Ok(token)
}
