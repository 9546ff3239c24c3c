//! The way back to the client: one head, whatever came before it as 1xx, and where the body goes.

use std::task::{Context, Poll};

use crate::{
    buffer::Out,
    forward::{PumpError, Sink},
    http::{
        ResponseHead, Version,
        h1::{self, Framing, Persist},
        h2::server::Send,
    },
    io::Io,
};

/// See the module.
pub enum Reply<'a> {
    /// To an HTTP/1 client.
    H1 {
        /// Its connection.
        io: &'a Io,
        /// What waits to be written to it.
        out: &'a mut Out,
        /// The client's version.
        version: Version,
    },
    /// To an HTTP/2 client.
    H2(Send),
    /// Nobody reads it: the request is a copy.
    Nobody,
    /// The head was sent.
    Begun,
}

impl<'a> Reply<'a> {
    /// Sends the head; what is returned takes the body. `close`: the connection ends after this answer.
    ///
    /// # Errors
    /// The client's stream is gone.
    pub fn begin(&mut self, head: &ResponseHead, framing: Framing, close: bool) -> Result<Sink<'a>, PumpError> {
        match std::mem::replace(self, Self::Begun) {
            Self::H1 { io, out, version } => {
                let framing = for_client(framing, version);
                let persist = if close { Persist::Close } else { Persist::KeepAlive };
                h1::encode_response(head, framing, version, persist, out.data());
                Ok(Sink::H1 { io, out, chunked: framing == Framing::Chunked })
            }
            Self::H2(mut respond) => {
                let length = match framing {
                    Framing::Length(n) | Framing::Declared(n) => Some(n),
                    Framing::None | Framing::Chunked | Framing::UntilClose => None,
                };
                let end = framing.is_empty();
                respond.head(head, length, end).map_err(|e| PumpError::WriteReset(e.into()))?;
                Ok(Sink::Client { stream: respond, ended: end })
            }
            Self::Nobody | Self::Begun => Ok(Sink::None),
        }
    }

    /// Sends `101` and what changes the protocol.
    pub fn switch(&mut self, head: &ResponseHead, protocol: &[u8]) {
        if let Self::H1 { out, version, .. } = std::mem::replace(self, Self::Begun) {
            h1::encode_response(head, Framing::None, version, Persist::Upgrade(protocol), out.data());
        }
    }

    /// Passes a 1xx on. HTTP/1.0 clients know none (RFC 9110 15.2).
    pub fn inform(&mut self, head: &ResponseHead) {
        match self {
            Self::H1 { out, version: Version::Http11, .. } => {
                h1::encode_response(head, Framing::None, Version::Http11, Persist::KeepAlive, out.data());
            }
            // A stream that is gone shows when the final head is sent.
            Self::H2(respond) => {
                let _gone = respond.inform(head);
            }
            Self::H1 { .. } | Self::Nobody | Self::Begun => {}
        }
    }

    /// Writes what waits; ready if the client is gone.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::H1 { io, out, .. } if !out.is_empty() => match out.poll_flush(io, cx) {
                Poll::Ready(Err(_)) => Poll::Ready(()),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            },
            Self::H2(respond) => respond.poll_reset(cx).map(|_| ()),
            Self::H1 { .. } | Self::Nobody | Self::Begun => Poll::Pending,
        }
    }

    /// True once the head was sent: nothing else can be said any more.
    #[must_use]
    pub fn begun(&self) -> bool {
        matches!(self, Self::Begun)
    }

    /// Ends an HTTP/2 stream without an answer.
    pub fn reset(&mut self, reason: h2::Reason) {
        if let Self::H2(respond) = self {
            respond.reset(reason);
        }
    }
}

/// How a body is framed towards an HTTP/1 client.
#[must_use]
pub fn for_client(framing: Framing, version: Version) -> Framing {
    match (framing, version) {
        (Framing::UntilClose, Version::Http11) => Framing::Chunked,
        (Framing::Chunked, Version::Http10) => Framing::UntilClose,
        _ => framing,
    }
}
