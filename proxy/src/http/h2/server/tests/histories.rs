//! Thousands of random histories of one connection: whatever a client sends, and whatever tasks do meanwhile, nothing
//! panics, windows are kept, and nothing is left behind.

use std::collections::HashMap;

use fastrand::Rng;

use super::*;

/// What the client knows of windows.
struct Ledger {
    connection: i64,
    first: i64,
    streams: HashMap<u32, i64>,
}

#[test]
fn histories_keep_the_rules() {
    for seed in 0..4000 {
        history(&mut Rng::with_seed(seed), seed);
    }
}

fn history(rng: &mut Rng, seed: u64) {
    let mut peer = Peer::new();
    let mut ledger = Ledger { connection: 65_535, first: 65_535, streams: HashMap::new() };
    let mut next = 1;
    let wild = rng.u8(..4) == 0;
    for _ in 0..rng.usize(1..60) {
        match rng.u8(..12) {
            0..=3 => {
                peer.request(next, rng.bool());
                ledger.streams.insert(next, ledger.first);
                next += 2;
            }
            4 | 5 if next > 1 => {
                let flags = if rng.u8(..4) == 0 { flag::END_STREAM } else { 0 };
                let stream = rng.u32(..next) | 1;
                peer.frame(kind::DATA, flags, stream, &vec![0; rng.usize(..3000)]);
            }
            6 if next > 1 => {
                let by = rng.u32(1..50_000);
                let stream = if rng.bool() { 0 } else { rng.u32(..next) | 1 };
                peer.frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
                match stream {
                    0 => ledger.connection += i64::from(by),
                    _ => *ledger.streams.entry(stream).or_default() += i64::from(by),
                }
            }
            7 if next > 1 && rng.u8(..4) == 0 => {
                peer.frame(kind::RST_STREAM, 0, rng.u32(..next) | 1, &[0, 0, 0, 8]);
            }
            8 => {
                let size = rng.u32(..100_000);
                let mut payload = setting::INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
                payload.extend_from_slice(&size.to_be_bytes());
                peer.frame(kind::SETTINGS, 0, 0, &payload);
                ledger.streams.values_mut().for_each(|w| *w += i64::from(size) - ledger.first);
                ledger.first = size.into();
            }
            9 if wild => {
                let payload: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
                peer.frame(rng.u8(..11), rng.u8(..), rng.u32(..next + 2), &payload);
            }
            _ => act(rng, &mut peer),
        }
        check(&mut peer, &mut ledger, seed, wild);
    }
    while !peer.opened.is_empty() {
        act(rng, &mut peer);
    }
    check(&mut peer, &mut ledger, seed, wild);
    assert_eq!(peer.machine.streams(), 0, "seed {seed}");
}

/// A task of a stream does something, or ends.
fn act(rng: &mut Rng, peer: &mut Peer) {
    if peer.opened.is_empty() {
        return;
    }
    let at = rng.usize(..peer.opened.len());
    let opened = &mut peer.opened[at].1;
    let mut data = Vec::new();
    match rng.u8(..6) {
        0 => drop(peer.opened.swap_remove(at)),
        1 => {
            if let Poll::Ready(Ok(true)) = opened.receive.poll_data(&cx(), &mut data) {
                opened.receive.taken(data.len());
            }
        }
        2 => {
            // Fails where the stream was reset.
            let _ended = opened.send.head(&response(200), None, true);
            drop(peer.opened.swap_remove(at));
        }
        _ => {
            if let Poll::Ready(Ok(room)) = opened.send.poll_room(&cx()) {
                let n = rng.usize(..=room.min(20_000));
                assert!(opened.send.data(&vec![0; n], false).is_ok(), "there was room");
            }
        }
    }
}

/// What the connection sends keeps to the windows that it was given.
fn check(peer: &mut Peer, ledger: &mut Ledger, seed: u64, wild: bool) {
    for (head, _) in peer.said() {
        assert!(head.length <= MAX_PAYLOAD);
        if head.kind == kind::DATA && !wild {
            let window = ledger.streams.get_mut(&head.stream).expect("a stream of the client's");
            *window -= head.length as i64;
            ledger.connection -= head.length as i64;
            assert!(head.length == 0 || (*window >= 0 && ledger.connection >= 0), "seed {seed}: {head:?}");
        }
    }
    let core = peer.machine.core.borrow();
    let slots: Vec<u32> = core.slots.all().collect();
    drop(core);
    let core = &mut *peer.machine.core.borrow_mut();
    let active = slots.iter().filter(|i| !core.slots.get(**i).is_over()).count();
    assert_eq!(active, core.active as usize, "seed {seed}");
    // Whoever waits for what is there has been woken, or somebody before it.
    let idle = core.out.is_empty() && core.send > 0 && !core.waiting.is_empty();
    assert!(!idle || slots.iter().any(|i| core.slots.get(*i).turn), "seed {seed}: nobody has its turn");
}
