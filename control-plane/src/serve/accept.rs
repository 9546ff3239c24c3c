//! Connections: accepted, taken through TLS, and handed to the gRPC server.
//!
//! Anybody in the cluster reaches the port, so what a peer can hold before it has proved who it is stays small: a connection is
//! accepted at once and counted, in all and by address; it gets a turn for its handshake, the dearest thing that it can ask for, only when
//! it has begun to speak; and one without a certificate, which is good for `Issue` alone, ends soon. After a restart all proxies come within
//! seconds: a bounded number of handshakes runs at a time, the rest wait for a turn. What is beyond a limit is closed, and its proxy
//! takes the next replica.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{Peer, Tls};
use crate::{
    observe::Metrics,
    places::{Place, Places, speaks},
};

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// When it ends, if it showed no certificate.
    end: Option<Pin<Box<Sleep>>>,
    _room: Room,
}

/// What a connection holds of the limits.
#[derive(Debug)]
struct Room {
    place: Place,
    _permit: OwnedSemaphorePermit,
}

/// At once; each takes about a millisecond of CPU.
const HANDSHAKES: usize = 128;
/// Open connections of one replica: twice the proxies that it is made for.
const CONNECTIONS: usize = 10_000;
/// Of one address. The proxies of a whole node may come from one (SNAT): 256 pods, which is more than a kubelet is made for, each with
/// its stream and the connection on which it asks for a certificate.
const PER_ADDRESS: usize = 512;
/// Handshakes of one address at once, so that others have turns whatever it does.
const PER_ADDRESS_HANDSHAKES: usize = HANDSHAKES / 4;
/// For a turn, and then for the handshake. A proxy gives up after two seconds.
const HANDSHAKE_TIME: Duration = Duration::from_secs(3);
/// Of a connection without a certificate, whatever it asks meanwhile: a proxy makes one for each `Issue` and waits ten seconds
/// for the answer.
pub(crate) const NAMELESS_TIME: Duration = Duration::from_secs(30);
/// After an error of `accept`, which is mostly that there are no more file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the receiver is gone. A connection without a certificate ends after `nameless`.
pub(crate) fn start(
    listener: TcpListener,
    tls: Tls,
    metrics: Arc<Metrics>,
    nameless: Duration,
) -> mpsc::Receiver<io::Result<Connection>> {
    let (out, connections) = mpsc::channel(64);
    let acceptor = Acceptor {
        tls,
        metrics,
        nameless,
        handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
        connections: Arc::new(Semaphore::new(CONNECTIONS)),
        places: Places::new(PER_ADDRESS, PER_ADDRESS_HANDSHAKES),
        out,
    };
    tokio::spawn(acceptor.run(listener));
    connections
}

#[derive(Clone)]
struct Acceptor {
    tls: Tls,
    metrics: Arc<Metrics>,
    nameless: Duration,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    places: Arc<Places>,
    out: mpsc::Sender<io::Result<Connection>>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.out.closed() => return,
            };
            match accepted {
                Ok((stream, peer)) => match self.room(peer) {
                    Ok(room) => drop(tokio::spawn(self.clone().welcome(stream, room))),
                    Err(reason) => self.failed(reason),
                },
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Room for a connection, or the limit that it is beyond.
    fn room(&self, peer: SocketAddr) -> Result<Room, &'static str> {
        let place = self.places.enter(peer.ip()).ok_or("address_limit")?;
        let permit = Arc::clone(&self.connections).try_acquire_owned().map_err(|_| "connection_limit")?;
        Ok(Room { place, _permit: permit })
    }

    async fn welcome(self, stream: TcpStream, room: Room) {
        match self.handshake(stream, &room.place).await {
            Ok(stream) => {
                let chain = stream.get_ref().1.peer_certificates();
                let end = chain.is_none().then(|| Box::pin(sleep_until(Instant::now() + self.nameless)));
                let connection = Connection { peer: Peer::of(chain), stream, end, _room: room };
                // Fails when the server has ended.
                drop(self.out.send(Ok(connection)).await);
            }
            Err(reason) => self.failed(reason),
        }
    }

    async fn handshake(&self, stream: TcpStream, place: &Place) -> Result<TlsStream<TcpStream>, &'static str> {
        if !speaks(&stream).await {
            return Err("silent");
        }
        // First the address's own: what waits for that holds none of everybody's.
        let turns = async { (place.turns().acquire().await, self.handshakes.acquire().await) };
        let (Ok(_own), Ok(_turn)) = timeout(HANDSHAKE_TIME, turns).await.map_err(|_| "busy")? else {
            return Err("busy");
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection is gone");
        }
        let config = (self.tls)();
        let shaken = timeout(HANDSHAKE_TIME, TlsAcceptor::from(config).accept(stream)).await.map_err(|_| "timeout")?;
        shaken.map_err(|error| {
            tracing::debug!(%error, "a handshake failed");
            "tls"
        })
    }

    fn failed(&self, reason: &str) {
        self.metrics.handshakes_failed.with_label_values(&[reason]).inc();
    }
}

impl Connection {
    /// The stream, until the end of a connection without a certificate. Asked by reads and writes alike, for one of them may be stuck.
    fn open(self: Pin<&mut Self>, cx: &mut Context<'_>) -> io::Result<Pin<&mut TlsStream<TcpStream>>> {
        let this = self.get_mut();
        if this.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the time of a connection without a certificate is over",
            ));
        }
        Ok(Pin::new(&mut this.stream))
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.open(cx)?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.open(cx)?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.open(cx)?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
