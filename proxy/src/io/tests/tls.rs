//! Streams under TLS, both sides ours; where a side must misbehave, its TCP stream does it.

use std::{cell::RefCell, io, net::Shutdown, rc::Rc, sync::Arc, task::Poll};

use rustls::ServerConfig;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Io, arrival, echo, exchange, pair, pair_with, pattern, read_all, run, spawn};
use crate::{
    error::{Failure, Reason, Repeat},
    tls::{
        Alpn, ClientContext, Side, failure,
        tests::{Ca, identity, mesh_client, server},
    },
};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

/// `web` calls `api`, as both are meant to be.
fn contexts() -> (ClientContext, Arc<ServerConfig>) {
    let ca = Ca::new("root");
    let (web, api) = (identity(&ca.issue_to(WEB), &ca.pem), identity(&ca.issue_to(API), &ca.pem));
    (mesh_client(&web, API), server(&api))
}

async fn shake(
    (near, far): (TcpStream, TcpStream),
    client: &ClientContext,
    server: &Arc<ServerConfig>,
) -> (Result<Io, Failure>, Result<Io, Failure>) {
    tokio::join!(Io::connect_tls(near, client, Some(Alpn::H2)), Io::accept_tls(far, Vec::new(), Arc::clone(server)))
}

/// Ends a stream below TLS.
fn cut(io: &Io) {
    SockRef::from(&io.tcp.borrow().fd().unwrap()).shutdown(Shutdown::Write).unwrap();
}

async fn secured() -> (Io, Io) {
    let (client, server) = contexts();
    let (near, far) = shake(pair().await, &client, &server).await;
    (near.unwrap(), far.unwrap())
}

#[test]
fn both_sides_know_each_other() {
    run(async {
        let (near, far) = secured().await;
        let (client, server) = (near.tls().unwrap(), far.tls().unwrap());
        assert_eq!(client.peer_identity.as_deref(), Some(API));
        assert_eq!(server.peer_identity.as_deref(), Some(WEB));
        assert_eq!((client.alpn, server.alpn), (Some(Alpn::H2), Some(Alpn::H2)));
        assert_eq!((client.version, server.version), ("TLSv1.3", "TLSv1.3"));
        assert_eq!(server.sni, None);
        let groups = [&near, &far].map(|io| {
            let session = io.tls.as_ref().unwrap().session.borrow();
            session.conn().negotiated_key_exchange_group().unwrap().name()
        });
        assert_eq!(groups, [rustls::NamedGroup::X25519MLKEM768; 2]);
    });
}

#[test]
fn bytes_come_back() {
    run(async {
        let (near, far) = secured().await;
        let server = spawn(echo(Rc::new(far)));
        assert_eq!(exchange(&near, b"hello").await.unwrap(), b"hello");
        server.await.unwrap().unwrap();
    });
}

#[test]
fn much_goes_through_small_buffers_both_ways_at_once() {
    run(async {
        let (client, server) = contexts();
        let (near, far) = shake(pair_with(Some(4096)).await, &client, &server).await;
        let server = spawn(echo(Rc::new(far.unwrap())));
        let data = pattern(16 * 1024 * 1024);
        assert!(exchange(&near.unwrap(), &data).await.unwrap() == data);
        server.await.unwrap().unwrap();
    });
}

#[test]
fn sixty_four_mebibytes_arrive_and_what_waits_is_bounded() {
    run(async {
        let (near, far) = secured().await;
        let data = pattern(1024 * 1024);
        let expected = data.clone();
        let near = Rc::new(near);
        let writing = Rc::clone(&near);
        let writer = spawn(async move {
            for _ in 0..64 {
                writing.write_all(&data).await?;
            }
            writing.shutdown().await
        });
        let mut buf = Vec::with_capacity(64 * 1024);
        let mut total = 0;
        loop {
            buf.clear();
            if far.read_buf(&mut buf).await.unwrap() == 0 {
                break;
            }
            for piece in buf.iter().enumerate().step_by(997) {
                assert_eq!(*piece.1, expected[(total + piece.0) % expected.len()]);
            }
            total += buf.len();
        }
        assert_eq!(total, 64 * 1024 * 1024);
        writer.await.unwrap().unwrap();
    });
}

#[test]
fn a_writer_without_a_reader_waits() {
    run(async {
        let (near, far) = secured().await;
        let chunk = pattern(64 * 1024);
        let mut taken = 0;
        // Until the kernel's buffers and ours are full.
        std::future::poll_fn(|cx| {
            loop {
                match near.poll_write(cx, &chunk) {
                    Poll::Ready(n) => taken += n.unwrap(),
                    Poll::Pending => return Poll::Ready(()),
                }
                assert!(taken < 64 * 1024 * 1024, "nothing stops the writer");
            }
        })
        .await;
        drop(near);
        // All that the kernel had arrives, and then that it was cut.
        let mut got = Vec::new();
        let end = loop {
            got.reserve(16 * 1024);
            match far.read_buf(&mut got).await {
                Ok(0) => panic!("a cut stream ends as if it were whole"),
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        assert!(matches!(end.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), "{end}");
        assert!(got.len() <= taken && !got.is_empty());
    });
}

#[test]
fn readers_of_one_byte_get_everything() {
    run(async {
        let (near, mut far) = secured().await;
        let data = pattern(100_000);
        let sent = data.clone();
        let writer = spawn(async move {
            near.write_all(&sent).await?;
            near.shutdown().await?;
            // With its ticket unread, closing it would be a reset that drops what is under way.
            io::Result::Ok(near)
        });
        for expected in data {
            assert_eq!(far.read_u8().await.unwrap(), expected);
        }
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
        writer.await.unwrap().unwrap();
    });
}

#[test]
fn a_side_that_has_ended_still_reads() {
    run(async {
        let (near, far) = secured().await;
        near.shutdown().await.unwrap();
        assert_eq!(near.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(read_all(&far).await.unwrap(), b"");
        far.write_all(b"late").await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(read_all(&near).await.unwrap(), b"late");
    });
}

#[test]
fn a_stream_cut_without_close_notify_is_an_error() {
    run(async {
        let (near, far) = secured().await;
        near.write_all(b"half").await.unwrap();
        cut(&near);
        let mut buf = Vec::with_capacity(64);
        assert_eq!(far.read_buf(&mut buf).await.unwrap(), 4);
        for _ in 0..2 {
            assert_eq!(far.read_buf(&mut buf).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    });
}

#[test]
fn a_client_hello_may_come_one_byte_at_a_time() {
    run(async {
        let (client, config) = contexts();
        let ((near, middle), (out, far)) = (pair().await, pair().await);
        let relay = spawn(async move {
            let (mut from_client, mut to_client) = middle.into_split();
            let (mut from_server, mut to_server) = out.into_split();
            to_server.as_ref().set_nodelay(true).unwrap();
            let slowly = async {
                while let Ok(byte) = from_client.read_u8().await {
                    to_server.write_u8(byte).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            tokio::join!(slowly, tokio::io::copy(&mut from_server, &mut to_client)).1.unwrap();
        });
        let (near, far) = shake((near, far), &client, &config).await;
        let (near, far) = (near.unwrap(), far.unwrap());
        near.write_all(b"hello").await.unwrap();
        let mut buf = Vec::with_capacity(64);
        while buf.len() < 5 {
            assert!(far.read_buf(&mut buf).await.unwrap() > 0);
        }
        assert_eq!(buf, b"hello");
        drop((near, far));
        relay.await.unwrap();
    });
}

#[test]
fn bytes_read_to_detect_tls_are_not_lost() {
    run(async {
        let (client, config) = contexts();
        let (near, mut far) = pair().await;
        let server = async {
            let mut prefix = vec![0; 100];
            far.read_exact(&mut prefix).await.unwrap();
            Io::accept_tls(far, prefix, config).await
        };
        let (near, far) = tokio::join!(Io::connect_tls(near, &client, Some(Alpn::H2)), server);
        let server = spawn(echo(Rc::new(far.unwrap())));
        assert_eq!(exchange(&near.unwrap(), b"hello").await.unwrap(), b"hello");
        server.await.unwrap().unwrap();
    });
}

#[test]
fn tickets_do_not_make_a_connection_stale_and_the_rest_does() {
    run(async {
        let (near, far) = secured().await;
        // The ticket of the server is there, unread.
        arrival(&near).await;
        assert!(!near.is_stale());
        near.shrink();
        far.write_all(b"x").await.unwrap();
        arrival(&near).await;
        assert!(near.is_stale());

        let (near, far) = secured().await;
        far.shutdown().await.unwrap();
        while !near.is_stale() {
            arrival(&near).await;
        }

        let (near, far) = secured().await;
        drop(far);
        while !near.is_stale() {
            arrival(&near).await;
        }
    });
}

#[test]
fn the_wrong_server_is_refused_and_both_say_why() {
    run(async {
        let ca = Ca::new("root");
        let (web, evil) = (identity(&ca.issue_to(WEB), &ca.pem), identity(&ca.issue_to(WEB), &ca.pem));
        let (near, far) = shake(pair().await, &mesh_client(&web, API), &server(&evil)).await;
        let refusal = near.err().unwrap();
        assert_eq!((refusal.reason, refusal.repeat), (Reason::TlsCertificateError, Repeat::Unprocessed));
        assert!(refusal.details.contains(WEB) && refusal.details.contains(API), "{refusal}");
        let alert = far.err().unwrap();
        assert_eq!(alert.reason, Reason::TlsAlertReceived);
        assert!(alert.details.contains("refused our certificate with the alert certificate_unknown"), "{alert}");
    });
}

#[test]
fn a_client_of_another_root_is_refused_and_learns_it_from_its_first_read_or_write() {
    run(async {
        let (ca, stranger) = (Ca::new("root"), Ca::new("stranger"));
        // The client knows the server's root, and has a certificate of its own.
        let web = identity(&stranger.issue_to(WEB), &ca.pem);
        let api = identity(&ca.issue_to(API), &ca.pem);
        let (near, far) = shake(pair().await, &mesh_client(&web, API), &server(&api)).await;
        let refusal = far.err().unwrap();
        assert_eq!(refusal.reason, Reason::TlsCertificateError);
        assert!(refusal.details.contains("no root in the trust bundle has signed it"), "{refusal}");
        let near = near.unwrap();
        let error = match near.write_all(&[0; 64 * 1024]).await {
            Ok(()) => read_all(&near).await.unwrap_err(),
            Err(e) => e,
        };
        let learnt = failure::of_io(&error, Side::Server, "api").unwrap_or_else(|| panic!("{error}"));
        assert_eq!(learnt.reason, Reason::TlsAlertReceived);
        assert!(learnt.details.contains("unknown_ca"), "{learnt}");
    });
}

#[test]
fn plaintext_and_half_a_hello_are_refused() {
    run(async {
        let (_, config) = contexts();
        let (near, far) = pair().await;
        Io::plain(near).write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let refusal = Io::accept_tls(far, Vec::new(), Arc::clone(&config)).await.err().unwrap();
        assert_eq!(refusal.reason, Reason::TlsProtocolError);
        assert!(refusal.details.contains("is no TLS"), "{refusal}");

        let (near, far) = pair().await;
        Io::plain(near).write_all(&[22, 3, 1, 1, 0, 1]).await.unwrap();
        let refusal = Io::accept_tls(far, Vec::new(), config).await.err().unwrap();
        assert_eq!(refusal.reason, Reason::TlsProtocolError);
        assert!(refusal.details.contains("in the middle of the TLS handshake"), "{refusal}");
    });
}

#[test]
fn broken_ciphertext_ends_the_stream_for_good() {
    run(async {
        let (near, far) = secured().await;
        near.write_all(b"fine").await.unwrap();
        let forged = [&[23, 3, 3, 0, 32][..], &[9; 32]].concat();
        assert_eq!(SockRef::from(&near.tcp.borrow().fd().unwrap()).send(&forged).unwrap(), forged.len());
        let mut buf = Vec::with_capacity(64);
        assert_eq!(far.read_buf(&mut buf).await.unwrap(), 4);
        for _ in 0..2 {
            let error = far.read_buf(&mut buf).await.unwrap_err();
            assert_eq!(failure::of_io(&error, Side::Client, "web").unwrap().reason, Reason::TlsProtocolError);
        }
        assert!(far.is_stale());
    });
}

#[test]
fn sessions_are_resumed_within_a_context_and_not_beyond() {
    run(async {
        let ca = Ca::new("root");
        let (web, api) = (identity(&ca.issue_to(WEB), &ca.pem), identity(&ca.issue_to(API), &ca.pem));
        let (client, config) = (mesh_client(&web, API), server(&api));
        let resumed = RefCell::new(Vec::new());
        let call = async |client: &ClientContext, config: &Arc<ServerConfig>| {
            let (near, far) = shake(pair().await, client, config).await;
            let (near, far) = (near.unwrap(), far.unwrap());
            far.write_all(b"x").await.unwrap();
            // Takes in the ticket, too.
            near.read_buf(&mut Vec::with_capacity(8)).await.unwrap();
            let (c, s) = (near.tls().unwrap(), far.tls().unwrap());
            assert_eq!((c.peer_identity.as_deref(), s.peer_identity.as_deref()), (Some(API), Some(WEB)));
            assert_eq!(c.resumed, s.resumed);
            resumed.borrow_mut().push(c.resumed);
        };
        call(&client, &config).await;
        call(&client, &config).await;
        // The same identities, loaded again: neither side knows the sessions of before.
        call(&client, &server(&api)).await;
        call(&mesh_client(&web, API), &config).await;
        assert_eq!(*resumed.borrow(), [false, true, false, false]);
    });
}

#[test]
fn a_stream_is_due_when_there_is_plaintext_and_only_then() {
    run(async {
        let (near, far) = secured().await;
        near.write_all(b"four").await.unwrap();
        let mut two = Vec::with_capacity(2);
        assert_eq!(far.read_buf(&mut two).await.unwrap(), 2);
        let due = async |io: &Io| std::future::poll_fn(|cx| Poll::Ready(io.poll_due(cx).is_ready())).await;
        assert!(due(&far).await, "rustls holds the rest, of which the socket knows nothing");
        let mut rest = Vec::with_capacity(64);
        assert_eq!(far.read_buf(&mut rest).await.unwrap(), 2);
        assert!(std::future::poll_fn(|cx| Poll::Ready(far.poll_read_buf(cx, &mut rest).is_pending())).await);
        assert!(!due(&far).await);
        let waiting = std::future::poll_fn(|cx| far.poll_readable(cx));
        let (_, written) = tokio::join!(waiting, near.write_all(b"more"));
        written.unwrap();
        near.shutdown().await.unwrap();
        let mut end = Vec::with_capacity(64);
        assert_eq!(far.read_buf(&mut end).await.unwrap(), 4);
        std::future::poll_fn(|cx| far.poll_readable(cx)).await;
        assert_eq!(far.read_buf(&mut end).await.unwrap(), 0);
        assert!(due(&far).await, "the end is told as often as it is asked for");
    });
}
