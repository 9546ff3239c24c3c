//! A client with a certificate: blocking rustls, one thread per connection; one thread for all at a fixed rate.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use memchr::memmem;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, kx_group},
    },
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::time::Instant;

use super::pki::Files;
use crate::{
    client::HEADERS,
    load::Case,
    paced::{self, Lane, Paced},
};

/// Which key exchange is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Groups {
    /// X25519.
    Classic,
    /// X25519MLKEM768.
    Hybrid,
}

/// What is shown to servers, for both key exchanges.
pub(super) struct Shown([Arc<ClientConfig>; 2]);

impl Shown {
    /// With this certificate and key, or with none.
    pub(super) fn load(files: &Files, own: Option<&[PathBuf; 2]>) -> Result<Self> {
        let config = |group| -> Result<Arc<ClientConfig>> {
            let provider = CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() };
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(&files.ca)?)?;
            let config = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_root_certificates(roots);
            let mut config = match own {
                Some([certificate, key]) => config.with_client_auth_cert(
                    vec![CertificateDer::from_pem_file(certificate)?],
                    PrivateKeyDer::from_pem_file(key)?,
                )?,
                None => config.with_no_client_auth(),
            };
            config.resumption = Resumption::disabled();
            Ok(Arc::new(config))
        };
        Ok(Self([config(kx_group::X25519)?, config(kx_group::X25519MLKEM768)?]))
    }

    fn connect(&self, groups: Groups, address: SocketAddr) -> Result<Connection> {
        let tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(ANSWER))?;
        let config = Arc::clone(&self.0[usize::from(groups == Groups::Hybrid)]);
        let tls = ClientConnection::new(config, "localhost".try_into()?)?;
        let mut request = format!("GET {} HTTP/1.1\r\nHost: {address}\r\n", Case::Small.path());
        for (name, value) in HEADERS {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        Ok(Connection { stream: StreamOwned::new(tls, tcp), request, buffer: vec![0; 16 << 10], filled: 0 })
    }
}

/// One connection under TLS.
pub(super) struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    request: String,
    buffer: Vec<u8>,
    /// Bytes of the answer under way, where it is read piece by piece.
    filled: usize,
}

impl Connection {
    /// One request and its whole answer, which has 1 KiB.
    fn exchange(&mut self) -> Result<()> {
        self.stream.write_all(self.request.as_bytes())?;
        let mut filled = 0;
        loop {
            match self.stream.read(&mut self.buffer[filled..])? {
                0 => bail!("the connection was closed within an answer"),
                read => filled += read,
            }
            if whole(&self.buffer[..filled])? {
                return Ok(());
            }
        }
    }
}

/// An open connection that has carried a request. Keeps nothing that its answer took.
pub(super) fn held(shown: &Shown, address: SocketAddr) -> Result<Connection> {
    let mut connection = shown.connect(Groups::Classic, address)?;
    connection.exchange()?;
    connection.buffer = Vec::new();
    Ok(connection)
}

/// Requests over kept connections for `time`, each as soon as the one before is answered. Returns how many.
pub(super) fn looped(
    shown: &Shown,
    groups: Groups,
    address: SocketAddr,
    connections: usize,
    time: Duration,
) -> Result<u64> {
    let end = Instant::now() + time;
    side_by_side(connections, |_| {
        let mut connection = shown.connect(groups, address)?;
        let mut done = 0;
        while Instant::now() < end {
            connection.exchange()?;
            done += 1;
        }
        Ok(done)
    })
}

/// Requests at a fixed rate over connections that are there before it begins ([`paced`]).
pub(super) fn at_rate(
    shown: &Shown,
    groups: Groups,
    address: SocketAddr,
    connections: usize,
    time: Duration,
    rate: u32,
) -> Result<Paced> {
    let open = || -> Result<Connection> {
        let mut connection = shown.connect(groups, address)?;
        connection.exchange()?;
        connection.stream.sock.set_nonblocking(true)?;
        Ok(connection)
    };
    let mut lanes = (0..connections).map(|_| open()).collect::<Result<Vec<_>>>()?;
    paced::run(&mut lanes, rate, time)
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.sock.as_fd()
    }
}

impl Lane for Connection {
    fn send(&mut self) -> Result<()> {
        self.filled = 0;
        self.stream.write_all(self.request.as_bytes())?;
        Ok(self.stream.flush()?)
    }

    fn receive(&mut self) -> Result<bool> {
        // To the last record that has come: the socket does not tell of what rustls has read already.
        loop {
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => bail!("the connection was closed within an answer"),
                Ok(read) => self.filled += read,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e.into()),
            }
            if whole(&self.buffer[..self.filled])? {
                return Ok(true);
            }
        }
    }
}

/// Whether this is all of an answer; it has 1 KiB.
fn whole(text: &[u8]) -> Result<bool> {
    if !text.starts_with(b"HTTP/1.1 200") {
        bail!("answered {:?}", String::from_utf8_lossy(&text[..text.len().min(80)]));
    }
    Ok(memmem::find(text, b"\r\n\r\n").is_some_and(|end| text.len() >= end + 4 + 1024))
}

/// Exactly `count` requests over kept connections.
pub(super) fn counted(shown: &Shown, address: SocketAddr, connections: usize, count: usize) -> Result<()> {
    side_by_side(connections, |index| {
        let mut connection = shown.connect(Groups::Classic, address)?;
        let share = count / connections + usize::from(index < count % connections);
        for _ in 0..share {
            connection.exchange()?;
        }
        Ok(share as u64)
    })?;
    Ok(())
}

/// Full handshakes, each with one request, for `time`. Returns how many.
pub(super) fn handshakes(
    shown: &Shown,
    groups: Groups,
    address: SocketAddr,
    connections: usize,
    time: Duration,
) -> Result<u64> {
    let end = Instant::now() + time;
    side_by_side(connections, |_| {
        let mut done = 0;
        while Instant::now() < end {
            shown.connect(groups, address)?.exchange()?;
            done += 1;
        }
        Ok(done)
    })
}

/// `count` connections one after the other, none of which may get what it asks for: whoever refuses it ends the connection, or
/// answers with a 400 as nginx does.
pub(super) fn refused(shown: &Shown, address: SocketAddr, count: u64) -> Result<()> {
    for _ in 0..count {
        let mut connection = shown.connect(Groups::Classic, address)?;
        match connection.exchange() {
            Ok(()) => bail!("a client that nobody knows was served"),
            Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::WouldBlock) => {
                bail!("neither served nor refused within {ANSWER:?}")
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn side_by_side(connections: usize, work: impl Fn(usize) -> Result<u64> + Sync) -> Result<u64> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..connections).map(|index| scope.spawn(move || work(index))).collect();
        let mut sum = 0;
        for one in running {
            sum += one.join().ok().context("a client thread panicked")??;
        }
        Ok(sum)
    })
}

/// An answer that takes this long is lost.
const ANSWER: Duration = Duration::from_secs(20);
