//! The page for people: what this replica is doing, and where to look further. No script, nothing from elsewhere.

use super::Admin;

pub(super) fn html(admin: &Admin) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, value: &str| rows.push_str(&format!("<tr><th>{}<td>{}", escape(name), escape(value)));
    row("replica", &admin.replica);
    row("version", env!("CARGO_PKG_VERSION"));
    row("up", &format!("{} s", admin.started.elapsed().as_secs()));
    row("writes status", if *admin.leads.borrow() { "yes" } else { "no, another replica does" });
    row("proxies", &admin.proxies.len().to_string());
    for (name, outcome) in admin.checks() {
        row(name, &outcome.err().unwrap_or_else(|| "ok".to_owned()));
    }
    for (kind, age) in admin.live.metrics.ages() {
        row(kind, &format!("last heard of {} s ago", age.as_secs()));
    }
    format!(
        "<!doctype html><meta charset=utf-8><title>Outrigger control plane</title>\
         <style>body{{font:16px system-ui;margin:2em;color-scheme:light dark}}th{{text-align:left;padding-right:2em}}</style>\
         <h1>Outrigger control plane</h1><table>{rows}</table>\
         <p><a href=/readyz?verbose>/readyz</a> <a href=/metrics>/metrics</a> <a href=/proxies>/proxies</a> \
         /proxies?pod=NAMESPACE/NAME /explain?namespace=NAMESPACE&amp;url=http://HOST/PATH"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
