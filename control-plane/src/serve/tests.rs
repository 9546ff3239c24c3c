//! The service over real TLS and real gRPC, with an index that tests fill.

use std::time::Duration;

use outrigger_config::discovery::{
    Acknowledge, Refuse, Resource, control_message::Message, endpoint::State, resource::Body,
};
use tonic::Code;

mod accept;
mod client;
mod world;

use self::{client::Client, world::World};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_sent_what_it_asks_for_and_then_what_changes() {
    let world = World::start(Limits::default()).await;
    world.service("shop", "web", &["10.0.0.1", "10.0.0.2"]);
    let mut proxy = world.proxy("shop", "client").await;
    proxy.subscribe(WEB, "").await;
    let first = proxy.resource().await;
    assert_eq!(first.key, WEB);
    assert_eq!(addresses(&first), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    proxy.acknowledge(&first.key, &first.version).await;

    world.endpoints("shop", "web", &["10.0.0.2", "10.0.0.3"]);
    match proxy.message().await {
        Message::Endpoints(delta) => {
            assert_eq!((delta.base.as_str(), delta.key.as_str()), (first.version.as_str(), WEB));
            assert_ne!(delta.version, first.version);
            assert_eq!(delta.remove, ["10.0.0.1:8080"]);
            assert_eq!(delta.upsert.iter().map(|e| e.address.as_str()).collect::<Vec<_>>(), ["10.0.0.3:8080"]);
            proxy.acknowledge(WEB, &delta.version).await;
        }
        // A delta is sent where it is smaller.
        Message::Resource(resource) => {
            assert_eq!(addresses(&resource), ["10.0.0.2:8080", "10.0.0.3:8080"]);
            proxy.acknowledge(WEB, &resource.version).await;
        }
        other => panic!("{other:?}"),
    }
    world.wait("the acknowledgement is measured", |m| m.event_to_ack.get_sample_count() == 1).await;
    // The same again is no change.
    world.endpoints("shop", "web", &["10.0.0.2", "10.0.0.3"]);
    proxy.silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_comes_after_the_service_that_it_leads_to() {
    let world = World::start(Limits::default()).await;
    world.service("shop", "web", &["10.0.0.1"]);
    let mut proxy = world.proxy("shop", "client").await;
    proxy.subscribe("name/web:80", "").await;
    assert_eq!(proxy.resource().await.key, WEB);
    let binding = proxy.resource().await;
    assert_eq!(binding.key, "name/web:80");
    assert!(matches!(binding.body, Some(Body::Binding(ref b)) if b.service == WEB), "{binding:?}");
    // Nothing leads to it any more: it is let go with the binding.
    proxy.unsubscribe("name/web:80").await;
    world.wait("all is let go", |m| m.subscriptions.get() == 0).await;
    world.endpoints("shop", "web", &["10.0.0.9"]);
    proxy.silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_resumes_is_sent_only_what_it_does_not_have() {
    let world = World::start(Limits::default()).await;
    world.service("shop", "web", &["10.0.0.1"]);
    world.service("shop", "api", &["10.0.0.2"]);
    let mut before = world.proxy("shop", "client").await;
    for key in [WEB, API] {
        before.subscribe(key, "").await;
    }
    let (web, api) = (before.resource().await, before.resource().await);
    drop(before);
    world.endpoints("shop", "api", &["10.0.0.3"]);
    let mut after = world.proxy("shop", "client").await;
    after.subscribe(WEB, &web.version).await;
    after.subscribe(API, &api.version).await;
    let sent = after.resource().await;
    assert_eq!((sent.key.as_str(), addresses(&sent)), (API, vec!["10.0.0.3:8080".to_owned()]));
    after.silence().await;
    // What it has is kept up to date all the same.
    world.endpoints("shop", "web", &["10.0.0.4"]);
    assert!(matches!(after.message().await, Message::Resource(r) if r.key == WEB) || world.deltas() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_seen_and_the_next_version_is_sent_whole() {
    let world = World::start(Limits::default()).await;
    world.service("shop", "web", &["10.0.0.1"]);
    let mut proxy = world.proxy("shop", "client").await;
    proxy.subscribe(WEB, "").await;
    let first = proxy.resource().await;
    let reasons = vec!["Service shop/web: spec.ports[0]: no".to_owned()];
    proxy.say(Refuse { key: first.key.clone(), version: first.version.clone(), reasons: reasons.clone() }.into()).await;
    world.wait("the refusal is counted", |m| m.refusals.get() == 1).await;
    let shown = world.discovery.proxies().json(Some("shop/client")).await;
    assert_eq!(shown[0]["refused"][0]["reasons"][0], reasons[0], "{shown:#}");
    assert_eq!(shown[0]["keys"][0]["acknowledged"], false, "{shown:#}");
    // It is not sent again, for it would be refused again.
    proxy.silence().await;
    world.endpoints("shop", "web", &["10.0.0.2"]);
    let second = proxy.resource().await;
    assert_eq!(addresses(&second), ["10.0.0.2:8080"]);
    proxy.acknowledge(WEB, &second.version).await;
    world.wait("the refusal is forgotten", |m| m.acknowledgements.get() == 1).await;
    let shown = world.discovery.proxies().json(Some("shop/client")).await;
    assert_eq!(shown[0]["refused"], serde_json::json!([]), "{shown:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_speaks_for_its_own_pod_alone() {
    let limits = Limits { patience: Duration::from_millis(200), ..Limits::default() };
    let world = World::start(limits).await;
    world.pod("shop", "web-1", "web");
    world.pod("bank", "vault-1", "vault");
    let refused = [
        // Its certificate, the pod that it says it is, and what it is told.
        (Some("spiffe://cluster.local/ns/shop/sa/web"), ("bank", "vault-1"), Code::PermissionDenied),
        (Some("spiffe://cluster.local/ns/bank/sa/web"), ("bank", "vault-1"), Code::PermissionDenied),
        (Some("spiffe://cluster.local/ns/shop/sa/other"), ("shop", "web-1"), Code::PermissionDenied),
        (Some("spiffe://cluster.local/ns/shop/sa/web/x"), ("shop", "web-1"), Code::PermissionDenied),
        (None, ("shop", "web-1"), Code::PermissionDenied),
        // It may come.
        (Some("spiffe://cluster.local/ns/shop/sa/web"), ("shop", "web-2"), Code::Unavailable),
    ];
    for (identity, (namespace, pod), code) in refused {
        let mut proxy = Client::connect(&world, identity).await;
        proxy.hello(namespace, pod, "").await;
        let status = proxy.status().await;
        assert_eq!(status.code(), code, "{identity:?} as {namespace}/{pod}: {status:?}");
    }
    let mut good = Client::connect(&world, Some("spiffe://cluster.local/ns/shop/sa/web")).await;
    good.hello("shop", "web-1", "").await;
    assert!(matches!(good.message().await, Message::Welcome(_)));
    // A pod of that name from another life: the index is late, or the proxy is.
    let mut old = Client::connect(&world, Some("spiffe://cluster.local/ns/shop/sa/web")).await;
    old.hello("shop", "web-1", "another-uid").await;
    assert_eq!(old.status().await.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_the_watch_brings_late_is_waited_for() {
    let world = World::start(Limits::default()).await;
    let mut proxy = Client::connect(&world, Some("spiffe://cluster.local/ns/shop/sa/web")).await;
    proxy.hello("shop", "web-1", "").await;
    proxy.silence().await;
    world.pod("shop", "web-1", "web");
    assert!(matches!(proxy.message().await, Message::Welcome(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_that_something_is_absent_before_all_is_known() {
    let limits = Limits { patience: Duration::from_millis(100), ..Limits::default() };
    let world = World::unready(limits).await;
    world.pod("shop", "web-1", "web");
    let mut proxy = Client::connect(&world, Some("spiffe://cluster.local/ns/shop/sa/web")).await;
    proxy.hello("shop", "web-1", "").await;
    assert_eq!(proxy.status().await.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_reads_nothing_is_cut_off_and_holds_up_nobody() {
    let world = World::start(Limits { slow: Duration::from_millis(800), ..Limits::default() }).await;
    let many: Vec<String> = (0..4000).map(|n| format!("10.1.{}.{}", n / 250, n % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for n in 0..20 {
        world.service("shop", &format!("big-{n}"), &many);
    }
    world.service("shop", "web", &["10.0.0.1"]);
    let mut slow = world.proxy("shop", "slow").await;
    let mut quick = world.proxy("shop", "quick").await;
    for n in 0..20 {
        slow.subscribe(&format!("service/shop/big-{n}:80"), "").await;
    }
    quick.subscribe(WEB, "").await;
    assert_eq!(quick.resource().await.key, WEB);
    for n in 2..8 {
        world.endpoints("shop", "web", &[&format!("10.0.0.{n}")]);
        drop(quick.message().await);
    }
    let slow_ends = |m: &crate::observe::Metrics| m.streams_ended.with_label_values(&["slow"]).get() == 1;
    world.wait("the slow one is cut off", slow_ends).await;
    assert_eq!(world.discovery.proxies().len(), 1);
    world.endpoints("shop", "web", &["10.0.0.9"]);
    drop(quick.message().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_asks_without_end_and_reads_no_answer_is_cut_off() {
    let world = World::start(Limits { slow: Duration::from_millis(800), ..Limits::default() }).await;
    let mut flood = world.proxy("shop", "flood").await;
    let mut taken = 0;
    let slow_ends = |m: &crate::observe::Metrics| m.streams_ended.with_label_values(&["slow"]).get() == 1;
    tokio::select! {
        () = flood.flood(&mut taken) => {}
        () = world.wait("the one that floods is cut off", slow_ends) => {}
    }
    // Those whose answers wait, and what the windows and buffers of both ends hold.
    assert!(taken < 10_000, "{taken} messages were taken of one that reads no answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_nobody_read_become_one() {
    let world = World::start(Limits::default()).await;
    let many: Vec<String> = (0..4000).map(|n| format!("10.1.{}.{}", n / 250, n % 250)).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    world.service("shop", "big", &many);
    let mut proxy = world.proxy("shop", "client").await;
    proxy.subscribe(BIG, "").await;
    // Wholly different ones, so that each push is larger than what a connection takes unread.
    for n in 0..50 {
        let shifted: Vec<String> = (0..4000).map(|i| format!("10.{}.{}.{}", n + 2, i / 250, i % 250)).collect();
        many = shifted.iter().map(String::as_str).collect();
        world.endpoints("shop", "big", &many);
    }
    let mut read = 0;
    loop {
        read += 1;
        if let Message::Resource(resource) = proxy.message().await
            && addresses(&resource)[0].starts_with("10.51.")
        {
            break;
        }
    }
    assert!(read <= 25, "{read} messages for fifty changes");
    proxy.silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_subscriptions_are_answered() {
    let world = World::start(Limits::default()).await;
    for n in 0..200 {
        world.service("shop", &format!("s{n}"), &["10.0.0.1"]);
    }
    let mut proxy = world.proxy("shop", "client").await;
    let names =
        (0..200).map(|n| format!("name/s{n}:80")).chain((0..3000).map(|n| format!("name/outside{n}.example:443")));
    let mut waiting: std::collections::BTreeSet<String> = names.collect();
    for key in &waiting {
        proxy.subscribe(key, "").await;
    }
    while !waiting.is_empty() {
        let resource = proxy.resource().await;
        let absent = matches!(resource.body, Some(Body::Absent(_)));
        assert_eq!(absent, resource.key.contains("outside"), "{resource:?}");
        waiting.remove(&resource.key);
    }
    assert_eq!(world.live.metrics.subscriptions.get(), 3200 + 200);
    drop(proxy);
    world.wait("a proxy that leaves leaves nothing", |m| m.subscriptions.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_proxy_asks_is_answered_and_what_it_says_passes() {
    let world = World::start(Limits::default()).await;
    let mut proxy = world.proxy("shop", "client").await;
    proxy.subscribe("tunnel/abc", "").await;
    let absent = proxy.resource().await;
    assert!(matches!(absent.body, Some(Body::Absent(_))) && absent.key == "tunnel/abc", "{absent:?}");
    proxy.nothing().await;
    proxy.subscribe("trust", "").await;
    assert_eq!(proxy.resource().await.key, "trust");
    let long = format!("name/{}:80", "a".repeat(2000));
    proxy.subscribe(&long, "").await;
    assert_eq!(proxy.status().await.code(), Code::InvalidArgument);

    let mut newer = Client::connect(&world, Some("spiffe://cluster.local/ns/shop/sa/client")).await;
    newer.hello_of(PROTOCOL + 1, "shop", "client", "").await;
    assert_eq!(newer.status().await.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_sends_its_proxies_elsewhere() {
    let world = World::start(Limits { grace: Duration::from_millis(200), ..Limits::default() }).await;
    let mut proxy = world.proxy("shop", "client").await;
    let time = world.discovery.stop();
    match proxy.message().await {
        Message::GoAway(go_away) => assert!(u128::from(go_away.spread_millis) <= time.as_millis(), "{go_away:?}"),
        other => panic!("{other:?}"),
    }
    let end = proxy.end().await;
    assert!(end.is_none(), "it ends without an error: {end:?}");
    let mut late = Client::connect(&world, Some("spiffe://cluster.local/ns/shop/sa/client")).await;
    late.hello("shop", "client", "").await;
    assert_eq!(late.status().await.code(), Code::Unavailable);
}

const WEB: &str = "service/shop/web:80";
const API: &str = "service/shop/api:80";
const BIG: &str = "service/shop/big:80";

fn addresses(resource: &Resource) -> Vec<String> {
    let Some(Body::Service(service)) = &resource.body else { panic!("{resource:?}") };
    let ready = service.endpoints.iter().filter(|e| e.state() == State::Ready);
    let mut addresses: Vec<String> = ready.map(|e| e.address.clone()).collect();
    addresses.sort();
    addresses
}
