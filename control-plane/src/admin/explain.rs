//! `/explain`: what a request of a pod would get, by what this replica would tell its proxy.
//!
//! The question is put as the proxy would put it: the key of the URL's host is resolved as that pod sees it, with all that it leads
//! to; the documents are compiled by the one function that the proxy uses, and explained by the one that explains there.

use std::collections::BTreeMap;

use http::StatusCode;
use outrigger_config::{
    Cluster, Source, compile_in,
    discovery::{Endpoint, Key, Resource, endpoint::State, resource::Body},
    explain::{EndpointPart, ExplainRequest, LiveState, explain},
    model::{Upstream, UpstreamId},
};
use serde_json::json;

use super::{Answer, Query, json_answer, text, wrong};
use crate::{
    index::{Index, ObjectName},
    live::Live,
    view::{self, Subscriber},
};

/// Resources that one key leads to; more than any route has back ends.
const MOST: usize = 256;

const USAGE: &str = "write /explain?namespace=NAMESPACE&url=http://HOST[:PORT]/PATH, \
                     and if you like pod=NAME, method=, header=NAME:VALUE (several), from=SPIFFE_ID, output=text";

/// The listener that stands for the proxy's own.
const PROXY: &str = "apiVersion: outrigger.dev/v1alpha1\nkind: Proxy\nmetadata: { name: explain }\nspec:\n  listeners:\n    \
                     - { name: outbound, address: \"127.0.0.1:9991\", direction: outbound }\n";

pub(crate) fn answer(live: &Live, query: &Query) -> Answer {
    let (Some(namespace), Some(url)) = (query.get("namespace"), query.get("url")) else { return wrong(USAGE) };
    if !*live.ready().borrow() {
        return json_answer(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "error": "the cluster is not wholly known yet" }),
        );
    }
    let method = query.get("method").unwrap_or("GET");
    let request = match ExplainRequest::new(method, url, &query.all("header"), query.get("from")) {
        Ok(request) => request,
        Err(error) => return wrong(&error.to_string()),
    };
    let pod = ObjectName { namespace: namespace.into(), name: query.get("pod").unwrap_or_default().into() };
    let host = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
    let Some(key) = Key::authority(host) else { return wrong(&format!("`{host}` is no host. {USAGE}")) };
    let (gathered, cluster) = live.read(|index| (gather(index, &Subscriber { pod }, key), cluster(index, namespace)));
    let gathered = match gathered {
        Ok(gathered) => gathered,
        Err(reason) => {
            return json_answer(
                StatusCode::OK,
                &json!({ "outside": true, "reason": reason, "note": "the connection goes where the app sends it" }),
            );
        }
    };
    let model = match compile_in(&gathered.sources, &cluster) {
        Ok(compiled) => compiled.model,
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            return json_answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "faults": faults }));
        }
    };
    match explain(&model, "outbound", &request, &gathered) {
        Ok(explanation) if query.get("output") == Some("text") => text(StatusCode::OK, &explanation.to_string()),
        Ok(explanation) => json_answer(StatusCode::OK, &serde_json::to_value(explanation).unwrap_or_default()),
        Err(error) => wrong(&error.to_string()),
    }
}

fn cluster(index: &Index, namespace: &str) -> Cluster {
    let settings = index.settings();
    Cluster {
        namespace: namespace.into(),
        domain: settings.cluster_domain.as_str().into(),
        mesh_namespace: settings.mesh_namespace.as_str().into(),
        local: Vec::new(),
    }
}

/// What a key leads to.
struct Gathered {
    /// All documents, each once, and a proxy.
    sources: Vec<Source>,
    /// By the name that the compiler gives to a port of a Service.
    endpoints: BTreeMap<String, Vec<EndpointPart>>,
}

impl LiveState for Gathered {
    fn endpoints(&self, _: UpstreamId, upstream: &Upstream) -> Option<Vec<EndpointPart>> {
        self.endpoints.get(upstream.name.as_ref()).cloned()
    }
}

/// The error is why it is outside the mesh.
fn gather(index: &Index, subscriber: &Subscriber, key: Key) -> Result<Gathered, String> {
    let mut seen: Vec<Key> = vec![key];
    let mut documents: BTreeMap<String, String> = BTreeMap::new();
    let mut endpoints = BTreeMap::new();
    let mut at = 0;
    while let Some(key) = seen.get(at).cloned() {
        let resource = view::resolve(index, subscriber, &key);
        if let (0, Some(Body::Absent(absent))) = (at, &resource.body) {
            return Err(absent.reason.clone());
        }
        at += 1;
        documents.extend(documents_of(&resource));
        if let Some(Body::Service(service)) = &resource.body {
            let name = format!("{}/{}:{}", service.namespace, service.name, service.port);
            endpoints.insert(name, service.endpoints.iter().filter_map(endpoint).collect());
        }
        for next in view::references(&resource) {
            if seen.len() < MOST && !seen.contains(&next) {
                seen.push(next);
            }
        }
    }
    let proxy = Source { name: "the proxy of the pod".into(), text: PROXY.into() };
    let objects = documents.into_iter().map(|(origin, json)| Source::object(origin, json));
    Ok(Gathered { sources: std::iter::once(proxy).chain(objects).collect(), endpoints })
}

fn endpoint(endpoint: &Endpoint) -> Option<EndpointPart> {
    let state = match endpoint.state() {
        State::Ready => "ready",
        State::Draining => "draining",
        State::Unready => "unready",
    };
    Some(EndpointPart {
        address: endpoint.address.parse().ok()?,
        weight: endpoint.weight.max(1),
        zone: Some(endpoint.zone.clone()).filter(|zone| !zone.is_empty()),
        state: Some(state.to_owned()),
    })
}

fn documents_of(resource: &Resource) -> Vec<(String, String)> {
    let documents = match &resource.body {
        Some(Body::Service(service)) => &service.documents,
        Some(Body::Workload(workload)) => &workload.documents,
        _ => return Vec::new(),
    };
    documents.iter().map(|d| (d.origin.clone(), d.json.clone())).collect()
}
