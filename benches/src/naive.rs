//! What one writes in an afternoon: hyper's server, hyper-util's pooled client, rustls.
//!
//! It understands what it carries and nothing more, so it shows what a proxy on these libraries costs before it has a
//! policy. One thread; mutual TLS with the same certificates as the others, no resumption.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Where it listens, where to, and with which files.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where to listen
    listen: SocketAddr,
    /// Where to forward to
    origin: SocketAddr,
    /// PEM: the certificate
    certificate: PathBuf,
    /// PEM: its key
    key: PathBuf,
    /// PEM: what clients are verified by
    ca: PathBuf,
}

type Pool = Client<HttpConnector, Incoming>;

/// Forward from `listen` to `origin`, until the process is ended.
pub fn run(options: &Options) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(options)?));
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener =
            TcpListener::bind(options.listen).await.with_context(|| format!("binding {}", options.listen))?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool: Pool = Client::builder(TokioExecutor::new()).build(connector);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve(stream, acceptor.clone(), pool.clone(), options.origin));
        }
    })
}

/// One connection; an error ends it, and the client sees that.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, pool: Pool, origin: SocketAddr) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let forward = service_fn(move |mut request: Request<Incoming>| {
        let pool = pool.clone();
        async move {
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            *request.uri_mut() = format!("http://{origin}{path}").parse()?;
            anyhow::Ok(pool.request(request).await?)
        }
    });
    Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), forward).await?)
}

fn tls(options: &Options) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&options.ca)?)?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build()?;
    let chain = CertificateDer::pem_file_iter(&options.certificate)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&options.key)?)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
