//! Injection: is the mutating webhook registered with a bundle that fits, and does a pod come out of the API server with a proxy?
//!
//! The second is tried, not inferred: a pod that opts in is created as a dry run, which nothing keeps. So a Service without endpoints,
//! a network policy or a certificate that does not fit shows here, before the first rollout shows it.

use std::time::Duration;

use k8s_openapi::api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Pod};
use kube::{Api, api::PostParams};
use outrigger_config::identity::INJECT_LABEL;
use serde_json::json;
use tokio::time::timeout;

use super::{super::cluster::chain, Context, Line};

const NAME: &str = "injection";
/// The container that injection adds.
const PROXY: &str = "outrigger-proxy";
/// Where the pod is tried: every cluster has it, and the mesh's own namespaces are exempt.
const NAMESPACE: &str = "default";
/// Longer than the API server waits for a webhook (30 s at most; ours is told 10).
const PATIENCE: Duration = Duration::from_secs(35);

/// The lines; `bundle`: the mesh's trust bundle.
pub(super) async fn injection(context: &Context, bundle: Option<&str>) -> Vec<Line> {
    let name = &context.webhook;
    let api: Api<MutatingWebhookConfiguration> = Api::all(context.client.clone());
    let webhooks = match api.get_opt(name).await {
        Ok(Some(found)) => found.webhooks.unwrap_or_default(),
        Ok(None) => {
            let message = format!("there is no MutatingWebhookConfiguration {name}: no pod gets a proxy by itself");
            let remedy =
                "the chart installs it; another name goes with --webhook; without it there is `outrigger inject`";
            return vec![Line::warning(NAME, message, remedy)];
        }
        Err(error) => return vec![Line::failed(NAME, "webhook configurations", &error)],
    };
    let bundles = webhooks.iter().map(|webhook| webhook.client_config.ca_bundle.as_ref());
    let current = bundles.into_iter().all(|ca| ca.is_some_and(|ca| bundle.is_some_and(|b| ca.0 == b.as_bytes())));
    let mut lines = vec![if current {
        Line::ok(NAME, "the API server trusts the injecting webhook")
    } else {
        let message = format!("the caBundle of the MutatingWebhookConfiguration {name} is not the mesh's trust bundle");
        let remedy = "the control plane writes it: see its log, and its right to patch that configuration";
        Line::fault(NAME, message, remedy)
    }];
    lines.push(tried(context).await);
    lines
}

/// A pod that opts in, as a dry run.
async fn tried(context: &Context) -> Line {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "generateName": "outrigger-check-", "labels": { INJECT_LABEL: "enabled" } },
        "spec": { "containers": [{ "name": "app", "image": "app" }] },
    });
    let pod: Pod = match serde_json::from_value(pod) {
        Ok(pod) => pod,
        Err(error) => return Line::warning(NAME, error.to_string(), "report this as a fault of Outrigger"),
    };
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), NAMESPACE);
    let how = PostParams { dry_run: true, ..PostParams::default() };
    match timeout(PATIENCE, pods.create(&how, &pod)).await {
        Ok(Ok(made)) => judged(&made),
        Ok(Err(error)) => refused(&chain(&error)),
        Err(_) => Line::fault(NAME, "a pod that opts in is not admitted in time", REMEDY),
    }
}

const REMEDY: &str = "the webhook must be reached on 9443 from where the API server runs: see the endpoints of the Service \
                      outrigger-webhook, network policies, and the control plane's log";

fn judged(pod: &Pod) -> Line {
    let spec = pod.spec.as_ref();
    let mut containers = spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    if containers.any(|container| container.name == PROXY) {
        return Line::ok(NAME, "a pod that opts in gets a proxy (tried as a dry run)");
    }
    let remedy = "does a rule of the MutatingWebhookConfiguration take pods with the label outrigger.dev/inject: enabled? \
                  With failurePolicy Ignore a webhook that is not reached shows like this, too";
    Line::fault(NAME, "a pod that opts in comes out of the API server without a proxy (tried as a dry run)", remedy)
}

fn refused(why: &str) -> Line {
    if why.contains("inject.outrigger.dev\" denied") {
        return Line::ok(NAME, format!("the injecting webhook answers: {why}"));
    }
    if why.contains("failed calling webhook") {
        return Line::fault(NAME, format!("a pod that opts in is refused: {why}"), REMEDY);
    }
    let message =
        format!("whether a pod that opts in gets a proxy cannot be tried in the namespace {NAMESPACE}: {why}");
    Line::skipped(NAME, message, "create a pod that opts in, if you want to know")
}

#[cfg(test)]
mod tests {
    use super::{super::report::Outcome, *};

    #[test]
    fn what_comes_out_is_judged() {
        let pod = |init: &str| -> Pod {
            serde_json::from_value(
                json!({ "spec": { "containers": [{ "name": "app" }], "initContainers": [{ "name": init }] } }),
            )
            .unwrap()
        };
        assert_eq!(judged(&pod(PROXY)).result, Outcome::Ok);
        assert_eq!(judged(&pod("other")).result, Outcome::Fault);
        assert_eq!(refused("failed calling webhook \"a\": connection refused").result, Outcome::Fault);
        let denied = "admission webhook \"pod.inject.outrigger.dev\" denied the request: pod_security";
        assert_eq!(refused(denied).result, Outcome::Ok, "it answers");
        let others = "admission webhook \"images.example.com\" denied the request: image app";
        assert_eq!(refused(others).result, Outcome::Skipped);
        let skipped = refused("pods is forbidden");
        assert!(skipped.result == Outcome::Skipped && skipped.remedy.is_some());
    }
}
