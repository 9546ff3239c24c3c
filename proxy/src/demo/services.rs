//! The sample services: one steady, one slow, one flaky. Small HTTP/1 servers on ports of their own.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

/// Connections of one service at once; its proxy keeps far fewer.
const MAX_CONNECTIONS: usize = 256;

/// One sample service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    /// Name of its upstream, and its host name.
    pub(super) name: &'static str,
    /// What is wrong with it, for the introduction.
    pub(super) about: &'static str,
    behave: fn(request: u64, up: Duration) -> Behaviour,
}

/// What a service does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Answer(StatusCode, Duration),
    HangUp,
}

/// All of them.
pub(super) const SERVICES: [Service; 3] = [
    Service {
        name: "steady",
        about: "answers at once",
        behave: |_, _| Behaviour::Answer(StatusCode::OK, Duration::from_millis(1)),
    },
    Service {
        name: "slow",
        about: "takes 20 ms; every tenth answer takes 2 s, and the policy waits 300 ms",
        behave: |request, _| {
            let time = if request % 10 == 9 { 2000 } else { 20 };
            Behaviour::Answer(StatusCode::OK, Duration::from_millis(time))
        },
    },
    Service {
        name: "flaky",
        about: "every fourth answer is 503, and for 2 s out of every 6 s it hangs up on everybody",
        behave: |request, up| {
            if up.as_millis() % 6000 >= 4000 {
                Behaviour::HangUp
            } else if request % 4 == 3 {
                Behaviour::Answer(StatusCode::SERVICE_UNAVAILABLE, Duration::from_millis(1))
            } else {
                Behaviour::Answer(StatusCode::OK, Duration::from_millis(2))
            }
        },
    },
];

/// Starts `service` on a free port.
pub(super) async fn start(service: &'static Service, tasks: &mut JoinSet<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tasks.spawn(accept(service, listener));
    Ok(address)
}

async fn accept(service: &'static Service, listener: TcpListener) {
    // Dropped, and its tasks ended, with this task.
    let mut connections = JoinSet::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let requests = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = Arc::clone(&requests);
                connections.spawn(async move {
                    serve(service, stream, &requests, begin).await;
                    drop(slot);
                });
            }
            // Out of descriptors, most likely: give others time to close.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(service: &'static Service, stream: TcpStream, requests: &AtomicU64, begin: Instant) {
    let answer = service_fn(|_request| async move {
        let number = requests.fetch_add(1, Ordering::Relaxed);
        match (service.behave)(number, begin.elapsed()) {
            Behaviour::HangUp => Err("hung up"),
            Behaviour::Answer(status, time) => {
                sleep(time).await;
                let mut response = Response::new(Full::new(Bytes::from(format!("{} says {status}\n", service.name))));
                *response.status_mut() = status;
                Ok::<_, &str>(response)
            }
        }
    });
    let served = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer).await;
    if let Err(e) = served {
        tracing::debug!(service = service.name, "{e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_is_as_good_as_its_name() {
        let answers = |name: &str, up: u64| -> Vec<Behaviour> {
            let service = SERVICES.iter().find(|s| s.name == name).unwrap();
            (0..20).map(|n| (service.behave)(n, Duration::from_millis(up))).collect()
        };
        let ok = |b: &Behaviour| matches!(b, Behaviour::Answer(StatusCode::OK, _));
        assert!(answers("steady", 5000).iter().all(ok));
        assert!(answers("slow", 0).iter().all(ok));
        assert_eq!(answers("flaky", 0).iter().filter(|b| !ok(b)).count(), 5);
        assert!(answers("flaky", 4500).iter().all(|b| *b == Behaviour::HangUp));
    }
}
