//! 10,000 Services and 100,000 pods in the index: what they weigh, and what a change of one endpoint costs.
//!
//! Alone in its process, for it measures the process's memory. The bounds are generous, for this runs unoptimised and beside
//! others; the figures are printed.

use std::{net::IpAddr, sync::Arc, time::Duration};

use outrigger_config::discovery::Key;
use outrigger_control_plane::{
    index::{
        EndpointState, Event, Index, Object, ObjectKind, ObjectName, Pod, Service, ServiceKind, ServicePort, Settings,
        Slice, SliceEndpoint, TargetPort,
    },
    view::{Subscriber, resolve},
};
use tokio::time::Instant;

const SERVICES: u32 = 10_000;
const PODS_EACH: u32 = 10;
const NAMESPACES: u32 = 200;

fn at(namespace: &str, name: &str) -> ObjectName {
    ObjectName { namespace: namespace.into(), name: name.into() }
}

fn ip(first: u8, n: u32) -> IpAddr {
    let [_, a, b, c] = n.to_be_bytes();
    [first, a, b, c].into()
}

fn service(namespace: &str, name: &str, n: u32) -> Service {
    let port = ServicePort { name: "http".into(), port: 80, target: TargetPort::Number(8080), app_protocol: "".into() };
    Service {
        at: at(namespace, name),
        created: "2026-01-01T00:00:00Z".into(),
        kind: ServiceKind::ClusterIp,
        addresses: vec![ip(172, n)],
        ports: vec![port],
        selector: [("app".into(), name.into())].into(),
        publish_not_ready: false,
    }
}

fn pod(namespace: &str, name: &str, ip: IpAddr, app: &str) -> Pod {
    Pod {
        at: at(namespace, name),
        uid: format!("0d3c9a4e-7c9f-4c4b-9d5e-{:012x}", name.len()).into(),
        ips: vec![ip],
        account: app.into(),
        meshed: true,
        host_network: false,
        ended: false,
        ports: [("http".into(), 8080)].into(),
        proven: Default::default(),
        labels: Arc::new(
            [
                ("app".into(), app.into()),
                ("pod-template-hash".into(), "6d4cf56db6".into()),
                ("version".into(), "v1".into()),
            ]
            .into(),
        ),
    }
}

fn endpoint(ip: IpAddr, pod: &str) -> SliceEndpoint {
    SliceEndpoint {
        ip,
        state: EndpointState::Ready,
        pod: pod.into(),
        hostname: "".into(),
        zone: "europe-1a".into(),
        for_zones: vec!["europe-1a".into()],
    }
}

/// A Service, its pods, its slice.
fn objects(n: u32) -> Vec<Object> {
    let (namespace, name) = (format!("ns-{}", n % NAMESPACES), format!("service-{n}"));
    let mut objects = vec![Object::Service(service(&namespace, &name, n))];
    let pods: Vec<(IpAddr, String)> =
        (0..PODS_EACH).map(|p| (ip(10, n * PODS_EACH + p), format!("{name}-6d4cf56db6-{p:05}"))).collect();
    objects.extend(pods.iter().map(|(ip, pod_name)| Object::Pod(pod(&namespace, pod_name, *ip, &name))));
    objects.push(Object::Slice(Slice {
        at: at(&namespace, &format!("{name}-abcde")),
        service: name.as_str().into(),
        ports: vec![("http".into(), 8080)],
        endpoints: pods.iter().map(|(ip, pod)| endpoint(*ip, pod)).collect(),
    }));
    objects
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_change_costs_what_it_touches() {
    let before = resident();
    let start = Instant::now();
    let mut index = Index::new(Settings {
        trust_domain: "cluster.local".into(),
        cluster_domain: "cluster.local".into(),
        mesh_namespace: "outrigger-system".into(),
    });
    for n in 0..SERVICES {
        for object in objects(n) {
            index.apply(Event::Upsert(object));
        }
    }
    let (built, bytes) = (start.elapsed(), resident().saturating_sub(before));
    let pods = (SERVICES * PODS_EACH) as usize;
    assert_eq!(index.count(ObjectKind::Pod), pods);

    let mut apply = Vec::new();
    let mut answer = Vec::new();
    let subscriber = Subscriber { pod: at("ns-1", "none") };
    for n in (0..SERVICES).step_by(100) {
        let Some(Object::Slice(mut slice)) = objects(n).pop() else { panic!("the slice is the last") };
        slice.endpoints[3].state = EndpointState::Unready;
        let start = Instant::now();
        let changes = index.apply(Event::Upsert(Object::Slice(slice)));
        apply.push(start.elapsed());
        assert_eq!(changes.topics.len(), 1, "its Service's endpoints, and nothing else");
        let key = Key::service(&format!("ns-{}", n % NAMESPACES), &format!("service-{n}"), 80);
        let start = Instant::now();
        let resource = resolve(&index, &subscriber, &key);
        answer.push(start.elapsed());
        assert_eq!(resource.version.len(), 32);
    }
    let (apply, answer) = (median(&mut apply), median(&mut answer));
    println!(
        "{SERVICES} services, {pods} pods: built in {built:?}, {} MiB ({} bytes a pod, its share of Service and slice included), \
         endpoint change {apply:?}, view of it {answer:?}",
        bytes >> 20,
        bytes / pods,
    );
    assert!(apply < Duration::from_millis(5), "{apply:?}");
    assert!(answer < Duration::from_millis(20), "{answer:?}");
    assert!(bytes / pods < 1536, "{} bytes a pod", bytes / pods);
}
