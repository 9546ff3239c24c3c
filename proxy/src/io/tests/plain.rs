//! Plain streams.

use std::{io, rc::Rc};

use tokio::io::AsyncReadExt;

use super::{Io, arrival, echo, exchange, pair, pair_with, pattern, read_all, run, spawn};

#[test]
fn bytes_come_back() {
    run(async {
        let (near, far) = pair().await;
        let server = spawn(echo(Rc::new(Io::plain(far))));
        let client = Io::plain(near);
        assert_eq!(client.peer_addr().unwrap().ip(), client.local_addr().unwrap().ip());
        assert!(client.tls().is_none());
        assert_eq!(exchange(&client, b"hello").await.unwrap(), b"hello");
        server.await.unwrap().unwrap();
    });
}

#[test]
fn much_goes_through_small_buffers() {
    run(async {
        let (near, far) = pair_with(Some(4096)).await;
        let server = spawn(echo(Rc::new(Io::plain(far))));
        let data = pattern(8 * 1024 * 1024);
        assert!(exchange(&Io::plain(near), &data).await.unwrap() == data);
        server.await.unwrap().unwrap();
    });
}

#[test]
fn two_parts_are_written_as_one() {
    run(async {
        let (near, far) = pair_with(Some(4096)).await;
        let (a, b) = (pattern(100_000), pattern(77_777));
        let expected = [&a[..], &b[..]].concat();
        let client = Io::plain(near);
        let writer = spawn(async move {
            client.write_all_vectored2(&a, &b).await?;
            client.write_all_vectored2(&[], &[]).await?;
            client.shutdown().await
        });
        assert!(read_all(&Io::plain(far)).await.unwrap() == expected);
        writer.await.unwrap().unwrap();
    });
}

#[test]
fn what_was_read_too_many_is_read_again_in_order() {
    run(async {
        let (near, far) = pair().await;
        let (client, mut server) = (Io::plain(near), Io::plain(far));
        client.write_all(b"!").await.unwrap();
        client.shutdown().await.unwrap();
        server.unread(b"world");
        server.unread(b"hello ");
        assert!(server.is_stale());
        let mut two = [0; 2];
        server.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"he");
        assert_eq!(read_all(&server).await.unwrap(), b"llo world!");
    });
}

#[test]
fn a_side_that_has_ended_still_reads() {
    run(async {
        let (near, far) = pair().await;
        let (client, server) = (Io::plain(near), Io::plain(far));
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&server).await.unwrap(), b"");
        server.write_all(b"late").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(read_all(&client).await.unwrap(), b"late");
    });
}

#[test]
fn stale_is_closed_or_unasked_for_data() {
    run(async {
        let (near, far) = pair().await;
        let client = Io::plain(near);
        assert!(!client.is_stale());
        let server = Io::plain(far);
        server.write_all(b"x").await.unwrap();
        arrival(&client).await;
        assert!(client.is_stale());

        let (near, far) = pair().await;
        let client = Io::plain(near);
        drop(far);
        arrival(&client).await;
        assert!(client.is_stale());
    });
}

#[test]
fn an_exchange_leaves_a_connection_fresh() {
    run(async {
        let (near, far) = pair().await;
        let (client, server) = (Io::plain(near), Io::plain(far));
        for _ in 0..3 {
            client.write_all(b"ping").await.unwrap();
            let mut buf = Vec::with_capacity(64);
            assert_eq!(server.read_buf(&mut buf).await.unwrap(), 4);
            server.write_all(b"pong").await.unwrap();
            assert_eq!(client.read_buf(&mut buf).await.unwrap(), 4);
            assert!(!client.is_stale());
        }
    });
}

#[test]
fn an_abort_is_a_reset() {
    run(async {
        let (near, far) = pair().await;
        Io::plain(far).abort();
        let mut client = Io::plain(near);
        assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}
