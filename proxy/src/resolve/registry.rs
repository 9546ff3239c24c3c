//! What the clients of registries share: connections, HTTP over them, and what an entry says.
//!
//! Nothing here is on the way of a request. A connection is TCP with keep-alive, so that a server that vanishes without a
//! word is noticed within half a minute although the client only waits; TLS on it if configured, with roots that are read
//! for each connection, so that a renewed file counts.

use std::{io, net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use outrigger_config::model::{Endpoint, RegistryTls};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde::Deserialize;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::policy::Answer;
use crate::{error::Reason, tls::crypto_provider};

/// Bound on TCP and TLS handshakes together, name look-up included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bound on an answer that the server does not hold back on purpose.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one answer: thousands of instances, each of a kilobyte or two.
pub(super) const MAX_ANSWER: usize = 16 << 20;
/// Bytes of one entry's JSON; an address and a zone take a hundred.
pub(super) const MAX_ENTRY: usize = 64 << 10;

/// A byte stream, secured or not.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connects to `HOST:PORT`.
///
/// # Errors
/// In words, with the server that it is about.
pub(super) async fn connect(server: &str, tls: Option<&RegistryTls>) -> Result<Box<dyn Duplex>, String> {
    let made = timeout(CONNECT_TIMEOUT, connect_now(server, tls)).await;
    made.unwrap_or_else(|_| Err(format!("not connected in {} s", CONNECT_TIMEOUT.as_secs())))
        .map_err(|why| format!("{server}: {why}"))
}

async fn connect_now(server: &str, tls: Option<&RegistryTls>) -> Result<Box<dyn Duplex>, String> {
    let stream = TcpStream::connect(server).await.map_err(|e| e.to_string())?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
    let set = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive));
    set.map_err(|e| e.to_string())?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    let name = tls.sni.as_deref().unwrap_or(host).to_owned();
    let name =
        ServerName::try_from(name).map_err(|_| "its host is no name that a certificate could have".to_owned())?;
    let connector = TlsConnector::from(client_config(tls)?);
    Ok(Box::new(connector.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?))
}

fn client_config(tls: &RegistryTls) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(file) => {
            use rustls::pki_types::{CertificateDer, pem::PemObject as _};
            let about = |e: &dyn std::fmt::Display| format!("tls.ca {}: {e}", file.display());
            let text = std::fs::read(file).map_err(|e| about(&e))?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                roots.add(certificate.map_err(|e| about(&e))?).map_err(|e| about(&e))?;
            }
            if roots.is_empty() {
                return Err(about(&"no certificate in it"));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// An HTTP/1.1 connection, closed when dropped.
pub(super) struct Http {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Http {
    pub(super) async fn open(server: &str, tls: Option<&RegistryTls>) -> Result<Self, String> {
        let stream = connect(server, tls).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| format!("{server}: {e}"))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to a registry ended");
            }
        });
        Ok(Self { sender, driver: driver.abort_handle() })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        self.sender.ready().await.map_err(|e| e.to_string())?;
        self.sender.send_request(request).await.map_err(|e| e.to_string())
    }

    /// True if a request may be sent: the server has not closed it.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The whole body of an answer, within [`MAX_ANSWER`].
pub(super) async fn body(response: Response<Incoming>) -> Result<Bytes, String> {
    let status = response.status();
    let whole = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| e.to_string())?.to_bytes();
    if status.is_success() {
        return Ok(whole);
    }
    const SHOWN: usize = 200;
    let text = String::from_utf8_lossy(&whole[..whole.len().min(SHOWN)]).trim().to_owned();
    Err(format!("{status}: {text}"))
}

/// An answer that says why there is none.
pub(super) fn failed(details: impl Into<String>) -> Answer {
    Answer::Failed { reason: Reason::DestinationUnavailable, details: details.into() }
}

/// An entry of etcd or ZooKeeper, as JSON: `address` with its port or beside a `port`, `weight`, `zone`. What else is in it
/// is somebody else's: Curator's service instances are understood so.
#[derive(Deserialize)]
struct Entry {
    address: String,
    port: Option<u16>,
    #[serde(default = "one")]
    weight: u32,
    zone: Option<String>,
}

fn one() -> u32 {
    1
}

/// Weights of a document have this bound, too.
const MAX_WEIGHT: u32 = 65_535;

/// The endpoint that an entry names, or why it names none.
pub(super) fn endpoint(json: &[u8]) -> Result<Endpoint, String> {
    if json.len() > MAX_ENTRY {
        return Err(format!("{} bytes are no address", json.len()));
    }
    let entry: Entry = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let address = match (entry.address.parse::<SocketAddr>(), entry.port) {
        (Ok(address), None) => address,
        (Ok(address), Some(port)) if address.port() == port => address,
        (_, Some(port)) => {
            let ip: IpAddr = entry.address.parse().map_err(|_| format!("{:?} is no IP address", entry.address))?;
            SocketAddr::new(ip, port)
        }
        (Err(_), None) => return Err(format!("{:?} is no IP:PORT, and `port` is not there", entry.address)),
    };
    made(address, entry.weight, entry.zone)
}

/// An endpoint that a connection can be made to.
pub(super) fn made(address: SocketAddr, weight: u32, zone: Option<String>) -> Result<Endpoint, String> {
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(format!("{address} is nowhere that one could connect to"));
    }
    let zone = zone.filter(|z| !z.is_empty()).map(Arc::from);
    Ok(Endpoint { address, weight: weight.min(MAX_WEIGHT), zone, identity: None })
}

/// An I/O error in the words of an answer.
pub(super) fn broken(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof { "it closed the connection".to_owned() } else { error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_understood() {
        let text = |json: &str| endpoint(json.as_bytes()).map(|e| (e.address.to_string(), e.weight, e.zone));
        let zone = |name: &str| Some(Arc::from(name));
        assert_eq!(text(r#"{"address":"10.0.0.7:80"}"#), Ok(("10.0.0.7:80".into(), 1, None)));
        assert_eq!(
            text(r#"{"address":"[::1]:80","weight":2,"zone":"a","more":[]}"#),
            Ok(("[::1]:80".into(), 2, zone("a")))
        );
        assert_eq!(text(r#"{"name":"curator","address":"10.0.0.7","port":80}"#), Ok(("10.0.0.7:80".into(), 1, None)));
        for wrong in ["", "{}", "[]", r#"{"address":"host:80"}"#, r#"{"address":"10.0.0.7"}"#] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0.0.0.0:80", "10.0.0.7:0"] {
            assert!(text(&format!(r#"{{"address":"{wrong}"}}"#)).is_err(), "{wrong}");
        }
    }
}
