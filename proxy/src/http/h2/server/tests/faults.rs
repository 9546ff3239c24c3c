//! What clients do wrong.

use super::*;

/// Each ends the connection.
#[test]
fn faults_of_the_connection() {
    type Send = fn(&mut Peer);
    let table: [(&str, Reason, Send); 25] = [
        ("DATA on no stream", Reason::PROTOCOL_ERROR, |p| p.frame(kind::DATA, 0, 0, b"x")),
        ("DATA on an idle stream", Reason::PROTOCOL_ERROR, |p| p.frame(kind::DATA, 0, 1, b"x")),
        ("padding beyond the frame", Reason::PROTOCOL_ERROR, |p| {
            p.request(1, false);
            p.frame(kind::DATA, flag::PADDED, 1, b"\x05abc");
        }),
        ("HEADERS on no stream", Reason::PROTOCOL_ERROR, |p| p.request(0, true)),
        ("an even stream", Reason::PROTOCOL_ERROR, |p| p.request(2, true)),
        ("an identifier that goes back", Reason::PROTOCOL_ERROR, |p| {
            p.request(5, true);
            p.request(3, true);
        }),
        ("a block that cannot be decoded", Reason::COMPRESSION_ERROR, |p| {
            p.frame(kind::HEADERS, flag::END_HEADERS, 1, &[0x80]);
        }),
        ("another frame within a block", Reason::PROTOCOL_ERROR, |p| {
            p.frame(kind::HEADERS, 0, 1, &block(&REQUEST));
            p.frame(kind::PING, 0, 0, &[0; 8]);
        }),
        ("CONTINUATION of another stream", Reason::PROTOCOL_ERROR, |p| {
            p.frame(kind::HEADERS, 0, 1, &block(&REQUEST));
            p.frame(kind::CONTINUATION, flag::END_HEADERS, 3, &[]);
        }),
        ("CONTINUATION of nothing", Reason::PROTOCOL_ERROR, |p| p.frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[])),
        ("endless CONTINUATION", Reason::ENHANCE_YOUR_CALM, |p| {
            p.frame(kind::HEADERS, 0, 1, &block(&REQUEST));
            (0..1000).for_each(|_| p.frame(kind::CONTINUATION, 0, 1, &[]));
        }),
        ("PRIORITY of another size", Reason::FRAME_SIZE_ERROR, |p| p.frame(kind::PRIORITY, 0, 1, &[0; 4])),
        ("RST_STREAM of another size", Reason::FRAME_SIZE_ERROR, |p| p.frame(kind::RST_STREAM, 0, 1, &[0; 3])),
        ("RST_STREAM on an idle stream", Reason::PROTOCOL_ERROR, |p| p.frame(kind::RST_STREAM, 0, 1, &[0; 4])),
        ("SETTINGS on a stream", Reason::PROTOCOL_ERROR, |p| p.frame(kind::SETTINGS, 0, 1, &[])),
        ("SETTINGS of another size", Reason::FRAME_SIZE_ERROR, |p| p.frame(kind::SETTINGS, 0, 0, &[0; 5])),
        ("ACK that says something", Reason::FRAME_SIZE_ERROR, |p| p.frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])),
        ("ENABLE_PUSH of 2", Reason::PROTOCOL_ERROR, |p| set(p, setting::ENABLE_PUSH, 2)),
        ("a window beyond all", Reason::FLOW_CONTROL_ERROR, |p| set(p, setting::INITIAL_WINDOW_SIZE, 1 << 31)),
        ("frames that are too small", Reason::PROTOCOL_ERROR, |p| set(p, setting::MAX_FRAME_SIZE, 100)),
        ("PUSH_PROMISE", Reason::PROTOCOL_ERROR, |p| p.frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0; 8])),
        ("PING of another size", Reason::FRAME_SIZE_ERROR, |p| p.frame(kind::PING, 0, 0, &[0; 7])),
        ("GOAWAY on a stream", Reason::PROTOCOL_ERROR, |p| p.frame(kind::GOAWAY, 0, 1, &[0; 8])),
        ("WINDOW_UPDATE of nothing", Reason::PROTOCOL_ERROR, |p| p.frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("windows that overflow", Reason::FLOW_CONTROL_ERROR, |p| {
            p.frame(kind::WINDOW_UPDATE, 0, 0, &MAX_31.to_be_bytes());
        }),
    ];
    for (name, reason, send) in table {
        let mut peer = Peer::new();
        send(&mut peer);
        assert_eq!(peer.ended(), Some(reason), "{name}");
    }
}

fn set(peer: &mut Peer, name: u16, value: u32) {
    let mut payload = name.to_be_bytes().to_vec();
    payload.extend_from_slice(&value.to_be_bytes());
    peer.frame(kind::SETTINGS, 0, 0, &payload);
}

#[test]
fn a_frame_that_is_too_large_is_not_waited_for() {
    let mut peer = Peer::new();
    peer.raw(&Head { length: MAX_PAYLOAD + 1, kind: kind::DATA, flags: 0, stream: 1 }.bytes());
    assert_eq!(peer.ended(), Some(Reason::FRAME_SIZE_ERROR));
}

#[test]
fn what_comes_first_is_checked_at_once() {
    let mut peer = Peer::silent();
    peer.raw(b"GET / HTTP/1.1");
    assert_eq!(peer.ended(), Some(Reason::PROTOCOL_ERROR));
    let mut peer = Peer::silent();
    peer.raw(PREFACE);
    peer.frame(kind::PING, 0, 0, &[0; 8]);
    assert_eq!(peer.ended(), Some(Reason::PROTOCOL_ERROR));
}

/// Each resets its stream, and the connection goes on.
#[test]
fn faults_of_a_stream() {
    let with = |more: &[(&'static str, &'static str)]| [&REQUEST[..], more].concat();
    let without = |name: &str| REQUEST.into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    let table = [
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("a path of nothing", [&without(":path")[..], &[(":path", "")]].concat()),
        ("two paths", with(&[(":path", "/b")])),
        ("a pseudo-header field after others", [&[("x", "1")][..], &REQUEST].concat()),
        ("one that is not known", with(&[(":x", "1")])),
        ("one of responses", with(&[(":status", "200")])),
        ("one of extended CONNECT", with(&[(":protocol", "websocket")])),
        ("upper case", with(&[("X", "1")])),
        ("connection", with(&[("connection", "close")])),
        ("upgrade", with(&[("upgrade", "x")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("te", with(&[("te", "gzip")])),
        ("a line end in a value", with(&[("x", "1\r\ny: 2")])),
        ("NUL in a value", with(&[("x", "1\0")])),
        ("a length that is none", with(&[("content-length", "-1")])),
        ("two lengths", with(&[("content-length", "1"), ("content-length", "2")])),
        ("a length that is not met", with(&[("content-length", "1")])),
        ("CONNECT with a path", vec![(":method", "CONNECT"), (":path", "/"), (":authority", "a:1")]),
    ];
    for (name, fields) in table {
        let mut peer = Peer::new();
        peer.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block(&fields));
        assert!(peer.opened.is_empty(), "{name}");
        assert_eq!(peer.reset(1), Some(Reason::PROTOCOL_ERROR), "{name}");
        peer.request(3, true);
        assert_eq!(peer.opened.len(), 1, "{name}");
    }
}

#[test]
fn what_cannot_be_forwarded_is_to_be_answered() {
    let many: Vec<_> = (0..20).map(|_| ("x", "1")).collect();
    let table = [
        ("another host", vec![("host", "other")]),
        ("two hosts", vec![("host", "app"), ("host", "app")]),
        ("too many fields", many),
    ];
    for (name, fields) in table {
        let mut peer = Peer::new();
        let fields = [&REQUEST[..], &fields].concat();
        peer.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block(&fields));
        assert!(peer.opened.pop().is_some_and(|(_, o)| o.refused.is_some()), "{name}");
    }
}

#[test]
fn a_body_is_as_long_as_was_announced() {
    for (first, second) in [(4, 0), (2, 1), (2, 2)] {
        let mut peer = Peer::new();
        let fields = [&REQUEST[..], &[("content-length", "3")]].concat();
        peer.frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&fields));
        peer.frame(kind::DATA, 0, 1, &b"abcd"[..first]);
        peer.frame(kind::DATA, flag::END_STREAM, 1, &b"abcd"[..second]);
        let expected = if first + second == 3 { None } else { Some(Reason::PROTOCOL_ERROR) };
        assert_eq!(peer.reset(1), expected);
    }
}

#[test]
fn frames_on_streams_that_are_over() {
    let mut peer = Peer::new();
    peer.request(1, true);
    peer.frame(kind::DATA, 0, 1, b"x");
    assert_eq!(peer.reset(1), Some(Reason::STREAM_CLOSED));
    peer.opened.clear();
    peer.request(3, false);
    peer.frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 8]);
    peer.frame(kind::DATA, 0, 3, b"x");
    assert_eq!(peer.reset(3), Some(Reason::STREAM_CLOSED));
    peer.opened.clear();
    peer.request(3, true);
    assert_eq!(peer.ended(), Some(Reason::STREAM_CLOSED));
}

#[test]
fn more_streams_than_allowed_are_refused() {
    let mut peer = Peer::new();
    (0..5).for_each(|i| peer.request(i * 2 + 1, true));
    assert_eq!((peer.opened.len(), peer.reset(9)), (4, Some(Reason::REFUSED_STREAM)));
    // Those that were reset take room until their tasks have ended, but do not count.
    peer.frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    peer.request(11, true);
    assert_eq!(peer.opened.len(), 5);
}

#[test]
fn resets_and_frames_without_use_are_counted_for_a_time() {
    let start = Instant::now();
    for wait in [RESET_WINDOW / 2, RESET_WINDOW] {
        let mut peer = Peer::new();
        peer.machine.tick(start);
        for i in 0..4u32 {
            peer.machine.tick(start + wait * (i / 3));
            peer.request(i * 2 + 1, true);
            peer.frame(kind::RST_STREAM, 0, i * 2 + 1, &[0, 0, 0, 8]);
            peer.opened.clear();
        }
        let over = wait < RESET_WINDOW;
        assert_eq!(peer.ended(), over.then_some(Reason::ENHANCE_YOUR_CALM));
    }
    let mut peer = Peer::new();
    for _ in 0..IDLE_FRAMES + 1 {
        peer.frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 0]);
    }
    assert_eq!(peer.ended(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[test]
fn nothing_is_obeyed_while_too_much_waits() {
    let mut peer = Peer::new();
    for _ in 0..2 * WAITING / 17 {
        peer.frame(kind::PING, 0, 0, &[0; 8]);
    }
    assert!(!peer.sent.is_empty() && peer.sent.len() < 2 * WAITING);
    let first = peer.said().len();
    peer.raw(&[]);
    assert_eq!(first + peer.said().len(), 2 * WAITING / 17);
}

#[test]
fn making_us_reset_counts_as_resetting() {
    type Fault = fn(&mut Peer, u32);
    let faults: [Fault; 4] = [
        |p, id| p.frame(kind::WINDOW_UPDATE, 0, id, &[0; 4]),
        |p, id| p.frame(kind::WINDOW_UPDATE, 0, id, &MAX_31.to_be_bytes()),
        |p, id| p.frame(kind::HEADERS, flag::END_HEADERS, id, &block(&[("x", "1")])),
        |p, id| p.frame(kind::DATA, 0, id, &[0; 4]),
    ];
    for (i, fault) in faults.into_iter().enumerate() {
        let mut peer = Peer::new();
        for n in 0..5u32 {
            let fields = [&REQUEST[..], &[("content-length", "3")]].concat();
            peer.frame(kind::HEADERS, flag::END_HEADERS, n * 2 + 1, &block(&fields));
            fault(&mut peer, n * 2 + 1);
            peer.opened.clear();
        }
        assert_eq!(peer.ended(), Some(Reason::ENHANCE_YOUR_CALM), "{i}");
    }
}

#[test]
fn what_follows_on_refused_streams_is_borne() {
    let mut peer = Peer::new();
    (0..50).for_each(|i| peer.request(i * 2 + 1, false));
    for i in 4..50 {
        peer.frame(kind::DATA, 0, i * 2 + 1, b"x");
        peer.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, i * 2 + 1, &block(&[("x", "1")]));
    }
    assert_eq!(peer.machine.fault(), None);
}

#[test]
fn floods_that_are_answered_are_counted() {
    let mut peer = Peer::new();
    peer.request(1, true);
    peer.opened[0].1.send.head(&response(200), None, true).unwrap();
    peer.opened.clear();
    for _ in 0..=IDLE_FRAMES {
        peer.frame(kind::DATA, 0, 1, b"x");
        if peer.machine.fault().is_some() {
            break;
        }
        drop(peer.machine.output());
    }
    assert_eq!(peer.machine.fault(), Some(Reason::ENHANCE_YOUR_CALM));
}
