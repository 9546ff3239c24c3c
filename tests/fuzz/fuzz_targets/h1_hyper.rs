//! The HTTP/1 codec against hyper's: where both take a request, they agree on what it is and where it ends.
//!
//! hyper takes more than we do, and that is no finding. A request that both take but frame in two ways would be: it
//! is what smuggling is made of, with hyper for the server behind this proxy.
#![no_main]

use std::{
    cell::RefCell,
    convert::Infallible,
    future::Future,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};
use libfuzzer_sys::fuzz_target;
use outrigger_proxy::http::{
    RequestHead,
    h1::{ChunkedDecoder, Event, Framing, Limits, Persist, encode_request, parse_request, strip_hop_by_hop},
};

const LIMITS: Limits = Limits { max_header_bytes: 4096, max_header_count: 32 };

fuzz_target!(|bytes: &[u8]| {
    let Some(ours) = ours(bytes) else { return };
    // As it came: a server that a client reaches past us reads the same.
    if let Some(theirs) = hyper(bytes) {
        compare(&ours, &theirs, false);
    }
    // As we forward it: every server has to take it, and read the same.
    let forwarded = hyper(&ours.forwarded).expect("hyper takes what is forwarded");
    compare(&ours, &forwarded, true);
});

/// The first request of a connection.
struct Request {
    method: String,
    target: String,
    body: Vec<u8>,
    forwarded: Vec<u8>,
}

fn compare(ours: &Request, theirs: &Request, forwarded: bool) {
    assert_eq!(ours.method, theirs.method);
    // What came may have had the absolute form, which is forwarded as a path.
    if forwarded || !ours.target.is_empty() && theirs.target.starts_with('/') {
        assert_eq!(ours.target, theirs.target);
    }
    assert_eq!(ours.body, theirs.body, "the body ends elsewhere");
}

/// As this codec reads it, body and all; `None` if it is refused or not whole.
fn ours(bytes: &[u8]) -> Option<Request> {
    let mut head = RequestHead::default();
    let meta = parse_request(bytes, &LIMITS, &mut head).ok()??;
    // hyper reads targets with a grammar that is stricter than what servers take; CONNECT is not forwarded.
    if meta.connect || meta.upgrade || http::Uri::try_from(&*head.target).is_err() {
        return None;
    }
    let rest = &bytes[meta.consumed..];
    let body = match meta.framing {
        Framing::Length(n) => rest.get(..usize::try_from(n).ok()?)?.to_vec(),
        Framing::Chunked => chunked(rest)?,
        Framing::None | Framing::Declared(_) | Framing::UntilClose => Vec::new(),
    };
    strip_hop_by_hop(&mut head.headers, true);
    let mut forwarded = Vec::new();
    encode_request(&head, meta.framing, Persist::KeepAlive, &mut forwarded);
    match meta.framing {
        Framing::Chunked if body.is_empty() => forwarded.extend_from_slice(b"0\r\n\r\n"),
        Framing::Chunked => {
            forwarded.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            forwarded.extend_from_slice(&body);
            forwarded.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        _ => forwarded.extend_from_slice(&body),
    }
    let target = if head.target.is_empty() { "/".to_owned() } else { head.target };
    Some(Request { method: head.method.as_str().to_owned(), target, body, forwarded })
}

fn chunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let (mut decoder, mut data) = (ChunkedDecoder::default(), Vec::new());
    while !rest.is_empty() {
        let decoded = decoder.decode(rest, &LIMITS).ok()?;
        match decoded.event {
            Event::Data { start, len } => data.extend_from_slice(&rest[start..start + len]),
            Event::More => {}
            Event::End => return Some(data),
        }
        rest = &rest[decoded.consumed..];
    }
    None
}

/// As hyper's server reads it; `None` if it is refused or not whole.
fn hyper(bytes: &[u8]) -> Option<Request> {
    let seen = Rc::new(RefCell::new(None));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (method, target) = (request.method().as_str().to_owned(), request.uri().to_string());
            if let Ok(body) = request.into_body().collect().await {
                let body = body.to_bytes().to_vec();
                seen.borrow_mut().get_or_insert(Request { method, target, body, forwarded: Vec::new() });
            }
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(Memory { bytes: bytes.to_vec(), at: 0 }, service));
    let mut cx = Context::from_waker(Waker::noop());
    // Everything is there at once; whatever wants to be polled again has done so after a few rounds.
    for _ in 0..64 {
        if connection.as_mut().poll(&mut cx).is_ready() || seen.borrow().is_some() {
            break;
        }
    }
    seen.take()
}

/// A peer that has sent this and waits for the answer. It must not close its half: hyper drops a request whose client
/// seems to be gone before it is answered.
struct Memory {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Memory {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.at == self.bytes.len() {
            return Poll::Pending;
        }
        let n = buf.remaining().min(self.bytes.len() - self.at);
        buf.put_slice(&self.bytes[self.at..self.at + n]);
        self.at += n;
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
