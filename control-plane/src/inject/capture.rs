//! The container that installs the capture rules: root of its pod's network for a moment, and of nothing else.

use serde_json::{Map, Value, json};

use super::{Choices, REDIRECT_CONTAINER, Settings, sidecar};

pub(super) fn container(choices: &Choices, settings: &Settings) -> Value {
    let mut container = Map::new();
    let mut put = |key: &str, value: Value| drop(container.insert(key.to_owned(), value));
    put("name", REDIRECT_CONTAINER.into());
    sidecar::image(choices, settings, &mut put);
    let flags = choices.redirect.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
    put("args", ["redirect", "install"].map(str::to_owned).into_iter().chain(flags).collect());
    // Those of the proxy: what runs before the others hardly ever decides where a pod fits, and a LimitRange is met by one setting.
    sidecar::resources(&choices.resources, &mut put);
    put("securityContext", security());
    put("terminationMessagePolicy", "FallbackToLogsOnError".into());
    put("volumeMounts", sidecar::shadow());
    Value::Object(container)
}

/// `NET_ADMIN` writes rules of the pod's network namespace, by nftables and by iptables on nf_tables, which are what the image has.
/// The older iptables opens a raw socket as well, which takes `NET_RAW`: that is why it is not in the image.
fn security() -> Value {
    json!({
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": false,
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}
