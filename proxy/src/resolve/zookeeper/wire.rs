//! The part of ZooKeeper's client protocol that a reader needs: connect, ping, exists, getData, getChildren, watch events.
//!
//! Frames of a 32-bit length and big-endian fields ("jute"). Requests are answered in order; an event may come before any
//! answer and is kept for later. The server drops a client that is silent for the session's time-out, so one that only
//! waits pings at a third of it, and gives the server up when nothing came for two thirds.

use std::{collections::VecDeque, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use outrigger_config::model::RegistryTls;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep_until, timeout_at},
};

use super::super::registry::{Duplex, MAX_ANSWER, MAX_ENTRY, broken, connect};

/// What is asked for; the server gives what its own bounds allow.
const SESSION_TIMEOUT: Duration = Duration::from_secs(12);
/// Shorter would be pings without pause; a server gives no less than two of its ticks.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Events kept while an answer is awaited: no more watches are set than children are read, each of which fires once.
const MAX_EVENTS: usize = 2 * super::MAX_CHILDREN;

const PING: i32 = -2;
const EVENT: i32 = -1;
const NO_NODE: i32 = -101;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("there is no such node")]
    NoNode,
    #[error("error {0}")]
    Code(i32),
    #[error("{0}")]
    Broken(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Broken(why)
    }
}

/// What a watch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Watched {
    /// Something of the node at this path.
    Node(String),
    /// The session expired or was closed.
    Session,
}

/// A session over one connection.
pub(super) struct Session {
    stream: Box<dyn Duplex>,
    buffer: BytesMut,
    /// What it takes to be silent too long.
    patience: Duration,
    heard: Instant,
    xid: i32,
    events: VecDeque<Watched>,
}

impl Session {
    /// Connects and begins a session.
    pub(super) async fn open(server: &str, tls: Option<&RegistryTls>) -> Result<Self, String> {
        let stream = connect(server, tls).await?;
        let mut session = Self {
            stream,
            buffer: BytesMut::new(),
            patience: SESSION_TIMEOUT,
            heard: Instant::now(),
            xid: 0,
            events: VecDeque::new(),
        };
        let mut request = BytesMut::new();
        request.put_i32(0); // protocol version
        request.put_i64(0); // last zxid seen
        request.put_i32(i32::try_from(SESSION_TIMEOUT.as_millis()).unwrap_or(i32::MAX));
        request.put_i64(0); // no session yet
        put_bytes(&mut request, &[0; 16]);
        request.put_u8(1); // a server that is cut off from the others will do
        session.send(&request).await?;
        let mut answer = session.frame().await?;
        if answer.len() < 8 {
            return Err("not a ZooKeeper server".to_owned());
        }
        answer.get_i32();
        let granted = u64::try_from(answer.get_i32()).unwrap_or(0);
        if granted == 0 {
            return Err("the session is refused".to_owned());
        }
        session.patience = Duration::from_millis(granted).max(MIN_TIMEOUT);
        Ok(session)
    }

    /// The names of the children of a node; watches for children that come and go.
    pub(super) async fn children(&mut self, path: &str) -> Result<Vec<String>, Failure> {
        const GET_CHILDREN: i32 = 8;
        let mut answer = self.call(GET_CHILDREN, path).await?;
        let count = get_i32(&mut answer)?;
        let mut names = Vec::new();
        for _ in 0..count.max(0) {
            names.push(get_string(&mut answer)?);
        }
        Ok(names)
    }

    /// Whether a node is there; watches for it to come to be.
    pub(super) async fn exists(&mut self, path: &str) -> Result<bool, Failure> {
        const EXISTS: i32 = 3;
        match self.call(EXISTS, path).await {
            Ok(_) => Ok(true),
            Err(Failure::NoNode) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// The data of a node; watches for it to change or go.
    pub(super) async fn data(&mut self, path: &str) -> Result<Bytes, Failure> {
        const GET_DATA: i32 = 4;
        let mut answer = self.call(GET_DATA, path).await?;
        let length = usize::try_from(get_i32(&mut answer)?).unwrap_or(0);
        Ok(get_bytes(&mut answer, length.min(MAX_ENTRY + 1))?)
    }

    /// Waits until a watch fires.
    pub(super) async fn watched(&mut self) -> Result<Watched, String> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let mut frame = self.next_frame().await?;
            let (xid, _) = reply_header(&mut frame)?;
            self.note(xid, frame)?;
        }
    }

    /// A watch that has fired and was not taken yet.
    pub(super) fn pending(&mut self) -> Option<Watched> {
        self.events.pop_front()
    }

    /// A read of `path` with a watch.
    async fn call(&mut self, operation: i32, path: &str) -> Result<Bytes, Failure> {
        self.xid = self.xid.checked_add(1).unwrap_or(1);
        let mut request = BytesMut::new();
        request.put_i32(self.xid);
        request.put_i32(operation);
        put_bytes(&mut request, path.as_bytes());
        request.put_u8(1);
        self.send(&request).await?;
        loop {
            let mut frame = self.next_frame().await?;
            let (xid, error) = reply_header(&mut frame)?;
            if xid == self.xid {
                return match error {
                    0 => Ok(frame),
                    NO_NODE => Err(Failure::NoNode),
                    code => Err(Failure::Code(code)),
                };
            }
            self.note(xid, frame)?;
        }
    }

    /// Takes what is no answer to a call.
    fn note(&mut self, xid: i32, mut frame: Bytes) -> Result<(), String> {
        match xid {
            PING => Ok(()),
            EVENT => {
                let kind = get_i32(&mut frame)?;
                let _state = get_i32(&mut frame)?;
                let path = get_string(&mut frame)?;
                // Type -1: of the session, whose state changed.
                self.events.push_back(if kind < 0 { Watched::Session } else { Watched::Node(path) });
                if self.events.len() > MAX_EVENTS { Err("more events than watches".to_owned()) } else { Ok(()) }
            }
            other => Err(format!("an answer {other} that nobody asked for")),
        }
    }

    /// The next frame, with pings for as long as none comes.
    async fn next_frame(&mut self) -> Result<Bytes, String> {
        let mut ping = Instant::now() + self.patience / 3;
        loop {
            if let Some(frame) = take_frame(&mut self.buffer)? {
                return Ok(frame);
            }
            let lost = self.heard + self.patience * 2 / 3;
            tokio::select! {
                read = self.stream.read_buf(&mut self.buffer) => match read {
                    Ok(0) => return Err("it closed the connection".to_owned()),
                    Ok(_) => self.heard = Instant::now(),
                    Err(error) => return Err(broken(&error)),
                },
                () = sleep_until(ping.min(lost)) => {
                    if Instant::now() >= lost {
                        return Err(format!("nothing heard for {:?}", self.patience * 2 / 3));
                    }
                    ping = Instant::now() + self.patience / 3;
                    let mut request = BytesMut::new();
                    request.put_i32(PING);
                    request.put_i32(11);
                    self.send(&request).await?;
                }
            }
        }
    }

    /// The answer to the request for a session.
    async fn frame(&mut self) -> Result<Bytes, String> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer)? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.buffer).await.map_err(|e| broken(&e))? == 0 {
                return Err("it closed the connection".to_owned());
            }
        }
    }

    async fn send(&mut self, body: &[u8]) -> Result<(), String> {
        let mut frame = BytesMut::with_capacity(4 + body.len());
        put_bytes(&mut frame, body);
        let due = Instant::now() + self.patience;
        let sent = timeout_at(due, self.stream.write_all(&frame)).await;
        sent.map_err(|_| "it reads nothing".to_owned())?.map_err(|e| broken(&e))
    }
}

/// A whole frame, if there is one.
fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*head)).map_err(|_| "not a ZooKeeper server".to_owned())?;
    if length > MAX_ANSWER {
        return Err(format!("an answer of {length} bytes"));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// The transaction and the error code of an answer.
fn reply_header(frame: &mut Bytes) -> Result<(i32, i32), String> {
    let xid = get_i32(frame)?;
    get_bytes(frame, 8)?; // zxid
    Ok((xid, get_i32(frame)?))
}

fn get_i32(frame: &mut Bytes) -> Result<i32, String> {
    get_bytes(frame, 4).map(|mut four| four.get_i32())
}

fn get_bytes(frame: &mut Bytes, length: usize) -> Result<Bytes, String> {
    if frame.len() < length { Err("an answer ends early".to_owned()) } else { Ok(frame.split_to(length)) }
}

fn get_string(frame: &mut Bytes) -> Result<String, String> {
    let length = usize::try_from(get_i32(frame)?).unwrap_or(0);
    String::from_utf8(get_bytes(frame, length)?.to_vec()).map_err(|_| "a name that is no UTF-8".to_owned())
}

fn put_bytes(into: &mut BytesMut, bytes: &[u8]) {
    // A path or a frame of our own: far below 2 GiB.
    into.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    into.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 2, 7][..]);
        assert_eq!(take_frame(&mut buffer), Ok(None));
        buffer.extend_from_slice(&[8, 0, 0]);
        assert_eq!(take_frame(&mut buffer), Ok(Some(Bytes::from_static(&[7, 8]))));
        assert_eq!(take_frame(&mut buffer), Ok(None));
        assert!(take_frame(&mut BytesMut::from(&b"HTTP"[..])).is_err());
        assert!(take_frame(&mut BytesMut::from(&[255; 4][..])).is_err());
    }

    #[test]
    fn lengths_beyond_the_frame_are_refused() {
        assert!(get_string(&mut Bytes::from_static(&[0, 0, 0, 9, b'a'])).is_err());
        assert_eq!(get_string(&mut Bytes::from_static(&[255; 4])), Ok(String::new()));
        assert!(reply_header(&mut Bytes::from_static(&[0; 15])).is_err());
    }
}
