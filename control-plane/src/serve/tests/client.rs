//! A proxy's end of the stream.

use hyper_util::rt::TokioIo;
use outrigger_config::{
    discovery::{ControlMessage, Pod, Subscribe, Unsubscribe, discovery_client::DiscoveryClient},
    spiffe::SpiffeId,
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

use super::*;
use crate::ca::PrivateKey;

pub(super) struct Client {
    out: mpsc::Sender<ProxyMessage>,
    messages: Result<Streaming<ControlMessage>, Status>,
}

/// The least that HTTP/2 begins with.
const WINDOW: u32 = 65_535;
/// For what must come.
const LONG: Duration = Duration::from_secs(10);
/// For what must not.
const SHORT: Duration = Duration::from_millis(150);

impl Client {
    /// With a certificate of that identity, or without any.
    pub(super) async fn connect(world: &World, identity: Option<&str>) -> Self {
        let config = Arc::new(config(world, identity));
        let address = world.address;
        let connector = tower::service_fn(move |_| {
            let connector = TlsConnector::from(Arc::clone(&config));
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("localhost").unwrap();
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        // Otherwise the client takes megabytes that nobody has read.
        let endpoint = Endpoint::from_static("http://localhost").initial_stream_window_size(WINDOW);
        let channel = endpoint.connect_with_connector(connector).await.expect("a connection");
        let (out, said) = mpsc::channel(16);
        let mut client = DiscoveryClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
        let messages = client.stream(ReceiverStream::new(said)).await.map(Response::into_inner);
        Self { out, messages }
    }

    pub(super) async fn hello(&mut self, namespace: &str, pod: &str, uid: &str) {
        self.hello_of(PROTOCOL, namespace, pod, uid).await;
    }

    pub(super) async fn hello_of(&mut self, protocol: u32, namespace: &str, pod: &str, uid: &str) {
        let pod = Pod { namespace: namespace.into(), name: pod.into(), uid: uid.into(), ..Pod::default() };
        self.say(Hello { protocol, proxy_version: "test".into(), pod: Some(pod) }.into()).await;
    }

    pub(super) async fn subscribe(&mut self, key: &str, known: &str) {
        self.say(Subscribe { key: key.into(), known_version: known.into() }.into()).await;
    }

    /// Asks for what is no key, without end and without reading an answer; counts what was taken.
    pub(super) async fn flood(&mut self, taken: &mut usize) {
        let junk = || Said::from(Subscribe { key: "junk/".repeat(100), known_version: String::new() }).0;
        while self.out.send(ProxyMessage { message: Some(junk()) }).await.is_ok() {
            *taken += 1;
        }
        std::future::pending().await
    }

    pub(super) async fn unsubscribe(&mut self, key: &str) {
        self.say(Unsubscribe { key: key.into() }.into()).await;
    }

    pub(super) async fn acknowledge(&mut self, key: &str, version: &str) {
        self.say(Acknowledge { key: key.into(), version: version.into(), warnings: Vec::new() }.into()).await;
    }

    /// What a newer proxy might say.
    pub(super) async fn nothing(&mut self) {
        drop(self.out.send(ProxyMessage { message: None }).await);
    }

    pub(super) async fn say(&mut self, Said(message): Said) {
        // The server may have ended the stream.
        drop(self.out.send(ProxyMessage { message: Some(message) }).await);
    }

    pub(super) async fn message(&mut self) -> Message {
        match self.next().await {
            Ok(Some(message)) => message.message.expect("a message that this version knows"),
            other => panic!("no message: {other:?}"),
        }
    }

    pub(super) async fn resource(&mut self) -> Resource {
        match self.message().await {
            Message::Resource(resource) => resource,
            other => panic!("no resource: {other:?}"),
        }
    }

    /// The error that ends the stream.
    pub(super) async fn status(&mut self) -> Status {
        self.end().await.expect("an error")
    }

    /// How the stream ends.
    pub(super) async fn end(&mut self) -> Option<Status> {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }

    /// Nothing comes.
    pub(super) async fn silence(&mut self) {
        let messages = self.messages.as_mut().expect("a stream");
        if let Ok(message) = timeout(SHORT, messages.message()).await {
            panic!("not silent: {message:?}");
        }
    }

    async fn next(&mut self) -> Result<Option<ControlMessage>, Status> {
        let messages = self.messages.as_mut().map_err(|status| status.clone())?;
        timeout(LONG, messages.message()).await.expect("a message within ten seconds")
    }
}

/// A message of a proxy.
pub(super) struct Said(Message_);
use outrigger_config::discovery::proxy_message::Message as Message_;

macro_rules! said {
    ($($type:ident),*) => {
        $(impl From<outrigger_config::discovery::$type> for Said {
            fn from(message: outrigger_config::discovery::$type) -> Self {
                Self(Message_::$type(message))
            }
        })*
    };
}

said!(Hello, Subscribe, Unsubscribe, Acknowledge, Refuse);

/// TLS of a peer of that identity, or without any.
pub(super) fn config(world: &World, identity: Option<&str>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(world.authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKey::generate().unwrap();
            let id = SpiffeId::parse(identity).unwrap();
            let issued = world.authority.issue(&id, &key, &[], 3600, crate::cli::now()).unwrap();
            config.with_client_auth_cert(issued.chain, key.to_der()).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
