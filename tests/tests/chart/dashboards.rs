//! Dashboards are what Grafana's JSON model asks for: the fields that it cannot do without, and no two panels in one place.

use std::collections::BTreeSet;

use outrigger_tests::helm::chart;
use serde_json::Value;

/// Panels of Grafana itself, so that nobody needs a plugin.
const PANELS: [&str; 3] = ["row", "stat", "timeseries"];

fn dashboards() -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(chart("outrigger").join("files/dashboards")).expect("dashboards");
    let files = entries.map(|entry| entry.expect("it can be read").path());
    files.map(|f| (f.display().to_string(), serde_json::from_str(&super::text(&f)).expect("JSON"))).collect()
}

#[test]
fn dashboards_are_what_grafana_reads() {
    let all = dashboards();
    assert!(all.len() >= 3);
    let mut uids = BTreeSet::new();
    for (file, dashboard) in &all {
        for key in ["title", "uid", "timezone"] {
            assert!(dashboard[key].as_str().is_some_and(|text| !text.is_empty()), "{file}: {key}");
        }
        let uid = dashboard["uid"].as_str().expect("text");
        assert!(uid.len() <= 40 && uids.insert(uid), "{file}: {uid} is taken or too long");
        assert!(dashboard["id"].is_null(), "{file}: an id is of one Grafana");
        assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36), "{file}");
        for key in ["from", "to"] {
            assert!(dashboard["time"][key].is_string(), "{file}: time.{key}");
        }
        let variables = dashboard["templating"]["list"].as_array().expect("variables");
        assert_eq!(variables[0]["type"], "datasource", "{file}: people choose their Prometheus");
        let names: Vec<&str> = variables.iter().map(|v| v["name"].as_str().expect("a name")).collect();
        panels(file, dashboard, &names);
    }
}

fn panels(file: &str, dashboard: &Value, variables: &[&str]) {
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() > 5, "{file}");
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default();
        assert!(!title.is_empty() && PANELS.iter().any(|kind| panel["type"] == *kind), "{file}: {panel}");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{file}: {title}: its id is taken");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{file}: {title}: {key}"));
        assert!(at("x") + at("w") <= 24, "{file}: {title} is out of the grid");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{file}: {title} lies on another panel");
            }
        }
        if panel["type"] != "row" {
            targets(file, title, panel, variables);
        }
    }
}

fn targets(file: &str, title: &str, panel: &Value, variables: &[&str]) {
    assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{file}: {title} has no unit");
    let mut references = BTreeSet::new();
    for target in panel["targets"].as_array().expect("targets") {
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{file}: {title}");
        assert!(references.insert(target["refId"].as_str().expect("a refId")), "{file}: {title}");
        let query = target["expr"].as_str().expect("a query");
        for name in query.split('$').skip(1) {
            let name: String = name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            assert!(name == "__rate_interval" || variables.contains(&name.as_str()), "{file}: {title}: ${name}");
        }
    }
}

/// As rules, so that promtool parses them.
#[test]
fn promtool_parses_every_query_of_the_dashboards() {
    let Some(promtool) = outrigger_tests::peers::program("promtool_parses_every_query", "promtool") else { return };
    let mut rules = Vec::new();
    for (_, dashboard) in dashboards() {
        for target in
            dashboard["panels"].as_array().expect("panels").iter().flat_map(|p| p["targets"].as_array()).flatten()
        {
            let query = target["expr"].as_str().expect("a query").replace("$__rate_interval", "5m");
            rules.push(serde_json::json!({ "record": format!("query_{}", rules.len()), "expr": query }));
        }
    }
    assert!(rules.len() > 40, "{}", rules.len());
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = dir.path().join("queries.yaml");
    let text = serde_json::json!({ "groups": [{ "name": "queries", "rules": rules }] }).to_string();
    std::fs::write(&file, text).expect("writable");
    let output = std::process::Command::new(promtool).args(["check", "rules"]).arg(&file).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
