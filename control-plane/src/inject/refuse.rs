//! Why a template cannot have a proxy.

use outrigger_config::identity::INJECT_LABEL;
use serde_json::Value;
use thiserror::Error;

use super::{
    ADMIN_PORT, Capture, Choices, Context, INBOUND_PORT, OUTBOUND_PORT, OWN_PORTS, PREFIX, PROXY_CONTAINER, PROXY_UID,
    REDIRECT_CONTAINER, STATE_VOLUME, TOKEN_VOLUME, TRUST_VOLUME, annotations::CAPTURE, tree,
};

/// A refusal: what, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{}{message}", .field, if .field.is_empty() { "" } else { ": " })]
pub struct Refused {
    /// Of which sort.
    pub reason: Reason,
    /// `spec.containers[0].ports[1]`; empty: the template as a whole.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Sorts of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It shares the network of its node.
    HostNetwork,
    /// Another mesh's proxy is or will be in it, or one of ours that injection did not put there.
    Meshed,
    /// It runs on Windows.
    Windows,
    /// An app runs as the proxy's user.
    ProxyUser,
    /// An app listens on a port of the proxy.
    Port,
    /// The namespace's Pod Security level forbids what capture needs.
    PodSecurity,
    /// A label or an annotation of ours says something that cannot be meant.
    Setting,
    /// It has a volume of the name of one of ours.
    Name,
    /// What injection needs does not fit.
    TooLarge,
    /// It is no template of a pod.
    Malformed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::HostNetwork,
        Self::Meshed,
        Self::Windows,
        Self::ProxyUser,
        Self::Port,
        Self::PodSecurity,
        Self::Setting,
        Self::Name,
        Self::TooLarge,
        Self::Malformed,
    ];

    /// For metrics, logs and programs.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::HostNetwork => "host_network",
            Self::Meshed => "already_meshed",
            Self::Windows => "windows",
            Self::ProxyUser => "proxy_user",
            Self::Port => "port_clash",
            Self::PodSecurity => "pod_security",
            Self::Setting => "setting",
            Self::Name => "name_clash",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
        }
    }

    /// In words, for the documentation.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::HostNetwork => "`hostNetwork: true`: its traffic is that of the node, which is not ours to capture",
            Self::Meshed => {
                "a sidecar of Istio, Linkerd, Consul or Kuma is in it or asked for; or a container with one of our names that \
                 injection did not add"
            }
            Self::Windows => "`os.name`, `nodeSelector` or node affinity ask for Windows",
            Self::ProxyUser => {
                "a container runs as user 2112: its connections would pass for the proxy's and go around it"
            }
            Self::Port => "a container declares or is probed at TCP port 9990, 9991 or 9992",
            Self::PodSecurity => {
                "the namespace enforces the Pod Security level `baseline` or `restricted`, which forbids `NET_ADMIN`, and the pod \
                 does not choose its `capture` itself"
            }
            Self::Setting => {
                "a label or an annotation `outrigger.dev/...` is unknown or has a value that cannot be meant"
            }
            Self::Name => "it has a volume with the name of one of ours",
            Self::TooLarge => "annotations would have more than 256 KiB, or the probes of the app more than 96 KiB",
            Self::Malformed => {
                "it is no template of a pod: no containers, two of one name, a list where a map should be"
            }
        }
    }

    /// True for what is right as it is and just cannot be meshed. Where only the namespace asks for proxies, such a pod runs
    /// without one; everything else is for its author to put right first.
    #[must_use]
    pub fn is_nature(self) -> bool {
        matches!(self, Self::HostNetwork | Self::Meshed | Self::Windows)
    }
}

impl Refused {
    pub(super) fn new(reason: Reason, field: &str, message: String) -> Self {
        Self { reason, field: field.to_owned(), message }
    }
}

/// Everything that stands in the way of a proxy.
pub(super) fn check(template: &Value, context: &Context, choices: &Choices) -> Result<(), Refused> {
    let spec = &template["spec"];
    if spec["hostNetwork"] == true {
        return refused(
            Reason::HostNetwork,
            "spec.hostNetwork",
            "the pod shares the network of its node, where nothing can be captured for it alone: remove hostNetwork, or opt the \
             pod out",
        );
    }
    windows(spec)?;
    other_meshes(template)?;
    names(spec)?;
    for (list, i, container) in containers(spec) {
        user(&format!("spec.{list}[{i}]"), container, choices)?;
        ports(&format!("spec.{list}[{i}]"), container)?;
    }
    user("spec", spec, choices)?;
    pod_security(template, context, choices)
}

fn refused<T>(reason: Reason, field: &str, message: impl Into<String>) -> Result<T, Refused> {
    let mut message = message.into();
    if reason.is_nature() {
        message = format!("{message} ({INJECT_LABEL}: disabled)");
    }
    Err(Refused::new(reason, field, message))
}

fn containers(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().flat_map(|list| tree::items(spec, list).enumerate().map(move |(i, c)| (list, i, c)))
}

fn windows(spec: &Value) -> Result<(), Refused> {
    const MESSAGE: &str = "the proxy runs on Linux alone: opt the pod out";
    if spec["os"]["name"] == "windows" {
        return refused(Reason::Windows, "spec.os.name", MESSAGE);
    }
    for label in ["kubernetes.io/os", "beta.kubernetes.io/os"] {
        if spec["nodeSelector"][label] == "windows" {
            return refused(Reason::Windows, &format!("spec.nodeSelector[{label}]"), MESSAGE);
        }
    }
    let affinity = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms: Vec<_> = tree::items(affinity, "nodeSelectorTerms").collect();
    // Terms are alternatives, and each must ask for Windows.
    if !terms.is_empty() && terms.iter().all(|term| tree::items(term, "matchExpressions").any(is_windows)) {
        return refused(Reason::Windows, "spec.affinity.nodeAffinity", MESSAGE);
    }
    Ok(())
}

fn is_windows(expression: &Value) -> bool {
    let mut values = tree::items(expression, "values").peekable();
    expression["key"] == "kubernetes.io/os"
        && expression["operator"] == "In"
        && values.peek().is_some()
        && values.all(|value| value == "windows")
}

/// By what a mesh is known.
struct Mesh {
    name: &'static str,
    containers: &'static [&'static str],
    /// Labels and annotations of pods that it is in, or that ask its webhook for it. Empty: any value.
    marks: &'static [(&'static str, &'static str)],
}

const MESHES: [Mesh; 4] = [
    Mesh {
        name: "Istio",
        containers: &["istio-proxy"],
        marks: &[("sidecar.istio.io/status", ""), ("sidecar.istio.io/inject", "true")],
    },
    Mesh {
        name: "Linkerd",
        containers: &["linkerd-proxy"],
        marks: &[("linkerd.io/proxy-version", ""), ("linkerd.io/inject", "enabled"), ("linkerd.io/inject", "ingress")],
    },
    Mesh {
        name: "Consul",
        containers: &["consul-dataplane", "envoy-sidecar", "consul-connect-envoy-sidecar"],
        marks: &[
            ("consul.hashicorp.com/connect-inject-status", "injected"),
            ("consul.hashicorp.com/connect-inject", "true"),
        ],
    },
    Mesh {
        name: "Kuma",
        containers: &["kuma-sidecar"],
        marks: &[("kuma.io/sidecar-injected", "true"), ("kuma.io/sidecar-injection", "enabled")],
    },
];

fn other_meshes(template: &Value) -> Result<(), Refused> {
    const ADVICE: &str = "two proxies would each capture the other's traffic: opt the pod out of one mesh";
    for Mesh { name: mesh, containers: sidecars, marks } in MESHES {
        for (list, i, container) in containers(&template["spec"]) {
            if sidecars.contains(&tree::text(container, "name")) {
                let message = format!("the pod has the sidecar of {mesh}; {ADVICE}");
                return refused(Reason::Meshed, &format!("spec.{list}[{i}].name"), message);
            }
        }
        for (name, value) in marks {
            let said = [("annotations", tree::annotation(template, name)), ("labels", tree::label(template, name))];
            for (map, said) in said {
                if said.is_some_and(|said| value.is_empty() || said == *value) {
                    let message = format!("the pod is of {mesh}, or will be; {ADVICE}");
                    return refused(Reason::Meshed, &format!("metadata.{map}[{name}]"), message);
                }
            }
        }
    }
    Ok(())
}

/// What has our names and is not ours: that was undone before.
fn names(spec: &Value) -> Result<(), Refused> {
    for (list, i, container) in containers(spec) {
        let name = tree::text(container, "name");
        if [PROXY_CONTAINER, REDIRECT_CONTAINER].contains(&name) {
            let message = format!("the container {name} was not added by injection: remove it, or opt the pod out");
            return refused(Reason::Meshed, &format!("spec.{list}[{i}].name"), message);
        }
    }
    for (i, volume) in tree::items(spec, "volumes").enumerate() {
        let name = tree::text(volume, "name");
        if [TOKEN_VOLUME, TRUST_VOLUME, STATE_VOLUME].contains(&name) {
            let message = format!("injection adds a volume of the name {name}: call this one otherwise");
            return refused(Reason::Name, &format!("spec.volumes[{i}].name"), message);
        }
    }
    Ok(())
}

/// With TPROXY the proxy is known by its group.
fn user(field: &str, of: &Value, choices: &Choices) -> Result<(), Refused> {
    let known = if choices.capture == Capture::Tproxy { &["runAsUser", "runAsGroup"][..] } else { &["runAsUser"] };
    for key in known {
        if of["securityContext"][key] == PROXY_UID {
            let message = format!(
                "{PROXY_UID} is the proxy's, whose connections are not captured: everything that this one sends would go around the mesh; \
                 choose another"
            );
            return refused(Reason::ProxyUser, &format!("{field}.securityContext.{key}"), message);
        }
    }
    Ok(())
}

fn ports(field: &str, container: &Value) -> Result<(), Refused> {
    for (i, port) in tree::items(container, "ports").enumerate() {
        let tcp = matches!(tree::text(port, "protocol"), "" | "TCP");
        if tcp && port["containerPort"].as_u64().is_some_and(is_ours) {
            return port_clash(&format!("{field}.ports[{i}].containerPort"), &port["containerPort"]);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        for handler in ["httpGet", "tcpSocket", "grpc"] {
            let target = &container[probe][handler];
            // One that names its host asks somebody else.
            if tree::text(target, "host").is_empty() && target["port"].as_u64().is_some_and(is_ours) {
                return port_clash(&format!("{field}.{probe}.{handler}.port"), &target["port"]);
            }
        }
    }
    Ok(())
}

fn is_ours(port: u64) -> bool {
    OWN_PORTS.iter().any(|ours| u64::from(*ours) == port)
}

fn port_clash(field: &str, port: &Value) -> Result<(), Refused> {
    let message = format!(
        "the proxy listens on {port} of this pod (it has {ADMIN_PORT}, {OUTBOUND_PORT} and {INBOUND_PORT}): let the app \
         listen on another"
    );
    refused(Reason::Port, field, message)
}

/// The API server would refuse the pod with the capture container, and say less about what to do.
fn pod_security(template: &Value, context: &Context, choices: &Choices) -> Result<(), Refused> {
    const LEVEL: &str = "pod-security.kubernetes.io/enforce";
    let level = context.namespace_labels.get(LEVEL).map_or("", String::as_str);
    let chosen = tree::annotation(template, CAPTURE).is_some();
    if choices.capture == Capture::None || chosen || !matches!(level, "baseline" | "restricted") {
        return Ok(());
    }
    let message = format!(
        "the namespace enforces the Pod Security level {level}, which forbids the NET_ADMIN that capture needs: write the annotation \
         {PREFIX}capture: none (what then needs the app's help: docs/no-privilege.md), or allow the level privileged; a pod that an exemption \
         lets pass writes {PREFIX}capture: redirect"
    );
    refused(Reason::PodSecurity, "", message)
}
