//! Making a TLS stream out of a TCP stream.
//!
//! Neither side has a clock: the caller bounds the time of a handshake. What a peer can make us hold
//! meanwhile is bounded by rustls (64 KiB of handshake messages).
//!
//! After the handshake the peer's certificate is looked at once more, here, because a resumed session
//! has skipped its verification: it may have expired since the session was made.

use std::{future::poll_fn, io, sync::Arc};

use rustls::{Connection, ServerConfig, ServerConnection, pki_types::UnixTime};
use tokio::net::TcpStream;

use super::{Io, Socket, Tls, session::Session};
use crate::{
    error::{Failure, Reason, Repeat},
    tls::{Alpn, ClientContext, Side, SpiffeId, TlsInfo, failure},
};

impl Io {
    /// Serves a TLS handshake. `prefix` is what was read of it to find out that it is one.
    ///
    /// # Errors
    /// The handshake failed; the alert that says so is sent.
    pub async fn accept_tls(
        tcp: impl Into<Socket>,
        prefix: impl Into<Vec<u8>>,
        config: Arc<ServerConfig>,
    ) -> Result<Self, Failure> {
        let conn = ServerConnection::new(config).map_err(|e| internal(&e))?;
        Self::handshake(tcp.into(), Session::new(Connection::Server(conn), prefix.into()), Side::Client, None).await
    }

    /// Makes a TLS handshake as the client, as an upstream's context says. `speaks` is offered by ALPN.
    ///
    /// # Errors
    /// The handshake failed. No request has been sent, so it may go elsewhere.
    pub async fn connect_tls(tcp: TcpStream, context: &ClientContext, speaks: Option<Alpn>) -> Result<Self, Failure> {
        let handshake = async {
            let conn = context.connection(speaks, UnixTime::now())?;
            let session = Session::new(Connection::Client(conn), Vec::new());
            Self::handshake(tcp.into(), session, Side::Server, context.identity()).await
        };
        handshake.await.map_err(|failure: Failure| failure.repeat(Repeat::Unprocessed))
    }

    async fn handshake(
        mut tcp: Socket,
        mut session: Session,
        peer: Side,
        expected: Option<&SpiffeId>,
    ) -> Result<Self, Failure> {
        let done = poll_fn(|cx| session.poll_handshake(&mut tcp, cx)).await;
        if let Err(e) = done {
            return Err(failed(&e, peer, &tcp));
        }
        let info =
            TlsInfo::of(session.conn(), expected).map_err(|refusal| failure::refused(peer, &who(&tcp), &refusal))?;
        Ok(Self::new(tcp, Some(Box::new(Tls { session: session.into(), info }))))
    }
}

fn failed(error: &io::Error, peer: Side, tcp: &Socket) -> Failure {
    failure::of_io(error, peer, &who(tcp)).unwrap_or_else(|| {
        let peer = peer.as_str();
        let who = who(tcp);
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let details = format!("the {peer} {who} closed the connection in the middle of the TLS handshake");
            Failure::new(Reason::TlsProtocolError, details)
        } else {
            let details = format!("the connection to the {peer} {who} failed in the TLS handshake: {error}");
            Failure::new(Reason::ConnectionTerminated, details)
        }
    })
}

fn who(tcp: &Socket) -> String {
    tcp.peer_addr().map_or_else(|_| "(gone)".to_owned(), |address| address.to_string())
}

fn internal(error: &rustls::Error) -> Failure {
    Failure::new(Reason::ProxyInternalError, format!("no TLS session could be made: {error}"))
}
