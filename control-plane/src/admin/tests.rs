//! The port over real sockets.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    index::{Index, Settings},
    observe::Metrics,
    watch::{RESOURCES, Update},
};

struct Port {
    address: SocketAddr,
    live: Arc<Live>,
    shutdown: Arc<Notify>,
    _leads: watch::Sender<bool>,
    identity: watch::Sender<bool>,
    _stopping: watch::Sender<bool>,
}

async fn port() -> Port {
    let settings = Settings {
        trust_domain: "cluster.local".into(),
        cluster_domain: "cluster.local".into(),
        mesh_namespace: "mesh".into(),
    };
    let live = Live::new(Index::new(settings), Metrics::new().unwrap());
    let (leads, led) = watch::channel(false);
    let (identity, there) = watch::channel(false);
    let (stopping, stopped) = watch::channel(false);
    let shutdown = Arc::new(Notify::new());
    let admin = Admin {
        live: Arc::clone(&live),
        proxies: Arc::default(),
        replica: "a<b".into(),
        leads: led,
        identity: there,
        stopping: stopped,
        shutdown: Arc::clone(&shutdown),
        started: Instant::now(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Arc::new(admin)));
    Port { address, live, shutdown, _leads: leads, identity, _stopping: stopping }
}

/// Status and the whole answer.
async fn ask(port: &Port, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    stream.write_all(format!("{request}connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
    (status, answer)
}

async fn get(port: &Port, path: &str) -> (u16, String) {
    ask(port, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n")).await
}

#[tokio::test]
async fn ready_means_that_all_is_known_and_certificates_can_be_had() {
    let port = port().await;
    assert_eq!(get(&port, "/livez").await.0, 200);
    let (status, answer) = get(&port, "/readyz?verbose").await;
    assert_eq!(status, 503);
    assert!(answer.contains("endpointslices") && answer.contains("no CA yet"), "{answer}");
    port.live.take(RESOURCES.iter().map(|r| Update::Replace(r.kind, Vec::new(), Instant::now())));
    assert_eq!(get(&port, "/readyz").await.0, 503);
    port.identity.send_replace(true);
    let (status, answer) = get(&port, "/readyz?verbose").await;
    assert!(status == 200 && answer.contains("[+] watches"), "{answer}");
}

#[tokio::test]
async fn only_a_program_of_this_host_ends_it() {
    let port = port().await;
    for request in [
        "POST /shutdown HTTP/1.1\r\nhost: evil.example\r\n",
        "POST /shutdown HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost\r\n",
        "POST /shutdown HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: cross-site\r\n",
    ] {
        assert_eq!(ask(&port, request).await.0, 403, "{request}");
    }
    assert_eq!(get(&port, "/shutdown").await.0, 405);
    assert_eq!(ask(&port, "POST /metrics HTTP/1.1\r\nhost: localhost\r\n").await.0, 405);
    assert_eq!(ask(&port, "POST /shutdown HTTP/1.1\r\nhost: 127.0.0.1:9981\r\n").await.0, 200);
    tokio::time::timeout(Duration::from_secs(5), port.shutdown.notified()).await.unwrap();
}

#[tokio::test]
async fn the_page_shows_what_a_replica_is_called_as_text() {
    let port = port().await;
    let (status, page) = get(&port, "/").await;
    assert!(status == 200 && page.contains("a&lt;b") && !page.contains("a<b"), "{page}");
    assert!(get(&port, "/metrics").await.1.contains("outrigger_control_plane_streams 0"));
    assert_eq!(get(&port, "/nothing").await.0, 404);
    let (status, answer) = get(&port, "/explain").await;
    assert!(status == 400 && answer.contains("namespace=NAMESPACE"), "{answer}");
    assert!(get(&port, "/proxies").await.1.ends_with("[]\n"));
}
