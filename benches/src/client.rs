//! HTTP/1 clients for what wrk and h2load do not do: exact counts (one thread per connection, blocking sockets), and a fixed
//! rate (`paced`).

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use memchr::memmem;

use crate::paced::{self, Lane, Paced};

/// What every client here sends besides `Host`: about what a service's HTTP library sends.
pub const HEADERS: [(&str, &str); 5] = [
    ("User-Agent", "outrigger-bench/1"),
    ("Accept", "application/json"),
    ("Accept-Encoding", "gzip, deflate"),
    ("Authorization", "Bearer 3f1d7c55a0b94e0c8f4e7a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f"),
    ("Cache-Control", "no-cache"),
];

/// One keep-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    request: Vec<u8>,
    /// Bytes of the answer under way, where it is read piece by piece.
    filled: usize,
}

impl Connection {
    /// To `address`, asking for `path` each time.
    pub fn open(address: SocketAddr, path: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n");
        for (name, value) in HEADERS {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        Ok(Self { stream, buffer: Vec::new(), request: request.into_bytes(), filled: 0 })
    }

    /// One request and its whole answer; anything but a 200 of known length is an error.
    pub fn exchange(&mut self) -> Result<()> {
        self.stream.write_all(&self.request)?;
        self.buffer.resize(BUFFER, 0);
        let mut filled = 0;
        let whole = loop {
            filled += self.read(filled)?;
            if let Some(length) = memmem::find(&self.buffer[..filled], b"\r\n\r\n") {
                break length + 4 + content_length(&self.buffer[..length])?;
            }
        };
        while filled < whole {
            filled += self.read(filled)?;
        }
        if filled > whole { bail!("more than one answer") } else { Ok(()) }
    }

    /// Gives the buffer back: ten thousand of them are more than the machine should need for a client.
    pub fn rest(&mut self) {
        self.buffer = Vec::new();
    }

    fn read(&mut self, filled: usize) -> Result<usize> {
        match self.stream.read(&mut self.buffer[filled..])? {
            0 => bail!("the connection was closed within an answer, or the answer is too large"),
            read => Ok(read),
        }
    }
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head)?.to_ascii_lowercase();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("answered {status:?}");
    }
    let length = lines.find_map(|l| l.strip_prefix("content-length:")).context("an answer without content-length")?;
    Ok(length.trim().parse()?)
}

/// Make exactly `count` requests over `connections`, each as soon as the one before is answered.
pub fn counted(address: SocketAddr, path: &str, connections: usize, count: usize) -> Result<()> {
    each_connection(connections, |index| {
        let mut connection = Connection::open(address, path)?;
        // The first connections take the rest, so that the sum is exact.
        for _ in 0..count / connections + usize::from(index < count % connections) {
            connection.exchange()?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Send `rate` requests per second for `time` over `connections` (`paced`).
pub fn paced(address: SocketAddr, path: &str, connections: usize, rate: u32, time: Duration) -> Result<Paced> {
    let open = || -> Result<Connection> {
        let mut connection = Connection::open(address, path)?;
        connection.stream.set_nonblocking(true)?;
        connection.buffer.resize(BUFFER, 0);
        Ok(connection)
    };
    let mut lanes = (0..connections).map(|_| open()).collect::<Result<Vec<_>>>()?;
    paced::run(&mut lanes, rate, time)
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Lane for Connection {
    fn send(&mut self) -> Result<()> {
        self.filled = 0;
        Ok(self.stream.write_all(&self.request)?)
    }

    fn receive(&mut self) -> Result<bool> {
        self.filled += self.read(self.filled)?;
        let Some(length) = memmem::find(&self.buffer[..self.filled], b"\r\n\r\n") else { return Ok(false) };
        let whole = length + 4 + content_length(&self.buffer[..length])?;
        if self.filled > whole { bail!("more than one answer") } else { Ok(self.filled == whole) }
    }
}

/// Run `work` once per connection, side by side; the first error is the whole's.
fn each_connection<T: Send>(connections: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..connections).map(|index| scope.spawn(move || work(index))).collect();
        running.into_iter().map(|one| one.join().expect("the work does not panic")).collect()
    })
}

/// Room for the largest answer.
const BUFFER: usize = 128 << 10;
/// An answer that takes this long is lost.
const ANSWER: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_200_of_known_length_counts() {
        assert_eq!(content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12").unwrap(), 12);
        assert!(content_length(b"HTTP/1.1 503 No\r\nContent-Length: 12").is_err());
        assert!(content_length(b"HTTP/1.1 200 OK\r\nX: y").is_err());
    }
}
