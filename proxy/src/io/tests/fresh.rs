//! Sockets that the reactor does not know yet.

use std::{future::poll_fn, net::SocketAddr, rc::Rc, task::Poll, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    super::{Backlog, Socket, register_late},
    Io, echo, exchange, pattern, read_all, run, spawn,
};

fn listen() -> (Backlog, SocketAddr) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (Backlog::new(socket).unwrap(), address)
}

async fn accept(backlog: &Backlog) -> Io {
    let (tcp, peer) = poll_fn(|cx| backlog.poll_accept(cx)).await.unwrap();
    Io::accepted(tcp).with_peer(peer)
}

fn is_registered(io: &Io) -> bool {
    matches!(&*io.tcp.borrow(), Socket::Known { .. })
}

#[test]
fn what_came_together_is_accepted_one_after_the_other_and_so_is_what_comes_later() {
    run(async {
        let (backlog, address) = listen();
        for _ in 0..3 {
            let mut clients = Vec::new();
            for _ in 0..5 {
                clients.push(TcpStream::connect(address).await.unwrap());
            }
            for _ in 0..5 {
                let io = accept(&backlog).await;
                let known = |c: &TcpStream| c.local_addr().ok() == io.peer_addr();
                assert!(clients.iter().any(known));
            }
            assert!(poll_fn(|cx| Poll::Ready(backlog.poll_accept(cx).is_pending())).await);
        }
    });
}

#[test]
fn an_exchange_whose_request_is_there_needs_no_reactor() {
    run(async {
        let (backlog, address) = listen();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let io = accept(&backlog).await;
        let mut buf = Vec::with_capacity(64);
        assert_eq!(io.read_buf(&mut buf).await.unwrap(), 4);
        io.write_all_vectored2(b"po", b"ng").await.unwrap();
        assert!(!is_registered(&io) && !io.is_stale());
        drop(io);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"pong");
    });
}

#[test]
fn who_waits_to_read_or_to_write_is_woken() {
    run(async {
        let (backlog, address) = listen();
        let data = pattern(8 * 1024 * 1024);
        let client = spawn({
            let data = data.clone();
            async move { exchange(&Io::plain(TcpStream::connect(address).await.unwrap()), &data).await }
        });
        let io = Rc::new(accept(&backlog).await);
        echo(Rc::clone(&io)).await.unwrap();
        assert!(is_registered(&io));
        assert!(client.await.unwrap().unwrap() == data);
    });
}

#[test]
fn who_never_waits_is_registered_all_the_same() {
    run(async {
        let (backlog, address) = listen();
        let mut client = TcpStream::connect(address).await.unwrap();
        let io = accept(&backlog).await;
        for _ in 0..20 {
            io.write_all(b"x").await.unwrap();
        }
        assert!(is_registered(&io));
        io.shutdown().await.unwrap();
        let mut all = Vec::new();
        assert_eq!(client.read_to_end(&mut all).await.unwrap(), 20);
        drop(client);
        assert_eq!(read_all(&io).await.unwrap(), b"");
    });
}

#[test]
fn a_peer_that_goes_away_is_noticed_soon_by_who_only_watches() {
    run(async {
        let keeper = spawn(register_late());
        let (backlog, address) = listen();
        for closes_before in [true, false] {
            let client = TcpStream::connect(address).await.unwrap();
            let io = accept(&backlog).await;
            // The keeper of this thread has to have begun.
            tokio::task::yield_now().await;
            let mut client = Some(client);
            if closes_before {
                client = None;
            }
            assert!(poll_fn(|cx| Poll::Ready(io.poll_due(cx).is_pending())).await);
            assert!(!is_registered(&io), "an answer may come before that is worth it");
            let gone = async { poll_fn(|cx| io.poll_due(cx)).await };
            let closing = async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop(client);
            };
            tokio::join!(gone, closing);
            assert!(is_registered(&io));
            let mut buf = Vec::with_capacity(1);
            assert_eq!(io.read_buf(&mut buf).await.unwrap(), 0);
        }
        keeper.abort();
    });
}

#[test]
fn nothing_is_put_off_where_nobody_would_come_back_to_it() {
    std::thread::spawn(|| {
        run(async {
            let (backlog, address) = listen();
            let _client = TcpStream::connect(address).await.unwrap();
            let io = accept(&backlog).await;
            assert!(poll_fn(|cx| Poll::Ready(io.poll_due(cx).is_pending())).await);
            assert!(is_registered(&io));
        });
    })
    .join()
    .unwrap();
}
