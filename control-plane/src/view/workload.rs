//! What a pod serves: its ports, the Services in front of them, and the policies that guard it.

use std::{collections::BTreeMap, sync::Arc};

use outrigger_config::{
    discovery::{Key, Workload, WorkloadPort},
    documents::Kind,
    model::UpstreamProtocol,
    service_protocol,
};
use serde_json::Value;

use super::document::{Documents, policies};
use crate::index::{Destination, Entry, Index, ObjectName, Served, Target, Topic};

pub(super) fn topics(index: &Index, at: &ObjectName) -> Vec<Topic> {
    let mut topics = vec![Topic::Pod(at.clone()), Topic::Namespace(at.namespace.clone()), Topic::Mesh];
    if let Some(pod) = index.pod(at) {
        for served in index.served(pod) {
            topics.extend([Topic::Service(served.service.at.clone()), Topic::Documents(served.service.at.clone())]);
        }
    }
    topics
}

pub(super) fn resolve(index: &Index, at: &ObjectName) -> Result<Workload, String> {
    let pod = index.pod(at).ok_or_else(|| format!("pod {}/{} is not known", at.namespace, at.name))?;
    let served = index.served(pod);
    let mtls = mtls(index, &at.namespace);
    let mut ports: BTreeMap<u16, Vec<&Served<'_>>> =
        pod.ports.iter().map(|(_, number)| (*number, Vec::new())).collect();
    for one in &served {
        ports.entry(one.number).or_default().push(one);
    }
    let mut documents = Documents::default();
    for one in &served {
        documents.add_service(one.service);
        let target = Target::Destination(Destination::Service(one.service.at.clone()));
        for entry in policies(index, &target) {
            documents.add(index, entry);
        }
    }
    documents.add_general(index, &at.namespace, |_| true);
    Ok(Workload {
        ports: ports.into_iter().map(|(number, served)| port(number, &served, &mtls)).collect(),
        documents: documents.finish(None),
        mtls,
        always_allow_paths: Vec::new(),
    })
}

fn port(number: u16, served: &[&Served<'_>], mtls: &str) -> WorkloadPort {
    let key = |s: &&Served<'_>| Key::service(&s.service.at.namespace, &s.service.at.name, s.port.port).to_string();
    let protocol = served.first().map_or(UpstreamProtocol::Auto, |s| {
        // The well-known number is that of the Service, or that of the pod.
        match service_protocol(&s.port.app_protocol, s.port.port) {
            UpstreamProtocol::Auto => service_protocol(&s.port.app_protocol, number),
            said => said,
        }
    });
    let protocol = match protocol {
        UpstreamProtocol::Auto => "",
        UpstreamProtocol::Http => "http",
        UpstreamProtocol::Http2 => "http2",
        UpstreamProtocol::Grpc => "grpc",
        UpstreamProtocol::Tcp => "tcp",
    };
    let mut services: Vec<String> = Vec::new();
    for key in served.iter().map(key) {
        if !services.contains(&key) {
            services.push(key);
        }
    }
    WorkloadPort { port: number.into(), services, protocol: protocol.into(), mtls: mtls.into() }
}

/// What the MeshPolicy of the namespace says, else that of the mesh, else `permissive`. The oldest of each.
fn mtls(index: &Index, namespace: &Arc<str>) -> String {
    let winner = |target: Target| {
        let taken = |e: &&Entry| e.document.kind == Kind::MeshPolicy && e.sent.is_some();
        policies(index, &target).filter(taken).min_by(|a, b| age(a).cmp(&age(b)))
    };
    let policy = winner(Target::Namespace(Arc::clone(namespace))).or_else(|| winner(Target::Mesh));
    let document: Option<Value> = policy.and_then(|p| serde_json::from_str(p.sent.as_ref()?).ok());
    let said = document.as_ref().and_then(|d| d.pointer("/spec/mtls")).and_then(Value::as_str);
    said.unwrap_or("permissive").to_owned()
}

fn age(entry: &Entry) -> (bool, &str, &ObjectName) {
    (entry.created.is_empty(), &entry.created, &entry.document.at)
}
