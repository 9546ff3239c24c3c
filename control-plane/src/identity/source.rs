//! The CA's Secret: read, made if there is none, and watched.
//!
//! Replicas that start at once all try to create it, and the API server lets one win; the others use what it made. What a later
//! change breaks (a key that belongs to another certificate, a root that is no certificate) is logged and counted, and the last good CA
//! goes on: an outage of issuing takes a day to be felt, a wrong root is felt at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher},
};
use thiserror::Error;
use tokio::sync::watch;
use zeroize::Zeroize as _;

use super::{
    Ca, CaWatch,
    bundle::{CERTIFICATE, KEY, ROOTS},
};
use crate::ca::{Authority, CaError, ROOT_LIFETIME, encode_certificates};

/// Where the CA is.
#[derive(Clone)]
pub struct CaSource {
    /// The cluster.
    pub client: Client,
    /// The control plane's own namespace.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// Name of a ConfigMap whose `ca.crt` holds additional roots; it need not be there.
    pub extra_roots: String,
    /// Whom the CA speaks for.
    pub trust_domain: String,
    /// Whether to make a CA where there is none. False where somebody else brings it.
    pub create: bool,
    /// Seconds since 1970.
    pub clock: fn() -> u64,
}

/// Why there is no CA.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The API server, or what we may do there.
    #[error(
        "cannot {verb} the Secret {name}: {error}{}",
        if matches!(&**.error, kube::Error::Api(status) if status.code == 403) {
            "; the control plane's Role must allow get, create, list and watch of it"
        } else { "" }
    )]
    Api {
        /// What was tried.
        verb: &'static str,
        /// `NAMESPACE/NAME`.
        name: String,
        /// What came of it.
        error: Box<kube::Error>,
    },
    /// It is not there, and is not ours to make.
    #[error(
        "the Secret {0} with the CA is not there, and the control plane is told not to make one: create it (cert-manager's layout)"
    )]
    Missing(String),
    /// What is in it.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// Keeps a [`CaWatch`] up to date.
pub struct Keeper {
    source: CaSource,
    state: watch::Sender<Arc<Ca>>,
    secret: Data,
    extra: Option<String>,
}

impl CaSource {
    /// Reads the CA, makes it if there is none.
    ///
    /// # Errors
    /// There is no usable CA. May be tried again.
    pub async fn open(self) -> Result<(Keeper, CaWatch), SourceError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let roots: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = secrets.get_opt(&self.secret).await.map_err(|e| self.failed("read", e))?;
        let secret = match found {
            Some(secret) => secret,
            None if self.create => self.create(&secrets).await?,
            None => return Err(SourceError::Missing(self.name())),
        };
        let secret = Data::of(secret);
        let extra = roots.get_opt(&self.extra_roots).await.map_err(|e| self.failed("read the roots beside", e))?;
        let extra = extra.and_then(roots_of);
        let ca = self.read(&secret, extra.as_deref())?;
        let (state, receiver) = watch::channel(Arc::new(ca));
        Ok((Keeper { source: self, state, secret, extra }, receiver))
    }

    async fn create(&self, secrets: &Api<Secret>) -> Result<Secret, SourceError> {
        let authority = Authority::generate(&self.trust_domain, ROOT_LIFETIME, (self.clock)())?;
        let mut secret = new_secret(&self.secret, &authority);
        let created = secrets.create(&PostParams::default(), &secret).await;
        drop(Data(secret.data.take().unwrap_or_default()));
        match created {
            Ok(secret) => {
                tracing::info!(secret = self.name(), trust_domain = self.trust_domain, "made a new CA");
                Ok(secret)
            }
            // Another replica was faster: theirs is the CA.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                secrets.get(&self.secret).await.map_err(|e| self.failed("read", e))
            }
            Err(e) => Err(self.failed("create", e)),
        }
    }

    fn read(&self, secret: &Data, extra: Option<&str>) -> Result<Ca, CaError> {
        let what = format!("the Secret {}", self.name());
        Ca::read(&what, &secret.0, extra, &self.trust_domain, (self.clock)())
    }

    fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.secret)
    }

    fn failed(&self, verb: &'static str, error: kube::Error) -> SourceError {
        SourceError::Api { verb, name: self.name(), error: Box::new(error) }
    }
}

/// What is in a Secret, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
struct Data(BTreeMap<String, ByteString>);

impl Data {
    fn of(secret: Secret) -> Self {
        Self(secret.data.unwrap_or_default())
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.0.values_mut().for_each(|bytes| bytes.0.zeroize());
    }
}

/// What changed.
enum Change {
    Secret(Option<Secret>),
    Roots(Option<ConfigMap>),
}

impl Keeper {
    /// Follows Secret and ConfigMap for as long as anyone holds the CA.
    pub async fn run(mut self) {
        let secrets: Api<Secret> = Api::namespaced(self.source.client.clone(), &self.source.namespace);
        let roots: Api<ConfigMap> = Api::namespaced(self.source.client.clone(), &self.source.namespace);
        let secrets = watcher::watch_object(secrets, &self.source.secret).map_ok(Change::Secret);
        let roots = watcher::watch_object(roots, &self.source.extra_roots).map_ok(Change::Roots);
        let changes: [BoxStream<'_, _>; 2] = [secrets.default_backoff().boxed(), roots.default_backoff().boxed()];
        let mut changes = futures::stream::select_all(changes);
        loop {
            let change = tokio::select! {
                change = changes.next() => change,
                () = self.state.closed() => return,
            };
            match change {
                Some(Ok(change)) => self.apply(change),
                Some(Err(error)) => tracing::debug!(%error, "the watch of the CA was interrupted"),
                // A watch ends only with its stream; nothing is left to follow.
                None => tokio::time::sleep(Duration::from_secs(60)).await,
            }
        }
    }

    fn apply(&mut self, change: Change) {
        let (secret, extra) = match change {
            Change::Secret(Some(secret)) => (Data::of(secret), self.extra.clone()),
            Change::Secret(None) => {
                let secret = self.source.name();
                tracing::error!(secret, "the Secret with the CA is gone; the CA in memory goes on: restore the Secret");
                return;
            }
            Change::Roots(roots) => (self.secret.clone(), roots.and_then(roots_of)),
        };
        if secret == self.secret && extra == self.extra {
            return;
        }
        match self.source.read(&secret, extra.as_deref()) {
            Ok(ca) => {
                let (roots, not_after) = (ca.bundle.roots().len(), ca.authority.not_after());
                tracing::info!(roots, not_after, "the CA or its roots changed");
                self.state.send_replace(Arc::new(ca));
            }
            Err(error) => tracing::error!(%error, "the changed CA cannot be used; the last good one goes on"),
        }
        // Kept even if it is of no use: the other half may arrive with the next event.
        (self.secret, self.extra) = (secret, extra);
    }
}

fn roots_of(roots: ConfigMap) -> Option<String> {
    roots.data?.remove(ROOTS)
}

/// The Secret of a CA that signed itself, in cert-manager's layout.
fn new_secret(name: &str, authority: &Authority) -> Secret {
    let certificate = encode_certificates([authority.certificate()]);
    let data = BTreeMap::from([
        (CERTIFICATE.to_owned(), ByteString(certificate.clone().into_bytes())),
        (KEY.to_owned(), ByteString(authority.key().to_pem().as_bytes().to_vec())),
        (ROOTS.to_owned(), ByteString(certificate.into_bytes())),
    ]);
    let labels = BTreeMap::from([
        ("app.kubernetes.io/part-of".to_owned(), "outrigger".to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), "outrigger-control-plane".to_owned()),
    ]);
    Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}
