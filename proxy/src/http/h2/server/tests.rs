//! The state machine, byte by byte: no socket, no clock.

use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::{Bounds, By, IDLE_FRAMES, Machine, Opened, RESET_WINDOW, WAITING};
use crate::http::{
    Headers, RequestHead, ResponseHead,
    h1::Limits,
    h2::frame::{self, Head, MAX_31, MAX_PAYLOAD, PREFACE, Reason, flag, kind, setting, word},
    hpack::Decoder,
};

mod faults;
mod histories;
mod windows;

const BOUNDS: Bounds = Bounds {
    max_streams: 4,
    max_resets: 3,
    head: Limits { max_header_bytes: 4096, max_header_count: 16 },
    stream_window: 65_535,
    connection_window: 131_070,
};

/// A client, and the connection that serves it.
struct Peer {
    machine: Machine,
    sent: Vec<u8>,
    opened: Vec<(RequestHead, Opened)>,
    decoder: Decoder,
    frames: Vec<(Head, Vec<u8>)>,
}

impl Peer {
    /// Before anything was sent.
    fn silent() -> Self {
        let (sent, opened, frames) = (Vec::new(), Vec::new(), Vec::new());
        Self { machine: Machine::new(BOUNDS), sent, opened, decoder: Decoder::new(4096), frames }
    }

    /// With the preface and empty SETTINGS sent, and what the connection says to them read.
    fn new() -> Self {
        let mut peer = Self::silent();
        peer.raw(PREFACE);
        peer.frame(kind::SETTINGS, 0, 0, &[]);
        peer.read();
        peer.frames.clear();
        peer
    }

    /// Sends bytes.
    fn raw(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        loop {
            let (used, request) = self.machine.obey(&self.sent);
            self.sent.drain(..used);
            if !request {
                return;
            }
            let mut head = RequestHead::default();
            let (used, opened) = self.machine.open(&self.sent, &mut head);
            self.sent.drain(..used);
            self.opened.extend(opened.map(|opened| (head, opened)));
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind, flags, stream, payload);
        self.raw(&bytes);
    }

    fn request(&mut self, stream: u32, end: bool) {
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        self.frame(kind::HEADERS, flags, stream, &block(&REQUEST));
    }

    /// Reads what the connection has to say.
    fn read(&mut self) {
        let bytes = self.machine.output();
        let mut at = 0;
        while let Some(head) = Head::read(&bytes[at..]) {
            let payload = bytes[at + frame::HEAD..at + frame::HEAD + head.length].to_vec();
            at += frame::HEAD + head.length;
            self.frames.push((head, payload));
        }
        assert_eq!(at, bytes.len(), "whole frames");
    }

    /// What the connection has said since the last time.
    fn said(&mut self) -> Vec<(Head, Vec<u8>)> {
        self.read();
        std::mem::take(&mut self.frames)
    }

    /// The fields of a block that the connection sent.
    fn fields(&mut self, block: &[u8]) -> Vec<(String, String)> {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let mut fields = Vec::new();
        self.decoder.decode(block, &mut |f| fields.push((text(f.name), text(f.value)))).unwrap();
        fields
    }

    /// The code of the GOAWAY that it ended with.
    fn ended(&mut self) -> Option<Reason> {
        let said = self.said();
        let goaway = said.iter().rfind(|(head, _)| head.kind == kind::GOAWAY)?;
        self.machine.is_over().then(|| word(&goaway.1[4..]).into())
    }

    /// The code of the RST_STREAM of a stream.
    fn reset(&mut self, stream: u32) -> Option<Reason> {
        let said = self.said();
        let reset = said.iter().find(|(head, _)| head.kind == kind::RST_STREAM && head.stream == stream)?;
        Some(word(&reset.1).into())
    }
}

const REQUEST: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/a"), (":authority", "app")];

/// A header block of literals that are not indexed.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn response(status: u16) -> ResponseHead {
    let mut head = ResponseHead { status, ..ResponseHead::default() };
    head.headers.append(b"Server", b"test");
    head
}

#[test]
fn a_request_is_read_and_answered() {
    let mut peer = Peer::silent();
    peer.raw(PREFACE);
    peer.frame(kind::SETTINGS, 0, 0, &[]);
    let kinds: Vec<_> = peer.said().iter().map(|(head, _)| (head.kind, head.flags)).collect();
    assert_eq!(kinds, [(kind::SETTINGS, 0), (kind::WINDOW_UPDATE, 0), (kind::SETTINGS, flag::ACK)]);
    peer.request(1, true);
    let (head, mut opened) = peer.opened.pop().expect("a request");
    assert_eq!((head.method.as_str(), &*head.target, &*head.authority), ("GET", "/a", "app"));
    assert!(opened.ended && opened.receive.is_over());
    opened.send.head(&response(200), Some(5), false).unwrap();
    opened.send.data(b"hello", true).unwrap();
    let said = peer.said();
    assert_eq!(said.len(), 2);
    assert_eq!(peer.fields(&said[0].1), [(":status", "200"), ("server", "test"), ("content-length", "5")].map(own));
    assert_eq!((said[1].0.kind, said[1].0.flags, &*said[1].1), (kind::DATA, flag::END_STREAM, &b"hello"[..]));
    drop(opened);
    assert_eq!(peer.machine.streams(), 0);
    assert!(peer.said().is_empty());
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.into(), value.into())
}

#[test]
fn it_does_not_matter_how_bytes_are_split() {
    let mut bytes = PREFACE.to_vec();
    frame::write(&mut bytes, kind::SETTINGS, 0, 0, &[]);
    frame::write(&mut bytes, kind::HEADERS, 0, 1, &block(&REQUEST[..2]));
    frame::write(&mut bytes, kind::CONTINUATION, flag::END_HEADERS, 1, &block(&REQUEST[2..]));
    frame::write(&mut bytes, kind::DATA, flag::PADDED, 1, b"\x02abc\0\0");
    frame::write(&mut bytes, kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block(&[("x-sum", "1")]));
    for size in 1..bytes.len() {
        let mut peer = Peer::silent();
        bytes.chunks(size).for_each(|part| peer.raw(part));
        let (_, mut opened) = peer.opened.pop().expect("a request");
        let mut data = Vec::new();
        assert_eq!(opened.receive.poll_data(&cx(), &mut data), Poll::Ready(Ok(true)));
        assert_eq!(data, b"abc");
        opened.receive.taken(3);
        data.clear();
        assert_eq!(opened.receive.poll_data(&cx(), &mut data), Poll::Ready(Ok(false)));
        assert_eq!(opened.receive.trailers().expect("trailers").get(b"x-sum"), Some(&b"1"[..]));
        assert!(peer.machine.fault().is_none(), "{size}");
    }
}

#[test]
fn trailers_end_an_answer() {
    let mut peer = Peer::new();
    peer.request(1, true);
    let (_, mut opened) = peer.opened.pop().unwrap();
    opened.send.inform(&response(103)).unwrap();
    opened.send.head(&response(200), None, false).unwrap();
    let mut trailers = Headers::new();
    trailers.append(b"Grpc-Status", b"0");
    trailers.append(b"Connection", b"close");
    opened.send.trailers(&trailers).unwrap();
    let said = peer.said();
    let flags: Vec<_> = said.iter().map(|(head, _)| head.flags).collect();
    assert_eq!(flags, [flag::END_HEADERS, flag::END_HEADERS, flag::END_HEADERS | flag::END_STREAM]);
    assert_eq!(peer.fields(&said[0].1)[0], own((":status", "103")));
    peer.fields(&said[1].1);
    assert_eq!(peer.fields(&said[2].1), [own(("grpc-status", "0"))]);
}

#[test]
fn what_is_dropped_is_reset() {
    let mut peer = Peer::new();
    peer.request(1, true);
    peer.opened.clear();
    assert_eq!(peer.reset(1), Some(Reason::CANCEL));
    // An answer that is whole before its request is.
    peer.request(3, false);
    let (_, mut opened) = peer.opened.pop().unwrap();
    opened.send.head(&response(413), Some(0), true).unwrap();
    drop(opened);
    assert_eq!(peer.reset(3), Some(Reason::NO_ERROR));
    // What is on its way to either is no fault.
    peer.frame(kind::DATA, 0, 3, b"more");
    peer.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &block(&[("x", "1")]));
    assert!(peer.said().is_empty() && peer.machine.fault().is_none());
}

#[test]
fn the_end_is_announced_and_streams_on_their_way_are_served() {
    let mut peer = Peer::new();
    peer.machine.announce_end();
    let said = peer.said();
    assert_eq!((said[0].0.kind, word(&said[0].1)), (kind::GOAWAY, MAX_31));
    assert_eq!(said[1].0.kind, kind::PING);
    peer.request(1, true);
    assert_eq!(peer.opened.len(), 1);
    peer.frame(kind::PING, flag::ACK, 0, &said[1].1);
    assert_eq!(peer.said().last().map(|(head, p)| (head.kind, word(p))), Some((kind::GOAWAY, 1)));
    peer.request(3, true);
    assert_eq!((peer.opened.len(), peer.machine.is_over()), (1, false));
    peer.opened[0].1.send.head(&response(204), None, true).unwrap();
    peer.opened.clear();
    assert!(peer.machine.is_over());
}

#[test]
fn the_end_of_the_connection_reaches_every_stream() {
    let mut peer = Peer::new();
    peer.request(1, false);
    peer.request(3, false);
    peer.frame(kind::DATA, 0, 0, &[]);
    assert_eq!(peer.ended(), Some(Reason::PROTOCOL_ERROR));
    for (_, opened) in &mut peer.opened {
        let Poll::Ready(reset) = opened.send.poll_reset(&cx()) else { panic!("it goes on") };
        assert_eq!(reset.by, By::Connection);
        assert!(opened.send.head(&response(200), None, true).is_err());
    }
}

#[test]
fn a_body_whose_stream_is_reset_has_no_end() {
    // Whether its task has looked before, or not.
    for looked in [false, true] {
        let mut peer = Peer::new();
        peer.request(1, false);
        let (_, mut opened) = peer.opened.pop().unwrap();
        let mut data = Vec::new();
        if looked {
            assert_eq!(opened.receive.poll_data(&cx(), &mut data), Poll::Pending);
        }
        peer.frame(kind::DATA, flag::END_STREAM, 1, b"all of it");
        peer.frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
        assert!(!opened.receive.is_over());
        assert!(matches!(opened.receive.poll_data(&cx(), &mut data), Poll::Ready(Err(r)) if r.by == By::Client));
    }
}

#[test]
fn the_last_stream_that_is_served_does_not_change() {
    let mut peer = Peer::new();
    peer.request(1, false);
    peer.frame(kind::GOAWAY, 0, 0, &[0; 8]);
    peer.request(3, true);
    peer.frame(kind::DATA, 0, 0, &[]);
    let goaways: Vec<_> = peer.said().iter().filter(|(h, _)| h.kind == kind::GOAWAY).map(|(_, p)| word(p)).collect();
    assert_eq!(goaways, [1, 1]);
}
