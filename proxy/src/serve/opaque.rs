//! Bytes both ways: opaque TCP, and what a connection becomes after `101 Switching Protocols`.

use std::{future::poll_fn, io, task::Poll, time::Duration};

use tokio::time::Instant;

use crate::{
    buffer::{Buf, Out},
    forward::{Left, Pump, PumpError, Sink, Source},
    http::h1::Limits,
    io::Io,
    timer::{Idle, Timer},
};

/// One end of a tunnel: a socket, and what was read from it already.
pub struct End<'a> {
    /// The socket.
    pub io: &'a Io,
    /// What was read and belongs to the other end.
    pub buf: &'a mut Buf,
}

/// How a tunnel ended.
#[derive(Debug)]
pub struct Ended {
    /// Bytes from the client to the upstream.
    pub up: u64,
    /// Bytes from the upstream to the client.
    pub down: u64,
    /// `None`: both ends closed in order.
    pub error: Option<TunnelError>,
}

/// Why a tunnel broke.
#[derive(Debug)]
pub enum TunnelError {
    /// Nothing moved for the idle time.
    Idle,
    /// The client's connection failed.
    Client,
    /// The upstream's connection failed.
    Upstream,
    /// The process ends.
    Stopped,
}

/// Carries bytes until both ends have closed. An end that closes its half closes the other's half, no more:
/// `ssh`, `rsync` and databases rely on that.
pub async fn tunnel(
    client: End<'_>,
    upstream: End<'_>,
    out: [&mut Out; 2],
    timer: &mut Timer,
    idle: Option<Duration>,
) -> Ended {
    let [up_out, down_out] = out;
    let mut idle = Idle::new(idle);
    let mut up = Way::new(client.io, client.buf, upstream.io, up_out);
    let mut down = Way::new(upstream.io, upstream.buf, client.io, down_out);
    let mut progress = 0;
    let error = poll_fn(|cx| {
        if let Some(next) = idle.next_look()
            && timer.poll_at(cx, next).is_ready()
        {
            if idle.expired(Instant::now(), progress) {
                return Poll::Ready(Some(TunnelError::Idle));
            }
            cx.waker().wake_by_ref();
        }
        let (a, b) = (up.poll(cx, &mut progress), down.poll(cx, &mut progress));
        match (a, b) {
            (Poll::Ready(Err(at_source)), _) => Poll::Ready(Some(side(at_source))),
            (_, Poll::Ready(Err(at_source))) => Poll::Ready(Some(side(!at_source))),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    })
    .await;
    Ended { up: up.source.taken, down: down.source.taken, error }
}

fn side(client: bool) -> TunnelError {
    if client { TunnelError::Client } else { TunnelError::Upstream }
}

/// One direction of a tunnel.
struct Way<'a> {
    source: Source<'a>,
    sink: Sink<'a>,
    to: &'a Io,
    pump: Pump,
    shut: bool,
}

impl<'a> Way<'a> {
    fn new(from: &'a Io, buf: &'a mut Buf, to: &'a Io, out: &'a mut Out) -> Self {
        let source = Source::h1(from, buf, Left::UntilClose, Limits::default());
        Self { source, sink: Sink::H1 { io: to, out, chunked: false }, to, pump: Pump::default(), shut: false }
    }

    /// Err(true): the end that is read failed.
    fn poll(&mut self, cx: &mut std::task::Context<'_>, progress: &mut u64) -> Poll<Result<(), bool>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        match std::task::ready!(self.pump.poll(cx, &mut self.source, &mut self.sink, progress)) {
            Ok(()) => {}
            Err(PumpError::Read(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(e) => return Poll::Ready(Err(e.at_source())),
        }
        // A peer that is gone already has no half to close.
        drop(std::task::ready!(self.to.poll_shutdown(cx)));
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}
