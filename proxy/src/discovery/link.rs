//! A connection to one replica of the control plane: TCP, TLS, gRPC.
//!
//! The address may stand for several replicas. They are tried in random order, so that proxies spread over them,
//! each for a bounded time, so that one that is gone costs little.

use std::{io, net::SocketAddr, path::PathBuf, sync::Mutex, time::Duration};

use hyper_util::rt::TokioIo;
use outrigger_config::discovery::{
    ControlMessage, IssueRequest, IssueResponse, PROTOCOL, ProxyMessage, discovery_client::DiscoveryClient,
    identity_client::IdentityClient,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    net::{TcpStream, lookup_host},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tower::service_fn;
use zeroize::Zeroizing;

use super::Bootstrap;
use crate::tls::{
    Identity,
    identity::IdentityFault,
    issued::{control_plane_client, nameless},
};

/// Time for one replica: TCP and TLS. In a cluster either takes milliseconds.
const CONNECT: Duration = Duration::from_secs(2);
/// Time for an answer to `Issue`, which asks the API server in its turn.
const ISSUE: Duration = Duration::from_secs(10);
/// Time until the stream is answered.
const OPEN: Duration = Duration::from_secs(5);
/// Replicas tried in one attempt.
const MAX_REPLICAS: usize = 8;
/// Pings on a silent connection, and the time for their answer: a control plane that is gone without a word is noticed
/// before anyone asks for something.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// See [`KEEPALIVE`].
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest message: a Service with 10,000 endpoints is about 1.5 MiB.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Messages on their way out. Subscriptions come in bursts of as many keys as there are; more than this is a loop.
pub const OUTBOX: usize = 16 * 1024;
/// Largest token and bundle: both are far below.
const MAX_FILE: u64 = 1024 * 1024;

/// Why the control plane could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A file of the pod.
    #[error("{}: {why}; {help}", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What the system says.
        why: String,
        /// What is usually there.
        help: &'static str,
    },
    /// The name does not resolve.
    #[error("{name}: {why}")]
    Resolve {
        /// Of the control plane.
        name: String,
        /// What the resolver says.
        why: String,
    },
    /// No replica took a connection.
    #[error("no replica of {name} could be reached; the last error, of {address}: {why}")]
    Connect {
        /// Of the control plane.
        name: String,
        /// The last one tried.
        address: SocketAddr,
        /// What happened.
        why: String,
    },
    /// The roots or our certificate.
    #[error("TLS towards the control plane: {0}")]
    Identity(#[from] IdentityFault),
    /// gRPC.
    #[error("the control plane answered {}: {}", .0.code(), .0.message())]
    Status(#[from] Box<Status>),
    /// The channel.
    #[error("the connection to the control plane: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// An open stream.
pub struct Stream {
    /// Towards the control plane.
    pub send: mpsc::Sender<ProxyMessage>,
    /// From it.
    pub receive: Streaming<ControlMessage>,
}

/// Asks for a certificate.
///
/// # Errors
/// Why there is none.
pub async fn issue(
    boot: &Bootstrap,
    roots: &[CertificateDer<'static>],
    request: IssueRequest,
) -> Result<IssueResponse, LinkError> {
    let token = token(boot)?;
    let bearer = Zeroizing::new(format!("Bearer {}", token.as_str()));
    let mut value = MetadataValue::try_from(bearer.as_str()).map_err(|_| LinkError::File {
        file: boot.token.clone(),
        why: "it is no token".into(),
        help: TOKEN_HELP,
    })?;
    value.set_sensitive(true);
    let channel = channel(boot, roots, None).await?;
    let mut request = Request::new(request);
    request.metadata_mut().insert("authorization", value);
    let answered = timeout(ISSUE, IdentityClient::new(channel).issue(request)).await;
    let answered = answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
    Ok(answered.map_err(Box::new)?.into_inner())
}

/// Opens the stream; its first message is `hello`.
///
/// # Errors
/// Why there is none.
pub async fn open(
    boot: &Bootstrap,
    roots: &[CertificateDer<'static>],
    identity: &Identity,
    first: Vec<ProxyMessage>,
) -> Result<Stream, LinkError> {
    let channel = channel(boot, roots, Some(identity)).await?;
    let (send, receiver) = mpsc::channel(OUTBOX);
    for message in first {
        if send.try_send(message).is_err() {
            tracing::error!("more subscriptions than {OUTBOX}: this is a bug");
            break;
        }
    }
    let mut client = DiscoveryClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let opened = timeout(OPEN, client.stream(ReceiverStream::new(receiver))).await;
    let opened = opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("the stream was not answered in time")));
    Ok(Stream { send, receive: opened.map_err(Box::new)?.into_inner() })
}

/// The roots of the bundle's file.
///
/// # Errors
/// It is not there, or holds no certificate.
pub fn bundle(boot: &Bootstrap) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let file = |why: String| LinkError::File { file: boot.trust_bundle.clone(), why, help: BUNDLE_HELP };
    let text = read(&boot.trust_bundle).map_err(|e| file(e.to_string()))?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let roots = parsed.map_err(|e| file(format!("is no valid PEM: {e}")))?;
    if roots.is_empty() { Err(file("has no section -----BEGIN CERTIFICATE-----".into())) } else { Ok(roots) }
}

/// Protocol version, for `Hello`.
pub const VERSION: u32 = PROTOCOL;

const BUNDLE_HELP: &str =
    "the chart mounts the ConfigMap outrigger-trust there (--trust-bundle, OUTRIGGER_TRUST_BUNDLE)";
const TOKEN_HELP: &str =
    "the chart projects a service-account token with the audience outrigger.dev there (--token, OUTRIGGER_TOKEN)";

fn token(boot: &Bootstrap) -> Result<Zeroizing<String>, LinkError> {
    let file = |why: String| LinkError::File { file: boot.token.clone(), why, help: TOKEN_HELP };
    let text = read(&boot.token).map_err(|e| file(e.to_string()))?;
    let token = Zeroizing::new(text.trim().to_owned());
    if token.is_empty() { Err(file("is empty".into())) } else { Ok(token) }
}

fn read(path: &std::path::Path) -> io::Result<Zeroizing<String>> {
    use std::io::Read as _;
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

async fn channel(
    boot: &Bootstrap,
    roots: &[CertificateDer<'static>],
    identity: Option<&Identity>,
) -> Result<Channel, LinkError> {
    let config = control_plane_client(roots, &boot.control_plane_id, identity)?;
    let tls = connect(boot, &TlsConnector::from(config)).await?;
    let endpoint = Endpoint::from_shared(format!("http://{}", boot.control_plane))?
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .user_agent(concat!("outrigger-proxy/", env!("CARGO_PKG_VERSION")))?;
    // The channel has the one connection: another try is another replica, and after a wait.
    let once = Mutex::new(Some(TokioIo::new(tls)));
    let connector = service_fn(move |_| {
        let taken = once.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        std::future::ready(taken.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    Ok(endpoint.connect_with_connector(connector).await?)
}

async fn connect(boot: &Bootstrap, connector: &TlsConnector) -> Result<TlsStream<TcpStream>, LinkError> {
    let name = &boot.control_plane;
    let resolve = |why: String| LinkError::Resolve { name: name.clone(), why };
    let found = timeout(CONNECT, lookup_host(name.as_str())).await.map_err(|_| resolve("no answer in time".into()))?;
    let mut addresses: Vec<_> = found.map_err(|e| resolve(e.to_string()))?.collect();
    fastrand::shuffle(&mut addresses);
    let mut last = None;
    for address in addresses.into_iter().take(MAX_REPLICAS) {
        let dialled = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            connector.connect(nameless(), tcp).await
        };
        match timeout(CONNECT, dialled).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(tls) => return Ok(tls),
            Err(e) => last = Some((address, e.to_string())),
        }
    }
    let (address, why) = last.ok_or_else(|| resolve("it has no address".into()))?;
    Err(LinkError::Connect { name: name.clone(), address, why })
}
