//! Clusters without native sidecars, and templates that are injected again.

use super::*;

fn old() -> Settings {
    Settings { native_sidecars: false, ..Settings::default() }
}

#[track_caller]
fn with(template: &Value, settings: &Settings) -> Value {
    match inject(template, &Context::default(), settings) {
        Ok(Outcome::Injected(injected)) => *injected,
        other => panic!("{other:?}"),
    }
}

#[test]
fn older_clusters_get_an_ordinary_container_that_is_first() {
    let before = pod(json!({ "initContainers": [{ "name": "migrate" }], "restartPolicy": "Never" }));
    let after = with(&before, &old());
    assert_eq!(names(&after["spec"]["containers"]), ["outrigger-proxy", "web"]);
    assert_eq!(names(&after["spec"]["initContainers"]), ["migrate", "outrigger-redirect"]);
    let proxy = &after["spec"]["containers"][0];
    assert_eq!(proxy.get("restartPolicy"), None);
    assert_eq!(proxy["lifecycle"]["postStart"]["exec"]["command"][1], "wait");
    assert_eq!(after["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"], "web");
    assert_eq!(uninject(&after), Some(before.clone()));
    assert_eq!(with(&after, &old()), after);
    let advice = super::super::advice(&before, &old());
    assert!(advice.len() == 1 && advice[0].contains("/shutdown"), "{advice:?}");
    assert_eq!(super::super::advice(&before, &Settings::default()), [""; 0]);
    let native = annotated(json!({ "outrigger.dev/native-sidecar": "enabled" }), json!({}));
    assert_eq!(names(&with(&native, &old())["spec"]["containers"]), ["web"]);
    // What was injected for an old cluster is taken over by a new one.
    assert_eq!(with(&after, &Settings::default()), with(&before, &Settings::default()));
}

#[test]
fn containers_that_come_later_get_what_the_others_got() {
    let first = injected(&pod(json!({})));
    let mut later = first.clone();
    let added = json!({ "name": "vault", "readinessProbe": { "httpGet": { "port": 8200 } } });
    later["spec"]["containers"].as_array_mut().unwrap().push(added);
    later["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({ "name": "earlier" }));
    // What another webhook changed in our container stays, for it would change nothing back.
    later["spec"]["initContainers"][1]["image"] = "mirror.local/outrigger".into();
    let again = try_inject(&later).unwrap();
    assert_eq!(
        names(&again["spec"]["initContainers"]),
        ["outrigger-proxy", "outrigger-redirect", "earlier"],
        "the proxy is first again"
    );
    assert_eq!(again["spec"]["initContainers"][0]["image"], "mirror.local/outrigger");
    assert_eq!(endpoints(&again)["/app/vault/readyz"]["http"]["port"], 8200);
    assert_eq!(again["spec"]["containers"][1]["readinessProbe"]["httpGet"]["port"], 9990);
    assert_eq!(try_inject(&again).unwrap(), again);
    let back = uninject(&again).unwrap();
    assert_eq!(names(&back["spec"]["containers"]), ["web", "vault"]);
    assert_eq!(back["spec"]["containers"][1]["readinessProbe"]["httpGet"]["port"], 8200);
    assert_eq!(names(&back["spec"]["initContainers"]), ["earlier"]);
}

#[test]
fn other_settings_replace_what_was_injected() {
    let first = injected(&pod(json!({})));
    let newer = Settings { image: "outrigger:2".to_owned(), ..Settings::default() };
    let again = with(&first, &newer);
    assert_eq!(again["spec"]["initContainers"][0]["image"], "outrigger:2");
    assert_eq!(again["spec"]["initContainers"][1]["image"], "outrigger:2");
    assert_eq!(uninject(&again), Some(pod(json!({}))));
    // A record without its containers is that of a template which was cut by hand.
    let mut cut = first;
    cut["spec"]["initContainers"] = json!([]);
    cut["spec"]["volumes"] = json!(null);
    assert_eq!(names(&try_inject(&cut).unwrap()["spec"]["initContainers"]), ["outrigger-proxy", "outrigger-redirect"]);
}

#[test]
fn what_somebody_changed_since_is_not_put_back() {
    let probe = json!({ "httpGet": { "port": 80, "path": "/old" } });
    let mut after = injected(&pod(json!({ "containers": [{ "name": "web", "readinessProbe": probe }] })));
    let new = json!({ "httpGet": { "port": 81, "path": "/new" } });
    after["spec"]["containers"][0]["readinessProbe"] = new.clone();
    assert_eq!(uninject(&after).unwrap()["spec"]["containers"][0]["readinessProbe"], new);
    let again = try_inject(&after).unwrap();
    assert_eq!(endpoints(&again)["/app/web/readyz"]["http"]["port"], 81);
}

/// The template with other values of annotations, injected again; it and what is left of it after that.
#[track_caller]
fn edited(before: &Value, edits: Value) -> (Value, Value) {
    let mut after = injected(before);
    merge(&mut after["metadata"]["annotations"], edits);
    let again = try_inject(&after).unwrap();
    assert_eq!(try_inject(&again).unwrap(), again, "twice is once");
    let back = uninject(&again).unwrap();
    assert_eq!(uninject(&after).as_ref(), Some(&back), "an injection in between makes no difference");
    assert_eq!(try_inject(&back).unwrap()["metadata"], again["metadata"]);
    (again, back)
}

#[test]
fn an_annotation_that_somebody_edited_stays() {
    let scraped = json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/m" });
    let before = annotated(scraped.clone(), json!({ "containers": [{ "name": "web" }, { "name": "log" }] }));
    let (again, back) = edited(&before, json!({ "prometheus.io/port": "9102" }));
    assert_eq!(again["metadata"]["annotations"]["prometheus.io/port"], "9990");
    let target = json!({ "port": 9102, "path": "/m", "scheme": "HTTP" });
    assert_eq!(endpoints(&again)["/app/metrics"]["http"], target);
    let mut wanted = scraped.clone();
    wanted["prometheus.io/port"] = "9102".into();
    assert_eq!(back["metadata"]["annotations"], wanted);
    // One that had not been there.
    const DEFAULT: &str = "kubectl.kubernetes.io/default-container";
    let (again, back) = edited(&before, json!({ DEFAULT: "log" }));
    assert_eq!(again["metadata"]["annotations"][DEFAULT], "log");
    let mut wanted = scraped;
    wanted[DEFAULT] = "log".into();
    assert_eq!(back["metadata"]["annotations"], wanted);
    // One that somebody took out is not put back.
    let mut after = injected(&before);
    after["metadata"]["annotations"].as_object_mut().unwrap().remove("prometheus.io/path");
    let annotations = uninject(&after).unwrap()["metadata"]["annotations"].clone();
    assert_eq!(annotations, json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "8080" }));
}

#[test]
fn a_variable_that_somebody_edited_stays() {
    let mut after = injected(&annotated(json!({ "outrigger.dev/capture": "none" }), json!({})));
    let env = after["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    env.iter_mut().find(|v| v["name"] == "HTTP_PROXY").unwrap()["value"] = "http://own:1".into();
    let own = json!([{ "name": "HTTP_PROXY", "value": "http://own:1" }]);
    assert_eq!(uninject(&after).unwrap()["spec"]["containers"][0]["env"], own);
    let again = try_inject(&after).unwrap();
    let web = &again["spec"]["containers"][0];
    assert_eq!(names(&web["env"]), ["HTTP_PROXY", "NO_PROXY", "no_proxy"]);
    assert_eq!(variable(web, "HTTP_PROXY"), "http://own:1");
    assert_eq!(try_inject(&again).unwrap(), again, "twice is once");
    assert_eq!(uninject(&again).unwrap()["spec"]["containers"][0]["env"], own);
}

/// The API server fills in defaults: what it stored is injected like what was sent.
#[test]
fn a_stored_pod_is_injected_like_the_one_that_was_sent() {
    let probe = json!({ "tcpSocket": { "port": 80 } });
    let mut stored = injected(&pod(json!({ "containers": [{ "name": "web", "readinessProbe": probe }] })));
    for list in ["containers", "initContainers"] {
        for container in stored["spec"][list].as_array_mut().unwrap() {
            container["terminationMessagePath"] = "/dev/termination-log".into();
        }
    }
    let web = &mut stored["spec"]["containers"][0]["readinessProbe"];
    merge(web, json!({ "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3 }));
    stored["spec"]["volumes"][0]["projected"]["defaultMode"] = 420.into();
    assert_eq!(try_inject(&stored).unwrap(), stored);
    let back = uninject(&stored).unwrap();
    assert_eq!(back["spec"]["containers"][0]["readinessProbe"]["tcpSocket"]["port"], 80);
}

#[test]
fn time_to_drain_is_below_the_grace_period() {
    let drain = |spec: Value, annotations: Value| {
        let after = injected(&annotated(annotations, spec));
        variable(&after["spec"]["initContainers"][0], "OUTRIGGER_DRAIN_TIMEOUT").as_str().unwrap().to_owned()
    };
    assert_eq!(drain(json!({}), json!({})), "25s");
    assert_eq!(drain(json!({ "terminationGracePeriodSeconds": 120 }), json!({})), "115s");
    assert_eq!(drain(json!({ "terminationGracePeriodSeconds": 0 }), json!({})), "1s");
    assert_eq!(drain(json!({}), json!({ "outrigger.dev/drain-timeout": "10s" })), "10s");
    let long = annotated(json!({ "outrigger.dev/drain-timeout": "30s" }), json!({}));
    let said = refused(&long, Reason::Setting, "metadata.annotations[outrigger.dev/drain-timeout]");
    assert!(said.contains("29s or less"), "{said}");
}
