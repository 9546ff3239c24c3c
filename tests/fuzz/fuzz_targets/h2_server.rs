//! The server side of HTTP/2 under whatever bytes a client sends, in whatever parts, while the tasks of its streams
//! read, answer and leave. What it writes are whole frames, and nothing of a stream stays behind.
#![no_main]

use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use outrigger_proxy::http::{
    RequestHead, ResponseHead,
    h1::Limits,
    h2::server::{Bounds, Machine, Opened},
};

const BOUNDS: Bounds = Bounds {
    max_streams: 8,
    max_resets: 20,
    head: Limits { max_header_bytes: 2048, max_header_count: 16 },
    stream_window: 65_535,
    connection_window: 131_070,
};

/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fuzz_target!(|parts: Vec<(u8, Vec<u8>)>| {
    let mut machine = Machine::new(BOUNDS);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(SETTINGS);
    let mut streams: Vec<Opened> = Vec::new();
    for (act, part) in parts {
        bytes.extend_from_slice(&part);
        loop {
            let (used, request) = machine.obey(&bytes);
            bytes.drain(..used);
            if !request {
                break;
            }
            let mut head = RequestHead::default();
            let (used, opened) = machine.open(&bytes, &mut head);
            bytes.drain(..used);
            if let Some(opened) = opened {
                assert!(opened.refused.is_some() || head.target.is_ascii());
                streams.push(opened);
            }
        }
        if !streams.is_empty() {
            let at = usize::from(act >> 4) % streams.len();
            if !serve(&mut streams[at], act & 15) {
                drop(streams.swap_remove(at));
            }
        }
        whole_frames(&machine.output());
    }
    drop(streams);
    assert_eq!(machine.streams(), 0, "a stream stays behind");
});

/// Lets a task do something; false when it ends.
fn serve(stream: &mut Opened, act: u8) -> bool {
    let cx = Context::from_waker(Waker::noop());
    let head = ResponseHead { status: 200, ..ResponseHead::default() };
    match act {
        0 => false,
        1 => stream.send.head(&head, Some(0), true).is_err(),
        2..6 => {
            let mut data = Vec::new();
            if let Poll::Ready(Ok(true)) = stream.receive.poll_data(&cx, &mut data) {
                stream.receive.taken(data.len());
            }
            true
        }
        _ => {
            if let Poll::Ready(Ok(room)) = stream.send.poll_room(&cx) {
                stream.send.data(&vec![0; room.min(usize::from(act) * 1000)], false).is_ok()
            } else {
                true
            }
        }
    }
}

fn whole_frames(mut bytes: &[u8]) {
    while let Some(head) = bytes.first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        assert!(length <= 16 * 1024);
        bytes = bytes.get(9 + length..).expect("a whole frame");
    }
    assert!(bytes.is_empty(), "a whole frame");
}
