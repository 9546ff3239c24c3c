//! A connection without a socket: bytes go in, requests and bytes come out.

use std::{cell::RefCell, rc::Rc};

use tokio::time::Instant;

use super::{
    Bounds, Receive, Send, WAITING,
    core::{Core, Fatal, Going},
    handle,
    receive::{Opening, Step},
};
use crate::{
    error::Failure,
    http::{
        RequestHead,
        h2::frame::{PREFACE, Reason},
    },
};

/// See the module.
pub struct Machine {
    pub(super) core: Rc<RefCell<Core>>,
    /// The request whose block is at the front of the bytes, and where it ends.
    opening: Option<(Opening, usize)>,
    fault: Option<Reason>,
}

/// A stream with its request.
pub struct Opened {
    /// The body that comes.
    pub receive: Receive,
    /// The way of the answer.
    pub send: Send,
    /// The `content-length`, which is not among the fields.
    pub length: Option<u64>,
    /// There is no body.
    pub ended: bool,
    /// It is to be answered with this.
    pub refused: Option<Failure>,
}

impl Machine {
    /// A connection whose client has sent nothing yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { core: Rc::new(RefCell::new(Core::new(bounds))), opening: None, fault: None }
    }

    /// Obeys the frames that `bytes` begins with, and returns how many bytes they have. True: a request follows, which
    /// is to be read by [`Machine::open`]; false: more bytes are needed, the connection is over, or what waits is to be
    /// written first.
    pub fn obey(&mut self, bytes: &[u8]) -> (usize, bool) {
        let result = self.frames(bytes);
        result.unwrap_or_else(|Fatal(reason)| {
            self.fail(reason);
            (bytes.len(), false)
        })
    }

    fn frames(&mut self, bytes: &[u8]) -> Result<(usize, bool), Fatal> {
        let core = &mut *self.core.borrow_mut();
        let mut at = 0;
        if !core.greeted {
            let n = bytes.len().min(PREFACE.len());
            if bytes[..n] != PREFACE[..n] {
                return Err(Fatal(Reason::PROTOCOL_ERROR));
            }
            if n < PREFACE.len() {
                return Ok((0, false));
            }
            core.greeted = true;
            at = n;
        }
        while core.going != Going::Over && core.out.len() <= WAITING {
            match core.step(&bytes[at..])? {
                Step::More => break,
                Step::Done(size) => at += size,
                Step::Request(opening, size) => {
                    self.opening = Some((opening, size));
                    return Ok((at, true));
                }
            }
        }
        Ok((at, false))
    }

    /// Reads the request that [`Machine::obey`] told of, which `bytes` begins with, into `head`. Returns how many bytes it
    /// has, and its stream; there is none if it is refused.
    pub fn open(&mut self, bytes: &[u8], head: &mut RequestHead) -> (usize, Option<Opened>) {
        let Some((opening, size)) = self.opening.take() else { return (0, None) };
        let opened = self.core.borrow_mut().open(opening, bytes, head);
        let opened = opened.unwrap_or_else(|Fatal(reason)| {
            self.fail(reason);
            None
        });
        let opened = opened.map(|new| {
            let (receive, send) = handle::pair(&self.core, new.index);
            Opened { receive, send, length: new.length, ended: new.ended, refused: new.refused }
        });
        (size, opened)
    }

    pub(super) fn fail(&mut self, reason: Reason) {
        self.fault = Some(reason);
        self.core.borrow_mut().end(Some(reason));
    }

    /// Why the connection was ended, where the client broke the protocol.
    #[must_use]
    pub fn fault(&self) -> Option<Reason> {
        self.fault
    }

    /// Bytes came at `now`: what is counted in a time is counted from anew after it.
    pub fn tick(&mut self, now: Instant) {
        self.core.borrow_mut().tick(now);
    }

    /// Takes what waits to be written.
    #[must_use]
    pub fn output(&mut self) -> Vec<u8> {
        let core = &mut *self.core.borrow_mut();
        let bytes = core.out.bytes().to_vec();
        core.out.clear();
        core.wake_next();
        bytes
    }

    /// True once nothing is left to be done but to write what waits.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.core.borrow().is_over()
    }

    /// True once the client has sent the preface and its SETTINGS.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.core.borrow().settled
    }

    /// Streams that are open, or whose handles are held.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.core.borrow().slots.len()
    }

    /// Tells the client that the connection will end; streams that it opens until it learns of it are served.
    pub fn announce_end(&mut self) {
        self.core.borrow_mut().announce_end();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Tasks of streams hold the state; nothing will move for them any more.
        self.core.borrow_mut().end(None);
    }
}
