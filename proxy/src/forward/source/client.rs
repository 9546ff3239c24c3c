//! The body of a request of an HTTP/2 client.

use std::task::{Context, Poll, ready};

use crate::{
    forward::{PumpError, Step},
    http::{Headers, h2::server::Receive},
};

/// See the module.
pub(super) struct ClientBody {
    stream: Receive,
    /// What came last.
    ready: Vec<u8>,
    /// Bytes of it that were taken.
    at: usize,
    /// What has to come of a body whose length was announced.
    owed: Option<u64>,
    over: bool,
}

impl ClientBody {
    /// Of `length` bytes if that was announced.
    pub(super) fn new(stream: Receive, length: Option<u64>) -> Self {
        let over = stream.is_over();
        Self { stream, ready: Vec::new(), at: 0, owed: length, over }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over && self.chunk().is_empty()
    }

    pub(super) fn chunk(&self) -> &[u8] {
        &self.ready[self.at..]
    }

    /// Drops the first `n` bytes of the chunk.
    pub(super) fn advance(&mut self, n: usize) {
        self.at += n;
        self.stream.taken(n);
    }

    /// Makes [`ClientBody::chunk`] hold something, or finds the end and what trails it.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>, trailers: &mut Headers) -> Poll<Result<Step, PumpError>> {
        if !self.chunk().is_empty() {
            return Poll::Ready(Ok(Step::Data));
        }
        self.ready.clear();
        self.at = 0;
        if self.over {
            return Poll::Ready(Ok(Step::End));
        }
        if ready!(self.stream.poll_data(cx, &mut self.ready)).map_err(|e| PumpError::ReadReset(e.into()))? {
            if let Some(owed) = &mut self.owed {
                *owed = owed.saturating_sub(self.ready.len() as u64);
            }
            return Poll::Ready(Ok(Step::Data));
        }
        if self.owed.unwrap_or(0) > 0 {
            // The codec has seen to that already. An HTTP/1 upstream that is owed a byte would take the next request for it.
            return Poll::Ready(Err(PumpError::Truncated));
        }
        if let Some(came) = self.stream.trailers() {
            *trailers = *came;
        }
        self.over = true;
        Poll::Ready(Ok(Step::End))
    }
}
