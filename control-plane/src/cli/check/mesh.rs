//! What runs: the control plane, its CA, the webhook, and the proxies.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        admissionregistration::v1::ValidatingWebhookConfiguration,
        core::v1::{ConfigMap, Namespace, Pod},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::ListParams};
use outrigger_config::identity::{CONTROL_PLANE_ACCOUNT, INJECT_LABEL, TRUST_CONFIG_MAP, TRUST_CONFIG_MAP_KEY};

use super::{Context, Line, injection, skew};
use crate::ca;

/// Roots that end sooner are worth a warning: replacing one takes days, not minutes.
const CA_WARNING: u64 = 60 * 24 * 60 * 60;
/// Objects of one page of a list.
const PAGE: u32 = 500;
/// Names that a line tells.
const MOST_NAMES: usize = 5;
/// The container that makes a pod one of the mesh.
const PROXY: &str = "outrigger-proxy";

pub(super) async fn control_plane(context: &Context) -> Vec<Line> {
    let mut lines = vec![replicas(context).await];
    lines.extend(skew::control_plane(context).await);
    let trust: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.namespace);
    let bundle = match trust.get_opt(TRUST_CONFIG_MAP).await {
        Ok(map) => map.and_then(|map| map.data).and_then(|mut data| data.remove(TRUST_CONFIG_MAP_KEY)),
        Err(error) => {
            lines.push(Line::failed("ca", "the trust bundle", &error));
            return lines;
        }
    };
    lines.extend(roots(context, bundle.as_deref()));
    lines.push(webhook(context, bundle.as_deref()).await);
    lines.extend(injection::injection(context, bundle.as_deref()).await);
    lines
}

async fn replicas(context: &Context) -> Line {
    const NAME: &str = "control-plane";
    let slices: Api<EndpointSlice> = Api::namespaced(context.client.clone(), &context.namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={CONTROL_PLANE_ACCOUNT}"));
    let slices = match slices.list(&of_service).await {
        Ok(slices) => slices.items,
        Err(error) => return Line::failed(NAME, "the replicas of the control plane", &error),
    };
    let namespace = &context.namespace;
    if slices.is_empty() {
        let message =
            format!("there is no Service {CONTROL_PLANE_ACCOUNT} with endpoints in the namespace {namespace}");
        let remedy = "install the chart, or name its namespace with --mesh-namespace; before an installation: `outrigger check --pre`";
        return Line::fault(NAME, message, remedy);
    }
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let (mut ready, mut all) = (0, 0);
    for endpoint in endpoints {
        all += 1;
        ready += usize::from(endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
    }
    let remedy = format!("kubectl -n {namespace} get pods; kubectl -n {namespace} logs deploy/{CONTROL_PLANE_ACCOUNT}");
    match ready {
        0 => Line::fault(NAME, format!("none of the {all} replicas of the control plane is ready"), remedy),
        _ if ready < all => {
            Line::warning(NAME, format!("{ready} of {all} replicas of the control plane are ready"), remedy)
        }
        _ => Line::ok(NAME, format!("all {all} replicas of the control plane are ready")),
    }
}

fn roots(context: &Context, bundle: Option<&str>) -> Vec<Line> {
    const NAME: &str = "ca";
    let remedy = "replace the root: docs/identity.md";
    let Some(bundle) = bundle else {
        let message = format!("the ConfigMap {TRUST_CONFIG_MAP} of {} has no trust bundle", context.namespace);
        return vec![Line::fault(NAME, message, "the control plane writes it: see its log")];
    };
    let described = match ca::describe(TRUST_CONFIG_MAP, bundle.as_bytes(), context.now) {
        Ok(described) => described,
        Err(why) => return vec![Line::fault(NAME, why, "the control plane writes it: delete the ConfigMap")],
    };
    let mut lines = Vec::new();
    for (i, root) in described.certificates().enumerate() {
        let subject = &root.subject;
        let left = root.ends.saturating_sub(context.now);
        let what = if i == 0 { "the root of the CA" } else { "a further root" };
        lines.push(match () {
            () if !root.valid => Line::fault(NAME, format!("{what} ({subject}) is {}", root.validity), remedy),
            () if left < CA_WARNING => Line::warning(NAME, format!("{what} ({subject}) is {}", root.validity), remedy),
            () => Line::ok(NAME, format!("{what} ({subject}) is {}", root.validity)),
        });
    }
    lines
}

async fn webhook(context: &Context, bundle: Option<&str>) -> Line {
    const NAME: &str = "webhook";
    let name = &context.webhook;
    let api: Api<ValidatingWebhookConfiguration> = Api::all(context.client.clone());
    let webhooks = match api.get_opt(name).await {
        Ok(Some(found)) => found.webhooks.unwrap_or_default(),
        Ok(None) => {
            let message = format!("there is no ValidatingWebhookConfiguration {name}: faults show in `status` only");
            return Line::warning(NAME, message, "the chart installs it; another name goes with --webhook");
        }
        Err(error) => return Line::failed(NAME, "webhook configurations", &error),
    };
    let current = |ca: &Option<k8s_openapi::ByteString>| {
        ca.as_ref().is_some_and(|ca| bundle.is_some_and(|bundle| ca.0 == bundle.as_bytes()))
    };
    if webhooks.iter().all(|webhook| current(&webhook.client_config.ca_bundle)) {
        return Line::ok(NAME, "the API server trusts the validating webhook");
    }
    let message = format!("the caBundle of the ValidatingWebhookConfiguration {name} is not the mesh's trust bundle");
    Line::fault(NAME, message, "the control plane writes it: see its log, and its right to patch that configuration")
}

pub(super) async fn proxies(context: &Context) -> Vec<Line> {
    let opted_in = match opted_in(context).await {
        Ok(opted_in) => opted_in,
        Err(error) => return vec![Line::failed("proxies", "namespaces", &error)],
    };
    let pods: Api<Pod> = Api::all(context.client.clone());
    let (mut meshed, mut stale, mut unmeshed) = (0, Vec::new(), Vec::new());
    let mut page = ListParams::default().limit(PAGE).fields("status.phase=Running");
    loop {
        let list = match pods.list(&page).await {
            Ok(list) => list,
            Err(error) => return vec![Line::failed("proxies", "pods", &error)],
        };
        for pod in &list.items {
            match Membership::of(pod, &opted_in) {
                Membership::Meshed => meshed += 1,
                Membership::Stale => stale.push(name(&pod.metadata)),
                Membership::Unmeshed => unmeshed.push(name(&pod.metadata)),
                Membership::None => {}
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    lines(meshed + stale.len(), &stale, &unmeshed)
}

fn lines(meshed: usize, stale: &[String], unmeshed: &[String]) -> Vec<Line> {
    let mut lines = vec![Line::ok("proxies", format!("{meshed} running pods have a proxy"))];
    if !stale.is_empty() {
        let message = format!("{} proxies are of another version than {VERSION}: {}", stale.len(), some(stale));
        lines.push(Line::warning("versions", message, "kubectl rollout restart their workloads"));
    }
    if !unmeshed.is_empty() {
        let message = format!("{} pods should have a proxy and have none: {}", unmeshed.len(), some(unmeshed));
        lines.push(Line::warning("unmeshed", message, "kubectl rollout restart their workloads: they started before"));
    }
    lines
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a running pod is to the mesh.
#[derive(Debug, PartialEq, Eq)]
enum Membership {
    Meshed,
    /// Meshed, with a proxy of another version.
    Stale,
    /// Opted in, and without a proxy.
    Unmeshed,
    None,
}

impl Membership {
    fn of(pod: &Pod, opted_in: &BTreeMap<String, bool>) -> Self {
        let Some(spec) = &pod.spec else { return Self::None };
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        if let Some(proxy) = containers.into_iter().find(|container| container.name == PROXY) {
            let image = proxy.image.as_deref().unwrap_or_default();
            let same = skew::version(image).is_none_or(|version| version == VERSION);
            return if same { Self::Meshed } else { Self::Stale };
        }
        let own = pod.metadata.labels.as_ref().and_then(|labels| labels.get(INJECT_LABEL)).map(String::as_str);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let wanted = own.map_or_else(|| opted_in.get(namespace).copied().unwrap_or(false), is_enabled);
        // A pod in the node's network cannot be captured.
        if wanted && spec.host_network != Some(true) { Self::Unmeshed } else { Self::None }
    }
}

fn is_enabled(value: &str) -> bool {
    matches!(value, "enabled" | "true")
}

async fn opted_in(context: &Context) -> Result<BTreeMap<String, bool>, kube::Error> {
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    let list = namespaces.list_metadata(&ListParams::default().labels(INJECT_LABEL)).await?;
    let of = |metadata: ObjectMeta| {
        let value = metadata.labels?.remove(INJECT_LABEL)?;
        Some((metadata.name?, is_enabled(&value)))
    };
    Ok(list.items.into_iter().filter_map(|namespace| of(namespace.metadata)).collect())
}

fn name(metadata: &ObjectMeta) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}

fn some(names: &[String]) -> String {
    let told = names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > MOST_NAMES { format!("{told}, ...") } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_told_apart() {
        let opted_in = BTreeMap::from([("shop".to_owned(), true)]);
        let pod = |value: serde_json::Value| {
            let pod: Pod = serde_json::from_value(value).unwrap();
            Membership::of(&pod, &opted_in)
        };
        let proxy = |image: &str| {
            serde_json::json!({
                "metadata": { "name": "p", "namespace": "shop" },
                "spec": { "containers": [], "initContainers": [{ "name": "outrigger-proxy", "image": image }] },
            })
        };
        assert_eq!(pod(proxy(&format!("registry.example:5000/a/outrigger-proxy:v{VERSION}"))), Membership::Meshed);
        assert_eq!(pod(proxy("registry.example:5000/a/outrigger-proxy")), Membership::Meshed);
        assert_eq!(pod(proxy("outrigger-proxy@sha256:00")), Membership::Meshed);
        assert_eq!(pod(proxy("outrigger-proxy:0.0.9")), Membership::Stale);
        let plain = |namespace: &str, label: &str, host: bool| {
            let labels =
                if label.is_empty() { serde_json::json!({}) } else { serde_json::json!({ INJECT_LABEL: label }) };
            pod(serde_json::json!({
                "metadata": { "name": "p", "namespace": namespace, "labels": labels },
                "spec": { "containers": [{ "name": "app" }], "hostNetwork": host },
            }))
        };
        assert_eq!(plain("shop", "", false), Membership::Unmeshed);
        assert_eq!(plain("shop", "", true), Membership::None);
        assert_eq!(plain("shop", "disabled", false), Membership::None);
        assert_eq!(plain("ops", "", false), Membership::None);
        assert_eq!(plain("ops", "enabled", false), Membership::Unmeshed);
    }
}
