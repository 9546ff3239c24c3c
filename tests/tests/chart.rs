//! The charts without a cluster: they lint, every values file renders, wrong values are refused, the README has every value, alerts
//! and dashboards are what Prometheus and Grafana read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use outrigger_tests::{
    helm::{Helm, chart, documents, values_files},
    peers::program,
};
use serde_json::Value;
use tempfile::TempDir;

#[path = "chart/dashboards.rs"]
mod dashboards;
#[path = "chart/values.rs"]
mod values;

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn of_kind<'a>(rendered: &'a [Value], kind: &str) -> Vec<&'a Value> {
    rendered.iter().filter(|document| document["kind"] == kind).collect()
}

#[test]
fn every_values_file_lints_and_renders() {
    let Some(helm) = Helm::find("every_values_file_lints_and_renders") else { return };
    for name in ["outrigger", "outrigger-crds"] {
        let chart = chart(name);
        for file in values_files(&chart) {
            let file = file.to_str().expect("UTF-8");
            helm.lint(&chart, &["-f", file]).unwrap_or_else(|said| panic!("{file}: {said}"));
            let rendered = helm.template(&chart, &["-f", file]).unwrap_or_else(|said| panic!("{file}: {said}"));
            assert!(!rendered.is_empty(), "{file}");
        }
    }
    // What a Helm that was built from source supposes where nobody says a release.
    helm.template(&chart("outrigger"), &["--kube-version", "1.20.0"]).expect("it renders without a cluster");
}

#[test]
fn values_do_what_they_say() {
    let Some(helm) = Helm::find("values_do_what_they_say") else { return };
    let outrigger = chart("outrigger");
    let with = |args: &[&str]| helm.template(&outrigger, args).unwrap_or_else(|said| panic!("{args:?}: {said}"));
    let file = |name: &str| outrigger.join(name).to_str().expect("UTF-8").to_owned();
    let container = |rendered: &[Value]| {
        let deployment = of_kind(rendered, "Deployment")[0].clone();
        deployment["spec"]["template"]["spec"]["containers"][0].clone()
    };
    let ha = with(&["-f", &file("values-ha.yaml")]);
    let deployment = of_kind(&ha, "Deployment")[0];
    assert_eq!(deployment["spec"]["replicas"], 3);
    let spread = &deployment["spec"]["template"]["spec"]["topologySpreadConstraints"];
    assert_eq!(spread.as_array().map(Vec::len), Some(2));
    let selector = &deployment["spec"]["selector"];
    assert_eq!(&spread[0]["labelSelector"], selector, "{spread}");
    assert_eq!(of_kind(&ha, "PodDisruptionBudget")[0]["spec"]["selector"], *selector);
    assert_eq!(of_kind(&ha, "NetworkPolicy").len(), 1);

    let digest = format!("sha256:{}", "0a".repeat(32));
    let pinned = with(&["--set", &format!("image.digest={digest},image.tag=edge")]);
    let wanted = format!("ghcr.io/outrigger-mesh/outrigger@{digest}");
    assert_eq!(container(&pinned)["image"], wanted.as_str(), "the digest wins");
    let tagged = with(&["--set", "image.tag=edge,proxy.capture=none,proxy.defaults.log-level=debug"]);
    assert_eq!(container(&tagged)["image"], "ghcr.io/outrigger-mesh/outrigger:edge");
    let environment = container(&tagged)["env"].clone();
    let variable = |name: &str| environment.as_array().expect("env").iter().find(|v| v["name"] == name).cloned();
    let image = variable("OUTRIGGER_PROXY_IMAGE").expect("it is there");
    assert_eq!(image["value"], "ghcr.io/outrigger-mesh/outrigger:edge", "proxies are of the control plane's version");
    let defaults = variable("OUTRIGGER_PROXY_DEFAULTS").expect("it is there");
    assert_eq!(defaults["value"], "capture=none\nlog-level=debug");
    numbers_stay_as_they_are_written(&helm);

    let own = with(&["--set", "ca.external=true,ca.secretName=mesh-ca"]);
    let role = of_kind(&own, "Role")[0];
    let create = |rule: &Value| rule["resources"][0] == "secrets" && rule["verbs"] == serde_json::json!(["create"]);
    assert!(!role["rules"].as_array().expect("rules").iter().any(create), "who brings the CA keeps that right");
    assert!(of_kind(&with(&["--set", "rbac.create=false,rbac.aggregate=false"]), "ClusterRole").is_empty());
    assert!(of_kind(&with(&["--set", "injection.enabled=false"]), "MutatingWebhookConfiguration").is_empty());
    assert!(of_kind(&with(&["--set", "validation.enabled=false"]), "ValidatingWebhookConfiguration").is_empty());
    let disabled =
        ["-f", &file("values-monitoring.yaml"), "--set", "monitoring.prometheusRule.disabled={OutriggerCircuitOpen}"];
    let rule = of_kind(&with(&disabled), "PrometheusRule")[0].to_string();
    assert!(!rule.contains("\"OutriggerCircuitOpen\"") && rule.contains("\"OutriggerNoEndpoints\""));
}

/// In a values file a number is a float to Helm, which a template prints as 1.00065e+09.
#[track_caller]
fn numbers_stay_as_they_are_written(helm: &Helm) {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("values.yaml");
    let defaults =
        "{ skip-uids: 1000650000, workers: 2, outrigger.dev/skip-inbound-ports: '22,25', proxy-cpu-request: 0.5 }";
    fs::write(&file, format!("proxy: {{ defaults: {defaults} }}\n")).expect("writable");
    let rendered = helm.template(&chart("outrigger"), &["-f", file.to_str().expect("UTF-8")]).expect("it renders");
    let environment = &of_kind(&rendered, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["env"];
    let variables = environment.as_array().expect("env");
    let told = variables.iter().find(|v| v["name"] == "OUTRIGGER_PROXY_DEFAULTS").expect("it is there");
    let mut lines: Vec<&str> = told["value"].as_str().expect("text").lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "capture=redirect",
            "outrigger.dev/skip-inbound-ports=22,25",
            "proxy-cpu-request=0.5",
            "skip-uids=1000650000",
            "workers=2"
        ]
    );
}

#[test]
fn nothing_is_granted_by_a_star_and_everything_has_its_labels() {
    let Some(helm) = Helm::find("nothing_is_granted_by_a_star") else { return };
    let outrigger = chart("outrigger");
    for file in values_files(&outrigger) {
        for document in helm.template(&outrigger, &["-f", file.to_str().expect("UTF-8")]).expect("it renders") {
            let labels = &document["metadata"]["labels"];
            let what = format!("{} {}", document["kind"], document["metadata"]["name"]);
            for label in ["name", "instance", "version", "component", "part-of", "managed-by"] {
                assert!(labels[format!("app.kubernetes.io/{label}")].is_string(), "{what} lacks {label}: {labels}");
            }
            assert!(labels["helm.sh/chart"].is_string(), "{what}");
            for rule in document["rules"].as_array().into_iter().flatten() {
                let text = rule.to_string();
                assert!(!text.contains('*'), "{what}: {text}");
                assert!(
                    !text.contains("escalate") && !text.contains("impersonate") && !text.contains("bind"),
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn wrong_values_are_refused_with_what_would_be_right() {
    let Some(helm) = Helm::find("wrong_values_are_refused") else { return };
    for (set, said) in [
        ("replicas=many", "at '/replicas': got string, want integer"),
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("replica=2", "additional properties 'replica' not allowed"),
        ("image.pullPolicy=Sometimes", "'Always', 'IfNotPresent', 'Never'"),
        ("injection.failurePolicy=Retry", "'Fail', 'Ignore'"),
        ("injection.timeoutSeconds=30", "at '/injection/timeoutSeconds': maximum: got 30, want 10"),
        ("proxy.capture=iptables", "'redirect', 'tproxy', 'none'"),
        ("logFormat=yaml", "'text', 'json'"),
        ("trustDomain=Cluster.Local", "at '/trustDomain'"),
        ("ca.secretname=x", "at '/ca': additional properties 'secretname' not allowed"),
        ("resources.limits.memory=lots", "at '/resources/limits/memory'"),
        ("networkPolicy.apiServerCidrs={everywhere}", "at '/networkPolicy/apiServerCidrs/0'"),
        // A Deployment's selector must find its own pods, and the webhooks must not.
        (r"commonLabels.app\.kubernetes\.io/name=mesh", "invalid propertyName 'app.kubernetes.io/name'"),
        (r"podLabels.app\.kubernetes\.io/instance=x", "invalid propertyName 'app.kubernetes.io/instance'"),
        (r"podLabels.outrigger\.dev/inject=enabled", "invalid propertyName 'outrigger.dev/inject'"),
        ("monitoring.prometheusRule.runbookUrl=docs", "at '/monitoring/prometheusRule/runbookUrl'"),
    ] {
        let answer = helm.template(&chart("outrigger"), &["--set", set]).expect_err(set);
        assert!(answer.contains(said), "{set}: {answer}");
    }
}

/// The groups as the cluster gets them, as a rule file.
fn rendered_rules(helm: &Helm) -> Value {
    let outrigger = chart("outrigger");
    let file = outrigger.join("values-monitoring.yaml");
    let rendered = helm.template(&outrigger, &["-f", file.to_str().expect("UTF-8")]).expect("it renders");
    of_kind(&rendered, "PrometheusRule")[0]["spec"].clone()
}

fn alerts(rules: &Value) -> Vec<&Value> {
    let groups = rules["groups"].as_array().expect("groups").iter();
    groups.flat_map(|group| group["rules"].as_array().expect("rules")).collect()
}

#[test]
fn promtool_accepts_the_alerts_and_each_fires_when_it_should() {
    let scenario = "promtool_accepts_the_alerts";
    let (Some(helm), Some(promtool)) = (Helm::find(scenario), program(scenario, "promtool")) else { return };
    let rules = rendered_rules(&helm);
    let dir = TempDir::new().expect("a directory");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/alerts.yaml");
    fs::write(dir.path().join("alerts-under-test.yaml"), serde_yaml::to_string(&rules).expect("YAML"))
        .expect("writable");
    fs::copy(&tests, dir.path().join("tests.yaml")).expect("the tests are there");
    for args in [["check", "rules", "alerts-under-test.yaml"], ["test", "rules", "tests.yaml"]] {
        let output = Command::new(&promtool).args(args).current_dir(dir.path()).output().expect("promtool runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.contains("SUCCESS"), "{args:?}: {said}");
    }
    // What the cluster gets is the rule file and the links.
    let source = documents(&text(&chart("outrigger").join("files/alerts.yaml")));
    let names = |rules: &Value| -> Vec<String> { alerts(rules).iter().map(|a| a["alert"].to_string()).collect() };
    assert_eq!(names(&source[0]), names(&rules));
    let tested = text(&tests);
    for alert in alerts(&rules) {
        let name = alert["alert"].as_str().expect("a name");
        for what in ["fires", "is quiet"] {
            assert!(
                tested.contains(&format!("name: {name} {what}\n")),
                "tests/rules/alerts.yaml does not test that {name} {what}"
            );
        }
    }
}

#[test]
fn every_alert_says_what_to_do_and_has_a_section_in_the_docs() {
    let Some(helm) = Helm::find("every_alert_says_what_to_do") else { return };
    let rules = rendered_rules(&helm);
    let page = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.md"));
    let sections: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut named = BTreeSet::new();
    for alert in alerts(&rules) {
        let name = alert["alert"].as_str().expect("a name");
        named.insert(name);
        let (annotations, severity) = (&alert["annotations"], &alert["labels"]["severity"]);
        for key in ["summary", "description", "runbook"] {
            assert!(annotations[key].as_str().is_some_and(|text| text.len() > 10), "{name} lacks {key}");
        }
        let link = annotations["runbook_url"].as_str().unwrap_or_default();
        assert!(link.ends_with(&format!("/docs/alerts.md#{}", name.to_lowercase())), "{name}: {link}");
        assert!(["critical", "warning", "info"].iter().any(|known| severity == known), "{name}: {severity}");
        let told = format!("*{}, after {}.*", severity.as_str().expect("text"), alert["for"].as_str().expect("text"));
        let section = page.split(&format!("### {name}\n\n")).nth(1).unwrap_or_default();
        assert!(section.starts_with(&told), "docs/alerts.md: {name} begins with {told}");
    }
    assert_eq!(sections, named, "docs/alerts.md has a section for each alert, and for nothing else");
}

#[test]
fn crds_are_a_chart_of_their_own_and_are_kept() {
    let Some(helm) = Helm::find("crds_are_a_chart_of_their_own") else { return };
    let rendered = helm.template(&chart("outrigger-crds"), &[]).expect("it renders");
    assert_eq!(rendered.len(), 4);
    for crd in &rendered {
        assert_eq!(crd["kind"], "CustomResourceDefinition");
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{}", crd["metadata"]["name"]);
    }
    let versions: BTreeMap<&str, Value> = ["outrigger", "outrigger-crds"]
        .into_iter()
        .map(|name| (name, documents(&text(&chart(name).join("Chart.yaml")))[0].clone()))
        .collect();
    for (name, metadata) in &versions {
        assert_eq!(metadata["version"], env!("CARGO_PKG_VERSION"), "{name}");
        assert_eq!(metadata["appVersion"], env!("CARGO_PKG_VERSION"), "{name}");
        assert!(metadata["annotations"]["artifacthub.io/license"].is_string(), "{name}");
    }
    assert_eq!(versions["outrigger"]["kubeVersion"], versions["outrigger-crds"]["kubeVersion"]);
}
