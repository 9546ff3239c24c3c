//! Which pods are meant: by name, by labels, or by what owns them; of those, the ones with a proxy that run.

use anyhow::{Context as _, anyhow};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{Api, Client, api::ListParams};
use serde_json::Value;

use super::{super::cluster::chain, usage};

/// Pods that a command looks at: a screen shows fewer, and each is one request of the API server.
const MOST: usize = 500;

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// The container that makes a pod one of the mesh.
const PROXY: &str = "outrigger-proxy";

/// What selects pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Select {
    /// All with these labels.
    Labels(String),
    /// The one of this name.
    Name(String),
}

/// Resources that select pods: their names, the API they are in, and where the selector is.
const OWNERS: [(&[&str], &str, &str); 6] = [
    (&["deploy", "deployment", "deployments"], "/apis/apps/v1", "deployments"),
    (&["sts", "statefulset", "statefulsets"], "/apis/apps/v1", "statefulsets"),
    (&["ds", "daemonset", "daemonsets"], "/apis/apps/v1", "daemonsets"),
    (&["rs", "replicaset", "replicasets"], "/apis/apps/v1", "replicasets"),
    (&["job", "jobs"], "/apis/batch/v1", "jobs"),
    (&["svc", "service", "services"], "/api/v1", "services"),
];

/// What `deploy/NAME` and its like select.
pub(super) async fn select(client: &Client, namespace: &str, what: &str) -> anyhow::Result<Select> {
    let (kind, name) = what.split_once('/').unwrap_or(("pod", what));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(usage(format!("{what:?} names no object: write pod/NAME or deploy/NAME")));
    }
    let kind = kind.to_ascii_lowercase();
    if matches!(&*kind, "pod" | "pods" | "po") {
        return Ok(Select::Name(name.to_owned()));
    }
    let Some((_, api, plural)) = OWNERS.iter().find(|(names, ..)| names.contains(&&*kind)) else {
        let known: Vec<_> = OWNERS.iter().map(|(names, ..)| names[0]).collect();
        return Err(usage(format!("{what:?}: there are pod/NAME and {}", known.map_words())));
    };
    let uri = format!("{api}/namespaces/{namespace}/{plural}/{name}");
    let request = http::Request::get(&uri).body(Vec::new()).context("a request")?;
    let object: Value = match client.request(request).await {
        Ok(object) => object,
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return Err(anyhow!("there is no {kind}/{name} in the namespace {namespace}: another one goes with -n"));
        }
        Err(error) => return Err(anyhow!("{kind}/{name}: {}", chain(&error))),
    };
    let selector = &object["spec"]["selector"];
    let selector = if *plural == "services" {
        LabelSelector { match_labels: serde_json::from_value(selector.clone()).ok(), ..LabelSelector::default() }
    } else {
        serde_json::from_value(selector.clone()).unwrap_or_default()
    };
    match labels(&selector) {
        words if words.is_empty() => Err(anyhow!("{kind}/{name} selects no pods")),
        words => Ok(Select::Labels(words)),
    }
}

trait Words {
    fn map_words(self) -> String;
}

impl Words for Vec<&str> {
    fn map_words(self) -> String {
        self.iter().map(|name| format!("{name}/NAME")).collect::<Vec<_>>().join(", ")
    }
}

/// A selector as the API takes it in a query.
fn labels(selector: &LabelSelector) -> String {
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let sets = selector.match_expressions.iter().flatten().filter_map(|term| {
        let (key, values) = (&term.key, term.values.as_deref().unwrap_or_default().join(","));
        match &*term.operator {
            "In" => Some(format!("{key} in ({values})")),
            "NotIn" => Some(format!("{key} notin ({values})")),
            "Exists" => Some(key.clone()),
            "DoesNotExist" => Some(format!("!{key}")),
            _ => None,
        }
    });
    equal.chain(sets).collect::<Vec<_>>().join(",")
}

/// Namespace and name of the running pods with a proxy that are selected, sorted.
pub(super) async fn meshed(
    client: &Client,
    namespace: Option<&str>,
    select: &Select,
) -> anyhow::Result<Vec<(String, String)>> {
    let pods: Api<Pod> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut page = match select {
        Select::Labels(labels) => ListParams::default().labels(labels).fields("status.phase=Running"),
        Select::Name(name) => ListParams::default().fields(&format!("metadata.name={name}")),
    }
    .limit(PAGE);
    let mut found = Vec::new();
    loop {
        let list = pods.list(&page).await.map_err(|e| anyhow!("pods cannot be listed: {}", chain(&e)))?;
        found.extend(
            list.items
                .iter()
                .filter(|pod| runs_proxy(pod))
                .filter_map(|pod| Some((pod.metadata.namespace.clone()?, pod.metadata.name.clone()?))),
        );
        if found.len() > MOST {
            return Err(anyhow!("more than {MOST} pods are meant: name fewer with -n, -l or deploy/NAME"));
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    found.sort();
    Ok(found)
}

fn runs_proxy(pod: &Pod) -> bool {
    let running = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
    let spec = pod.spec.as_ref();
    let mut containers = spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    running && containers.any(|container| container.name == PROXY)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_are_written_as_the_api_takes_them() {
        let selector: LabelSelector = serde_json::from_value(json!({
            "matchLabels": { "app": "web" },
            "matchExpressions": [
                { "key": "tier", "operator": "In", "values": ["a", "b"] },
                { "key": "old", "operator": "DoesNotExist" },
                { "key": "zone", "operator": "NotIn", "values": ["z"] },
                { "key": "x", "operator": "Exists" },
            ],
        }))
        .unwrap();
        assert_eq!(labels(&selector), "app=web,tier in (a,b),!old,zone notin (z),x");
    }

    #[test]
    fn only_running_pods_with_a_proxy_are_meant() {
        let pod = |phase: &str, name: &str| -> Pod {
            serde_json::from_value(json!({
                "spec": { "containers": [{ "name": "app" }], "initContainers": [{ "name": name }] },
                "status": { "phase": phase },
            }))
            .unwrap()
        };
        assert!(runs_proxy(&pod("Running", PROXY)));
        assert!(!runs_proxy(&pod("Pending", PROXY)));
        assert!(!runs_proxy(&pod("Running", "other")));
    }
}
