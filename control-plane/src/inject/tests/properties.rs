//! Of every template: undone exactly, twice is once, and nothing panics.

use proptest::prelude::*;
use serde_json::Map;

use super::*;

/// Values that Kubernetes would never have, and some that it has, wherever a value can be.
fn junk() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/.:=,0-9]{0,12}".prop_map(Value::from),
        Just(json!("enabled")),
        Just(json!("Always")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof!["[a-zA-Z]{1,6}", proptest::sample::select(KEYS).prop_map(str::to_owned),];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..5).prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

const KEYS: &[&str] = &[
    "metadata",
    "spec",
    "containers",
    "initContainers",
    "volumes",
    "name",
    "env",
    "ports",
    "containerPort",
    "annotations",
    "labels",
    "httpGet",
    "tcpSocket",
    "grpc",
    "port",
    "host",
    "path",
    "readinessProbe",
    "lifecycle",
    "preStop",
    "restartPolicy",
    "outrigger.dev/injected",
    "outrigger.dev/inject",
];

fn maybe(strategy: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    prop_oneof![1 => Just(None), 1 => Just(Some(Value::Null)), 4 => strategy.prop_map(Some)].boxed()
}

/// An object of these fields, each there, null or absent.
fn object(fields: Vec<(&'static str, BoxedStrategy<Option<Value>>)>) -> impl Strategy<Value = Value> {
    let (names, strategies): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    (strategies, any::<u64>()).prop_map(move |(values, seed)| {
        let mut all: Vec<_> = names.iter().zip(values).filter_map(|(name, value)| Some((*name, value?))).collect();
        // Fields come in any order.
        let turn = usize::try_from(seed % 7).unwrap() % all.len().max(1);
        all.rotate_left(turn);
        Value::Object(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
    })
}

fn port() -> BoxedStrategy<Value> {
    prop_oneof![(1u16..9000).prop_map(Value::from), Just(json!("http")), Just(json!("none")), Just(json!("81"))].boxed()
}

fn probe() -> BoxedStrategy<Value> {
    let host = || maybe(prop_oneof![Just(json!("")), Just(json!("192.0.2.1"))]);
    let http = object(vec![
        ("port", maybe(port())),
        ("path", maybe("/[a-z?=]{0,8}".prop_map(Value::from))),
        ("host", host()),
        ("httpHeaders", maybe(Just(json!([{ "name": "a", "value": "b" }])))),
    ]);
    let handler = prop_oneof![
        http.prop_map(|h| ("httpGet", h)),
        object(vec![("port", maybe(port())), ("host", host())]).prop_map(|h| ("tcpSocket", h)),
        object(vec![("port", maybe(port())), ("service", maybe(Just(json!("s"))))]).prop_map(|h| ("grpc", h)),
        Just(("exec", json!({ "command": ["true"] }))),
    ];
    let more = object(vec![
        ("timeoutSeconds", maybe((0u64..100).prop_map(Value::from))),
        ("httpGet", maybe(Just(json!(null)))),
    ]);
    (more, handler)
        .prop_map(|(mut probe, (kind, handler))| {
            probe[kind] = handler;
            probe
        })
        .boxed()
}

fn container(name: String) -> BoxedStrategy<Value> {
    let hooks = object(vec![("preStop", maybe(probe())), ("postStart", maybe(probe()))]);
    let variable = proptest::sample::select(&["A", "HTTP_PROXY", "no_proxy"][..]);
    let env = proptest::collection::vec(variable.prop_map(|name| json!({ "name": name, "value": "x" })), 0..3);
    let ports =
        proptest::collection::vec((1u16..9000).prop_map(|p| json!({ "name": "http", "containerPort": p })), 0..2);
    object(vec![
        ("image", maybe(Just(json!("x")))),
        ("livenessProbe", maybe(probe())),
        ("readinessProbe", maybe(probe())),
        ("startupProbe", maybe(probe())),
        ("lifecycle", maybe(hooks)),
        ("restartPolicy", maybe(Just(json!("Always")))),
        ("env", maybe(env.prop_map(Value::from))),
        ("ports", maybe(ports.prop_map(Value::from))),
    ])
    .prop_map(move |mut container| {
        container["name"] = name.clone().into();
        container
    })
    .boxed()
}

fn containers(prefix: &'static str, least: usize) -> BoxedStrategy<Value> {
    let all = (least..4)
        .prop_flat_map(move |count| (0..count).map(|i| container(format!("{prefix}-{i}"))).collect::<Vec<_>>());
    all.prop_map(Value::from).boxed()
}

fn template() -> impl Strategy<Value = Value> {
    let annotations = object(vec![
        (
            "outrigger.dev/capture",
            maybe(proptest::sample::select(&["redirect", "tproxy", "none"][..]).prop_map(Value::from)),
        ),
        (
            "outrigger.dev/native-sidecar",
            maybe(proptest::sample::select(&["enabled", "disabled"][..]).prop_map(Value::from)),
        ),
        ("prometheus.io/scrape", maybe(Just(json!("true")))),
        ("prometheus.io/port", maybe(Just(json!("8080")))),
        ("prometheus.io/scheme", maybe(Just(json!("https")))),
        ("kubectl.kubernetes.io/default-container", maybe(Just(json!("app-0")))),
        ("other", maybe(Just(json!("x")))),
    ]);
    let labels = object(vec![("app", maybe(Just(json!("web")))), (INJECTED, maybe(Just(json!("mine"))))]);
    let metadata =
        object(vec![("annotations", maybe(annotations)), ("labels", maybe(labels)), ("name", maybe(Just(json!("x"))))]);
    let spec = object(vec![
        ("initContainers", maybe(containers("init", 0))),
        ("volumes", maybe(prop_oneof![Just(json!([])), Just(json!([{ "name": "v", "emptyDir": {} }]))])),
        ("terminationGracePeriodSeconds", maybe((0u64..60).prop_map(Value::from))),
        ("restartPolicy", maybe(Just(json!("Never")))),
    ]);
    (maybe(metadata), spec, containers("app", 1)).prop_map(|(metadata, mut spec, containers)| {
        spec["containers"] = containers;
        let mut template = json!({});
        if let Some(metadata) = metadata {
            template["metadata"] = metadata;
        }
        template["spec"] = spec;
        template
    })
}

fn explicit() -> Context {
    Context { explicit: true, ..Context::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn undone_exactly_and_twice_is_once(template in template()) {
        let Outcome::Injected(after) = inject(&template, &explicit(), &Settings::default()).unwrap() else { panic!("skipped") };
        let back = uninject(&after).expect("it is ours");
        // As text: the order of fields, too.
        prop_assert_eq!(back.to_string(), template.to_string());
        let again = inject(&after, &explicit(), &Settings::default()).unwrap();
        prop_assert_eq!(Outcome::Injected(after), again);
    }

    #[test]
    fn settings_may_change_between(template in template()) {
        let old = Settings { native_sidecars: false, image: "x:1".to_owned(), ..Settings::default() };
        let new = Settings::default();
        let Outcome::Injected(by_old) = inject(&template, &explicit(), &old).unwrap() else { panic!("skipped") };
        prop_assert_eq!(inject(&by_old, &explicit(), &new), inject(&template, &explicit(), &new));
    }

    #[test]
    fn junk_never_panics(junk in junk(), more in junk()) {
        drop(inject(&junk, &explicit(), &Settings::default()));
        drop(uninject(&junk));
        let around = json!({ "metadata": junk, "spec": { "containers": [{ "name": "a", "lifecycle": more, "livenessProbe": more }], "affinity": junk } });
        drop(inject(&around, &explicit(), &Settings::default()));
        let mut record = pod(json!({}));
        record["metadata"]["annotations"][INJECTED] = more.to_string().into();
        drop(uninject(&record));
        drop(inject(&record, &explicit(), &Settings::default()));
    }
}
