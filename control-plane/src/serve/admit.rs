//! Who may open a stream: a proxy, in the name of its own pod.
//!
//! Three things must agree: the certificate (whose is it), `Hello` (which pod does it speak for), and the cluster (is there such a pod, of
//! that account). What the cluster may only not have said yet is waited for and then refused as something to try again; what
//! cannot become right is refused for good.

use std::time::Duration;

use outrigger_config::{
    discovery::{Hello, PROTOCOL},
    identity,
    spiffe::SpiffeId,
};
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::Peer;
use crate::{
    index::{ObjectName, Pod},
    live::Live,
    view::Subscriber,
};

/// Between two looks. Thousands may wait after a restart, so they look now and then instead of at every event.
const LOOK: Duration = Duration::from_millis(50);

/// The subscriber that a peer may be, given what it says of itself.
///
/// # Errors
/// `PERMISSION_DENIED` where it may not, `UNAVAILABLE` where that is not known after `patience`.
pub(crate) async fn admit(
    live: &Live,
    trust_domain: &str,
    peer: &Peer,
    hello: &Hello,
    patience: Duration,
) -> Result<Subscriber, Status> {
    if hello.protocol != PROTOCOL {
        let said = hello.protocol;
        return Err(Status::failed_precondition(format!(
            "the proxy speaks version {said} of the protocol, this control plane version {PROTOCOL}: \
             update the older of them"
        )));
    }
    let identity = peer.identity(trust_domain).map_err(|why| denied(&why))?;
    let said = hello.pod.as_ref().ok_or_else(|| Status::invalid_argument("`Hello` names no pod"))?;
    if identity.namespace() != Some(&said.namespace) {
        return Err(denied(&format!("{identity} is not of the namespace {:?}", excerpt(&said.namespace))));
    }
    let at = ObjectName { namespace: said.namespace.as_str().into(), name: said.name.as_str().into() };
    let deadline = Instant::now() + patience;
    loop {
        match look(live, trust_domain, identity, &at, &said.uid) {
            Look::Good => return Ok(Subscriber { pod: at }),
            Look::Wrong(why) => return Err(denied(&why)),
            Look::NotYet(why) if Instant::now() >= deadline => return Err(Status::unavailable(why)),
            Look::NotYet(_) => sleep(LOOK).await,
        }
    }
}

enum Look {
    Good,
    /// For good.
    Wrong(String),
    /// For now.
    NotYet(String),
}

fn look(live: &Live, trust_domain: &str, identity: &SpiffeId, at: &ObjectName, uid: &str) -> Look {
    if !*live.ready().borrow() {
        return Look::NotYet("the control plane does not know the whole cluster yet".into());
    }
    live.read(|index| match index.pod(at) {
        None => {
            Look::NotYet(format!("the pod {:?} of {:?} is not known (yet)", excerpt(&at.name), excerpt(&at.namespace)))
        }
        Some(pod) if !uid.is_empty() && pod.uid.as_ref() != uid => {
            Look::NotYet(format!("the pod {}/{} is known with another uid (yet)", at.namespace, at.name))
        }
        Some(pod) if is_of(pod, trust_domain, identity) => Look::Good,
        Some(pod) => Look::Wrong(format!(
            "{identity} is not the identity of the pod {}/{}, whose service account is {}",
            at.namespace, at.name, pod.account
        )),
    })
}

fn is_of(pod: &Pod, trust_domain: &str, identity: &SpiffeId) -> bool {
    identity::workload(trust_domain, &pod.at.namespace, &pod.account).is_ok_and(|own| own == *identity)
}

fn denied(why: &str) -> Status {
    tracing::warn!("a stream is refused: {why}");
    Status::permission_denied(why)
}

/// Of a text that a peer chose.
fn excerpt(text: &str) -> &str {
    text.char_indices().nth(100).map_or(text, |(end, _)| &text[..end])
}
