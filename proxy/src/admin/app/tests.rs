use proptest::prelude::*;

use super::{
    target::{Kind, Purpose, path_of},
    *,
};

fn parse(text: &str) -> Result<AppEndpoints, String> {
    AppEndpoints::parse(text, Places { own: vec![9990, 8080], moved: vec![(8080, at("127.0.0.1:18080"))], ..places() })
}

fn places() -> Places {
    Places { ip: "10.0.0.7".parse().unwrap(), ..Places::default() }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn an_entry_has_a_purpose_and_a_limit_within_bounds() {
    for (entry, purpose, seconds) in [
        (r#""/app/a/livez": {"tcp": {"port": 1}}"#, Purpose::Probe, 1),
        (r#""/app/a/livez": {"tcp": {"port": 1}, "timeoutSeconds": 0}"#, Purpose::Probe, 1),
        (r#""/app/a/livez": {"tcp": {"port": 1}, "timeoutSeconds": 7}"#, Purpose::Probe, 7),
        (r#""/app/a/livez": {"tcp": {"port": 1}, "timeoutSeconds": 3600}"#, Purpose::Probe, 60),
        (r#""/app/a/pre-stop": {"http": {"port": 1}}"#, Purpose::Hook, 60),
        (r#""/app/a/post-start": {"http": {"port": 1}, "timeoutSeconds": 9999}"#, Purpose::Hook, 600),
        (r#""/app/metrics": {"http": {"port": 1, "path": "/m"}, "scrape": true}"#, Purpose::Scrape, 10),
        (r#""/app/pre-stop/livez": {"grpc": {"port": 1}}"#, Purpose::Probe, 1),
    ] {
        let endpoints = parse(&format!("{{{entry}}}")).unwrap();
        let path = endpoints.paths().next().unwrap();
        let target = endpoints.find(path).unwrap();
        assert_eq!((target.purpose, target.limit), (purpose, Duration::from_secs(seconds)), "{entry}");
    }
    assert!(parse("{}").unwrap().paths().next().is_none());
    assert!(AppEndpoints::default().find("/app/a/livez").is_none());
}

#[test]
fn a_fault_names_its_path() {
    for (entry, words) in [
        (r#""livez": {"tcp": {"port": 1}}"#, "/app/CONTAINER/livez"),
        (r#""/app/": {"tcp": {"port": 1}}"#, "/app/CONTAINER/livez"),
        (r#""/app/a?b": {"tcp": {"port": 1}}"#, "/app/CONTAINER/livez"),
        (r#""/app/a b": {"tcp": {"port": 1}}"#, "/app/CONTAINER/livez"),
        (r#""/app/a": {}"#, "exactly one"),
        (r#""/app/a": {"tcp": {"port": 1}, "scrape": true}"#, "http alone"),
        (r#""/app/a": {"tcp": {"port": 70000}}"#, "70000"),
        (r#""/app/a": {"tcp": {"port": "http"}}"#, "http"),
        (r#""/app/a": {"tcp": {"port": 9990}}"#, "the proxy's own"),
        (r#""/app/a": {"http": {"port": 1, "headers": [{"name": "a b"}]}}"#, "no name of a header"),
        (r#""/app/a": {"http": {"port": 1, "headers": [{"name": "a", "value": "b\r\nc: d"}]}}"#, "bad characters"),
        (r#""/app/a": {"http": {"port": 1, "host": "a b"}}"#, "host"),
    ] {
        let said = parse(&format!("{{{entry}}}")).unwrap_err();
        let path = entry.split('"').nth(1).unwrap();
        assert!(said.contains(words) && said.contains(path), "{entry}: {said}");
    }
}

#[test]
fn ports_are_where_the_app_is() {
    let endpoints =
        parse(r#"{"/app/a/livez": {"tcp": {"port": 8080}}, "/app/b/livez": {"tcp": {"port": 5432}}}"#).unwrap();
    assert_eq!(endpoints.places.at(8080, false), at("127.0.0.1:18080"));
    assert_eq!(endpoints.places.at(18080, false), at("127.0.0.1:18080"));
    assert_eq!(endpoints.places.at(5432, false), at("10.0.0.7:5432"));
    assert_eq!(endpoints.places.at(5432, true), at("127.0.0.1:5432"));
    assert_eq!(endpoints.ports(), [5432, 18080]);
}

#[test]
fn paths_are_sent_as_go_sends_them() {
    for (text, sent) in [
        ("", "/"),
        ("/", "/"),
        ("ready", "/ready"),
        ("/a b?c=d e", "/a%20b?c=d%20e"),
        ("/a%20b", "/a%20b"),
        ("/ä", "/%C3%A4"),
        ("/a#b", "/a"),
        ("?x", "/?x"),
    ] {
        assert_eq!(path_of(text).map(|p| p.to_string()).as_deref(), Some(sent), "{text:?}");
    }
}

#[test]
fn the_user_agent_is_the_kubelets_where_it_asks() {
    let asked = |value: &'static str| HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static(value))]);
    assert_eq!(agent(&asked("kube-probe/1.34"), Purpose::Probe), "kube-probe/1.34");
    assert_eq!(agent(&asked("curl/8"), Purpose::Probe), "kube-probe/1");
    assert_eq!(agent(&HeaderMap::new(), Purpose::Hook), "kube-lifecycle/1");
}

proptest! {
    #[test]
    fn no_table_makes_it_panic(text in r#"[{}\[\]",:/a-z0-9 ]{0,80}"#, path in ".{0,40}") {
        drop(parse(&text));
        drop(path_of(&path));
        let table = serde_json::json!({ path: { "http": { "port": 1, "path": text, "host": text } } });
        if let Ok(endpoints) = parse(&table.to_string()) {
            for path in endpoints.paths() {
                prop_assert!(path.starts_with(PREFIX));
                prop_assert!(matches!(endpoints.find(path).map(|t| &t.kind), Some(Kind::Http(_))));
            }
        }
    }
}
