//! A relay between a client and a server that hands the client's first bytes on as a test says.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// What happens to the bytes that a client sends first.
#[derive(Debug, Clone, Copy)]
pub enum Manner {
    /// So many go on one at a time, each in a packet of its own; then all at once.
    OneByOne(usize),
    /// Half of what comes in the first read goes on, and then nothing more.
    Half,
}

/// A relay to `to`; it ends with the test.
#[must_use]
pub fn start(to: SocketAddr, manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound listener");
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(to) else { continue };
            server.set_nodelay(true).ok();
            let (client, server) = (Arc::new(client), Arc::new(server));
            let (c, s) = (Arc::clone(&client), Arc::clone(&server));
            thread::spawn(move || up(&c, &s, manner));
            thread::spawn(move || {
                std::io::copy(&mut &*server, &mut &*client).ok();
                client.shutdown(Shutdown::Both).ok();
            });
        }
    });
    address
}

fn up(client: &TcpStream, server: &TcpStream, manner: Manner) {
    let mut buffer = [0; 16 * 1024];
    let mut slow = if let Manner::OneByOne(n) = manner { n } else { 0 };
    while let Ok(n @ 1..) = (&*client).read(&mut buffer) {
        let mut bytes = &buffer[..n];
        if let Manner::Half = manner {
            (&*server).write_all(&bytes[..n / 2]).ok();
            return;
        }
        while slow > 0 && !bytes.is_empty() {
            if (&*server).write_all(&bytes[..1]).is_err() {
                return;
            }
            (bytes, slow) = (&bytes[1..], slow - 1);
            thread::yield_now();
        }
        if (&*server).write_all(bytes).is_err() {
            return;
        }
    }
    server.shutdown(Shutdown::Write).ok();
}
