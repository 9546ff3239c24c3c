//! A small HTTP/1 server that does what a closure says and remembers what it got.
//!
//! One thread per connection; it stops accepting when it is dropped. It writes exactly what the test
//! says and never repairs anything, so it can also be a broken server.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use crate::{Request, Response, Wire, ports::free_ports};

/// A running server.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: Mutex<Vec<Request>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    stopped: AtomicBool,
}

impl Origin {
    /// Answers every request with what `handler` returns.
    #[must_use]
    pub fn start(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::scripted(move |wire, connection, origin| {
            while let Ok(Some(mut request)) = wire.request() {
                request.connection = connection;
                origin.record(&request);
                let response = handler(&request);
                if wire.try_send(response.wire(&request.method)).is_err() || response.close {
                    break;
                }
                if request.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) {
                    break;
                }
            }
        })
    }

    /// Answers 200 with `METHOD TARGET` as the body.
    #[must_use]
    pub fn hello() -> Self {
        Self::start(|request| Response::text(format!("{} {}", request.method, request.target)))
    }

    /// Answers 200 with `name` as the body.
    #[must_use]
    pub fn named(name: &'static str) -> Self {
        Self::start(move |_| Response::text(name))
    }

    /// Answers 200 with the request's body as the body.
    #[must_use]
    pub fn echo() -> Self {
        Self::start(|request| Response::text(request.body.clone()))
    }

    /// Runs `script` on every connection: bytes are all its own affair. It gets the number of the
    /// connection, and a recorder for requests.
    #[must_use]
    pub fn scripted(script: impl Fn(&mut Wire, usize, &Recorder) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"), script)
    }

    /// The same on a listener of the caller's.
    #[must_use]
    pub fn on(listener: TcpListener, script: impl Fn(&mut Wire, usize, &Recorder) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().expect("a bound listener");
        let state = Arc::new(State::default());
        let (accepting, script) = (Arc::clone(&state), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let number = accepting.accepted.fetch_add(1, Ordering::SeqCst);
                let (script, state) = (Arc::clone(&script), Arc::clone(&accepting));
                state.open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    script(&mut Wire::new(stream), number, &Recorder(Arc::clone(&state)));
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything it got so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last request.
    #[must_use]
    #[track_caller]
    pub fn last(&self) -> Request {
        self.requests().pop().expect("the origin got a request")
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

/// Where scripts put the requests that they read.
#[derive(Debug)]
pub struct Recorder(Arc<State>);

impl Recorder {
    /// Remembers a request.
    pub fn record(&self, request: &Request) {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    }
}

/// An address on which nothing listens: connections are refused.
#[must_use]
pub fn refused() -> SocketAddr {
    let [address] = free_ports();
    address
}
