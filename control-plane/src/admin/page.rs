//! The page for people: what this replica is doing, whom it serves, and where to look further. No script, nothing from
//! elsewhere: the browser loads it anew every few seconds, and its policy lets nothing run at all.

use std::hash::{BuildHasher as _, RandomState};

use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use super::{Admin, Answer, body};

/// Proxies that are shown, by name; the rest is counted.
const SHOWN: usize = 200;

/// The page, as it is now.
pub(super) async fn answer(admin: &Admin) -> Answer {
    let nonce = format!("{:016x}", RandomState::new().hash_one(0));
    let html = html(admin, &admin.proxies.json(None).await, &nonce);
    let mut answer = body(StatusCode::OK, "text/html; charset=utf-8", html.into_bytes());
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

fn html(admin: &Admin, proxies: &Value, nonce: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>\
         <meta name=viewport content='width=device-width, initial-scale=1'><meta name=color-scheme content='light dark'>\
         <title>Outrigger control plane</title><link rel=icon href='data:,'><style nonce={nonce}>{STYLE}</style>\
         <main><h1>Outrigger control plane</h1><h2>This replica</h2><table>{}</table>\
         <h2>Proxies</h2>{}\
         <p><a href=/readyz?verbose>/readyz</a> <a href=/metrics>/metrics</a> <a href=/proxies>/proxies</a> \
         /proxies?pod=NAMESPACE/NAME /explain?namespace=NAMESPACE&amp;url=http://HOST/PATH</main>",
        replica(admin),
        table(proxies)
    )
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em;color-scheme:light dark}h1{font-size:1.4em}\
                     h2{font-size:1.1em;margin-top:1.5em}th,td{text-align:left;padding:.15em 1.5em .15em 0;vertical-align:top}\
                     .bad{color:light-dark(#b3261e,#ff8a80)}";

fn replica(admin: &Admin) -> String {
    let mut rows = String::new();
    let mut row = |name: &str, value: &str, bad: bool| {
        let class = if bad { " class=bad" } else { "" };
        rows.push_str(&format!("<tr><th scope=row>{}<td{class}>{}", escape(name), escape(value)));
    };
    row("replica", &admin.replica, false);
    row("version", env!("CARGO_PKG_VERSION"), false);
    row("up", &format!("{} s", admin.started.elapsed().as_secs()), false);
    row("writes status", if *admin.leads.borrow() { "yes" } else { "no, another replica does" }, false);
    row("proxies", &admin.proxies.len().to_string(), false);
    for (name, outcome) in admin.checks() {
        let bad = outcome.is_err();
        row(name, &outcome.err().unwrap_or_else(|| "ok".to_owned()), bad);
    }
    for (kind, age) in admin.live.metrics.ages() {
        row(kind, &format!("last heard of {} s ago", age.as_secs()), false);
    }
    rows
}

/// The proxies that are connected, those first that have refused something.
fn table(proxies: &Value) -> String {
    let none = Vec::new();
    let mut all: Vec<&Value> = proxies.as_array().unwrap_or(&none).iter().collect();
    if all.is_empty() {
        return "<p>None is connected to this replica.".to_owned();
    }
    let refused = |p: &Value| p["refused"].as_array().map_or(0, Vec::len);
    let text = |p: &Value, key: &str| p[key].as_str().unwrap_or_default().to_owned();
    all.sort_by_key(|p| (refused(p) == 0, text(p, "namespace"), text(p, "pod")));
    let heads = ["pod", "version", "zone", "connected", "subscriptions", "waiting", "refused"];
    let heads: String = heads.iter().map(|head| format!("<th scope=col>{head}")).collect();
    let mut html = format!("<table><tr>{heads}");
    for proxy in all.iter().take(SHOWN) {
        let reasons = proxy["refused"].as_array().and_then(|r| r.first()).map_or_else(String::new, |first| {
            let reason = first["reasons"][0].as_str().unwrap_or_default();
            format!("{} of them: {}: {reason}", refused(proxy), text(first, "key"))
        });
        let cells = [
            format!("{}/{}", text(proxy, "namespace"), text(proxy, "pod")),
            text(proxy, "version"),
            text(proxy, "zone"),
            format!("{} s", proxy["connectedSeconds"]),
            proxy["subscriptions"].to_string(),
            proxy["waiting"].to_string(),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{}", escape(cell))).collect();
        html.push_str(&format!("<tr>{cells}<td class=bad>{}", escape(&reasons)));
    }
    html.push_str("</table>");
    if all.len() > SHOWN {
        html.push_str(&format!("<p>and {} more: /proxies", all.len() - SHOWN));
    }
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn proxies_are_text_and_the_troubled_ones_first() {
        let one = |pod: &str, refused: Value| {
            json!({ "namespace": "shop", "pod": pod, "version": "<b>1", "zone": "", "connectedSeconds": 3, "subscriptions": 1,
                    "waiting": 0, "refused": refused })
        };
        let refused = json!([{ "key": "svc:a", "version": "1", "reasons": ["bad <i>"], "seconds": 1 }]);
        let html = table(&json!([one("a", json!([])), one("z", refused)]));
        assert!(html.find("shop/z") < html.find("shop/a"), "{html}");
        assert!(html.contains("&lt;b&gt;1") && html.contains("1 of them: svc:a: bad &lt;i&gt;"), "{html}");
        assert!(table(&json!([])).contains("None"));
    }
}
