//! The discovery service: gRPC over TLS, one stream for each proxy.
//!
//! In the order of a stream's life: its connection is accepted (`accept`), its peer identified (`peer`) and let in
//! (`admit`), then messages go both ways (`stream`) according to what it subscribes to (`session`).

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use outrigger_config::discovery::{
    Hello, PROTOCOL, ProxyMessage, Welcome, control_message, discovery_server, proxy_message::Message,
};
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    server::{Grpc, NamedService, StreamingService},
    service::Routes,
    transport::Server,
};
use tower::Service;

mod accept;
mod admit;
mod codec;
mod peer;
mod proxies;
mod session;
mod stream;
#[cfg(test)]
mod tests;

pub use self::{peer::Peer, proxies::Proxies, stream::Limits};

use self::{
    codec::RawCodec,
    session::Session,
    stream::{End, Stream},
};
use crate::live::{Live, encode};

/// The service that proxies talk to. Clones are the same service.
#[derive(Debug, Clone)]
pub struct Discovery {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    live: Arc<Live>,
    replica: String,
    limits: Limits,
    proxies: Arc<Proxies>,
    ids: AtomicU64,
    stop: watch::Sender<Option<Duration>>,
}

/// Least and most time over which proxies reconnect when a replica stops: a millisecond for each, and never so long that
/// one is without for five seconds.
const SPREAD: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));
/// A message of a proxy: a refusal with its reasons is the largest.
const MAX_MESSAGE: usize = 256 * 1024;
/// Dead peers are found after the sum of both.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(10));
/// One discovery stream, and `Issue` now and then.
const STREAMS: u32 = 16;

impl Discovery {
    /// Tells what `live` knows; `replica` is for people.
    #[must_use]
    pub fn new(live: Arc<Live>, replica: String, limits: Limits) -> Self {
        let shared = Shared {
            live,
            replica,
            limits,
            proxies: Arc::default(),
            ids: AtomicU64::new(1),
            stop: watch::Sender::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Who is connected.
    #[must_use]
    pub fn proxies(&self) -> &Arc<Proxies> {
        &self.shared.proxies
    }

    /// Sends all proxies elsewhere; new streams are refused. Gives the time after which all have gone.
    pub fn stop(&self) -> Duration {
        let each = Duration::from_millis(u64::try_from(self.shared.proxies.len()).unwrap_or(u64::MAX));
        let spread = if each.is_zero() { Duration::ZERO } else { each.clamp(SPREAD.0, SPREAD.1) };
        self.shared.stop.send_replace(Some(spread));
        spread + self.shared.limits.grace
    }

    async fn serve(self, request: Request<Streaming<ProxyMessage>>) -> Result<Response<ReceiverStream<Sent>>, Status> {
        let peer =
            request.extensions().get::<Peer>().cloned().ok_or_else(|| Status::internal("a connection of no peer"))?;
        if self.shared.stop.borrow().is_some() {
            return Err(self.refused(Status::unavailable("this replica stops")));
        }
        // Room for one: the next message is made when this one has been taken.
        let (out, sent) = mpsc::channel(1);
        tokio::spawn(self.converse(peer, request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(sent)))
    }

    /// A stream from `Hello` to its end. Answers at once and checks then, so that a proxy may wait for either.
    async fn converse(self, peer: Peer, mut inbound: Streaming<ProxyMessage>, out: mpsc::Sender<Sent>) {
        let status = match self.greet(&peer, &mut inbound).await {
            Ok((hello, subscriber)) => {
                let end = self.attend(&peer, &hello, subscriber, &mut inbound, &out).await;
                self.shared.live.metrics.streams_ended.with_label_values(&[end.reason()]).inc();
                end.status()
            }
            Err(status) => Some(self.refused(status)),
        };
        if let Some(status) = status {
            // It may be gone, or take nothing: then the end of the stream is all it gets.
            drop(out.try_send(Err(status)));
        }
    }

    async fn greet(
        &self,
        peer: &Peer,
        inbound: &mut Streaming<ProxyMessage>,
    ) -> Result<(Hello, crate::view::Subscriber), Status> {
        let first = timeout(self.shared.limits.hello, inbound.message());
        let first = first.await.map_err(|_| Status::deadline_exceeded("no `Hello`"))??;
        let Some(Message::Hello(hello)) = first.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("the first message is not `Hello`"));
        };
        let trust_domain = self.shared.live.read(|index| index.settings().trust_domain.clone());
        let subscriber =
            admit::admit(&self.shared.live, &trust_domain, peer, &hello, self.shared.limits.patience).await?;
        Ok((hello, subscriber))
    }

    async fn attend(
        &self,
        peer: &Peer,
        hello: &Hello,
        subscriber: crate::view::Subscriber,
        inbound: &mut Streaming<ProxyMessage>,
        out: &mpsc::Sender<Sent>,
    ) -> End {
        let shared = &self.shared;
        let id = shared.ids.fetch_add(1, Ordering::Relaxed);
        if out.send(Ok(self.welcome())).await.is_err() {
            return End::Closed;
        }
        tracing::debug!(pod = ?subscriber.pod, version = hello.proxy_version, "a proxy is connected");
        let (proxy, questions) = shared.proxies.enter(id, subscriber.pod.clone(), hello);
        shared.live.metrics.streams.inc();
        let left = Left { shared, id };
        let mut stop = shared.stop.subscribe();
        if stop.borrow().is_some() {
            // It was let in while we began to stop.
            stop.mark_changed();
        }
        let stream = Stream {
            session: Session::new(Arc::clone(&shared.live), id, subscriber),
            proxy: &proxy,
            questions,
            stop,
            expires: Instant::now() + peer.lifetime(SystemTime::now()),
            limits: shared.limits,
        };
        let end = stream.run(inbound, out).await;
        drop(left);
        end
    }

    fn welcome(&self) -> Bytes {
        let welcome = self.shared.live.read(|index| {
            let settings = index.settings();
            Welcome {
                protocol: PROTOCOL,
                control_plane_version: env!("CARGO_PKG_VERSION").into(),
                replica: self.shared.replica.clone(),
                trust_domain: settings.trust_domain.clone(),
                cluster_domain: settings.cluster_domain.clone(),
                mesh_namespace: settings.mesh_namespace.clone(),
            }
        });
        encode(control_message::Message::Welcome(welcome))
    }

    /// Counts a stream that was not let in.
    fn refused(&self, status: Status) -> Status {
        let reason = match status.code() {
            tonic::Code::PermissionDenied => "permission_denied",
            tonic::Code::Unavailable => "unavailable",
            tonic::Code::FailedPrecondition => "protocol",
            tonic::Code::InvalidArgument | tonic::Code::DeadlineExceeded => "misuse",
            _ => "closed",
        };
        self.shared.live.metrics.streams_ended.with_label_values(&[reason]).inc();
        status
    }
}

/// What TLS is spoken with on the next connection.
pub type Tls = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

type Sent = Result<Bytes, Status>;

/// Leaves the list of proxies however the stream ends.
struct Left<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.shared.proxies.leave(self.id);
        self.shared.live.metrics.streams.dec();
    }
}

impl StreamingService<ProxyMessage> for Discovery {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Sent>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<ProxyMessage>>) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}

impl Service<http::Request<Body>> for Discovery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// As the generated server does it, but for the codec.
    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            if request.uri().path() != STREAM_PATH {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let mut grpc = Grpc::new(RawCodec).max_decoding_message_size(MAX_MESSAGE);
            Ok(grpc.streaming(this, request).await)
        })
    }
}

impl NamedService for Discovery {
    const NAME: &'static str = discovery_server::SERVICE_NAME;
}

const STREAM_PATH: &str = "/outrigger.discovery.v1alpha1.Discovery/Stream";

/// Serves `routes` until `stop` is done; then lets what runs come to its end.
///
/// # Errors
/// The server cannot be made of its parts.
pub async fn run(
    listener: TcpListener,
    tls: Tls,
    routes: Routes,
    live: &Live,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let connections = accept::start(listener, tls, Arc::clone(&live.metrics), accept::NAMELESS_TIME);
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(STREAMS)
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), stop)
        .await
}
