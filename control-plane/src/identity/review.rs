//! Whose token is this? The API server says, and what it says is looked at with suspicion.
//!
//! A token counts if the API server knows it, if it was made for our audience, and if it is bound to a pod that is there: tokens that
//! never expire (Secrets of the old kind) and tokens that were asked for by hand prove no pod.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use outrigger_config::{
    identity::{POD_NAME_EXTRA, TOKEN_AUDIENCE, workload},
    spiffe::SpiffeId,
};
use thiserror::Error;

/// How long a review may take. The proxy tries again; a slow API server is no reason to hold its request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a token is reviewed.
pub trait Reviewer: Send + Sync + 'static {
    /// What the API server says of `token` and our audience.
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewError>>;
}

/// There is no answer. Says nothing of the token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the API server cannot review tokens: {0}")]
pub struct ReviewError(pub String);

/// The service account that a token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Of the account and the pod.
    pub namespace: String,
    /// Of the account.
    pub name: String,
    /// The pod that the token is bound to.
    pub pod: String,
}

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Unknown, expired, of another audience, of a pod that is gone: the API server doesn't say which, or does in its words.
    #[error("the API server does not accept the token for the audience {TOKEN_AUDIENCE}: {0}")]
    NotAuthenticated(String),
    /// An API server that pays no heed to audiences.
    #[error("the token is not for the audience {TOKEN_AUDIENCE}")]
    Audience,
    /// A user, a node.
    #[error("the token is not of a service account, but of {0:?}")]
    NotAServiceAccount(String),
    /// Not bound to a pod.
    #[error(
        "the token is bound to no pod: mount one by a projected volume (serviceAccountToken with audience {TOKEN_AUDIENCE})"
    )]
    NotBound,
}

impl Refusal {
    /// Is it unknown who asks (as opposed to known, and not allowed)?
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::NotAuthenticated(_) | Self::Audience)
    }
}

impl Account {
    /// Its SPIFFE ID. `None`: its name has no place in one, which Kubernetes' rules for names exclude.
    #[must_use]
    pub fn id(&self, trust_domain: &str) -> Option<SpiffeId> {
        workload(trust_domain, &self.namespace, &self.name).ok()
    }
}

/// The account that a review speaks of.
///
/// # Errors
/// Why there is none.
pub fn judge(status: &TokenReviewStatus) -> Result<Account, Refusal> {
    if status.authenticated != Some(true) {
        let why = status.error.as_deref().unwrap_or("no reason given");
        return Err(Refusal::NotAuthenticated(why.chars().take(200).collect()));
    }
    let audiences = status.audiences.as_deref().unwrap_or_default();
    if !audiences.iter().any(|audience| audience == TOKEN_AUDIENCE) {
        return Err(Refusal::Audience);
    }
    let user = status.user.as_ref();
    let name = user.and_then(|u| u.username.as_deref()).unwrap_or_default();
    let parts: Vec<_> = name.split(':').collect();
    let ["system", "serviceaccount", namespace, account] = parts[..] else {
        return Err(Refusal::NotAServiceAccount(name.chars().take(200).collect()));
    };
    if namespace.is_empty() || account.is_empty() {
        return Err(Refusal::NotAServiceAccount(name.to_owned()));
    }
    let extra = user.and_then(|u| u.extra.as_ref()).and_then(|extra| extra.get(POD_NAME_EXTRA));
    let pod = match extra.map(Vec::as_slice) {
        Some([pod]) if !pod.is_empty() => pod.clone(),
        _ => return Err(Refusal::NotBound),
    };
    Ok(Account { namespace: namespace.to_owned(), name: account.to_owned(), pod })
}

/// The cluster's own.
pub struct ApiServer {
    reviews: Api<TokenReview>,
}

impl ApiServer {
    /// Needs `create` of `tokenreviews` (ClusterRole `system:auth-delegator`).
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { reviews: Api::all(client) }
    }
}

impl Reviewer for ApiServer {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<TokenReviewStatus, ReviewError>> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        Box::pin(async move {
            let answer = tokio::time::timeout(TIMEOUT, self.reviews.create(&PostParams::default(), &review)).await;
            let answer = answer.map_err(|_| ReviewError(format!("no answer within {} s", TIMEOUT.as_secs())))?;
            let review = answer.map_err(|e| ReviewError(in_words(&e)))?;
            review.status.ok_or_else(|| ReviewError("its answer has no status".to_owned()))
        })
    }
}

/// Without anything of the request, which has the token in it.
fn in_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            "the control plane may not: bind the ClusterRole system:auth-delegator to its service account".to_owned()
        }
        kube::Error::Api(status) => format!("{} {}", status.code, status.reason),
        _ => "it cannot be reached".to_owned(),
    }
}
