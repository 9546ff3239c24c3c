//! What changes in the app's own part: probes, scrapes, environments.

use super::*;

fn container(more: Value) -> Value {
    let mut container = json!({ "name": "web", "image": "web", "ports": [{ "name": "http", "containerPort": 8080 }] });
    merge(&mut container, more);
    pod(json!({ "containers": [container] }))
}

#[test]
fn probes_of_every_kind_go_by_way_of_the_proxy() {
    let headers = json!([{ "name": "a", "value": "b" }]);
    let after = injected(&container(json!({
        "readinessProbe": { "httpGet": { "port": "http", "path": "/ready?x", "scheme": "HTTPS", "httpHeaders": headers }, "periodSeconds": 3 },
        "livenessProbe": { "initialDelaySeconds": 1, "tcpSocket": { "port": 5432 }, "timeoutSeconds": 7 },
        "startupProbe": { "grpc": { "port": 9000, "service": "x" }, "timeoutSeconds": 600 },
        "lifecycle": { "preStop": { "httpGet": { "port": 8080, "path": "/bye" } }, "postStart": { "tcpSocket": { "port": "http" } } },
    })));
    let web = &after["spec"]["containers"][0];
    let ours = |segment: &str| json!({ "path": format!("/app/web/{segment}"), "port": 9990, "scheme": "HTTP" });
    assert_eq!(web["readinessProbe"], json!({ "httpGet": ours("readyz"), "periodSeconds": 3 }));
    let liveness = json!({ "initialDelaySeconds": 1, "httpGet": ours("livez"), "timeoutSeconds": 7 });
    assert_eq!(web["livenessProbe"].to_string(), liveness.to_string(), "the order of the fields, too");
    assert_eq!(web["startupProbe"]["httpGet"], ours("startupz"));
    assert_eq!(web["startupProbe"].get("grpc"), None);
    assert_eq!(
        web["lifecycle"],
        json!({ "preStop": { "httpGet": ours("pre-stop") }, "postStart": { "httpGet": ours("post-start") } })
    );
    let http = json!({ "port": 8080, "path": "/ready?x", "scheme": "HTTPS", "headers": headers });
    assert_eq!(
        endpoints(&after),
        json!({
            "/app/web/readyz": { "http": http, "timeoutSeconds": 1 },
            "/app/web/livez": { "tcp": { "port": 5432 }, "timeoutSeconds": 7 },
            "/app/web/startupz": { "grpc": { "port": 9000, "service": "x" }, "timeoutSeconds": 60 },
            "/app/web/pre-stop": { "http": { "port": 8080, "path": "/bye", "scheme": "HTTP" }, "timeoutSeconds": 30 },
            "/app/web/post-start": { "tcp": { "port": 8080 }, "timeoutSeconds": 30 },
        })
    );
}

#[test]
fn what_the_kubelet_does_not_send_to_the_pod_stays() {
    for probe in [
        json!({ "exec": { "command": ["true"] } }),
        json!({ "httpGet": { "port": 80, "host": "192.0.2.1" } }),
        json!({ "httpGet": { "port": "nowhere" } }),
        json!({ "httpGet": { "port": 0 } }),
        json!({ "httpGet": { "port": "9990" } }),
        json!({ "httpGet": { "port": 80, "scheme": "FTP" } }),
        json!({ "httpGet": { "port": 80, "httpHeaders": [{ "name": "a b", "value": "" }] } }),
        json!({ "httpGet": { "port": 80, "httpHeaders": [{ "name": "a", "value": "\n" }] } }),
        json!({ "httpGet": { "port": 8080 }, "tcpSocket": { "port": 8080 } }),
        json!({ "httpGet": null }),
        json!({}),
        json!(null),
        json!("junk"),
    ] {
        let before = container(json!({ "livenessProbe": probe, "lifecycle": { "preStop": probe } }));
        let after = injected(&before);
        assert_eq!(after["spec"]["containers"], before["spec"]["containers"], "{probe}");
        assert_eq!(endpoints(&after), json!({}));
    }
    // A field that is null is none, and a number in a string is one.
    let odd = injected(&container(json!({ "livenessProbe": { "httpGet": null, "tcpSocket": { "port": "81" } } })));
    assert_eq!(endpoints(&odd)["/app/web/livez"]["tcp"]["port"], 81);
}

#[test]
fn sidecars_of_the_app_have_probes_and_init_containers_have_none() {
    let probe = json!({ "tcpSocket": { "port": 1 } });
    let init = json!([
        { "name": "migrate", "livenessProbe": probe },
        { "name": "cache", "restartPolicy": "Always", "livenessProbe": probe },
    ]);
    let after = injected(&pod(json!({ "initContainers": init })));
    assert_eq!(names(&after["spec"]["initContainers"]), ["outrigger-proxy", "outrigger-redirect", "migrate", "cache"]);
    assert_eq!(endpoints(&after), json!({ "/app/cache/livez": { "tcp": { "port": 1 }, "timeoutSeconds": 1 } }));
    let off = annotated(json!({ "outrigger.dev/rewrite-probes": "disabled" }), json!({ "initContainers": init }));
    assert_eq!(endpoints(&injected(&off)), json!({}));
}

#[test]
fn scrapes_go_by_way_of_the_proxy() {
    let scraped = |annotations: Value, ports: Value| {
        let mut pod = annotated(annotations, json!({ "containers": [{ "name": "web", "ports": ports }] }));
        pod["metadata"]["annotations"]["prometheus.io/scrape"] = "true".into();
        injected(&pod)
    };
    let said = |pod: &Value, what: &str| pod["metadata"]["annotations"][format!("prometheus.io/{what}")].clone();
    let whole = scraped(
        json!({ "prometheus.io/port": "8080", "prometheus.io/path": "/m", "prometheus.io/scheme": "https" }),
        json!([]),
    );
    assert_eq!((said(&whole, "port"), said(&whole, "path")), (json!("9990"), json!("/app/metrics")));
    assert_eq!(said(&whole, "scheme"), "http");
    let target = json!({ "http": { "port": 8080, "path": "/m", "scheme": "HTTPS" }, "scrape": true });
    assert_eq!(endpoints(&whole), json!({ "/app/metrics": target }));
    // One port that is declared is the one that is meant.
    let one = scraped(json!({}), json!([{ "containerPort": 81 }, { "containerPort": 53, "protocol": "UDP" }]));
    assert_eq!(endpoints(&one)["/app/metrics"]["http"], json!({ "port": 81, "path": "/metrics", "scheme": "HTTP" }));
    assert_eq!((said(&one, "port"), said(&one, "scheme")), (json!("9990"), Value::Null));
    for (annotations, ports) in [
        (json!({}), json!([{ "containerPort": 81 }, { "containerPort": 82 }])),
        (json!({}), json!([])),
        (json!({ "prometheus.io/port": "metrics" }), json!([])),
        (json!({ "prometheus.io/port": "9990" }), json!([])),
        (json!({ "prometheus.io/port": "9992" }), json!([])),
        (json!({ "prometheus.io/port": "81", "outrigger.dev/rewrite-scrape": "disabled" }), json!([])),
    ] {
        let before = annotations["prometheus.io/port"].clone();
        let after = scraped(annotations, ports);
        assert_eq!((said(&after, "port"), endpoints(&after)), (before, json!({})));
    }
    let no = annotated(json!({ "prometheus.io/scrape": "false", "prometheus.io/port": "81" }), json!({}));
    assert_eq!(endpoints(&injected(&no)), json!({}));
}

#[test]
fn without_capture_apps_are_told_of_the_proxy() {
    let none = |spec: Value| annotated(json!({ "outrigger.dev/capture": "none" }), spec);
    let env = json!([{ "name": "http_proxy", "value": "http://own:1" }]);
    let list = json!([{ "name": "web" }, { "name": "own", "env": env }]);
    let after = injected(&none(json!({ "containers": list, "initContainers": [{ "name": "first", "env": null }] })));
    assert_eq!(names(&after["spec"]["initContainers"]), ["outrigger-proxy", "first"], "no privilege at all");
    for container in [&after["spec"]["containers"][0], &after["spec"]["initContainers"][1]] {
        assert_eq!(variable(container, "HTTP_PROXY"), "http://127.0.0.1:9991");
        assert_eq!(variable(container, "http_proxy"), "http://127.0.0.1:9991");
        assert!(variable(container, "NO_PROXY").as_str().unwrap().contains("localhost"));
        assert_eq!(variable(container, "HTTPS_PROXY"), &Value::Null);
    }
    let own = &after["spec"]["containers"][1];
    assert_eq!(names(&own["env"]), ["http_proxy", "NO_PROXY", "no_proxy"]);
    assert_eq!(variable(own, "http_proxy"), "http://own:1");
    assert_eq!(variable(&after["spec"]["initContainers"][0], "OUTRIGGER_EXPLICIT"), "true");
}

#[test]
fn without_capture_only_ports_of_the_proxy_are_rewritten() {
    let listeners = json!({
        "outrigger.dev/capture": "none",
        "outrigger.dev/inbound-listeners": "8080=18080, 8081=18081",
        "outrigger.dev/outbound-listeners": "15001=payments.shop:8080,15002=[fd00::1]:1",
        "prometheus.io/scrape": "true", "prometheus.io/port": "8081",
    });
    let containers = json!([{
        "name": "web",
        "readinessProbe": { "httpGet": { "port": 8080 } },
        "livenessProbe": { "tcpSocket": { "port": 18080 } },
    }]);
    let after = injected(&annotated(listeners, json!({ "containers": containers })));
    let proxy = &after["spec"]["initContainers"][0];
    assert_eq!(variable(proxy, "OUTRIGGER_INBOUND_LISTENERS"), "8080=18080,8081=18081");
    assert_eq!(variable(proxy, "OUTRIGGER_OUTBOUND_LISTENERS"), "15001=payments.shop:8080,15002=[fd00::1]:1");
    let local = |port: u16, path: &str| json!({ "port": port, "path": path, "scheme": "HTTP" });
    assert_eq!(
        endpoints(&after),
        json!({
            "/app/web/readyz": { "http": local(8080, "/"), "timeoutSeconds": 1 },
            "/app/metrics": { "http": local(8081, "/metrics"), "scrape": true },
        })
    );
    assert!(after["spec"]["containers"][0]["livenessProbe"]["tcpSocket"].is_object(), "the kubelet gets there");
}
