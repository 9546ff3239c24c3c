use super::*;

fn endpoint(address: &str) -> Endpoint {
    Endpoint { address: address.into(), ..Endpoint::default() }
}

fn service(version: &str, document: &str, endpoints: &[&str]) -> Resource {
    let documents = vec![Document { json: document.into(), origin: "Service shop/a".into() }];
    let endpoints = endpoints.iter().map(|e| endpoint(e)).collect();
    let service = Service { documents, endpoints, references: vec!["service/shop/b:80".into()], ..Service::default() };
    Resource { key: KEY.into(), version: version.into(), body: Some(resource::Body::Service(service)) }
}

fn delta(base: &str, version: &str, upsert: &[&str], remove: &[&str]) -> EndpointDelta {
    EndpointDelta {
        key: KEY.into(),
        base: base.into(),
        version: version.into(),
        upsert: upsert.iter().map(|e| endpoint(e)).collect(),
        remove: remove.iter().map(|r| (*r).into()).collect(),
    }
}

fn addresses(cache: &Cache) -> Vec<&str> {
    match cache.get(KEY) {
        Some(Body::Service(s)) => s.endpoints.iter().map(|e| &*e.address).collect(),
        other => panic!("{other:?}"),
    }
}

const KEY: &str = "service/shop/a:80";

#[test]
fn new_documents_wait_and_endpoints_do_not() {
    let mut cache = Cache::default();
    assert_eq!(cache.resource(service("1", "x", &["a:1"])), Change::Documents);
    assert!(cache.get(KEY).is_none());
    assert_eq!(cache.delta(&delta("1", "2", &["b:1"], &[])), Change::Documents);
    assert_eq!(cache.accept(KEY).as_deref(), Some("2"));
    assert_eq!(addresses(&cache), ["a:1", "b:1"]);
    assert_eq!(cache.delta(&delta("2", "3", &["c:1"], &["a:1"])), Change::Endpoints);
    assert_eq!(addresses(&cache), ["b:1", "c:1"]);
    assert_eq!(cache.resource(service("4", "x", &["d:1"])), Change::Endpoints);
    assert_eq!(addresses(&cache), ["d:1"]);
    assert_eq!(cache.resource(service("4", "x", &["d:1"])), Change::Nothing);
    assert_eq!(cache.known_version(KEY), "4");
}

#[test]
fn a_delta_on_another_version_is_out_of_step() {
    let mut cache = Cache::default();
    assert_eq!(cache.delta(&delta("1", "2", &[], &[])), Change::OutOfStep);
    cache.resource(service("1", "x", &["a:1"]));
    assert_eq!(cache.delta(&delta("0", "2", &["b:1"], &[])), Change::OutOfStep);
    cache.accept(KEY);
    assert_eq!(cache.delta(&delta("0", "2", &["b:1"], &[])), Change::OutOfStep);
    assert_eq!(cache.delta(&delta("0", "1", &["b:1"], &[])), Change::Nothing);
    assert_eq!(addresses(&cache), ["a:1"]);
}

#[test]
fn a_refused_version_gives_its_endpoints_and_not_its_documents() {
    let mut cache = Cache::default();
    cache.resource(service("1", "good", &["a:1"]));
    cache.accept(KEY);
    cache.resource(service("2", "bad", &["b:1"]));
    assert_eq!(cache.refuse(KEY).as_deref(), Some("2"));
    assert_eq!(addresses(&cache), ["b:1"]);
    assert_eq!(cache.get(KEY).unwrap().documents()[0].json, "good");
    assert_eq!(cache.known_version(KEY), "");
    // Further changes of the endpoints come on top of the version that was refused.
    assert_eq!(cache.delta(&delta("2", "3", &["c:1"], &[])), Change::Endpoints);
    assert_eq!(addresses(&cache), ["b:1", "c:1"]);
    assert_eq!(cache.known_version(KEY), "");
    // And the documents of before, sent again, are in force.
    assert_eq!(cache.resource(service("4", "good", &["c:1"])), Change::Endpoints);
    assert_eq!(cache.known_version(KEY), "4");
}

#[test]
fn what_nothing_leads_to_is_not_reachable() {
    let mut cache = Cache::default();
    let binding = Binding { service: KEY.into(), pinned: None };
    let body = Some(resource::Body::Binding(binding));
    assert_eq!(cache.resource(Resource { key: "name/a:80".into(), version: "1".into(), body }), Change::Binding);
    cache.resource(service("1", "x", &[]));
    cache.accept(KEY);
    let reachable = cache.reachable(["name/a:80", WORKLOAD]);
    assert!(reachable.contains(KEY) && reachable.contains("service/shop/b:80"), "{reachable:?}");
    assert!(!cache.reachable([WORKLOAD]).contains(KEY));
    assert_eq!(cache.services().into_iter().collect::<Vec<_>>(), [KEY]);
    assert!(cache.forget(KEY));
}

#[test]
fn a_body_of_a_later_version_is_told_apart() {
    let mut cache = Cache::default();
    let resource = Resource { key: "x".into(), version: "1".into(), body: None };
    assert_eq!(cache.resource(resource), Change::Unknown);
}
