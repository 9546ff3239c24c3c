//! A DNS server of a few lines: it answers what the test says, also wrongly, late or not at all.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// What a name resolves to.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A records and their TTL in seconds.
    A(Vec<Ipv4Addr>, u32),
    /// SRV records: priority, weight, port, target.
    Srv(Vec<(u16, u16, u16, String)>, u32),
    /// The name does not exist.
    NoSuchName,
    /// The server has a problem.
    Failure,
    /// No answer.
    Silence,
}

/// A running server. Names that were not set do not exist.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    names: Arc<Mutex<HashMap<String, Answer>>>,
    queries: Arc<AtomicUsize>,
}

impl Dns {
    /// Starts it on a free UDP port.
    #[must_use]
    pub fn start() -> Self {
        Self::on(UdpSocket::bind("127.0.0.1:0").expect("a free port"))
    }

    /// The same on a socket of the caller's.
    #[must_use]
    pub fn on(socket: UdpSocket) -> Self {
        let address = socket.local_addr().expect("a bound socket");
        let (names, queries) = (Arc::new(Mutex::new(HashMap::new())), Arc::new(AtomicUsize::new(0)));
        let (known, counted) = (Arc::clone(&names), Arc::clone(&queries));
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((n, peer)) = socket.recv_from(&mut buffer) {
                counted.fetch_add(1, Ordering::SeqCst);
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(answer) = answer(&buffer[..n], &known) {
                    socket.send_to(&answer, peer).ok();
                }
            }
        });
        Self { address, names, queries }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what a name resolves to, from the next query on.
    pub fn set(&self, name: &str, answer: Answer) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), answer);
    }

    /// Queries so far.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }
}

const A: u16 = 1;
const SRV: u16 = 33;

fn answer(query: &[u8], names: &HashMap<String, Answer>) -> Option<Vec<u8>> {
    let (name, end) = question(query)?;
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let found = names.get(&name).cloned().unwrap_or(Answer::NoSuchName);
    let (code, records) = match found {
        Answer::A(addresses, ttl) if kind == A => {
            (0, addresses.iter().map(|a| record(A, ttl, &a.octets())).collect::<Vec<_>>())
        }
        Answer::Srv(targets, ttl) if kind == SRV => (0, targets.iter().map(|t| record(SRV, ttl, &srv(t))).collect()),
        Answer::A(..) | Answer::Srv(..) => (0, Vec::new()),
        Answer::NoSuchName => (3, Vec::new()),
        Answer::Failure => (2, Vec::new()),
        Answer::Silence => return None,
    };
    let mut out = query.get(..2)?.to_vec();
    out.extend([0x81, 0x80 | code, 0, 1]);
    out.extend(u16::try_from(records.len()).ok()?.to_be_bytes());
    out.extend([0, 0, 0, 0]);
    out.extend(query.get(12..end + 4)?);
    records.iter().for_each(|record| out.extend(record));
    Some(out)
}

/// The name asked for, in lower case, and the offset of its type.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            return Some((labels.join("."), at + 1));
        }
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
}

fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0xc0, 12];
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out.extend(ttl.to_be_bytes());
    out.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
    out.extend(data);
    out
}

fn srv((priority, weight, port, target): &(u16, u16, u16, String)) -> Vec<u8> {
    let mut out: Vec<u8> = [priority, weight, port].iter().flat_map(|n| n.to_be_bytes()).collect();
    for label in target.split('.') {
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend(label.bytes());
    }
    out.push(0);
    out
}
