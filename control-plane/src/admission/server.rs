//! HTTPS for the API server: two paths, bounded in size, time and number.
//!
//! Every pod reaches the port, so a connection is accepted at once and counted, in all and by address, and one that says nothing goes
//! soon; so one alone cannot hold all of it. Beyond a bound the answer is an error or the end, and what then happens to the document is for the webhook's `failurePolicy` to say. The
//! compiler runs on threads of its own, so that a document that takes long holds up no other connection.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use outrigger_config::Cluster;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    mutate::{self, Injector},
    review::{self, BadReview, answer},
};
use crate::{
    identity::serving::Serving,
    places::{Place, Places, speaks},
};

/// Where reviews of documents are sent to.
pub const PATH: &str = "/validate";
/// Where reviews of pods are sent to.
pub const MUTATE: &str = "/mutate";

/// Largest review: the object, the one before it, and what surrounds them. An object of etcd has at most 1.5 MiB.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// Connections at once. An API server keeps a few; there are few API servers. So many addresses would have to be used to the full
/// by somebody who wants all of them.
const MAX_CONNECTIONS: usize = 1024;
/// Of one address. An API server makes a connection for each review that runs, and 200 changes of all kinds run in it at a time;
/// reviews are of pods that are made and of a few kinds that people write.
const PER_ADDRESS: usize = 128;
/// An API server speaks at once, and a handshake takes milliseconds.
const HANDSHAKE_TIME: Duration = Duration::from_secs(3);
/// Compilations at once; the rest wait.
const MAX_COMPILATIONS: usize = 4;
/// Reviews of pods at once, which may wait for the API server; the rest wait. A rollout creates pods by the hundred.
const MAX_INJECTIONS: usize = 32;
/// For head and body, each; the API server itself gives up after 10 s or less.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the next attempt to accept, when the system is out of descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Serves until `stop` is true or its sender is gone. Reviews that are under way by then are answered: one that is cut off
/// would refuse somebody's document for no fault of theirs.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<Serving>>,
    reviewers: Reviewers,
    mut stop: watch::Receiver<bool>,
) {
    let state = Arc::new(State {
        reviewers,
        compilations: Arc::new(Semaphore::new(MAX_COMPILATIONS)),
        injections: Arc::new(Semaphore::new(MAX_INJECTIONS)),
    });
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let places = Places::new(PER_ADDRESS, PER_ADDRESS);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(room) = room(&places, &slots, peer) else {
                    tracing::debug!(%peer, "a connection to the webhook is one too many");
                    continue;
                };
                let (state, stop) = (Arc::clone(&state), stop.clone());
                let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow().webhook));
                connections.spawn(async move {
                    let _room = room;
                    connection(stream, peer, &acceptor, state, stop).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the webhook cannot accept connections");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    drop(timeout(PATIENCE, async { while connections.join_next().await.is_some() {} }).await);
}

/// Who answers.
pub struct Reviewers {
    /// The cluster that documents are judged for.
    pub cluster: Cluster,
    /// Who answers for pods, if anybody does.
    pub injector: Option<Arc<Injector>>,
}

struct State {
    reviewers: Reviewers,
    compilations: Arc<Semaphore>,
    injections: Arc<Semaphore>,
}

/// Room for a connection of `peer`, if there is some.
fn room(places: &Arc<Places>, slots: &Arc<Semaphore>, peer: SocketAddr) -> Option<(Place, OwnedSemaphorePermit)> {
    Some((places.enter(peer.ip())?, Arc::clone(slots).try_acquire_owned().ok()?))
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: &TlsAcceptor,
    state: Arc<State>,
    mut stop: watch::Receiver<bool>,
) {
    if !speaks(&stream).await {
        return;
    }
    let stream = match timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        // An API server that does not trust our certificate ends here: that is worth a line.
        Ok(Err(error)) => return tracing::warn!(%peer, %error, "a TLS handshake with the webhook failed"),
        Err(_) => return,
    };
    let service = service_fn(|request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(respond(request, &state).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stopped(&mut stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the webhook broke");
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone says the same.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn respond(request: Request<Incoming>, state: &Arc<State>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let injector = state.reviewers.injector.clone().filter(|_| path == MUTATE);
    if path != PATH && injector.is_none() {
        return plain(StatusCode::NOT_FOUND, format!("reviews go to {PATH} and {MUTATE}"));
    }
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "reviews are POSTed".to_owned());
    }
    let body = match timeout(PATIENCE, Limited::new(request.into_body(), MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {MAX_BODY} bytes, whole")),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time".to_owned()),
    };
    let answered = timeout(PATIENCE, async {
        match injector {
            Some(injector) => mutate(body, injector, state).await,
            None => compile(body, state).await,
        }
    });
    match answered.await {
        Ok(Ok(answer)) => reviewed(answer),
        Ok(Err(response)) => *response,
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the review takes too long".to_owned()),
    }
}

/// What is sent, or instead of it.
type Answer = Result<Vec<u8>, Box<Response<Full<Bytes>>>>;

/// The permit goes with the thread: a compilation that nobody waits for any more still counts.
async fn compile(body: Bytes, state: &Arc<State>) -> Answer {
    let turn = turn(&state.compilations).await?;
    let shared = Arc::clone(state);
    aside(move || {
        let _turn = turn;
        answer(&body, &shared.reviewers.cluster)
    })
    .await
}

async fn mutate(body: Bytes, injector: Arc<Injector>, state: &Arc<State>) -> Answer {
    let turn = turn(&state.injections).await?;
    let asked = aside(move || review::Request::read(&body)).await?;
    if !mutate::concerns(&asked) {
        return asked.answer(serde_json::json!({ "allowed": true }), &[]).map_err(|bad| failed(&bad));
    }
    let (context, settings) = injector.knowledge(&asked).await.map_err(|error| {
        Box::new(plain(StatusCode::SERVICE_UNAVAILABLE, format!("the pod cannot be reviewed: {error}")))
    })?;
    aside(move || {
        let _turn = turn;
        injector.answer(&asked, &context, &settings)
    })
    .await
}

async fn turn(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Box<Response<Full<Bytes>>>> {
    let stops = |_| Box::new(plain(StatusCode::SERVICE_UNAVAILABLE, "the webhook stops".to_owned()));
    Arc::clone(turns).acquire_owned().await.map_err(stops)
}

/// Work that would hold up other connections, on a thread of its own.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BadReview> + Send + 'static,
) -> Result<T, Box<Response<Full<Bytes>>>> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|bad| failed(&bad)),
        Err(_) => Err(Box::new(plain(StatusCode::INTERNAL_SERVER_ERROR, "the review failed".to_owned()))),
    }
}

fn failed(bad: &BadReview) -> Box<Response<Full<Bytes>>> {
    Box::new(plain(StatusCode::BAD_REQUEST, bad.to_string()))
}

fn reviewed(answer: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer)));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text + "\n")));
    *response.status_mut() = status;
    response
}
