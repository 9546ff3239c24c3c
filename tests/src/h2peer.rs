//! HTTP/2 peers on the `h2` crate: a client, and an origin whose path says what it does.
//!
//! The proxy stands on the same crate; so these are for what only a cooperating peer can show (trailers,
//! resets, flow control), while curl, grpcio, h2spec and [`frames`](crate::frames) are the independent ones.

use std::{
    future::{Future, poll_fn},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client, server};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use crate::{LONG, message::Fields};

/// Runs a future on a runtime of its own, within the deadline.
#[track_caller]
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let timed = runtime.block_on(async { tokio::time::timeout(LONG + LONG, future).await });
    timed.expect("the exchange ends within its deadline")
}

/// An answer as a client got it.
#[derive(Debug, Clone, Default)]
pub struct H2Reply {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: Fields,
    /// The body.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Fields,
}

impl H2Reply {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::message::field(&self.headers, name)
    }

    /// The first value of a trailer.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        crate::message::field(&self.trailers, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Opens a connection; it is driven by a task of the current runtime.
pub async fn connect(to: SocketAddr) -> client::SendRequest<Bytes> {
    let tcp = TcpStream::connect(to).await.expect("the proxy accepts");
    // A window of the connection above that of a stream: a stream that is not read must not stop the others.
    let mut builder = client::Builder::new();
    builder.initial_connection_window_size(1 << 20);
    let (sender, connection) = builder.handshake(tcp).await.expect("the proxy speaks HTTP/2");
    tokio::spawn(async move { connection.await.ok() });
    sender.ready().await.expect("an open connection")
}

/// A request for `path` at the host `app`.
#[must_use]
pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().method(method).uri(format!("http://app{path}"));
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).expect("a valid request")
}

/// Sends a whole request and reads the whole answer.
pub async fn call(
    sender: &client::SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
    trailers: &[(&'static str, &str)],
) -> Result<H2Reply, h2::Error> {
    let mut sender = sender.clone().ready().await?;
    let bodyless = body.is_empty() && trailers.is_empty();
    let (response, mut stream) = sender.send_request(request, bodyless)?;
    if !bodyless {
        // An answer may come, and end the exchange, before the request is sent; that is not this side's error.
        send(&mut stream, body.to_vec(), trailers.is_empty()).await.ok();
        if !trailers.is_empty() {
            let fields = trailers.iter().map(|(n, v)| (n.parse().expect("a name"), v.parse().expect("a value")));
            stream.send_trailers(fields.collect()).ok();
        }
    }
    read(response.await?).await
}

/// `GET path` on a connection of its own.
#[must_use]
#[track_caller]
pub fn get(to: SocketAddr, path: &str) -> H2Reply {
    run(async { call(&connect(to).await, request("GET", path, &[]), b"", &[]).await.expect("an answer") })
}

/// Reads an answer to its end.
pub async fn read(response: Response<RecvStream>) -> Result<H2Reply, h2::Error> {
    let (parts, mut stream) = response.into_parts();
    let mut reply = H2Reply { status: parts.status.as_u16(), headers: fields(&parts.headers), ..H2Reply::default() };
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        reply.body.extend_from_slice(&data);
    }
    reply.trailers = stream.trailers().await?.map(|t| fields(&t)).unwrap_or_default();
    Ok(reply)
}

/// Sends bytes as the peer's window allows.
pub async fn send(stream: &mut SendStream<Bytes>, body: impl Into<Bytes>, end: bool) -> Result<(), h2::Error> {
    let mut rest: Bytes = body.into();
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len().min(CHUNK));
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(0)) => {}
            Some(Ok(n)) => stream.send_data(rest.split_to(n.min(rest.len())), false)?,
            Some(Err(error)) => return Err(error),
            None => return Err(Reason::STREAM_CLOSED.into()),
        }
    }
    if end { stream.send_data(Bytes::new(), true) } else { Ok(()) }
}

/// Bytes asked for at once: a frame of the default size.
const CHUNK: usize = 16_384;

/// What the origin got.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `:authority`.
    pub authority: String,
    /// Header fields.
    pub headers: Fields,
    /// How it ended, if it is one of the paths that wait: `reset CODE` or `closed`.
    pub ended: Option<String>,
}

impl Seen {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::message::field(&self.headers, name)
    }
}

/// A running HTTP/2 origin (prior knowledge).
#[derive(Debug)]
pub struct H2Origin {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

impl H2Origin {
    /// Starts it. What the first segment of the path makes it do:
    ///
    /// `echo` sends the body and the trailers back as they come; `sink` answers with the number of body bytes;
    /// `big/N` sends N bytes; `hang` never answers; `stuck` answers and never reads; `reset`, `refuse` reset the stream;
    /// `refuse-once` only the first time; `cut` resets within the body; `early` answers without reading and resets with
    /// NO_ERROR; `grpc-flaky/CODE/MS` says `grpc-status: CODE` without a body the first time, with `grpc-retry-pushback-ms: MS`
    /// if that is said, and then 0; `goaway` answers and shuts the connection down; `trailers` ends with trailers; `status/N` says so;
    /// all else answers `METHOD PATH`.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("a bound listener");
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
                while let Ok((tcp, _)) = listener.accept().await {
                    serving.connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(connection(tcp, Arc::clone(&serving)));
                }
            });
        });
        Self { address, state }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it got so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last request.
    #[must_use]
    #[track_caller]
    pub fn last(&self) -> Seen {
        self.requests().pop().expect("the origin got a request")
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn connection(tcp: TcpStream, state: Arc<State>) {
    let Ok(mut connection) = server::handshake(tcp).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        if request.uri().path() == "/goaway" {
            connection.graceful_shutdown();
        }
        tokio::spawn(serve(request, respond, Arc::clone(&state)));
    }
}

async fn serve(request: Request<RecvStream>, mut respond: server::SendResponse<Bytes>, state: Arc<State>) {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or(String::new(), ToString::to_string);
    let authority = parts.uri.authority().map_or(String::new(), ToString::to_string);
    let text = format!("{} {path}", parts.method);
    let seen = Seen {
        method: parts.method.to_string(),
        path: path.clone(),
        authority,
        headers: fields(&parts.headers),
        ended: None,
    };
    let (index, first) = {
        let mut all = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = all.iter().all(|s| s.path != path);
        all.push(seen);
        (all.len() - 1, first)
    };
    let mut segments = path.trim_start_matches('/').split(['/', '?']);
    let (word, number) = (segments.next().unwrap_or_default(), segments.next().and_then(|n| n.parse::<usize>().ok()));
    let result = match word {
        "hang" => {
            let how = poll_fn(|cx| respond.poll_reset(cx)).await;
            let how = how.map_or_else(|_| "closed".to_owned(), |reason| format!("reset {}", u32::from(reason)));
            state.seen.lock().unwrap_or_else(PoisonError::into_inner)[index].ended = Some(how);
            return;
        }
        "reset" => return respond.send_reset(Reason::INTERNAL_ERROR),
        "refuse" => return respond.send_reset(Reason::REFUSED_STREAM),
        "refuse-once" if first => return respond.send_reset(Reason::REFUSED_STREAM),
        "echo" => echo(body, respond).await,
        "sink" => sink(body, respond).await,
        "big" => big(number.unwrap_or(0), respond).await,
        "cut" => cut(respond).await,
        "early" => early(body, respond).await,
        "stuck" => stuck(body, respond).await,
        "trailers" => trailers(respond).await,
        "grpc-flaky" => {
            let code = if first { number.unwrap_or(14) } else { 0 };
            trailers_only(code, segments.next(), respond)
        }
        "status" => plain(u16::try_from(number.unwrap_or(200)).unwrap_or(500), "", respond).await,
        _ => plain(200, &text, respond).await,
    };
    // A client that went away is the test's own doing.
    result.ok();
}

type Served = Result<(), h2::Error>;

fn head(status: u16) -> Response<()> {
    Response::builder().status(status).header("x-origin", "h2").body(()).expect("a valid response")
}

async fn plain(status: u16, text: &str, mut respond: server::SendResponse<Bytes>) -> Served {
    let mut stream = respond.send_response(head(status), text.is_empty())?;
    if text.is_empty() { Ok(()) } else { send(&mut stream, text.as_bytes().to_vec(), true).await }
}

async fn echo(mut body: RecvStream, mut respond: server::SendResponse<Bytes>) -> Served {
    let mut stream = respond.send_response(head(200), false)?;
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        send(&mut stream, data, false).await?;
    }
    match body.trailers().await? {
        Some(trailers) => stream.send_trailers(trailers),
        None => stream.send_data(Bytes::new(), true),
    }
}

async fn sink(mut body: RecvStream, respond: server::SendResponse<Bytes>) -> Served {
    let mut count = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        count += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    plain(200, &count.to_string(), respond).await
}

async fn big(size: usize, mut respond: server::SendResponse<Bytes>) -> Served {
    let block = Bytes::from(vec![b'x'; CHUNK * 4]);
    let mut stream = respond.send_response(head(200), false)?;
    let mut left = size;
    while left > 0 {
        let part = block.slice(..left.min(block.len()));
        left -= part.len();
        send(&mut stream, part, false).await?;
    }
    stream.send_data(Bytes::new(), true)
}

async fn cut(mut respond: server::SendResponse<Bytes>) -> Served {
    let mut stream = respond.send_response(head(200), false)?;
    send(&mut stream, "part", false).await?;
    // Past the frame that is queued, so that the client sees the part first.
    tokio::time::sleep(Duration::from_millis(20)).await;
    stream.send_reset(Reason::INTERNAL_ERROR);
    Ok(())
}

async fn early(body: RecvStream, mut respond: server::SendResponse<Bytes>) -> Served {
    let mut stream = respond.send_response(head(413), false)?;
    send(&mut stream, "early", true).await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    respond.send_reset(Reason::NO_ERROR);
    drop(body);
    Ok(())
}

async fn stuck(body: RecvStream, mut respond: server::SendResponse<Bytes>) -> Served {
    let mut stream = respond.send_response(head(200), false)?;
    poll_fn(|cx| stream.poll_reset(cx)).await?;
    drop(body);
    Ok(())
}

/// A gRPC answer that is one head.
fn trailers_only(code: usize, pushback: Option<&str>, mut respond: server::SendResponse<Bytes>) -> Served {
    let mut head = Response::builder().status(200).header("content-type", "application/grpc");
    head = head.header("grpc-status", code);
    if let Some(pushback) = pushback.filter(|_| code != 0) {
        head = head.header("grpc-retry-pushback-ms", pushback);
    }
    respond.send_response(head.body(()).expect("a valid response"), true).map(drop)
}

async fn trailers(mut respond: server::SendResponse<Bytes>) -> Served {
    let mut stream = respond.send_response(head(200), false)?;
    send(&mut stream, "body", false).await?;
    let mut fields = HeaderMap::new();
    fields.insert("x-check", "passed".parse().expect("a value"));
    stream.send_trailers(fields)
}

fn fields(map: &HeaderMap) -> Fields {
    map.iter().map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect()
}
