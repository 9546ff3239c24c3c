//! What peers hold that have not proved who they are.

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{super::accept, client::config, *};

/// More than there are turns for handshakes.
const SILENT: usize = 200;
const LONG: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_no_proxy_out_and_are_closed() {
    let world = World::start(Limits::default()).await;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(world.address).await.unwrap());
    }
    let mut proxy = timeout(LONG / 2, world.proxy("shop", "client")).await.expect("a turn");
    proxy.subscribe("trust", "").await;
    assert_eq!(proxy.resource().await.key, "trust");
    let closed = |m: &crate::observe::Metrics| m.handshakes_failed.with_label_values(&["silent"]).get() == 200;
    world.wait("all that say nothing are closed", closed).await;
    for mut stream in silent {
        // Closed, with or without a reset.
        assert!(matches!(timeout(LONG, stream.read(&mut [0])).await, Ok(Ok(0) | Err(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_take_no_turn_of_another_address() {
    let world = World::start(Limits::default()).await;
    let mut stuck = Vec::new();
    for _ in 0..SILENT {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(world.address).await.unwrap();
        stream.write_all(&[22]).await.unwrap();
        stuck.push(stream);
    }
    timeout(Duration::from_secs(2), world.proxy("shop", "client")).await.expect("a turn at once");
    let over = |m: &crate::observe::Metrics| {
        let failed = |reason| m.handshakes_failed.with_label_values(&[reason]).get();
        failed("timeout") + failed("busy") == 200
    };
    world.wait("all that do not go on are closed", over).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_certificate_ends_and_one_with_it_does_not() {
    let world = World::start(Limits::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut connections = accept::start(listener, Arc::clone(&world.tls), Arc::clone(&world.live.metrics), SOON);

    let _nameless = connect(&world, address, None).await;
    let mut ours = connections.recv().await.unwrap().unwrap();
    let ended = timeout(LONG, ours.read(&mut [0])).await.expect("an end");
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::TimedOut);

    let _named = connect(&world, address, Some("spiffe://cluster.local/ns/shop/sa/web")).await;
    let mut ours = connections.recv().await.unwrap().unwrap();
    assert!(timeout(3 * SOON, ours.read(&mut [0])).await.is_err(), "it goes on");
}

async fn connect(world: &World, address: std::net::SocketAddr, identity: Option<&str>) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config(world, identity)));
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
}
