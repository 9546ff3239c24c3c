//! Prometheus' scrapes of the app, by way of the proxy's admin port, for the reason for which probes go there.
//!
//! `prometheus.io/{port,path,scheme}` are a convention, and scrapers of pods go by them; a PodMonitor names a port instead, and is for its
//! author to change. Without `prometheus.io/port` scrapers take the ports that are declared: if that is one, it is meant; else nothing is
//! rewritten, for it is not known which.

use serde_json::{Map, Value, json};

use super::{ADMIN_PORT, Choices, OWN_PORTS, probes, record::Record, tree};

/// Where the proxy answers for the app.
const PATH: &str = "/app/metrics";
const SCRAPE: &str = "prometheus.io/scrape";
const PORT_OF: &str = "prometheus.io/port";
const PATH_OF: &str = "prometheus.io/path";
const SCHEME_OF: &str = "prometheus.io/scheme";

pub(super) fn rewrite(
    template: &mut Value,
    choices: &Choices,
    endpoints: &mut Map<String, Value>,
    record: &mut Record,
) {
    if tree::annotation(template, SCRAPE) != Some("true") {
        return;
    }
    let Some(port) = asked(template).filter(|port| probes::is_proxied(*port, choices)) else { return };
    let path = tree::annotation(template, PATH_OF).filter(|path| !path.is_empty()).unwrap_or("/metrics");
    let scheme = if tree::annotation(template, SCHEME_OF) == Some("https") { "HTTPS" } else { "HTTP" };
    let target = json!({ "port": port, "path": path, "scheme": scheme });
    endpoints.insert(PATH.to_owned(), json!({ "http": target, "scrape": true }));
    super::set(template, "annotations", PORT_OF, &ADMIN_PORT.to_string(), record);
    super::set(template, "annotations", PATH_OF, PATH, record);
    if tree::annotation(template, SCHEME_OF).is_some() {
        super::set(template, "annotations", SCHEME_OF, "http", record);
    }
}

/// The port that a scraper would take; not if that is the proxy's own.
fn asked(template: &Value) -> Option<u16> {
    let port = match tree::annotation(template, PORT_OF) {
        Some(text) => text.trim().parse().ok()?,
        None => {
            let mut declared = tree::items(&template["spec"], "containers")
                .flat_map(|container| tree::items(container, "ports"))
                .filter(|port| matches!(tree::text(port, "protocol"), "" | "TCP"));
            let only = declared.next()?;
            if declared.next().is_some() {
                return None;
            }
            u16::try_from(only["containerPort"].as_u64()?).ok()?
        }
    };
    (port != 0 && !OWN_PORTS.contains(&port)).then_some(port)
}
