//! `explain`, the admin port and the live proxy give one answer: a table of 50 requests is asked of all three.

use std::process::Command;

use outrigger_tests::{Origin, Proxy, Response, Wire, binary, config};
use serde_json::Value;

/// Method, URL, headers, and what comes of it: the upstream that answers and the target that it sees, or a status.
const TABLE: &[(&str, &str, &[&str], &str)] = &[
    ("GET", "http://shop.test/", &[], "shop /"),
    ("GET", "http://SHOP.test/", &[], "shop /"),
    ("GET", "http://shop.test./", &[], "shop /"),
    ("GET", "http://shop.test:80/", &[], "shop /"),
    ("GET", "http://shop.test:8080/any", &[], "shop /any"),
    ("GET", "http://shop/", &[], "shop /"),
    ("GET", "http://alias.test/x?y=1", &[], "shop /x?y=1"),
    ("GET", "http://a.wild.test/", &[], "wild /"),
    ("GET", "http://a.b.wild.test/", &[], "wild /"),
    ("GET", "http://wild.test/", &[], "404"),
    ("GET", "http://nobody.test/", &[], "404"),
    ("GET", "http://shop.test.evil/", &[], "404"),
    ("GET", "http://shop.test/exact", &[], "exact /exact"),
    ("GET", "http://shop.test/exact/", &[], "shop /exact/"),
    ("GET", "http://shop.test/exact?q", &[], "exact /exact?q"),
    ("GET", "http://shop.test/Exact", &[], "shop /Exact"),
    ("GET", "http://shop.test/pre", &[], "prefix /pre"),
    ("GET", "http://shop.test/pre/", &[], "prefix /pre/"),
    ("GET", "http://shop.test/pre/a", &[], "prefix /pre/a"),
    ("GET", "http://shop.test/prefix", &[], "shop /prefix"),
    ("GET", "http://shop.test/pre/longer/a", &[], "exact /pre/longer/a"),
    ("POST", "http://shop.test/pre", &[], "posts /pre"),
    ("PUT", "http://shop.test/pre", &[], "prefix /pre"),
    ("GET", "http://shop.test/item/12", &[], "regex /item/12"),
    ("GET", "http://shop.test/item/", &[], "shop /item/"),
    ("GET", "http://shop.test/item/12/x", &[], "shop /item/12/x"),
    ("GET", "http://shop.test/pre/a", &["x-beta: 1"], "beta /pre/a"),
    ("GET", "http://shop.test/pre/a", &["X-BETA: 1"], "beta /pre/a"),
    ("GET", "http://shop.test/pre/a", &["x-beta: 2"], "prefix /pre/a"),
    ("GET", "http://shop.test/pre/a", &["x-beta: 1", "x-gamma: 1"], "posts /pre/a"),
    ("GET", "http://shop.test/q", &["x-kind: abc"], "regex /q"),
    ("GET", "http://shop.test/q", &["x-kind: abcd"], "shop /q"),
    ("GET", "http://shop.test/find?v=2", &[], "beta /find?v=2"),
    ("GET", "http://shop.test/find?v=3", &[], "shop /find?v=3"),
    ("GET", "http://shop.test/find?w=1&v=2", &[], "beta /find?w=1&v=2"),
    ("GET", "http://shop.test/find?v=%32", &[], "beta /find?v=%32"),
    ("GET", "http://shop.test/moved", &[], "301"),
    ("GET", "http://shop.test/moved/far", &[], "301"),
    ("GET", "http://shop.test/rewrite/a", &[], "shop /new/a"),
    ("GET", "http://shop.test/rewrite", &[], "shop /new"),
    ("GET", "http://shop.test/whole/a?b=c", &[], "shop /one?b=c"),
    ("GET", "http://closed.test/", &[], "404"),
    ("GET", "http://closed.test/open", &[], "wild /open"),
    ("GET", "http://secret.test/", &[], "403"),
    ("GET", "http://secret.test/public", &[], "secret /public"),
    ("POST", "http://secret.test/public", &[], "403"),
    ("GET", "http://secret.test/public/x", &[], "secret /public/x"),
    ("GET", "http://secret.test/public/hidden", &[], "403"),
    ("DELETE", "http://shop.test/pre/a?x=y", &[], "prefix /pre/a?x=y"),
    ("OPTIONS", "http://shop.test/anything", &["x-nothing: 1"], "shop /anything"),
];

fn rules() -> String {
    let to = |name: &str| format!("backendRefs: [{}]", config::backend(name));
    let rule = |name: &str, matches: &str, filter: &str, backend: &str| {
        let filter = if filter.is_empty() { String::new() } else { format!("\n  filters: [{filter}]") };
        let backend = if backend.is_empty() { String::new() } else { format!("\n  {}", to(backend)) };
        format!("- name: {name}\n  matches: [{matches}]{filter}{backend}\n")
    };
    let prefix = |value: &str| format!("path: {{ type: PathPrefix, value: {value} }}");
    let header = |name: &str, value: &str| format!("{{ name: {name}, value: \"{value}\" }}");
    let rewrite = |path: &str| format!("{{ type: URLRewrite, urlRewrite: {{ path: {path} }} }}");
    [
        rule("rest", &format!("{{ {} }}", prefix("/")), "", "shop"),
        rule("prefix", &format!("{{ {} }}", prefix("/pre")), "", "prefix"),
        rule("longer", &format!("{{ {} }}", prefix("/pre/longer")), "", "exact"),
        rule("posts", &format!("{{ {}, method: POST }}", prefix("/pre")), "", "posts"),
        rule("exact", "{ path: { type: Exact, value: /exact } }", "", "exact"),
        rule("regex", "{ path: { type: RegularExpression, value: \"/item/[0-9]+\" } }", "", "regex"),
        rule("beta", &format!("{{ {}, headers: [{}] }}", prefix("/pre"), header("x-beta", "1")), "", "beta"),
        rule(
            "both",
            &format!("{{ {}, headers: [{}, {}] }}", prefix("/pre"), header("x-beta", "1"), header("x-gamma", "1")),
            "",
            "posts",
        ),
        rule(
            "kind",
            "{ path: { type: PathPrefix, value: /q }, headers: [{ type: RegularExpression, name: x-kind, value: \"[a-c]+\" }] }",
            "",
            "regex",
        ),
        rule("find", &format!("{{ {}, queryParams: [{}] }}", prefix("/find"), header("v", "2")), "", "beta"),
        rule(
            "moved",
            &format!("{{ {} }}", prefix("/moved")),
            "{ type: RequestRedirect, requestRedirect: { hostname: new.test, statusCode: 301 } }",
            "",
        ),
        rule(
            "rewrite",
            &format!("{{ {} }}", prefix("/rewrite")),
            &rewrite("{ type: ReplacePrefixMatch, replacePrefixMatch: /new }"),
            "shop",
        ),
        rule("whole", &format!("{{ {} }}", prefix("/whole")), &rewrite("{ type: ReplaceFullPath, replaceFullPath: /one }"), "shop"),
    ]
    .concat()
}

fn yaml(origins: &[(&str, Origin)]) -> String {
    let hosts = |name: &str| match name {
        "shop" => "hostnames: [shop.test, alias.test], ",
        "wild" => "hostnames: [\"*.wild.test\"], ",
        "closed" => "hostnames: [closed.test], ",
        "secret" => "hostnames: [secret.test], ",
        _ => "",
    };
    let upstream = |(name, origin): &(&str, Origin)| {
        let spec = format!("{}endpoints: [{{ address: \"{}\" }}]", hosts(name), origin.address());
        config::upstream_with(name, &spec)
    };
    let open = format!(
        "- matches: [{{ path: {{ type: Exact, value: /open }} }}]\n  backendRefs: [{}]",
        config::backend("wild")
    );
    let access = format!(
        "{{ targetRefs: [{}], rules: [{{ action: allow, from: [{{ cidrs: [127.0.0.0/8] }}], to: [{{ methods: [GET], paths: [/public, /public/*] }}] }}, \
         {{ action: deny, to: [{{ paths: [/public/hidden] }}] }}] }}",
        config::backend("secret")
    );
    config::proxy(&[config::OUTBOUND, &config::INBOUND.replace("name: app", "name: secret")])
        + &origins.iter().map(upstream).collect::<String>()
        + &config::http_route("shop", "shop", &rules())
        + &config::http_route("closed", "closed", &open)
        + &config::document("outrigger.dev/v1alpha1", "AccessPolicy", "secret", &access)
}

/// What a request comes to, by an explanation: upstream, or status.
fn verdict(explanation: &Value) -> String {
    if let Some(status) = explanation["answer"]["status"].as_u64() {
        return status.to_string();
    }
    explanation["backends"][0]["upstream"].as_str().unwrap_or("nothing").to_owned()
}

/// Without what only a running proxy knows.
fn timeless(mut explanation: Value) -> Value {
    explanation["listener"]["address"] = Value::Null;
    if let Some(backends) = explanation["backends"].as_array_mut() {
        for backend in backends {
            backend["endpoints"] = Value::Null;
            backend["breaker"] = Value::Null;
        }
    }
    explanation
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[test]
fn fifty_requests_are_explained_as_they_are_routed() {
    assert_eq!(TABLE.len(), 50);
    const NAMES: [&str; 9] = ["shop", "wild", "closed", "secret", "prefix", "posts", "exact", "regex", "beta"];
    let origins: Vec<_> = NAMES
        .iter()
        .map(|name| (*name, Origin::start(move |r| Response::text(format!("{name} {}", r.target)))))
        .collect();
    let proxy = Proxy::start(&yaml(&origins));
    let file = proxy.file().display().to_string();
    let mut wrong = Vec::new();
    for (method, url, headers, want) in TABLE {
        // Access policies guard the local service: that host is asked for where it is served.
        let listener = if url.contains("secret") { "inbound" } else { "outbound" };
        let mut command = Command::new(binary::proxy());
        command.args(["explain", "--config", &file, "--listener", listener, "-o", "json", "-X", method]);
        command.args(headers.iter().flat_map(|h| ["-H", h]));
        let output = command.arg(url).output().expect("the binary runs");
        let offline: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();

        let mut query = format!("/explain?listener={listener}&method={method}&url={}", encode(url));
        headers.iter().for_each(|h| query += &format!("&header={}", encode(h)));
        let live: Value = serde_json::from_slice(&proxy.ask(&query).body).unwrap_or_default();

        let (host, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
        let fields: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
        let request = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{fields}Content-Length: 0\r\n\r\n");
        let reply = Wire::connect(proxy.address(listener)).exchange(&request);
        let real = if reply.status == 200 { reply.text() } else { reply.status.to_string() };

        let said = verdict(&offline);
        let same = timeless(offline.clone()) == timeless(live.clone());
        if real != *want || said != want.split(' ').next().unwrap_or_default() || !same {
            wrong.push(format!(
                "{method} {url} {headers:?}: want {want}, got {real}, offline {said}, live {}",
                verdict(&live)
            ));
            if !same {
                wrong.push(format!("  offline {}\n  live    {}", timeless(offline), timeless(live)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
