//! What the admin port needs of the rest of the process.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use outrigger_config::{
    explain::{EndpointPart, ExplainRequest, LiveState, explain},
    model::{Direction, Listener, Model, MtlsMode, Upstream, UpstreamId, UpstreamTls},
};
use rustls::pki_types::UnixTime;
use serde_json::to_value;
use tokio::{sync::Notify, time::Instant};

use crate::{
    admin::{AdminContext, Check, ExplainQuery, Explained},
    observe::diagnostics::Handle,
    policy::limits::Gate,
    shared::{Resolution, Shared, Snapshot},
};

/// The context of a proxy; `shutdown` is notified when the admin port is told to end the process.
pub(super) fn context(diagnostics: Handle, shutdown: Arc<Notify>, shared: Arc<Shared>) -> AdminContext {
    let checked = Arc::clone(&shared);
    let mut checks: Vec<(&'static str, Check)> =
        vec![("identity", Box::new(move || identity(&checked.snapshot(), SystemTime::now())))];
    if shared.discovery().is_some() {
        let served = Arc::clone(&shared);
        checks.push(("workload", Box::new(move || workload(&served.snapshot()))));
    }
    AdminContext {
        explain: Some(Box::new(answer)),
        checks,
        details: vec![("identity", {
            let shared = Arc::clone(&shared);
            Box::new(move || super::expiry::words(&shared.snapshot()))
        })],
        certificates: Some(Box::new(move || to_value(shared.snapshot().tls.certificates()).unwrap_or_default())),
        diagnostics: Some(diagnostics),
        shutdown: Some(Box::new(move || shutdown.notify_one())),
        ..AdminContext::default()
    }
}

/// Is the identity there that mTLS asks for? One that has expired is none: every peer refuses it.
fn identity(snapshot: &Snapshot, now: SystemTime) -> Result<(), String> {
    let model = &snapshot.model;
    let strict = model.listeners.iter().any(|l| l.mtls == MtlsMode::Strict);
    let mesh = model.upstreams.iter().any(|u| matches!(u.tls, UpstreamTls::Mesh { .. }));
    if !strict && !mesh && snapshot.routing.is_none() {
        return Ok(());
    }
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    snapshot.tls.check(now).map(drop).map_err(|failure| failure.details.into_owned())
}

/// In a pod: is it known what the pod serves? A control plane that is lost later changes nothing of that.
fn workload(snapshot: &Snapshot) -> Result<(), String> {
    match &snapshot.routing {
        Some(routing) if !routing.has_workload() => {
            Err("the control plane has not said yet what this pod serves".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

/// The answer that the command line gives, with the endpoints that are known now.
fn answer(snapshot: &Snapshot, query: &ExplainQuery) -> Result<Explained, String> {
    let listener = match (&query.listener, &*snapshot.model.listeners) {
        (Some(name), _) => name,
        (None, [only]) => &only.name.to_string(),
        (None, listeners) => {
            let names: Vec<_> = listeners.iter().map(|l| &*l.name).collect();
            return Err(format!("say which listener with listener=NAME; there are: {}", names.join(", ")));
        }
    };
    let headers: Vec<_> = query.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let method = if query.method.is_empty() { "GET" } else { &query.method };
    let request =
        ExplainRequest::new(method, &query.url, &headers, query.from.as_deref()).map_err(|e| e.to_string())?;
    let model = in_front_of(snapshot, listener, &query.url);
    let model = model.as_ref().unwrap_or(&snapshot.model);
    let explanation = explain(model, listener, &request, &Live(snapshot)).map_err(|e| e.to_string())?;
    let json = to_value(&explanation).map_err(|e| format!("the explanation is no JSON: {e}"))?;
    Ok(Explained { text: explanation.to_string(), json })
}

/// The model with the listener that stands for the port of `url`, where connections are redirected to one for all of the pod.
fn in_front_of(snapshot: &Snapshot, listener: &str, url: &str) -> Option<Model> {
    let inbound = |l: &&Listener| &*l.name == listener && l.direction == Direction::Inbound;
    let shared = snapshot.model.listeners.iter().find(inbound)?;
    let url: http::Uri = url.parse().ok()?;
    let own = snapshot.routing.as_ref()?.inbound(url.port_u16().unwrap_or(80))?;
    let mut model = snapshot.model.clone();
    model.listeners = vec![Listener { name: Arc::clone(&shared.name), ..own.clone() }];
    Some(model)
}

/// The endpoints in use.
struct Live<'a>(&'a Snapshot);

impl LiveState for Live<'_> {
    fn endpoints(&self, id: UpstreamId, _: &Upstream) -> Option<Vec<EndpointPart>> {
        let set = self.0.upstream(id).endpoints().load();
        if set.resolution == Resolution::Pending {
            return None;
        }
        let upstream = self.0.upstream(id);
        let part = |e: &Arc<crate::shared::EndpointState>| EndpointPart {
            state: Some(upstream.standing(e).to_owned()),
            ..EndpointPart::from(&e.config)
        };
        Some(set.endpoints.iter().map(part).collect())
    }

    fn breaker(&self, id: UpstreamId, _: &Upstream) -> Option<String> {
        let state = &self.0.upstream(id).target.state;
        if let Some(breaker) = &state.breaker {
            let wait = breaker.retry_after(Instant::now());
            let wait = wait.map_or_else(String::new, |w| format!(", for another {:.1} s", w.as_secs_f64()));
            return Some(format!("{}{wait}", breaker.state().as_str()));
        }
        let out = state.ejections.as_ref()?.out();
        Some(format!("per endpoint, {out} ejected"))
    }

    fn limits(&self, id: UpstreamId, _: &Upstream) -> Option<String> {
        let state = &self.0.upstream(id).target.state;
        let gate = |name: &str, gate: &Gate| {
            let view = gate.view();
            view.limit.map(|limit| format!("{name} {} of {limit} in flight, {} waiting", view.in_flight, view.waiting))
        };
        let adaptive = state.adaptive.as_ref();
        let budget = state.policy().retry.as_ref().map(|_| state.budget.left(Instant::now()));
        let parts = [
            gate("requests", &state.bulkhead.requests),
            gate("connections", &state.bulkhead.connections),
            adaptive.map(|a| format!("adaptive concurrency {} of {} in flight", a.in_flight(), a.limit())),
            budget.map(|left| format!("retry budget {left} left")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use outrigger_config::{Source, compile};

    use super::*;
    use crate::{observe::Observer, shared::Shared};

    #[test]
    fn explain_takes_the_only_listener_and_tells_endpoints_in_use() {
        let text = "apiVersion: outrigger.dev/v1alpha1
kind: Proxy
metadata: { name: p }
spec: { listeners: [{ name: l, address: \"127.0.0.1:0\", direction: inbound, forwardTo: { kind: Upstream, name: u } }] }
---
apiVersion: outrigger.dev/v1alpha1
kind: Upstream
metadata: { name: u }
spec: { endpoints: [{ address: \"10.0.0.7:80\" }] }
";
        let compiled = compile(&[Source { name: "test".into(), text: text.into() }]).unwrap();
        let shared = Shared::start(compiled, 1, Observer::new(1)).unwrap();
        let query = ExplainQuery { url: "/x".into(), ..ExplainQuery::default() };
        let said = answer(&shared.snapshot(), &query).unwrap();
        assert!(said.json.to_string().contains("10.0.0.7:80"), "{}", said.json);
        assert!(said.json.to_string().contains("\"ready\""), "{}", said.json);
        let wrong = ExplainQuery { listener: Some("x".into()), ..query };
        assert!(answer(&shared.snapshot(), &wrong).unwrap_err().contains('l'));
    }
}
