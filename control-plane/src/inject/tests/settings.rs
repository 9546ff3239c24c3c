//! Annotations, defaults of the mesh, flags.

use super::*;
use crate::inject::{ANNOTATIONS, advice};

fn setting(name: &str, value: &str) -> Value {
    annotated(json!({ format!("outrigger.dev/{name}"): value }), json!({}))
}

fn redirect_args(pod: &Value) -> Vec<String> {
    let args = &named(&pod["spec"]["initContainers"], "outrigger-redirect")["args"];
    args.as_array().into_iter().flatten().filter_map(|arg| Some(arg.as_str()?.to_owned())).collect()
}

#[test]
fn annotations_become_flags_and_variables() {
    for (name, value, flags) in [
        ("skip-inbound-ports", "22, 8000-8010", &["--skip-inbound-ports", "22,8000-8010"]),
        ("capture-inbound-ports", "8080", &["--capture-inbound-ports", "8080"]),
        ("skip-outbound-ports", "3306", &["--skip-outbound-ports", "3306"]),
        (
            "skip-outbound-cidrs",
            "10.0.0.0/8,fd00::/8,192.0.2.1",
            &["--skip-outbound-cidrs", "10.0.0.0/8,fd00::/8,192.0.2.1/32"],
        ),
        ("skip-uids", "0,1000", &["--skip-uids", "0,1000"]),
        ("redirect-backend", "nftables", &["--backend", "nftables"]),
        ("ip-families", "ipv4", &["--ip-families", "ipv4"]),
        ("capture", "tproxy", &["--inbound-mode", "tproxy"]),
    ] {
        assert_eq!(redirect_args(&injected(&setting(name, value)))[2..], *flags, "{name}");
    }
    let tproxy = injected(&setting("capture", "tproxy"));
    let security = &tproxy["spec"]["initContainers"][0]["securityContext"];
    assert_eq!((&security["runAsUser"], &security["runAsGroup"]), (&json!(0), &json!(2112)));
    assert_eq!(security["capabilities"], json!({ "drop": ["ALL"], "add": ["NET_ADMIN"] }));
    let nft = injected(&setting("redirect-backend", "nftables"));
    let redirect = &nft["spec"]["initContainers"][1];
    assert_eq!(redirect["securityContext"]["capabilities"]["add"], json!(["NET_ADMIN"]));
    for (name, value, variable_name) in [
        ("workers", "4", "OUTRIGGER_WORKERS"),
        ("discovery-idle", "5m", "OUTRIGGER_IDLE"),
        ("drain-quiet", "20s", "OUTRIGGER_DRAIN_QUIET"),
        ("log-level", "outrigger_proxy=debug,info", "RUST_LOG"),
    ] {
        let after = injected(&setting(name, value));
        assert_eq!(variable(&after["spec"]["initContainers"][0], variable_name), value);
    }
    let image = annotated(
        json!({ "outrigger.dev/proxy-image": "x:1", "outrigger.dev/proxy-image-pull-policy": "Never" }),
        json!({}),
    );
    let proxy = &injected(&image)["spec"]["initContainers"][0];
    assert_eq!((&proxy["image"], &proxy["imagePullPolicy"]), (&json!("x:1"), &json!("Never")));
    let token = &injected(&setting("token-expiration", "2h"))["spec"]["volumes"][0];
    assert_eq!(token["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 7200);
}

#[test]
fn a_wrong_annotation_is_told_with_what_would_be_right() {
    for (name, value, hint) in [
        ("capture", "redirekt", "did you mean redirect?"),
        ("captur", "none", "did you mean outrigger.dev/capture?"),
        ("inject", "enabled", "a label"),
        ("skip-inbound-ports", "80,,81", "empty entry"),
        ("skip-inbound-ports", "0", "from 1 to 65535"),
        ("skip-inbound-ports", "90-80", "write 80-90"),
        ("skip-inbound-ports", "http", "no port"),
        ("skip-outbound-cidrs", "10.0.0.0/33", "10.0.0.0/8"),
        ("skip-uids", "root", "user id"),
        ("outbound-listeners", "15001", "PORT=HOST:PORT"),
        ("outbound-listeners", "15001=localhost:80", "itself"),
        ("outbound-listeners", "15001=[::1]:80", "itself"),
        ("outbound-listeners", "15001=169.254.169.254:80", "its link"),
        ("skip-inbound-ports", "+80", "no port"),
        ("rewrite-probes", "true", "none of enabled, disabled"),
        ("drain-timeout", "90", "duration"),
        ("drain-quiet", "500ms", "from 1s"),
        ("workers", "0", "from 1 to 1024"),
        ("log-level", "a=b=c", "write error, warn"),
        ("cpu-request", "1 core", "100m"),
        ("cpu-request", "0", "none"),
        ("memory-limit", "-1Mi", "64Mi"),
        ("proxy-image", "a b", "no image"),
        ("proxy-image-pull-policy", "always", "did you mean Always?"),
        ("token-expiration", "1m", "from 600s"),
        ("token-expiration", "", "duration"),
    ] {
        let field = format!("metadata.annotations[outrigger.dev/{name}]");
        let said = refused(&setting(name, value), Reason::Setting, &field);
        assert!(said.contains(hint), "{name}={value}: {said}");
    }
    for (value, hint) in [
        ("8080=8080", "both listen"),
        ("9990=1", "already"),
        ("8080=1,8080=2", "twice"),
        ("8080=1,8081=1", "twice"),
        ("80=9991", "already"),
        ("8080", "PORT=PORT"),
    ] {
        let pod =
            annotated(json!({ "outrigger.dev/capture": "none", "outrigger.dev/inbound-listeners": value }), json!({}));
        let said = refused(&pod, Reason::Setting, "metadata.annotations[outrigger.dev/inbound-listeners]");
        assert!(said.contains(hint), "{value}: {said}");
    }
    let both = annotated(
        json!({
            "outrigger.dev/capture": "none", "outrigger.dev/inbound-listeners": "8080=1",
            "outrigger.dev/outbound-listeners": "8080=a:1",
        }),
        json!({}),
    );
    refused(&both, Reason::Setting, "metadata.annotations[outrigger.dev/outbound-listeners]");
    let said = refused(
        &setting("inbound-listeners", "8080=1"),
        Reason::Setting,
        "metadata.annotations[outrigger.dev/inbound-listeners]",
    );
    assert!(said.contains("outrigger.dev/capture: none"), "{said}");
}

#[test]
fn every_default_is_a_value_that_may_be_written() {
    for known in ANNOTATIONS.iter().filter(|known| !known.default.is_empty()) {
        let name = known.name.strip_prefix("outrigger.dev/").unwrap();
        injected(&setting(name, known.default));
    }
}

#[test]
fn resources_fit_together() {
    let resources = |annotations: Value, spec: Value| {
        injected(&annotated(annotations, spec))["spec"]["initContainers"][0]["resources"].clone()
    };
    let default = json!({ "requests": { "cpu": "20m", "memory": "32Mi" }, "limits": { "memory": "256Mi" } });
    assert_eq!(resources(json!({}), json!({})), default);
    let raised = resources(json!({ "outrigger.dev/memory-request": "1Gi" }), json!({}));
    assert_eq!((&raised["requests"]["memory"], &raised["limits"]["memory"]), (&json!("1Gi"), &json!("1Gi")));
    let lowered = resources(json!({ "outrigger.dev/memory-limit": "16Mi" }), json!({}));
    assert_eq!((&lowered["requests"]["memory"], &lowered["limits"]["memory"]), (&json!("16Mi"), &json!("16Mi")));
    let none =
        ["cpu-request", "memory-request", "memory-limit"].map(|name| (format!("outrigger.dev/{name}"), json!("none")));
    assert_eq!(resources(Value::Object(none.into_iter().collect()), json!({})), Value::Null);
    let whole = json!({ "resources": { "requests": { "memory": "64Mi" } } });
    assert_eq!(resources(json!({}), whole.clone()), Value::Null, "those of the pod are shared");
    let own = resources(json!({ "outrigger.dev/memory-limit": "64Mi" }), whole);
    assert_eq!(own, json!({ "limits": { "memory": "64Mi" } }));
    let crossed = json!({ "outrigger.dev/cpu-request": "2", "outrigger.dev/cpu-limit": "1500m" });
    let said =
        refused(&annotated(crossed, json!({})), Reason::Setting, "metadata.annotations[outrigger.dev/cpu-request]");
    assert!(said.contains("above the limit 1500m"), "{said}");
}

#[test]
fn flags_are_the_defaults_of_the_mesh() {
    let flags = Flags {
        proxy_image: Some("x:1".to_owned()),
        proxy_defaults: ["log-level=debug", "", "outrigger.dev/cpu-request = 1 "].map(str::to_owned).into(),
        native_sidecars: NativeSidecars::False,
        ..Flags::default()
    };
    let settings = flags.settings("mesh", "example.org", "cluster.local").unwrap();
    assert_eq!(settings.control_plane, "outrigger-control-plane.mesh.svc.cluster.local:9980");
    assert!(!settings.native_sidecars);
    let Ok(Outcome::Injected(after)) = inject(&pod(json!({})), &Context::default(), &settings) else {
        panic!("injected")
    };
    let proxy = &after["spec"]["containers"][0];
    assert_eq!((&proxy["image"], variable(proxy, "RUST_LOG")), (&json!("x:1"), &json!("debug")));
    assert_eq!(proxy["resources"]["requests"]["cpu"], "1");
    assert_eq!(variable(proxy, "OUTRIGGER_TRUST_DOMAIN"), "example.org");
    for (wrong, what) in
        [("log-level", "--proxy-default"), ("log-levl=x", "outrigger.dev/log-levl"), ("workers=x", "workers")]
    {
        let flags = Flags { proxy_defaults: vec![wrong.to_owned()], ..Flags::default() };
        let said = flags.settings("mesh", "a", "b").unwrap_err().to_string();
        assert!(said.contains(what), "{said}");
    }
    for address in ["x", ":1", "a:0", "http://a:1"] {
        let flags = Flags { control_plane_address: Some(address.to_owned()), ..Flags::default() };
        assert!(flags.settings("mesh", "a", "b").is_err(), "{address}");
    }
}

#[test]
fn without_capture_nothing_that_arrives_is_authenticated_and_that_is_said() {
    let said = advice(&setting("capture", "none"), &Settings::default());
    assert!(said.len() == 1 && said[0].contains("inbound-listeners"), "{said:?}");
}

#[test]
fn settings_are_read_as_documented() {
    let text = json!({ "image": "x", "annotations": { "outrigger.dev/workers": "1" } });
    let settings: Settings = serde_json::from_value(text).unwrap();
    settings.check().unwrap();
    assert!(serde_json::from_value::<Settings>(json!({ "imagee": "x" })).is_err());
}
