//! What rustls needs for one model: see [`TlsContexts`].
//!
//! A reload that changes nothing of TLS keeps the contexts, and so the connections and sessions that were made
//! under them: upstream connections are carried over as long as their context is the same one.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use outrigger_config::{
    Fault, Origin, Severity,
    model::{IdentitySource, ListenerProtocol, Model, MtlsMode, Upstream, UpstreamId, UpstreamTls},
};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{ServerName, UnixTime},
};

use super::{
    CertificateInfo, ClientContext, Identity, SpiffeId, config, crypto_provider, endpoints::Endpoints, roots::Roots,
};
use crate::error::{Failure, Reason};

/// One context for all listeners, one for each kind of upstream.
pub struct TlsContexts {
    source: Option<IdentitySource>,
    identity: Option<Arc<Identity>>,
    server: Option<Server>,
    clients: Vec<Option<Arc<ClientContext>>>,
    /// The same, by what they were made of; upstreams with the same settings share one.
    made: HashMap<UpstreamTls, Arc<ClientContext>>,
    roots: Roots,
    /// For endpoints with an identity of their own.
    endpoints: Endpoints,
    warnings: Vec<Fault>,
}

/// What listeners serve TLS with.
#[derive(Clone)]
struct Server {
    http: Arc<ServerConfig>,
    /// The same, with no say in what is spoken inside: for listeners that pass on bytes.
    opaque: Arc<ServerConfig>,
}

impl TlsContexts {
    /// Reads the files that the model names. `delivered` is the identity that the source has delivered which the
    /// model names, where that is no file; `old` are the contexts in force, of which what still fits is kept.
    ///
    /// # Errors
    /// Everything that keeps a listener or an upstream from working, with the file that it is in.
    pub fn load(model: &Model, delivered: Option<&Arc<Identity>>, old: Option<&Self>) -> Result<Self, Vec<Fault>> {
        Self::load_at(model, delivered, old, UnixTime::now())
    }

    /// The same, at a given time.
    ///
    /// # Errors
    /// As [`TlsContexts::load`].
    pub fn load_at(
        model: &Model,
        delivered: Option<&Arc<Identity>>,
        old: Option<&Self>,
        now: UnixTime,
    ) -> Result<Self, Vec<Fault>> {
        Self::made(model, delivered, old, now, Roots::default())
    }

    /// As [`TlsContexts::load`], where nobody waits for a verdict on files: an identity was delivered, or the control
    /// plane sends something else. The roots of an upstream whose file cannot be read now are those of `old`.
    ///
    /// # Errors
    /// As [`TlsContexts::load`].
    pub fn load_keeping(
        model: &Model,
        delivered: Option<&Arc<Identity>>,
        old: Option<&Self>,
    ) -> Result<Self, Vec<Fault>> {
        Self::made(model, delivered, old, UnixTime::now(), Roots::keeping())
    }

    fn made(
        model: &Model,
        delivered: Option<&Arc<Identity>>,
        old: Option<&Self>,
        now: UnixTime,
        roots: Roots,
    ) -> Result<Self, Vec<Fault>> {
        let provider = crypto_provider();
        let mut faults = Vec::new();
        let source = model.proxy.identity.clone();
        let identity = identity(source.as_ref(), delivered, old, &provider, now, &mut faults);
        let warnings = identity.iter().flat_map(|identity| &identity.warnings);
        let warnings =
            warnings.map(|w| fault(file_origin(&w.file), Severity::Warning, w.message.clone())).collect::<Vec<_>>();
        for listener in model.listeners.iter().filter(|l| source.is_none() && l.mtls == MtlsMode::Strict) {
            let message = format!("listener {:?} has mtls: strict, and the proxy has no identity", listener.name);
            faults.push(error(listener.origin.clone(), message));
        }
        let kept = old.filter(|old| same(old.identity.as_ref(), identity.as_ref()));
        let server = match (&identity, kept.and_then(|old| old.server.clone())) {
            (None, _) => None,
            (Some(_), Some(server)) => Some(server),
            (Some(identity), None) => Server::new(identity, &provider, &mut faults),
        };
        let mut contexts = Self {
            source,
            identity,
            server,
            clients: Vec::with_capacity(model.upstreams.len()),
            made: HashMap::new(),
            roots,
            endpoints: kept.map(|old| old.endpoints.clone()).unwrap_or_default(),
            warnings,
        };
        for upstream in &model.upstreams {
            match contexts.client_of(upstream, old, kept.is_some(), &provider) {
                Ok(context) => contexts.clients.push(context),
                Err(e) => faults.push(e),
            }
        }
        if faults.is_empty() { Ok(contexts) } else { Err(faults) }
    }

    /// What a listener of this mode serves TLS with; `None`: it serves none.
    ///
    /// `strict` and `permissive` are the same here: who speaks TLS must have a certificate. What
    /// `permissive` adds, plaintext, is for the listener to allow.
    #[must_use]
    pub fn server(&self, mode: MtlsMode, protocol: ListenerProtocol) -> Option<&Arc<ServerConfig>> {
        let server = self.server.as_ref().filter(|_| mode != MtlsMode::Disabled)?;
        Some(if protocol == ListenerProtocol::Tcp { &server.opaque } else { &server.http })
    }

    /// What connections to an upstream are secured with; `None`: they are plain.
    #[must_use]
    pub fn client(&self, upstream: UpstreamId) -> Option<&Arc<ClientContext>> {
        self.clients.get(upstream.0 as usize)?.as_ref()
    }

    /// What connections to an endpoint are secured with that must prove to be `expected`.
    ///
    /// # Errors
    /// There is no identity of our own to show.
    pub fn endpoint(&self, expected: &Arc<str>) -> Result<Arc<ClientContext>, Failure> {
        let own = self.identity.as_ref();
        let own = own.ok_or_else(|| Failure::new(Reason::TlsCertificateError, missing(self.source.as_ref())))?;
        self.endpoints.get(own, expected)
    }

    /// Can mesh TLS be spoken at this time?
    ///
    /// # Errors
    /// The identity has expired, or is not there (yet): which one, and where it should come from.
    pub fn check(&self, now: UnixTime) -> Result<&SpiffeId, Failure> {
        match &self.identity {
            Some(identity) => identity.check(now).map(|()| &identity.id),
            None => Err(Failure::new(Reason::TlsCertificateError, missing(self.source.as_ref()))),
        }
    }

    /// Our own SPIFFE ID.
    #[must_use]
    pub fn identity(&self) -> Option<&SpiffeId> {
        self.identity.as_ref().map(|identity| &identity.id)
    }

    /// The whole identity.
    #[must_use]
    pub fn own(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// All certificates of the identity: ours first, then intermediates, then roots.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateInfo] {
        self.identity.as_ref().map_or(&[], |identity| &identity.certificates)
    }

    /// When our certificate expires, in seconds since 1970.
    #[must_use]
    pub fn identity_expiry(&self) -> Option<i64> {
        Some(self.identity.as_ref()?.certificate()?.not_after_timestamp)
    }

    /// What works, and is probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// The files that a model's contexts are made from: a change of any calls for another
    /// [`TlsContexts::load`].
    #[must_use]
    pub fn files(model: &Model) -> Vec<PathBuf> {
        let identity = model.proxy.identity.iter().filter_map(|source| match source {
            IdentitySource::Files(files) => Some([&files.certificate, &files.private_key, &files.trust_bundle]),
            IdentitySource::WorkloadApi(_) | IdentitySource::ControlPlane => None,
        });
        let roots = model.upstreams.iter().filter_map(|u| match &u.tls {
            UpstreamTls::Simple { ca, .. } => ca.as_ref(),
            UpstreamTls::None | UpstreamTls::Mesh { .. } => None,
        });
        let mut files: Vec<_> = identity.flatten().chain(roots).cloned().collect();
        files.sort();
        files.dedup();
        files
    }

    /// True if the files hold something else by now than what this was made of. What cannot be read does not count.
    #[must_use]
    pub fn is_outdated(&self, model: &Model) -> bool {
        let Ok(now) = Self::load(model, self.identity.as_ref(), Some(self)) else { return false };
        let kept = |(tls, context): (&UpstreamTls, &Arc<ClientContext>)| {
            now.made.get(tls).is_some_and(|other| Arc::ptr_eq(context, other))
        };
        let identity = self.identity.is_none() || same(self.identity.as_ref(), now.identity.as_ref());
        !(identity && self.made.iter().all(kept))
    }

    /// The context of one upstream. `identity_kept`: `old` was made with the same identity.
    fn client_of(
        &mut self,
        upstream: &Upstream,
        old: Option<&Self>,
        identity_kept: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<ClientContext>>, Fault> {
        if upstream.tls == UpstreamTls::None {
            return Ok(None);
        }
        let known = old.and_then(|old| Some((old, old.made.get(&upstream.tls)?)));
        let kept = match &upstream.tls {
            // All upstreams of one file, or of the system's roots, must come to the same roots.
            UpstreamTls::Simple { ca, .. } => {
                let roots = self.roots.of(ca.as_deref(), &upstream.origin, old.map(|old| &old.roots))?;
                known.filter(|(old, _)| old.roots.known(ca.as_deref()).is_some_and(|r| Arc::ptr_eq(r, &roots)))
            }
            UpstreamTls::Mesh { .. } | UpstreamTls::None => known.filter(|_| identity_kept),
        };
        let context = match (self.made.get(&upstream.tls), kept) {
            (Some(made), _) | (None, Some((_, made))) => Arc::clone(made),
            (None, None) => Arc::new(self.make(upstream, provider)?),
        };
        self.made.insert(upstream.tls.clone(), Arc::clone(&context));
        Ok(Some(context))
    }

    fn make(&mut self, upstream: &Upstream, provider: &Arc<CryptoProvider>) -> Result<ClientContext, Fault> {
        let fault =
            |message: String| error(upstream.origin.clone(), format!("upstream {:?}: {message}", upstream.name));
        let unmade = |e: rustls::Error| fault(format!("no TLS context can be made: {e}"));
        match &upstream.tls {
            UpstreamTls::Simple { sni, ca } => {
                let name = ServerName::try_from(sni.to_string());
                let name = name.map_err(|_| fault(format!("tls.sni {sni:?} is no host name")))?;
                let roots = self.roots.of(ca.as_deref(), &upstream.origin, None)?;
                config::simple_client(roots, name, provider).map_err(unmade)
            }
            UpstreamTls::Mesh { identity: expected } => {
                let expected = SpiffeId::parse(expected)
                    .map_err(|e| fault(format!("tls.identity {expected:?} is no SPIFFE ID: {e}")))?;
                match &self.identity {
                    Some(identity) => config::mesh_client(identity, expected, provider).map_err(unmade),
                    None if self.source.is_some() => {
                        Ok(ClientContext::without(missing(self.source.as_ref()), expected))
                    }
                    None => Err(fault("tls.mode is mesh, and the proxy has no identity".to_owned())),
                }
            }
            UpstreamTls::None => Err(fault("plaintext has no TLS context".to_owned())),
        }
    }
}

impl Server {
    fn new(identity: &Identity, provider: &Arc<CryptoProvider>, faults: &mut Vec<Fault>) -> Option<Self> {
        let made = config::server_config(identity, provider);
        let http =
            made.map_err(|e| faults.push(error(nowhere(), format!("the TLS context of listeners: {e}")))).ok()?;
        let mut opaque = ServerConfig::clone(&http);
        opaque.alpn_protocols.clear();
        Some(Self { http, opaque: Arc::new(opaque) })
    }
}

/// The identity of the model's source. One that has not changed is the old one.
fn identity(
    source: Option<&IdentitySource>,
    delivered: Option<&Arc<Identity>>,
    old: Option<&TlsContexts>,
    provider: &CryptoProvider,
    now: UnixTime,
    faults: &mut Vec<Fault>,
) -> Option<Arc<Identity>> {
    let before = old.and_then(|old| old.identity.as_ref());
    let new = match source? {
        IdentitySource::WorkloadApi(_) | IdentitySource::ControlPlane => Arc::clone(delivered?),
        IdentitySource::Files(files) => match Identity::load(files, provider, now) {
            Ok(identity) => Arc::new(identity),
            Err(errors) => {
                faults.extend(errors.into_iter().map(|e| error(file_origin(&e.file), e.fault.to_string())));
                return None;
            }
        },
    };
    // What is in force and good is not given up for what has expired.
    if let (Err(expired), Some(Ok(()))) = (new.check(now), before.map(|b| b.check(now))) {
        let file = new.certificate().map_or_else(PathBuf::new, |c| PathBuf::from(&c.file));
        faults.push(error(file_origin(&file), expired.details.into_owned()));
        return None;
    }
    match before.filter(|before| before.same(&new)) {
        // The warnings are of this time.
        Some(before) if before.warnings == new.warnings => Some(Arc::clone(before)),
        _ => Some(new),
    }
}

fn missing(source: Option<&IdentitySource>) -> String {
    match source {
        None => "the proxy has no identity: spec.identity of its Proxy document says where it is from".to_owned(),
        Some(IdentitySource::Files(files)) => format!("there is no certificate in {}", files.certificate.display()),
        Some(IdentitySource::WorkloadApi(api)) => {
            let socket = api.socket.as_deref().map_or("SPIFFE_ENDPOINT_SOCKET".into(), Path::to_string_lossy);
            format!(
                "the proxy has no certificate: the Workload API at {socket} has delivered none, or has withdrawn it"
            )
        }
        Some(IdentitySource::ControlPlane) => {
            "the proxy has no certificate: the control plane has not issued one yet".to_owned()
        }
    }
}

fn same(a: Option<&Arc<Identity>>, b: Option<&Arc<Identity>>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
}

pub(super) fn error(origin: Origin, message: String) -> Fault {
    fault(origin, Severity::Error, message)
}

fn fault(origin: Origin, severity: Severity, message: String) -> Fault {
    Fault { origin, severity, message }
}

pub(super) fn file_origin(file: &Path) -> Origin {
    Origin::new(file.to_string_lossy(), 1, 1)
}

fn nowhere() -> Origin {
    Origin::new("tls", 1, 1)
}
