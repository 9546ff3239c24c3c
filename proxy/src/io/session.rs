//! rustls on a socket that does not block.
//!
//! The bounds: ciphertext that waits for the socket (`MAX_UNSENT`), ciphertext taken at once from the
//! socket (the scratch buffer), plaintext that waits for its reader (16 KiB and a record, rustls' own).
//! What the scratch buffer holds and rustls does not take, because its plaintext is not read, is kept
//! in `surplus` and taken first the next time; the socket is not read while there is any.
//!
//! A fatal error of rustls is kept: it is what every later read and write returns.

use std::{
    cell::{OnceCell, RefCell},
    io::{self, BufRead, IoSlice, Read, Write},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use rustls::Connection;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Socket;

/// Ciphertext that may wait for the socket: two records. More only adds memory, the kernel has a
/// buffer of its own.
const MAX_UNSENT: usize = 32 * 1024;

/// Largest read from the socket: four records a system call.
const MAX_READ: usize = 64 * 1024;

/// Smallest read from the socket, however little the reader asks for.
const MIN_READ: usize = 4 * 1024;

/// What a record adds to its plaintext, with room for the ones between (alerts, tickets).
const RECORD_OVERHEAD: usize = 512;

/// Reads of one staleness check: a ticket or two come in one; who sends more is not worth waiting for.
const STALE_READS: usize = 4;

thread_local! {
    /// Ciphertext between socket and rustls; never holds anything from one poll to the next.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_READ].into_boxed_slice());
}

/// What has broken a session, for whoever only sees that it is broken: the codec of HTTP/2 keeps of an error no
/// more than its words.
pub type Fate = Rc<OnceCell<rustls::Error>>;

/// One side of a TLS connection.
pub(super) struct Session {
    conn: Connection,
    surplus: Vec<u8>,
    /// There may be plaintext, or an end, that no reader was told of.
    untold: bool,
    broken: Fate,
    closing: bool,
}

impl Session {
    /// A session whose first ciphertext, read already, is `prefix`.
    pub(super) fn new(mut conn: Connection, prefix: Vec<u8>) -> Self {
        conn.set_buffer_limit(Some(MAX_UNSENT));
        Self { conn, surplus: prefix, untold: true, broken: Fate::default(), closing: false }
    }

    /// The connection, for what the handshake found out.
    pub(super) fn conn(&self) -> &Connection {
        &self.conn
    }

    /// Where its end is told.
    pub(super) fn fate(&self) -> Fate {
        Rc::clone(&self.broken)
    }

    /// A read may find something, or may have something to send, whatever the socket knows.
    pub(super) fn may_hold(&self) -> bool {
        self.untold || !self.surplus.is_empty() || self.broken.get().is_some() || self.conn.wants_write()
    }

    /// Drives the handshake until both sides have all of it that we can send.
    pub(super) fn poll_handshake(&mut self, tcp: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(tcp, cx))?;
            if !self.conn.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_receive(tcp, cx, None))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Some(error) = self.broken() {
                // The alert tells the peer why; if it cannot be sent the reason is the same.
                drop(self.poll_send(tcp, cx));
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Reads plaintext.
    pub(super) fn poll_read(
        &mut self,
        tcp: &mut Socket,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(0));
        }
        let before = buf.filled().len();
        loop {
            // A task that waits for an answer must not wait with half its question unsent. An error of
            // the writing side is reported there: there may be an alert to read.
            if self.conn.wants_write() {
                drop(self.poll_send(tcp, cx));
            }
            match self.take_plaintext(buf) {
                _ if buf.filled().len() > before => return Poll::Ready(Ok(buf.filled().len() - before)),
                Ok(Stream::Ended) => return Poll::Ready(Ok(0)),
                Ok(Stream::Open) => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
            if let Some(error) = self.broken() {
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_receive(tcp, cx, Some(buf)))?;
        }
    }

    /// Encrypts a part of `bufs` and sends what the socket takes.
    pub(super) fn poll_write(
        &mut self,
        tcp: &mut Socket,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().all(|b| b.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        if self.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        loop {
            let taken = self.conn.writer().write_vectored(bufs)?;
            let sent = self.poll_flush(tcp, cx);
            if taken > 0 && !matches!(sent, Poll::Ready(Err(_))) {
                return Poll::Ready(Ok(taken));
            }
            ready!(sent)?;
        }
    }

    /// Sends everything that is encrypted.
    pub(super) fn poll_flush(&mut self, tcp: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.poll_send(tcp, cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(e) => Poll::Ready(Err(self.last_words(tcp).unwrap_or(e))),
        }
    }

    /// Says that nothing follows.
    pub(super) fn poll_close(&mut self, tcp: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            self.closing = true;
            self.conn.send_close_notify();
        }
        self.poll_flush(tcp, cx)
    }

    /// Has an idle connection ended, or received data? Tickets and key updates are no data.
    pub(super) fn is_stale(&mut self, tcp: &Socket) -> bool {
        for _ in 0..STALE_READS {
            if self.broken.get().is_some() || !self.surplus.is_empty() || self.conn.reader().fill_buf().is_ok() {
                return true;
            }
            match self.try_receive(tcp) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return e.kind() != io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Makes rustls give back the part of its buffer that large records needed.
    pub(super) fn shrink(&mut self) {
        // It does so as it prepares a read, whatever comes of it.
        drop(self.conn.read_tls(&mut Nothing));
    }

    /// Takes ciphertext in, from `surplus` or else from the socket; `Ok(0)` is the end of the stream.
    fn poll_receive(
        &mut self,
        tcp: &mut Socket,
        cx: &mut Context<'_>,
        mut buf: Option<&mut ReadBuf<'_>>,
    ) -> Poll<io::Result<usize>> {
        if !self.surplus.is_empty() {
            let surplus = std::mem::take(&mut self.surplus);
            self.feed(&surplus, buf);
            return Poll::Ready(Ok(surplus.len()));
        }
        let room = buf.as_mut().map_or(0, |buf| buf.remaining());
        let want = (room + RECORD_OVERHEAD).clamp(MIN_READ, MAX_READ);
        SCRATCH.with_borrow_mut(|scratch| {
            let mut raw = ReadBuf::new(&mut scratch[..want]);
            ready!(Pin::new(tcp).poll_read(cx, &mut raw))?;
            self.feed(raw.filled(), buf);
            Poll::Ready(Ok(raw.filled().len()))
        })
    }

    /// The same, only if something is there already.
    fn try_receive(&mut self, tcp: &Socket) -> io::Result<usize> {
        SCRATCH.with_borrow_mut(|scratch| {
            let n = tcp.try_read(&mut scratch[..MIN_READ])?;
            self.feed(&scratch[..n], None);
            Ok(n)
        })
    }

    /// Decrypts `raw`; none of it is the end of the stream. Plaintext goes to `buf` as far as it has room.
    fn feed(&mut self, mut raw: &[u8], mut buf: Option<&mut ReadBuf<'_>>) {
        loop {
            self.untold = true;
            match self.conn.read_tls(&mut raw) {
                // The end of the stream; or, with bytes left, they follow a `close_notify` and don't count.
                Ok(0) => return,
                Ok(_) => {}
                Err(_) if matches!(self.conn.reader().fill_buf(), Ok([_, ..])) => {
                    self.surplus = raw.to_vec();
                    return;
                }
                Err(e) => {
                    self.breaks(rustls::Error::General(e.to_string()));
                    return;
                }
            }
            if let Err(e) = self.conn.process_new_packets() {
                self.breaks(e);
                return;
            }
            if let Some(buf) = &mut buf {
                // An end found here is found again by the reader.
                drop(self.take_plaintext(buf));
            }
            if raw.is_empty() {
                return;
            }
        }
    }

    fn take_plaintext(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<Stream> {
        let mut reader = self.conn.reader();
        while buf.remaining() > 0 {
            match reader.fill_buf() {
                Ok([]) => return Ok(Stream::Ended),
                Ok(chunk) => {
                    let n = chunk.len().min(buf.remaining());
                    buf.put_slice(&chunk[..n]);
                    reader.consume(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.untold = false;
                    return Ok(Stream::Open);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Stream::Open)
    }

    /// Sends everything that is encrypted.
    fn poll_send(&mut self, tcp: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = Wire { tcp, cx };
        while self.conn.wants_write() {
            match self.conn.write_tls(&mut socket) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A peer that refuses us sends an alert and closes, so our next write fails: the alert, which says
    /// why, is in the socket still (under TLS 1.3 a server refuses after the client's handshake is done).
    fn last_words(&mut self, tcp: &Socket) -> Option<io::Error> {
        if self.surplus.is_empty() && self.broken.get().is_none() {
            // Past the runtime's idea of readiness: it may not have been told yet.
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let fd = tcp.fd().ok_or(io::ErrorKind::NotConnected)?;
                let n = (&*SockRef::from(&fd)).read(&mut scratch[..MIN_READ])?;
                self.feed(&scratch[..n], None);
                io::Result::Ok(n)
            });
            // What counts is what rustls made of it.
            drop(read);
        }
        self.broken()
    }

    /// The first error is the one that counts.
    fn breaks(&self, error: rustls::Error) {
        self.broken.get_or_init(|| error);
    }

    fn broken(&self) -> Option<io::Error> {
        self.broken.get().cloned().map(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}

/// What a reader found beside plaintext.
enum Stream {
    Open,
    Ended,
}

/// A socket as rustls writes to it.
struct Wire<'a, 'b> {
    tcp: &'a mut Socket,
    cx: &'a mut Context<'b>,
}

impl Write for Wire<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.tcp).poll_write(self.cx, buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match bufs {
            // A plain write notes a partial one, which saves the next from finding the socket full.
            [one] => self.write(one),
            _ => now(Pin::new(&mut *self.tcp).poll_write_vectored(self.cx, bufs)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn now(poll: Poll<io::Result<usize>>) -> io::Result<usize> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// A stream on which nothing has arrived.
struct Nothing;

impl io::Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
