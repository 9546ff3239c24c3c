//! The origin server behind every peer: it answers from memory, as cheaply as it can.
//!
//! The path's last part chooses the answer (`/64k`: 64 KiB; anything else: 1 KiB), whatever comes before it, so
//! that a proxy may match whole paths. Answers are rendered once. Request bodies are not understood: the
//! clients here send none. One thread; it shares a CPU with the client, away from the proxy under measurement.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Serve on every one of `addresses` until the process is ended.
pub fn run(addresses: &[SocketAddr]) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let answers = Arc::new(Answers::render());
        let mut serving = tokio::task::JoinSet::new();
        for address in addresses {
            let listener = TcpListener::bind(address).await.with_context(|| format!("binding {address}"))?;
            let answers = Arc::clone(&answers);
            serving.spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    tokio::spawn(serve(stream, Arc::clone(&answers)));
                }
            });
        }
        match serving.join_next().await {
            Some(ended) => ended?,
            None => Ok(()),
        }
    })
}

/// Answers to keep the connection and answers to close it, of each size.
struct Answers {
    small: [Vec<u8>; 2],
    large: [Vec<u8>; 2],
}

impl Answers {
    fn render() -> Self {
        let answer = |length: usize, close: bool| {
            let mut text = format!(
                "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                 Content-Type: application/json\r\nCache-Control: no-store\r\nETag: \"8f2b9c\"\r\n\
                 Content-Length: {length}\r\n{}\r\n",
                if close { "Connection: close\r\n" } else { "" }
            )
            .into_bytes();
            text.resize(text.len() + length, b'x');
            text
        };
        Self { small: [false, true].map(|c| answer(1 << 10, c)), large: [false, true].map(|c| answer(64 << 10, c)) }
    }

    fn choose(&self, path: &[u8], close: bool) -> &[u8] {
        let of = if path.ends_with(b"/64k") { &self.large } else { &self.small };
        &of[usize::from(close)]
    }
}

/// A head must fit in here; the clients' are a few hundred bytes.
const MAX_HEAD: usize = 16 << 10;

/// Answer requests on one connection until its peer closes it, asks for that, or sends what is no head. A broken
/// connection is the proxy's to report, so its error ends here.
async fn serve(mut stream: TcpStream, answers: Arc<Answers>) -> std::io::Result<()> {
    let mut buffer = vec![0; MAX_HEAD];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut start = 0;
        while let Some(length) = memmem::find(&buffer[start..filled], b"\r\n\r\n") {
            let head = &buffer[start..start + length];
            start += length + 4;
            let close = memmem::find(head, b"onnection: close").is_some();
            stream.write_all(answers.choose(path(head), close)).await?;
            if close {
                return stream.shutdown().await;
            }
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

fn path(head: &[u8]) -> &[u8] {
    head.split(|b| *b == b' ').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_chooses_the_answer() {
        let answers = Answers::render();
        assert_eq!(path(b"GET /a/64k HTTP/1.1"), b"/a/64k");
        assert!(answers.choose(b"/a/64k", false).len() > 64 << 10);
        assert!(answers.choose(b"/a/1k", false).len() < 2 << 10);
        assert!(memmem::find(answers.choose(b"/", true), b"Connection: close").is_some());
    }
}
