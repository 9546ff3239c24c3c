//! Objects as an API server sends them.

use outrigger_config::documents::Kind;
use serde_json::json;

use super::*;

fn read<T: Arrived>(kind: ObjectKind, object: Value) -> Option<Object> {
    let arrived: T = serde_json::from_value(object).unwrap();
    arrived.trim(Resource::of(kind).unwrap()).map(|trimmed| trimmed.object)
}

#[test]
fn a_pod_is_its_addresses_account_and_ports() {
    let pod = json!({
        "metadata": { "name": "web-1", "namespace": "shop", "uid": "u", "labels": { "app": "web" },
            "managedFields": [{ "fieldsV1": {} }], "annotations": { "a": "b" } },
        "spec": {
            "serviceAccountName": "web", "nodeName": "n",
            "initContainers": [
                { "name": "outrigger-proxy", "restartPolicy": "Always", "ports": [{ "containerPort": 9992 }] },
                { "name": "migrate", "ports": [{ "containerPort": 1 }] },
            ],
            "containers": [{ "name": "app", "ports": [
                { "name": "http", "containerPort": 8080, "protocol": "TCP" },
                { "name": "dns", "containerPort": 53, "protocol": "UDP" },
            ] }],
        },
        "status": { "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] },
    });
    let Some(Object::Pod(pod)) = read::<AnyPod>(ObjectKind::Pod, pod) else { panic!() };
    assert_eq!(pod.ips, ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    assert!(pod.meshed && !pod.host_network && !pod.ended);
    assert_eq!((pod.account.as_ref(), pod.ports.as_ref()), ("web", &[("http".into(), 8080)][..]));
    let bare = json!({ "metadata": { "name": "x", "namespace": "y", "labels": null }, "spec": {}, "status": { "phase": "Failed" } });
    let Some(Object::Pod(pod)) = read::<AnyPod>(ObjectKind::Pod, bare) else { panic!() };
    assert!(!pod.meshed && pod.ended && pod.ips.is_empty());
    assert_eq!(pod.account.as_ref(), "default");
}

#[test]
fn a_pod_proves_itself_where_its_proxy_answers() {
    let proves = |first: Value, port: u16| {
        let pod = json!({ "metadata": { "name": "x", "namespace": "y" }, "spec": { "initContainers": first } });
        let Some(Object::Pod(pod)) = read::<AnyPod>(ObjectKind::Pod, pod) else { panic!() };
        pod.meshed && pod.proven.has(port)
    };
    let proxy = |env: Value| json!({ "name": "outrigger-proxy", "env": env });
    let capture = |args: &[&str]| json!({ "name": "outrigger-redirect", "args": args });
    let captured = |args: &[&str]| json!([proxy(json!([])), capture(args)]);
    assert!(proves(captured(&["redirect", "install"]), 8080));
    // The admin port speaks plaintext, to Prometheus in the mesh, too; so does what the pod's annotations leave out.
    assert!(!proves(captured(&["redirect", "install"]), 9990));
    assert!(!proves(captured(&["redirect", "install", "--skip-inbound-ports", "8080"]), 8080));
    // Where nothing is captured, the app has its ports to itself, but for those that the proxy has taken over.
    let explicit = |listeners: &str| {
        let listeners = json!({ "name": "OUTRIGGER_INBOUND_LISTENERS", "value": listeners });
        json!([proxy(json!([{ "name": "OUTRIGGER_EXPLICIT", "value": "true" }, { "name": "POD_IP" }, listeners]))])
    };
    assert!(proves(explicit("8080=18080"), 8080));
    assert!(!proves(explicit("8080=18080"), 8081));
    // A proxy that nobody injected.
    assert!(proves(json!([proxy(json!([{ "name": "POD_IP", "valueFrom": {} }]))]), 8080));
}

#[test]
fn services_are_of_three_kinds() {
    let service = |spec: Value| {
        let object = json!({ "metadata": { "name": "a", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z" }, "spec": spec });
        match read::<AnyService>(ObjectKind::Service, object) {
            Some(Object::Service(service)) => service,
            other => panic!("{other:?}"),
        }
    };
    let dual = service(json!({
        "type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00:96::1"],
        "ports": [
            { "name": "http", "port": 80, "targetPort": "web", "protocol": "TCP", "appProtocol": "http" },
            { "name": "dns", "port": 53, "protocol": "UDP" },
            { "name": "plain", "port": 81 },
            { "name": "numbered", "port": 82, "targetPort": 8082 },
        ],
    }));
    assert_eq!((dual.kind, dual.addresses.len()), (ServiceKind::ClusterIp, 2));
    let targets: Vec<_> = dual.ports.iter().map(|p| p.target.clone()).collect();
    assert_eq!(targets, [TargetPort::Name("web".into()), TargetPort::Number(81), TargetPort::Number(8082)]);
    assert_eq!(dual.ports[0].app_protocol.as_ref(), "http");
    let headless = service(json!({ "clusterIP": "None", "clusterIPs": ["None"], "publishNotReadyAddresses": true }));
    assert_eq!((headless.kind, headless.publish_not_ready), (ServiceKind::Headless, true));
    let external = service(json!({ "type": "ExternalName", "externalName": "db.example.com" }));
    assert_eq!(external.kind, ServiceKind::ExternalName("db.example.com".into()));
}

#[test]
fn conditions_say_how_an_endpoint_is() {
    let states = [
        (json!({}), EndpointState::Ready),
        (json!({ "ready": true, "serving": true, "terminating": true }), EndpointState::Ready),
        (json!({ "ready": false, "serving": true, "terminating": true }), EndpointState::Draining),
        (json!({ "ready": false, "serving": true, "terminating": false }), EndpointState::Unready),
        (json!({ "ready": false, "serving": false, "terminating": true }), EndpointState::Unready),
        (json!({ "ready": false }), EndpointState::Unready),
        (json!({ "ready": null, "serving": null, "terminating": null }), EndpointState::Ready),
    ];
    for (conditions, state) in states {
        let read: Conditions = serde_json::from_value(conditions.clone()).unwrap();
        assert_eq!(read.state(), state, "{conditions}");
    }
}

#[test]
fn a_slice_is_of_a_service_or_nothing() {
    let mut slice = json!({
        "metadata": { "name": "web-x", "namespace": "shop", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }, { "name": "udp", "port": 1, "protocol": "UDP" }, { "name": "all", "port": null }],
        "endpoints": [
            { "addresses": ["10.0.0.1"], "conditions": { "ready": true }, "targetRef": { "kind": "Pod", "name": "web-1" },
              "zone": "a", "hints": { "forZones": [{ "name": "b" }] }, "hostname": "h" },
            { "addresses": ["not an address"], "conditions": {} },
        ],
    });
    let Some(Object::Slice(read_slice)) = read::<AnySlice>(ObjectKind::Slice, slice.clone()) else { panic!() };
    assert_eq!(read_slice.ports, [("".into(), 8080)]);
    let [endpoint] = &read_slice.endpoints[..] else { panic!("{read_slice:?}") };
    assert_eq!((endpoint.pod.as_ref(), endpoint.zone.as_ref(), endpoint.for_zones.len()), ("web-1", "a", 1));
    slice["metadata"]["labels"] = json!({});
    assert_eq!(read::<AnySlice>(ObjectKind::Slice, slice.clone()), None);
    slice["metadata"]["labels"] = json!({ "kubernetes.io/service-name": "web" });
    slice["endpoints"] = Value::Null;
    slice["ports"] = Value::Null;
    assert!(read::<AnySlice>(ObjectKind::Slice, slice).is_some());
}

#[test]
fn a_document_keeps_its_words_and_loses_what_changes_without_them() {
    let object = json!({
        "apiVersion": "x", "kind": "x",
        "metadata": { "name": "r", "namespace": "n", "resourceVersion": "7", "generation": 3, "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [] },
        "spec": { "rules": [{ "name": "a" }] },
        "status": { "parents": [] },
    });
    let arrived: AnyDocument = serde_json::from_value(object).unwrap();
    let trimmed = arrived.trim(Resource::of(ObjectKind::Document(Kind::HTTPRoute)).unwrap()).unwrap();
    assert_eq!(trimmed.status, Some(json!({ "parents": [] })));
    let Object::Document(document) = trimmed.object else { panic!() };
    assert_eq!((document.generation, document.uid.as_ref()), (3, "u"));
    let read: Value = serde_json::from_str(&document.json).unwrap();
    assert_eq!(read["apiVersion"], "gateway.networking.k8s.io/v1");
    assert_eq!(read["metadata"], json!({ "name": "r", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z" }));
    assert_eq!(read["spec"]["rules"][0]["name"], "a");
}
