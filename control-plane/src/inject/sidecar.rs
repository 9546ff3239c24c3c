//! The proxy's container and its volumes.
//!
//! It fits the Pod Security level `restricted`: another user than root, no capability, no privilege, a root file system that nobody writes. Its
//! service account token is for the control plane alone, and the pod's own (for the API server) stays out of it: Kubernetes mounts that one
//! where nothing else is mounted, so something is.
//!
//! Probes. Started (`/readyz`) means that listeners, identity and a first configuration are there; what comes after it in the pod finds a
//! working mesh. Ready (`/readyz`) goes when the pod ends, and takes the pod out of its Services. Alive (`/livez`) is asked of the process alone and never of what
//! it depends on: a control plane that is away must not restart proxies.

use outrigger_config::identity::{TOKEN_AUDIENCE, TRUST_CONFIG_MAP, TRUST_CONFIG_MAP_KEY};
use serde_json::{Map, Value, json};

use super::{
    ADMIN_PORT, Capture, Choices, PROXY_CONTAINER, PROXY_UID, STATE_VOLUME, Settings, TOKEN_VOLUME, TRUST_VOLUME,
    annotations::Resources, values::Quantity,
};

const TOKEN_DIR: &str = "/var/run/outrigger/token";
const TRUST_DIR: &str = "/var/run/outrigger/trust";
const STATE_DIR: &str = "/var/run/outrigger/state";
/// Where Kubernetes mounts the pod's token for the API server, unless something is there.
const API_TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Of memory: names and addresses of what one pod talks to.
const STATE_SIZE: &str = "8Mi";
/// Until a proxy without a control plane is started again, in seconds. Starting again cures nothing, but is seen.
const START: u32 = 300;

pub(super) fn container(choices: &Choices, settings: &Settings) -> Value {
    let mut container = Map::new();
    let mut put = |key: &str, value: Value| drop(container.insert(key.to_owned(), value));
    put("name", PROXY_CONTAINER.into());
    image(choices, settings, &mut put);
    put("args", json!(["run", "--log-format", choices.log_format]));
    put("env", environment(choices, settings));
    put("ports", json!([{ "name": "outrigger-admin", "containerPort": ADMIN_PORT, "protocol": "TCP" }]));
    resources(&choices.resources, &mut put);
    put("securityContext", security(choices.capture));
    put("startupProbe", probe("/readyz", 1, START));
    put("readinessProbe", probe("/readyz", 5, 3));
    put("livenessProbe", probe("/livez", 10, 3));
    if choices.native {
        put("restartPolicy", "Always".into());
    } else {
        // Kubernetes starts containers in their order, and the next one when this command has ended.
        let command = json!(["outrigger-proxy", "wait", "--timeout", format!("{START}s")]);
        put("lifecycle", json!({ "postStart": { "exec": { "command": command } } }));
    }
    put("terminationMessagePolicy", "FallbackToLogsOnError".into());
    put("volumeMounts", mounts());
    Value::Object(container)
}

pub(super) fn image(choices: &Choices, settings: &Settings, put: &mut impl FnMut(&str, Value)) {
    let image = if choices.image.is_empty() { &settings.image } else { &choices.image };
    put("image", image.as_str().into());
    let policy = if choices.pull_policy.is_empty() { &settings.image_pull_policy } else { &choices.pull_policy };
    if !policy.is_empty() {
        put("imagePullPolicy", policy.as_str().into());
    }
}

/// Every setting of the proxy is a variable; its names are those of the flags of `outrigger-proxy run`.
fn environment(choices: &Choices, settings: &Settings) -> Value {
    let said = |name: &str, value: &str| json!({ "name": name, "value": value });
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mut env = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        field("POD_IPS", "status.podIPs"),
        field("POD_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        // Empty before Kubernetes 1.35, which copies it from the node.
        field("POD_ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
        said("OUTRIGGER_CONTROL_PLANE", &settings.control_plane),
        said("OUTRIGGER_CONTROL_PLANE_NAMESPACE", &settings.control_plane_namespace),
        said("OUTRIGGER_TRUST_DOMAIN", &settings.trust_domain),
        said("OUTRIGGER_TRUST_BUNDLE", &format!("{TRUST_DIR}/{TRUST_CONFIG_MAP_KEY}")),
        said("OUTRIGGER_TOKEN", &format!("{TOKEN_DIR}/token")),
        said("OUTRIGGER_STATE_DIR", STATE_DIR),
        said("OUTRIGGER_DRAIN_TIMEOUT", &format!("{}s", choices.drain)),
        said("RUST_LOG", &choices.log_level),
    ];
    let listeners: Vec<String> = choices.inbound_listeners.iter().map(|(from, to)| format!("{from}={to}")).collect();
    let flag = |is: bool| if is { "true".to_owned() } else { String::new() };
    let optional = [
        // On SIGTERM the app has ended already.
        ("OUTRIGGER_NATIVE_SIDECAR", flag(choices.native)),
        ("OUTRIGGER_DRAIN_QUIET", choices.drain_quiet.clone()),
        ("OUTRIGGER_IDLE", choices.idle.clone()),
        ("OUTRIGGER_WORKERS", choices.workers.clone()),
        ("OUTRIGGER_EXPLICIT", flag(choices.capture == Capture::None)),
        ("OUTRIGGER_OUTBOUND_LISTENERS", choices.outbound_listeners.clone()),
        ("OUTRIGGER_INBOUND_LISTENERS", listeners.join(",")),
    ];
    env.extend(optional.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| said(name, value)));
    Value::Array(env)
}

pub(super) fn resources(resources: &Resources, put: &mut impl FnMut(&str, Value)) {
    let side = |cpu: &Option<Quantity>, memory: &Option<Quantity>| {
        let both = [("cpu", cpu), ("memory", memory)];
        let set = both.into_iter().filter_map(|(name, q)| Some((name.to_owned(), q.as_ref()?.text.as_str().into())));
        set.collect::<Map<String, Value>>()
    };
    let mut all = Map::new();
    for (name, values) in [
        ("requests", side(&resources.cpu.0, &resources.memory.0)),
        ("limits", side(&resources.cpu.1, &resources.memory.1)),
    ] {
        if !values.is_empty() {
            all.insert(name.to_owned(), Value::Object(values));
        }
    }
    if !all.is_empty() {
        put("resources", Value::Object(all));
    }
}

/// A listener that TPROXY leads to needs `NET_ADMIN`, and Kubernetes gives capabilities to root alone. Its connections are then known by
/// their group.
fn security(capture: Capture) -> Value {
    let tproxy = capture == Capture::Tproxy;
    let capabilities =
        if tproxy { json!({ "drop": ["ALL"], "add": ["NET_ADMIN"] }) } else { json!({ "drop": ["ALL"] }) };
    json!({
        "runAsUser": if tproxy { 0 } else { PROXY_UID },
        "runAsGroup": PROXY_UID,
        "runAsNonRoot": !tproxy,
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": capabilities,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

fn probe(path: &str, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": ADMIN_PORT, "scheme": "HTTP" },
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    })
}

fn mounts() -> Value {
    json!([
        { "name": TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": true },
        { "name": TRUST_VOLUME, "mountPath": TRUST_DIR, "readOnly": true },
        { "name": STATE_VOLUME, "mountPath": STATE_DIR },
        { "name": TRUST_VOLUME, "mountPath": API_TOKEN_DIR, "readOnly": true },
    ])
}

/// Mounts of the capture container: what keeps the pod's token for the API server out.
pub(super) fn shadow() -> Value {
    json!([{ "name": TRUST_VOLUME, "mountPath": API_TOKEN_DIR, "readOnly": true }])
}

/// The bundle must be there: without it a proxy can believe nobody, and the kubelet says so (`FailedMount`) better than a proxy could.
pub(super) fn volumes(choices: &Choices) -> Vec<Value> {
    let token = json!({ "serviceAccountToken": {
        "audience": TOKEN_AUDIENCE, "expirationSeconds": choices.token_life, "path": "token",
    } });
    vec![
        json!({ "name": TOKEN_VOLUME, "projected": { "sources": [token] } }),
        json!({ "name": TRUST_VOLUME, "configMap": { "name": TRUST_CONFIG_MAP, "optional": false } }),
        json!({ "name": STATE_VOLUME, "emptyDir": { "medium": "Memory", "sizeLimit": STATE_SIZE } }),
    ]
}
