//! A double of a Consul agent: the health API of one service, with blocking queries as they are documented.
//!
//! Consul itself is in no package registry that tests may use. What is doubled: `X-Consul-Index`, `index` and `wait`, answers
//! that block until the index has passed, `passing`, the ACL token; and an agent whose state began anew.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{Origin, Request, Response};

/// A running agent.
#[derive(Debug)]
pub struct Consul {
    origin: Option<Origin>,
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug)]
struct State {
    index: u64,
    service: String,
    token: String,
    instances: Vec<Value>,
    /// Queries that did not block.
    immediate: usize,
    stopped: bool,
}

impl Consul {
    /// An agent that knows no instance of `service` and wants `token` (empty: none).
    #[must_use]
    pub fn start(service: &str, token: &str) -> Self {
        let state = State {
            index: 10,
            service: service.to_owned(),
            token: token.to_owned(),
            instances: Vec::new(),
            immediate: 0,
            stopped: false,
        };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut consul = Self { origin: None, address, state };
        consul.serve(listener);
        consul
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the instances: address and status of its check.
    pub fn set(&self, instances: &[(SocketAddr, &str)]) {
        let mut state = self.lock();
        state.instances = instances.iter().map(instance).collect();
        state.index += 1;
        self.state.1.notify_all();
    }

    /// Moves the index with no change, as an unrelated write does.
    pub fn touch(&self) {
        self.lock().index += 1;
        self.state.1.notify_all();
    }

    /// Begins anew: the index goes backwards.
    pub fn reset(&self) {
        self.lock().index = 1;
        self.state.1.notify_all();
    }

    /// Answers that were given at once.
    #[must_use]
    pub fn immediate(&self) -> usize {
        self.lock().immediate
    }

    /// Ends it: connections are closed and refused.
    pub fn stop(&mut self) {
        self.lock().stopped = true;
        self.state.1.notify_all();
        self.origin = None;
    }

    /// Starts it again at the same address.
    pub fn restart(&mut self) {
        self.lock().stopped = false;
        let listener = crate::eventually("the address is free", crate::LONG, || TcpListener::bind(self.address).ok());
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        self.origin = Some(Origin::on(listener, move |wire, _, _| {
            while let Ok(Some(request)) = wire.request() {
                let Some(response) = answer(&state, &request) else { break };
                if wire.try_send(response.wire(&request.method)).is_err() {
                    break;
                }
            }
        }));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None`: the agent has ended.
fn answer(shared: &(Mutex<State>, Condvar), request: &Request) -> Option<Response> {
    let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let parameter = |name: &str| query.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
    if path != format!("/v1/health/service/{}", state.service) {
        return Some(Response::new(404));
    }
    if !state.token.is_empty() && request.header("x-consul-token") != Some(&state.token) {
        return Some(Response::new(403));
    }
    let index: u64 = parameter("index").and_then(|v| v.parse().ok()).unwrap_or(0);
    let wait: u64 = parameter("wait").and_then(|v| v.trim_end_matches('s').parse().ok()).unwrap_or(300);
    if index == 0 || index > state.index {
        // An index of the future is not waited for: the agent has a new state.
        state.immediate += 1;
    } else {
        let waits = |s: &mut State| s.index == index && !s.stopped;
        let wait = Duration::from_secs(wait);
        state = shared.1.wait_timeout_while(state, wait, waits).unwrap_or_else(PoisonError::into_inner).0;
    }
    if state.stopped {
        return None;
    }
    let passing = parameter("passing").is_some();
    let listed = |i: &&Value| !passing || i["Checks"][0]["Status"] == "passing";
    let list: Vec<_> = state.instances.iter().filter(listed).cloned().collect();
    Some(Response::text(Value::from(list).to_string()).header("X-Consul-Index", &state.index.to_string()))
}

fn instance((address, status): &(SocketAddr, &str)) -> Value {
    json!({
        "Node": { "Node": "n", "Address": "192.0.2.1", "Datacenter": "dc1", "Meta": null },
        "Service": { "ID": address.to_string(), "Service": "app", "Address": address.ip().to_string(), "Port": address.port(),
                     "Weights": { "Passing": 1, "Warning": 1 }, "Meta": {} },
        "Checks": [{ "CheckID": "c", "Status": status }],
    })
}
