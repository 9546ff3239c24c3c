//! The SPIFFE Workload API as the source of the identity: an agent on this machine pushes certificate, key and bundle.
//!
//! One stream is kept open. Each message is the whole state: the SVID that is meant (by its `hint`, else the first)
//! replaces the one in force without a closed connection, and a message without it withdraws it, as does an agent that
//! says `PermissionDenied`; handshakes fail from then on. An agent that is away or says nonsense changes nothing:
//! the certificate in force serves until it expires. Calls are repeated with full jitter, for ever. Renewal is the
//! agent's affair; it pushes well before the end.
//!
//! Bundles of other trust domains and revocation lists are not used: peers of other trust domains are refused.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use outrigger_config::{
    model::{IdentitySource, WorkloadApi},
    workload::{
        SECURITY_HEADER, X509svid, X509svidRequest, X509svidResponse,
        spiffe_workload_api_client::SpiffeWorkloadApiClient,
    },
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use tokio::{net::UnixStream, time::sleep};
use tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    transport::{Endpoint, Uri},
};
use tower::service_fn;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::Zeroize;

use super::{reload, wiring};
use crate::{
    shared::Shared,
    tls::{Identity, Material, SecretKey, crypto_provider},
};

/// First pause before the next call, and the longest: an agent that was restarted is found within seconds.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// How long connecting to the socket may take: it is on this machine.
const CONNECT: Duration = Duration::from_secs(2);
/// Largest message: a hundred SVIDs with their bundles, four times over.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Where the socket is where the configuration leaves it to the environment (SPIFFE Workload Endpoint, section 4).
const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// Why a call has ended.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{VARIABLE} is not set, or names no Unix socket: it is written unix:///run/spire/sockets/agent.sock")]
    NoSocket,
    #[error("cannot be reached: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] Status),
    #[error("closed the stream")]
    Closed,
}

/// Keeps the identity as an agent says, while the configuration names one. Never returns.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut changes = shared.changes();
    loop {
        let source = shared.snapshot().model.proxy.identity.clone();
        let other = async {
            // The end of the sender is that of the process.
            while changes.changed().await.is_ok() {
                if shared.snapshot().model.proxy.identity != source {
                    return;
                }
            }
            std::future::pending().await
        };
        match &source {
            Some(IdentitySource::WorkloadApi(api)) => tokio::select! {
                () = other => {}
                () = repeat(&shared, api) => {}
            },
            _ => other.await,
        }
    }
}

async fn repeat(shared: &Shared, api: &WorkloadApi) {
    let [least, most] = PAUSE;
    let mut pause = least;
    let mut said = String::new();
    loop {
        let mut heard = false;
        let error = match call(shared, api, &mut heard).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        if matches!(&error, CallError::Status(status) if status.code() == Code::PermissionDenied) {
            deliver(shared, None);
        }
        if heard {
            (pause, said) = (least, String::new());
        }
        let words = error.to_string();
        if words != said {
            tracing::warn!(
                "the Workload API at {}: {words}; the identity in force stays, and it is asked again",
                name(api)
            );
            said = words;
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(most);
    }
}

enum Never {}

/// One call, which ends in an error only. `heard`: there was a message.
async fn call(shared: &Shared, api: &WorkloadApi, heard: &mut bool) -> Result<Never, CallError> {
    let socket = socket(api, std::env::var(VARIABLE).ok().as_deref()).ok_or(CallError::NoSocket)?;
    let dialled = socket.clone();
    let connect = service_fn(move |_: Uri| {
        let socket = dialled.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The authority means nothing on a Unix socket.
    let endpoint = Endpoint::from_static("http://workload-api").connect_timeout(CONNECT);
    let channel = endpoint.connect_with_connector(connect).await?;
    let mut client = SpiffeWorkloadApiClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let mut request = Request::new(X509svidRequest {});
    request.metadata_mut().insert(SECURITY_HEADER.0, MetadataValue::from_static(SECURITY_HEADER.1));
    let mut stream = client.fetch_x509svid(request).await?.into_inner();
    loop {
        let message = stream.message().await?.ok_or(CallError::Closed)?;
        *heard = true;
        take(shared, api, &socket, message);
    }
}

/// The socket that the configuration names, or the environment.
fn socket(api: &WorkloadApi, variable: Option<&str>) -> Option<PathBuf> {
    if let Some(socket) = &api.socket {
        return Some(socket.clone());
    }
    let path = variable?.strip_prefix("unix:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    path.starts_with('/').then(|| PathBuf::from(path))
}

fn name(api: &WorkloadApi) -> String {
    api.socket.as_ref().map_or_else(|| VARIABLE.to_owned(), |s| format!("unix://{}", s.display()))
}

/// Takes a message over.
fn take(shared: &Shared, api: &WorkloadApi, socket: &Path, mut message: X509svidResponse) {
    let meant = |svid: &X509svid| api.hint.as_deref().is_none_or(|hint| hint == svid.hint);
    let found = message.svids.iter().position(meant).map(|index| message.svids.swap_remove(index));
    for other in &mut message.svids {
        other.x509_svid_key.zeroize();
    }
    let Some(svid) = found else {
        let hint = api.hint.as_deref().map_or_else(String::new, |hint| format!(" with the hint {hint:?}"));
        tracing::error!("the Workload API at {} has no identity{hint} for this proxy: it is withdrawn", name(api));
        deliver(shared, None);
        return;
    };
    match identity(svid, socket) {
        Ok(identity) => deliver(shared, Some(identity)),
        Err(why) => tracing::error!(
            "the Workload API at {} has delivered what is no identity, the one in force stays: {why}",
            name(api)
        ),
    }
}

fn identity(svid: X509svid, socket: &Path) -> Result<Identity, String> {
    let from = PathBuf::from(format!("unix://{}", socket.display()));
    let key = SecretKey::new(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(svid.x509_svid_key)));
    let material = Material {
        certificate: from.clone(),
        private_key: from.clone(),
        trust_bundle: from,
        chain: split(&svid.x509_svid)?,
        key,
        bundle: split(&svid.bundle)?,
    };
    let identity = Identity::new(&material, &crypto_provider(), UnixTime::now()).map_err(|e| e.to_string())?;
    if identity.id.as_str() == svid.spiffe_id {
        Ok(identity)
    } else {
        Err(format!("the message names {:?}, and its certificate {}", svid.spiffe_id, identity.id))
    }
}

/// Certificates in DER, one after the other without anything between.
fn split(mut der: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der).map_err(|_| "its certificates are no DER".to_owned())?;
        certificates.push(CertificateDer::from(der[..der.len() - rest.len()].to_vec()));
        der = rest;
    }
    Ok(certificates)
}

fn deliver(shared: &Shared, identity: Option<Identity>) {
    let there = identity.as_ref().map(|i| (i.id.to_string(), i.certificate().map(|c| c.not_after.clone())));
    if there.is_none() && shared.snapshot().tls.identity().is_none() {
        return;
    }
    match shared.deliver_identity(identity.map(Arc::new)) {
        Ok(()) => {
            match there {
                Some((id, end)) => tracing::info!(id, expires = end.unwrap_or_default(), "identity delivered"),
                None => tracing::error!("the identity is withdrawn: mutual TLS fails until there is one again"),
            }
            wiring::identified(shared);
        }
        Err(faults) => reload::warn_of(&faults),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_configured_one_or_that_of_the_environment() {
        let api = |socket: Option<&str>| WorkloadApi { socket: socket.map(Into::into), hint: None };
        assert_eq!(socket(&api(Some("/a")), Some("unix:///b")), Some("/a".into()));
        for (variable, path) in [
            (Some("unix:///run/b.sock"), Some("/run/b.sock")),
            (Some("unix:/run/b.sock"), Some("/run/b.sock")),
            (Some("tcp://127.0.0.1:1"), None),
            (Some("unix:b.sock"), None),
            (None, None),
        ] {
            assert_eq!(socket(&api(None), variable), path.map(PathBuf::from), "{variable:?}");
        }
    }

    #[test]
    fn certificates_stand_one_after_the_other() {
        let ca = crate::tls::tests::Ca::new("root");
        let (a, b) = (ca.issue(|_| {}).der, ca.issue(|_| {}).der);
        assert_eq!(split(&[&a[..], &b[..]].concat()).unwrap(), [a.clone(), b]);
        assert!(split(&a[..a.len() - 1]).is_err() && split(&[&a[..], &[0]].concat()).is_err());
        assert_eq!(split(&[]).unwrap(), []);
    }
}
