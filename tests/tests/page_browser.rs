//! The page of a proxy in a real browser: it loads, shows the traffic, asks nobody else, and can be used without a mouse.
//!
//! The screenshot lands in the target directory. With `OUTRIGGER_UPDATE_SCREENSHOT` set it replaces the one of the docs.

use std::{fs, path::Path, process::Command};

use outrigger_tests::{
    LONG, Origin, Proxy, Response, Traffic, binary, config, eventually, peers, pki::Ca, tap::Running, wire,
};
use serde_json::Value;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const ORDERS: &str = "spiffe://cluster.local/ns/shop/sa/orders";
const LEDGER: &str = "spiffe://cluster.local/ns/bank/sa/ledger";

/// A service `orders` that is called by `web` and by somebody without an identity, and calls three others: one in the
/// mesh, one outside, one whose circuit is open.
struct Shop {
    orders: Proxy,
    _others: Vec<Proxy>,
    _apps: Vec<Origin>,
    traffic: Vec<Traffic>,
}

impl Shop {
    fn start() -> Self {
        let ca = Ca::new("mesh");
        let [web, orders, ledger] = [WEB, ORDERS, LEDGER].map(|id| ca.identity(id));
        let app =
            Origin::start(|r| if r.target.contains("missing") { Response::new(404) } else { Response::text("ok") });
        let (rates, down) = (Origin::hello(), Origin::start(|_| Response::new(503)));
        let bank = Proxy::start(
            &(config::proxy_with(&ledger.yaml(), &[&config::inbound("mtls: strict")])
                + &config::upstream("app", app.address())),
        );
        let mesh = |name: &str, to: std::net::SocketAddr, id: &str| {
            let spec = format!(
                "hostnames: [{name}], endpoints: [{{ address: \"{to}\" }}], tls: {{ mode: mesh, identity: \"{id}\" }}"
            );
            config::upstream_with(name, &spec)
        };
        let named = |name: &str, to: std::net::SocketAddr| {
            config::upstream_with(name, &format!("hostnames: [{name}], endpoints: [{{ address: \"{to}\" }}]"))
        };
        let yaml = config::proxy_with(&orders.yaml(), &[&config::inbound("mtls: permissive"), config::OUTBOUND])
            .replace("metadata: { name: test }", "metadata: { name: orders }")
            + &config::upstream("app", app.address())
            + &mesh("ledger", bank.inbound(), LEDGER)
            + &named("rates", rates.address())
            + &named("stock", down.address())
            + &config::policy(
                "stock",
                "circuitBreaker: { scope: upstream, consecutiveFailures: 3, open: { base: 60s, max: 60s } }",
            );
        let orders = Proxy::start(&yaml);
        let caller = Proxy::start(
            &(config::proxy_with(&web.yaml(), &[config::OUTBOUND]) + &mesh("orders", orders.inbound(), ORDERS)),
        );
        let get = |path: &str, host: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer S3CRET\r\n\r\n")
        };
        let start = |to, rate, text: &str| Traffic::start(to, rate, 1, text);
        let traffic = vec![
            start(caller.outbound(), 40, &get("/orders/7?page=2", "orders")),
            start(orders.inbound(), 5, &get("/orders/missing?token=S3CRET", "orders")),
            start(orders.outbound(), 20, &get("/entries", "ledger")),
            start(orders.outbound(), 10, &get("/today", "rates")),
            start(orders.outbound(), 4, &get("/stock/7?api_key=S3CRET", "stock")),
        ];
        Self { orders, _others: vec![bank, caller], _apps: vec![app, rates, down], traffic }
    }

    fn stop(self) {
        self.traffic.into_iter().for_each(|traffic| drop(traffic.stop()));
    }
}

/// What the browser says of the page at this address.
fn look(node: &Path, chromium: &Path, url: &str, out: &Path) -> Value {
    let mut command = Command::new(node);
    command.arg(peers::script("browser.js")).arg(url).arg(out);
    command.env("NODE_PATH", binary::target_dir().join("test-node/node_modules")).env("CHROMIUM", chromium);
    let output = command.output().expect("node runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {errors}"))
}

fn find(scenario: &str) -> Option<(std::path::PathBuf, std::path::PathBuf)> {
    let node = peers::node(scenario)?;
    if !binary::target_dir().join("test-node/node_modules/playwright-core").is_dir() {
        return peers::skip(scenario, "playwright-core missing");
    }
    Some((node, peers::program(scenario, "chromium")?))
}

#[test]
fn the_page_shows_the_traffic_in_a_browser() {
    let Some((node, chromium)) = find("the_page_shows_the_traffic_in_a_browser") else { return };
    let shop = Shop::start();
    eventually("the circuit is open", LONG, || {
        (wire::get(shop.orders.admin(), "/errors").text().contains("circuit_open")).then_some(())
    });
    let out = binary::target_dir().join("screenshots");
    fs::create_dir_all(&out).expect("the target directory is writable");
    // As a person gets there: by the command line.
    let admin = shop.orders.admin().to_string();
    let dashboard = Running::start(&["dashboard", "--admin", &admin, "--no-open"], &[]);
    let url = dashboard.wait("the address", |line| line.starts_with("http://"));
    let seen = look(&node, &chromium, &url, &out);
    shop.stop();
    judge(&seen, &url);
    if std::env::var_os("OUTRIGGER_UPDATE_SCREENSHOT").is_some() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
        fs::create_dir_all(&docs).expect("docs is writable");
        fs::copy(out.join("page.png"), docs.join("page.png")).expect("docs is writable");
    }
    for name in ["page.png", "page-dark.png"] {
        let bytes = fs::read(out.join(name)).expect("a screenshot");
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 20_000, "{name}: {} bytes", bytes.len());
    }
}

fn judge(seen: &Value, url: &str) {
    let text = |key: &str| seen[key].to_string();
    assert_eq!(seen["console"], Value::Array(Vec::new()), "nothing on the console");
    for request in seen["asked"].as_array().expect("requests") {
        assert!(
            request.as_str().is_some_and(|r| r.starts_with(url) || r.starts_with("data:")),
            "{request} is asked elsewhere"
        );
    }
    let policy = seen["policy"].as_str().expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!((&seen["status"], &seen["title"]), (&"serving".into(), &"orders \u{2013} Outrigger".into()));
    let rate: f64 = seen["tiles"][0][1].as_str().and_then(|t| t.replace(',', "").parse().ok()).expect("a rate");
    assert!(rate > 1.0, "{rate} requests per second");
    for (table, word) in [
        ("requests", "ledger"),
        ("circuits", "open"),
        ("errors", "circuit_open"),
        ("recent", "/stock/7?api_key=[redacted]"),
        ("tap", "/orders/"),
        ("upstreams", "ready"),
        ("certificates", ORDERS),
        ("listeners", "permissive"),
        ("edges", "shop/web"),
        ("edges", "no identity"),
        ("edges", "ledger"),
    ] {
        assert!(text(table).contains(word), "{table} without {word}: {}", text(table));
    }
    assert_eq!(seen["pressed"], "true");
    assert!(!seen.to_string().contains("S3CRET"), "secrets on the page");
    assert_eq!(seen["accessibility"], Value::Array(Vec::new()), "{}", text("accessibility"));
    assert_ne!(seen["light"], seen["dark"], "dark and light differ");
    for scheme in ["lightContrast", "darkContrast"] {
        assert!(seen[scheme]["ratio"].as_f64().is_some_and(|r| r >= 4.5), "{}", text(scheme));
    }
    assert_eq!(seen["overflow"], 0, "a narrow screen does not scroll sideways");
    let keys = seen["keyboard"].as_array().expect("stops");
    assert!(keys.iter().any(|k| k["id"] == "tap-go") && keys.iter().all(|k| k["name"] != ""), "{keys:?}");
}
