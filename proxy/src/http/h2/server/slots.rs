//! The streams of a connection, found by their identifier, and the room that they are in.

use std::task::Waker;

use super::Reset;
use crate::http::Headers;

/// What is known of one stream. Its room is used again once the stream is over and no handle of it is left.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) id: u32,
    /// Handles of it that are alive.
    pub(super) handles: u8,
    /// END_STREAM came.
    pub(super) received_all: bool,
    /// END_STREAM was sent.
    pub(super) sent_all: bool,
    /// Nobody will read the body any more.
    pub(super) unread: bool,
    /// It waits for what the streams share: the connection's window, or room before the socket.
    pub(super) waits: bool,
    /// It waited, and was woken because there is some of it: others have to wait until it has used that.
    pub(super) turn: bool,
    /// How it ended before its time.
    pub(super) reset: Option<Reset>,
    /// Body that came and was not taken yet; bounded by the window.
    pub(super) data: Vec<u8>,
    pub(super) trailers: Option<Box<Headers>>,
    /// Bytes that the rest of the body has, where `content-length` told.
    pub(super) announced: Option<u64>,
    /// Bytes that the client may send.
    pub(super) receive: i64,
    /// Bytes that were taken, and of which the client was not told.
    pub(super) taken: u32,
    /// Bytes that the client takes. Negative after it made its windows smaller (RFC 9113 6.9.2).
    pub(super) send: i64,
    /// Who waits for any of it.
    pub(super) task: Option<Waker>,
}

impl Slot {
    /// Nothing more passes in either direction.
    pub(super) fn is_over(&self) -> bool {
        self.reset.is_some() || (self.received_all && self.sent_all)
    }

    pub(super) fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    pub(super) fn register(&mut self, waker: &Waker) {
        if !self.task.as_ref().is_some_and(|w| w.will_wake(waker)) {
            self.task = Some(waker.clone());
        }
    }
}

/// See the module. Identifiers grow, so a list in the order in which streams were opened is sorted.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Identifier and room.
    open: Vec<(u32, u32)>,
}

impl Slots {
    /// Streams that take room.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// A room for a stream of an identifier above all others.
    pub(super) fn insert(&mut self, id: u32) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        self.open.push((id, index));
        self.get(index).id = id;
        index
    }

    /// Leaves the room to others.
    pub(super) fn remove(&mut self, index: u32) {
        let slot = self.get(index);
        let id = slot.id;
        // The body's buffer is not kept: few requests of a connection have one.
        *slot = Slot::default();
        if let Ok(at) = self.open.binary_search_by_key(&id, |(id, _)| *id) {
            self.open.remove(at);
            self.free.push(index);
        }
    }

    #[inline]
    pub(super) fn find(&self, id: u32) -> Option<u32> {
        let at = self.open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.open[at].1)
    }

    /// The stream in a room that was given out by [`Slots::insert`].
    #[inline]
    pub(super) fn get(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    /// All streams that take room.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> + use<> {
        let indices: Vec<u32> = self.open.iter().map(|(_, index)| *index).collect();
        indices.into_iter()
    }

    /// Gives memory back; for a connection without a stream.
    pub(super) fn release(&mut self) {
        if self.open.is_empty() {
            *self = Self::default();
        }
    }
}
