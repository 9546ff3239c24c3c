//! Flow control (RFC 9113 5.2, 6.9), both ways.

use super::*;

fn window(peer: &mut Peer, stream: u32, by: u32) {
    peer.frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
}

fn first_window(peer: &mut Peer, size: u32) {
    let mut payload = setting::INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
    payload.extend_from_slice(&size.to_be_bytes());
    peer.frame(kind::SETTINGS, 0, 0, &payload);
}

fn room(opened: &mut Opened) -> Option<usize> {
    match opened.send.poll_room(&cx()) {
        Poll::Ready(room) => Some(room.unwrap()),
        Poll::Pending => None,
    }
}

#[test]
fn a_body_waits_for_its_window() {
    let mut peer = Peer::new();
    first_window(&mut peer, 10);
    peer.request(1, true);
    let (_, mut opened) = peer.opened.pop().unwrap();
    opened.send.head(&response(200), None, false).unwrap();
    assert_eq!(room(&mut opened), Some(10));
    opened.send.data(&[0; 10], false).unwrap();
    assert_eq!(room(&mut opened), None);
    window(&mut peer, 1, 7);
    assert_eq!(room(&mut opened), Some(7));
    // Smaller windows than what is on its way.
    first_window(&mut peer, 0);
    assert_eq!(room(&mut opened), None);
    window(&mut peer, 1, 4);
    assert_eq!(room(&mut opened), Some(1));
}

#[test]
fn a_large_part_leaves_in_frames_of_the_size_that_all_take() {
    let mut peer = Peer::new();
    first_window(&mut peer, 1 << 20);
    peer.request(1, true);
    let (_, mut opened) = peer.opened.pop().unwrap();
    opened.send.data(&vec![7; 2 * MAX_PAYLOAD + 1], true).unwrap();
    let said: Vec<_> = peer.said().into_iter().filter(|(h, _)| h.kind == kind::DATA).collect();
    let sizes: Vec<_> = said.iter().map(|(h, _)| (h.length, h.flags)).collect();
    assert_eq!(sizes, [(MAX_PAYLOAD, 0), (MAX_PAYLOAD, 0), (1, flag::END_STREAM)]);
}

#[test]
fn streams_share_the_window_of_the_connection_in_turn() {
    let mut peer = Peer::new();
    first_window(&mut peer, 1 << 20);
    (0..3).for_each(|i| peer.request(i * 2 + 1, true));
    let mut streams: Vec<_> = std::mem::take(&mut peer.opened).into_iter().map(|(_, o)| o).collect();
    streams[0].send.data(&[0; 65_535], false).unwrap();
    let _written = peer.said();
    for stream in &mut streams {
        assert_eq!(room(stream), None);
    }
    // What one leaves is the next one's; one that is dropped leaves it all.
    window(&mut peer, 0, 30);
    assert_eq!(room(&mut streams[0]), Some(30));
    streams[0].send.data(&[0; 10], false).unwrap();
    drop(streams.remove(1));
    assert_eq!(room(&mut streams[1]), Some(20));
}

#[test]
fn what_waits_for_the_socket_holds_streams_up() {
    let mut peer = Peer::new();
    first_window(&mut peer, 1 << 20);
    window(&mut peer, 0, 1 << 20);
    peer.request(1, true);
    let (_, mut opened) = peer.opened.pop().unwrap();
    while let Some(n) = room(&mut opened) {
        opened.send.data(&vec![0; n], false).unwrap();
    }
    let waiting: usize = peer.said().iter().map(|(h, _)| h.length + frame::HEAD).sum();
    assert!((WAITING..WAITING + 200).contains(&waiting), "{waiting}");
    assert!(room(&mut opened).is_some());
}

#[test]
fn what_was_taken_may_be_sent_again() {
    let mut peer = Peer::new();
    peer.request(1, false);
    let (_, mut opened) = peer.opened.pop().unwrap();
    let mut data = Vec::new();
    for _ in 0..3 {
        peer.frame(kind::DATA, 0, 1, &[1; 16_000]);
    }
    assert!(peer.said().is_empty(), "nothing was taken");
    assert_eq!(opened.receive.poll_data(&cx(), &mut data), Poll::Ready(Ok(true)));
    opened.receive.taken(data.len());
    let said = peer.said();
    assert_eq!(said.iter().map(|(h, p)| (h.stream, word(p))).collect::<Vec<_>>(), [(1, 48_000)]);
    data.clear();
    assert_eq!(opened.receive.poll_data(&cx(), &mut data), Poll::Pending);
    // Beyond what was given.
    for _ in 0..5 {
        peer.frame(kind::DATA, 0, 1, &[1; 16_000]);
    }
    assert_eq!(peer.reset(1), Some(Reason::FLOW_CONTROL_ERROR));
}

#[test]
fn a_body_that_nobody_reads_does_not_hold_up_others() {
    let mut peer = Peer::new();
    peer.request(1, false);
    let (_, opened) = peer.opened.pop().unwrap();
    peer.frame(kind::DATA, 0, 1, &[1; 16_000]);
    let Opened { receive, send, .. } = opened;
    drop(receive);
    (0..3).for_each(|_| peer.frame(kind::DATA, 0, 1, &[1; 16_000]));
    drop(send);
    assert!(peer.reset(1).is_some());
    // The rest of its window is on its way, and of the connection's all is given back.
    for i in 1..40u32 {
        peer.request(i * 2 + 1, false);
        (0..4).for_each(|_| peer.frame(kind::DATA, 0, i * 2 + 1, &[1; 16_000]));
        peer.opened.clear();
    }
    assert_eq!(peer.machine.fault(), None);
}

#[test]
fn what_was_handed_out_and_not_used_is_given_back() {
    let mut peer = Peer::new();
    for i in 0..40u32 {
        peer.request(i * 2 + 1, false);
        let (_, mut opened) = peer.opened.pop().unwrap();
        (0..3).for_each(|_| peer.frame(kind::DATA, 0, i * 2 + 1, &[1; 16_000]));
        let mut data = Vec::new();
        assert_eq!(opened.receive.poll_data(&cx(), &mut data), Poll::Ready(Ok(true)));
        opened.receive.taken(100);
    }
    assert_eq!(peer.machine.fault(), None);
}
