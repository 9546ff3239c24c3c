//! The services of the double, and its connections.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use outrigger_config::discovery::{
    Absent, ControlMessage, IssueRequest, IssueResponse, ProxyMessage, Resource, Subscribe, TrustBundle, Welcome,
    control_message, discovery_server::Discovery, identity_server::Identity, proxy_message::Message, resource::Body,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::mpsc,
};
use tokio_rustls::server::TlsStream;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::server::Connected};

use super::{Peer, State, der};
use crate::pki::Ca;

#[derive(Clone)]
pub(super) struct Double {
    pub(super) ca: Arc<Ca>,
    pub(super) state: Arc<Mutex<State>>,
}

impl Double {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn got(&self, stream: usize, message: Message) {
        let mut state = self.state();
        state.got.push((stream, message.clone()));
        match message {
            Message::Subscribe(Subscribe { key, known_version }) => {
                let State { resources, streams, .. } = &mut *state;
                let Some(peer) = streams.iter_mut().find(|p| p.number == stream) else { return };
                peer.has.insert(key.clone(), known_version);
                let lasting = key.starts_with("address/") || key.starts_with("name/");
                let Some(found) = resources.get(&key) else {
                    if lasting {
                        let body = Some(Body::Absent(Absent { reason: "not of the mesh".into() }));
                        peer.put(Resource { key, version: "absent".into(), body });
                    }
                    return;
                };
                let first = match &found.body {
                    Some(Body::Binding(binding)) => vec![binding.service.clone()],
                    Some(Body::Service(service)) => service.references.clone(),
                    _ => Vec::new(),
                };
                for resource in first.iter().filter_map(|key| resources.get(key)).chain([found]) {
                    peer.put(resource.clone());
                }
            }
            Message::Unsubscribe(unsubscribe) => {
                if let Some(peer) = state.streams.iter_mut().find(|p| p.number == stream) {
                    // What was sent for it alone goes with it; here nothing is shared.
                    peer.has.remove(&unsubscribe.key);
                    peer.has.retain(|key, _| !key.starts_with("service/"));
                }
            }
            Message::Hello(_) | Message::Acknowledge(_) | Message::Refuse(_) => {}
        }
    }
}

#[tonic::async_trait]
impl Discovery for Double {
    type StreamStream = ReceiverStream<Result<ControlMessage, Status>>;

    async fn stream(&self, request: Request<Streaming<ProxyMessage>>) -> Result<Response<Self::StreamStream>, Status> {
        let mut incoming = request.into_inner();
        let (send, receiver) = mpsc::channel(4096);
        let welcome = Welcome {
            protocol: 1,
            replica: "double".into(),
            trust_domain: "cluster.local".into(),
            cluster_domain: "cluster.local".into(),
            mesh_namespace: "outrigger-system".into(),
            ..Welcome::default()
        };
        let stream = {
            let mut state = self.state();
            let number = state.opened;
            state.opened += 1;
            let peer = Peer { number, send, has: HashMap::new() };
            peer.send(control_message::Message::Welcome(welcome));
            state.streams.push(peer);
            number
        };
        let double = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = incoming.next().await {
                if let Some(message) = message.message {
                    double.got(stream, message);
                }
            }
        });
        while self.state().holds {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl Identity for Double {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let token = request.metadata().get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let mut state = self.state();
        state.tokens.push(token.trim_start_matches("Bearer ").to_owned());
        if state.refuses {
            return Err(Status::permission_denied("the test says no"));
        }
        state.issued += 1;
        let lifetime = state.lifetime;
        drop(state);
        let chain = self.ca.sign(&request.get_ref().csr, lifetime).map_err(Status::invalid_argument)?;
        Ok(Response::new(IssueResponse { chain: vec![chain.into()], trust: Some(self.ca.bundle()) }))
    }
}

impl Ca {
    /// The root, as proxies are told it.
    #[must_use]
    pub fn bundle(&self) -> TrustBundle {
        TrustBundle { trust_domain: "cluster.local".into(), roots: vec![der(self.pem()).to_vec().into()] }
    }
}

/// A connection under TLS, as tonic wants it.
pub(super) struct Secured(pub(super) TlsStream<TcpStream>);

impl Connected for Secured {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
