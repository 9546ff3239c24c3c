//! One TCP connection and exact bytes on it. Every read has a time limit.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use crate::{LONG, Reply, Request};

/// A connection, either side of it.
#[derive(Debug)]
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    /// Connects.
    #[must_use]
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Self {
        Self::new(TcpStream::connect(to).unwrap_or_else(|error| panic!("connect to {to}: {error}")))
    }

    /// Takes over a connection.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LONG)).expect("a positive time");
        stream.set_write_timeout(Some(LONG)).expect("a positive time");
        stream.set_nodelay(true).ok();
        Self { stream: BufReader::new(stream) }
    }

    /// Another time limit for reads.
    pub fn patience(&self, limit: Duration) {
        self.stream.get_ref().set_read_timeout(Some(limit)).expect("a positive time");
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Writes all.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the peer takes bytes");
    }

    /// Writes all, or says why not.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends a request without a body and reads the answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Reply {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: app\r\n\r\n"))
    }

    /// Sends these bytes and reads one answer.
    #[track_caller]
    pub fn exchange(&mut self, request: &str) -> Reply {
        self.send(request);
        let method = request.split(' ').next().unwrap_or_default();
        self.reply_to(method)
    }

    /// Reads one answer.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.reply_to("GET")
    }

    /// Reads the answer to a request of this method.
    #[track_caller]
    pub fn reply_to(&mut self, method: &str) -> Reply {
        self.try_reply(method).expect("an answer")
    }

    /// The same, or why not.
    pub fn try_reply(&mut self, method: &str) -> io::Result<Reply> {
        Reply::read(&mut self.stream, method)
    }

    /// Reads one head, interim ones too.
    #[track_caller]
    pub fn head(&mut self) -> Reply {
        Reply::read_head(&mut self.stream).expect("a head")
    }

    /// Reads one request, as an origin.
    pub fn request(&mut self) -> io::Result<Option<Request>> {
        Request::read(&mut self.stream)
    }

    /// Reads the head of a request, as an origin.
    pub fn request_head(&mut self) -> io::Result<Option<Request>> {
        Request::read_head(&mut self.stream)
    }

    /// Reads exactly so many bytes.
    #[track_caller]
    pub fn exactly(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.stream.read_exact(&mut bytes).expect("bytes");
        bytes
    }

    /// Reads a line, its end included.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        line
    }

    /// Everything up to the end of the connection; a reset is an end.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("the peer does not close: {error}"),
            _ => bytes,
        }
    }

    /// True if the peer has closed and nothing was left to read.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }

    /// Half-closes: no more bytes from this side.
    pub fn finish(&self) {
        self.socket().shutdown(Shutdown::Write).ok();
    }

    /// Another handle of the same connection, for a second thread. Bytes already buffered stay here.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self::new(self.socket().try_clone().expect("a descriptor"))
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

/// One request on a connection of its own.
#[must_use]
#[track_caller]
pub fn once(to: SocketAddr, request: &str) -> Reply {
    Wire::connect(to).exchange(request)
}

/// `GET path` on a connection of its own.
#[must_use]
#[track_caller]
pub fn get(to: SocketAddr, path: &str) -> Reply {
    once(to, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

/// `POST path` without a body on a connection of its own.
#[must_use]
#[track_caller]
pub fn post(to: SocketAddr, path: &str) -> Reply {
    let host = format!("Host: {to}\r\n");
    once(to, &format!("POST {path} HTTP/1.1\r\n{host}Content-Length: 0\r\nConnection: close\r\n\r\n"))
}
