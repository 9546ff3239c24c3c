//! One denied path in every spelling that has ever opened a door, before handlers that would take each for it.

use std::{collections::BTreeMap, net::SocketAddr};

use outrigger_tests::{
    Origin, Proxy, Wire, config,
    frames::{self, Frames, kind},
    peers::{self, Nginx, Server},
};

use crate::{no_admin, policy};

/// Spellings of `/admin`, by the way in which a server comes to read it.
const SPELLINGS: &[&str] = &[
    // Itself, case, a slash at its end.
    "/admin",
    "/admin/",
    "/Admin",
    "/ADMIN",
    "/aDmIn/",
    "/admin?",
    "/admin?x=1",
    "/admin?/../public",
    // Unreserved characters escaped.
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/%61%64%6D%69%6E",
    "/adm%69n",
    "/%41dmin",
    "/admi%6E?x",
    // Slashes.
    "//admin",
    "///admin",
    "//admin//",
    "/admin//",
    "////admin/",
    "/.//admin",
    "//./admin",
    "//x//../..//admin",
    // Dot segments.
    "/./admin",
    "/././admin",
    "/x/../admin",
    "/x/y/../../admin",
    "/../admin",
    "/../../../admin",
    "/admin/.",
    "/admin/./",
    "/admin/x/..",
    "/admin/x/../",
    "/./x/.././admin",
    "/..//admin",
    "/x//../admin",
    "/x/..//admin",
    "/a//../../admin",
    // Dot segments, escaped.
    "/%2e/admin",
    "/%2E/admin",
    "/%2e%2e/admin",
    "/x/%2e%2e/admin",
    "/x/%2E%2E/admin",
    "/x/.%2e/admin",
    "/x/%2e./admin",
    "/admin/%2e",
    "/admin/x/%2e%2e",
    "/x/%2e%2e/%61dmin",
    // Slashes, escaped.
    "/%2fadmin",
    "/%2Fadmin",
    "%2fadmin",
    "/x/..%2fadmin",
    "/x%2f..%2fadmin",
    "/x%2F%2e%2e%2Fadmin",
    "/.%2fadmin",
    "/admin%2f",
    "/admin%2f.",
    "/admin%2fx%2f..",
    "/%2f%2fadmin",
    "/..%2f..%2fadmin",
    // Backslashes.
    "/\\admin",
    "\\admin",
    "/.\\admin",
    "/x\\..\\admin",
    "/x/..\\admin",
    "/%5cadmin",
    "/%5Cadmin",
    "/x%5c..%5cadmin",
    "/x/..%5cadmin",
    "/admin\\",
    "/admin%5c",
    "/\\/admin",
    "/%5c%5cadmin",
    // Parameters.
    "/admin;",
    "/admin;x=1",
    "/admin;x=1/",
    "/;/admin",
    "/;x=1/admin",
    "/.;/admin",
    "/..;/admin",
    "/x/..;/admin",
    "/x/..;x=y/admin",
    "/x/.;/../admin",
    "/%3b/admin",
    "/admin%3b",
    "/admin%3Bx=1",
    "/x/..%3b/admin",
    "/admin;/..;/admin",
    "/x/%2e%2e;/admin",
    // Encoded twice, and by halves.
    "/%2561dmin",
    "/%252561dmin",
    "/%252fadmin",
    "/%252e/admin",
    "/x/%252e%252e/admin",
    "/x/..%252fadmin",
    "/x/%252e%252e%252fadmin",
    "/%25%36%31dmin",
    "/%%36%31dmin",
    "/%255cadmin",
    "/admin%253b",
    "/admin%2500",
    "/%25u0061dmin",
    // Escapes of other kinds.
    "/%u0061dmin",
    "/%u002fadmin",
    "/x/%u002e%u002e/admin",
    "/%uff0fadmin",
    "/%6",
    "/admin%",
    "/admin%2",
    "/%zzadmin",
    // Not UTF-8, overlong.
    "/%c1%a1dmin",
    "/%c0%afadmin",
    "/x/%c0%ae%c0%ae/admin",
    "/x/..%c0%afadmin",
    "/%e0%80%afadmin",
    "/%c0%2fadmin",
    "/x/..%c1%9cadmin",
    // Lookalikes.
    "/%ef%bc%8fadmin",
    "/x/%ef%bc%8e%ef%bc%8e/admin",
    "/x/..%ef%bc%8fadmin",
    "/%ef%bc%bcadmin",
    "/x/%e2%80%a5/admin",
    // Control characters, blanks, delimiters.
    "/admin%00",
    "/admin%00.html",
    "/%00/../admin",
    "/adm%00in",
    "/adm%09in",
    "/adm%0ain",
    "/adm%0d%0ain",
    "/admin%0a",
    "/admin%20",
    "/%20admin",
    "/admin%20/",
    "/%20/../admin",
    "/admin%09",
    "/admin%7f",
    "/admin%3f",
    "/admin%3Fx",
    "/admin%23",
    "/admin%23x",
    "/admin#x",
    // Other forms of the target.
    "http://app/admin",
    "http://app//admin",
    "HTTP://APP/x/../admin",
    "http://app/%61dmin",
    "http://user@app/admin",
    "//app/admin",
    "http://app\\admin",
    "https://app/admin",
    "http://app:80/admin",
    "http://app./admin",
    "app/admin",
    "admin",
    "*/admin",
    "?/admin",
];

/// What came for a spelling: status (0: none) and everything of the body.
type Came = (u16, String);

fn over_http1(to: SocketAddr, target: &str, method: &str, headers: &str) -> Came {
    let mut wire = Wire::connect(to);
    wire.try_send(format!("{method} {target} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n{headers}\r\n")).ok();
    let all = String::from_utf8_lossy(&wire.rest()).into_owned();
    let status = all.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, all)
}

fn over_http2(to: SocketAddr, target: &str, method: &str, more: &[(&str, &str)]) -> Came {
    let mut client = Frames::connect(to);
    let mut fields = vec![(":method", method), (":scheme", "http"), (":path", target), (":authority", "app")];
    fields.extend(more);
    let flags = frames::END_HEADERS | frames::END_STREAM;
    client.send(kind::HEADERS, flags, 1, &frames::block(&fields)).expect("a fresh connection");
    let (mut status, mut body) = (0, Vec::new());
    while let Ok(Some(frame)) = client.read() {
        if frame.error().is_some() {
            break;
        }
        if frame.stream == 1 && frame.kind == kind::HEADERS && status == 0 {
            status = frames::status_of(&frame).unwrap_or(0);
        }
        if frame.stream == 1 && frame.kind == kind::DATA {
            body.extend(&frame.payload);
        }
        if frame.stream == 1 && frame.flags & frames::END_STREAM != 0 {
            break;
        }
    }
    (status, String::from_utf8_lossy(&body).into_owned())
}

const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers")];

/// Sends every spelling in every protocol; none may come back with the secret. Prints what became of them.
fn try_all(what: &str, to: SocketAddr, spellings: &[String]) {
    let mut tally: BTreeMap<(&str, u16), usize> = BTreeMap::new();
    for spelling in spellings {
        let grpc_lines = "content-type: application/grpc\r\nte: trailers\r\nContent-Length: 0\r\n";
        for (protocol, came) in [
            ("HTTP/1", over_http1(to, spelling, "GET", "")),
            ("HTTP/1 POST", over_http1(to, spelling, "POST", "Content-Length: 0\r\n")),
            ("HTTP/2", over_http2(to, spelling, "GET", &[])),
            ("gRPC", over_http2(to, spelling, "POST", GRPC)),
            ("gRPC on HTTP/1", over_http1(to, spelling, "POST", grpc_lines)),
        ] {
            assert!(!came.1.contains("SECRET"), "{what}: {spelling} over {protocol}: {came:?}");
            *tally.entry((protocol, came.0)).or_default() += 1;
        }
    }
    println!("{what}: {} spellings; (protocol, status): {tally:?}", spellings.len());
}

fn all() -> Vec<String> {
    assert!(SPELLINGS.len() >= 100);
    SPELLINGS.iter().map(|s| (*s).to_owned()).collect()
}

/// The same from inside what is allowed.
fn from_public() -> Vec<String> {
    let up =
        |s: &str| ["/public/..", "/public/%2e%2e", "/public/x/../..", "/public"].map(|front| format!("{front}{s}"));
    SPELLINGS
        .iter()
        .filter(|s| s.starts_with('/'))
        .flat_map(|s| up(s))
        .filter(|s| !s.starts_with("/public/admin"))
        .collect()
}

/// Servers that read as leniently as they can, each behind a name.
fn handlers(scenario: &str) -> Vec<(&'static str, SocketAddr, Box<dyn std::any::Any>)> {
    let mut all: Vec<(&'static str, SocketAddr, Box<dyn std::any::Any>)> = Vec::new();
    if let Some(python) = peers::python(scenario) {
        let server = Server::start(&python, "lenient.py", &[]);
        all.push(("Python", server.address(), Box::new(server)));
    }
    if let Some(node) = peers::node(scenario) {
        let server = Server::start(&node, "lenient.js", &[]);
        all.push(("Node", server.address(), Box::new(server)));
    }
    let nginx = Nginx::start(scenario, |_, address| {
        format!(
            "server {{ listen {address}; default_type text/plain; location ~* ^/admin {{ return 200 SECRET; }} \
             location / {{ return 200 $request_uri; }} }}"
        )
    });
    if let Some(nginx) = nginx {
        all.push(("nginx", nginx.address(), Box::new(nginx)));
    }
    all
}

/// The handlers would serve what is asked of them past the proxy: otherwise the scenarios prove nothing.
#[test]
fn the_handlers_are_as_lenient_as_they_say() {
    for (name, address, _server) in handlers("the_handlers_are_as_lenient_as_they_say") {
        let served = SPELLINGS.iter().filter(|s| over_http1(address, s, "GET", "").1.contains("SECRET")).count();
        println!("{name} serves {served} of {} spellings", SPELLINGS.len());
        let least = if name == "Python" { 100 } else { 20 };
        assert!(served >= least, "{name}: {served}");
    }
}

#[test]
fn no_spelling_of_a_denied_path_reaches_a_handler() {
    for (name, address, _server) in handlers("no_spelling_of_a_denied_path_reaches_a_handler") {
        let proxy = Proxy::start(&no_admin(address));
        try_all(name, proxy.inbound(), &all());
    }
}

#[test]
fn no_spelling_leads_out_of_what_is_allowed() {
    let rules = "rules: [{ action: allow, to: [{ paths: [/public, /public/*] }] }]";
    for (name, address, _server) in handlers("no_spelling_leads_out_of_what_is_allowed") {
        let proxy = Proxy::start(&(config::sidecar_protocol(address, "http") + &policy("app", rules)));
        assert_eq!(over_http1(proxy.inbound(), "/public/x", "GET", "").0, 200);
        // The most lenient gets them all.
        let inside = from_public().into_iter().step_by(if name == "Python" { 1 } else { 5 });
        try_all(name, proxy.inbound(), &all().into_iter().chain(inside).collect::<Vec<_>>());
    }
}

#[test]
fn no_spelling_of_a_denied_method_reaches_a_grpc_server() {
    let scenario = "no_spelling_of_a_denied_method_reaches_a_grpc_server";
    let Some(node) = peers::node(scenario) else { return };
    let server = Server::start(&node, "lenient.js", &["h2"]);
    let rules = "rules: [{ action: deny, to: [{ paths: [/shop.Admin/Delete] }] }]";
    let yaml = config::sidecar_protocol(server.address(), "grpc") + &policy("app", rules);
    let proxy = Proxy::start(&yaml);
    let spellings: Vec<String> = [
        "/shop.Admin/Delete",
        "/shop.Admin/Delete/",
        "//shop.Admin/Delete",
        "/shop.Admin//Delete",
        "/shop%2eAdmin/Delete",
        "/shop.Admin/%44elete",
        "/shop.Admin%2fDelete",
        "/shop.Admin/./Delete",
        "/x/../shop.Admin/Delete",
        "/shop.Admin/x/../Delete",
        "/shop.Admin/x/%2e%2e/Delete",
        "/shop.Admin;x/Delete",
        "/shop.Admin/Delete;x",
        "/shop.Admin\\Delete",
        "/shop.Admin%5cDelete",
        "/shop.Admin/%2544elete",
        "/shop.Admin/Delete%00",
        "/shop.Admin/Delete%20",
        "/SHOP.ADMIN/DELETE",
        "/shop.admin/delete",
        "/shop.Admin/Delete?x",
        "/shop.Admin/Delete%3fx",
        "/shop.Admin/Delete#x",
        "/shop.Admin%c0%afDelete",
        "/./shop.Admin/Delete",
    ]
    .map(str::to_owned)
    .to_vec();
    try_all("gRPC on HTTP/2", proxy.inbound(), &spellings);
    let passed = over_http2(proxy.inbound(), "/shop.Admin/List", "POST", GRPC);
    assert_eq!(passed, (200, "/shop.Admin/List".to_owned()));
}

#[test]
fn paths_in_normal_form_arrive_byte_for_byte() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&no_admin(origin.address()));
    for target in [
        "/",
        "/orders/1",
        "/public/a.b/..c/d../...",
        "/.well-known/acme-challenge/x_-~",
        "/a%20b",
        "/caf%C3%A9",
        "/100%25",
        "/@scope/name",
        "/a@b:c,d!$&'()*+=e",
        "/%40user",
        "/administrator",
        "/x/admin",
        "/search?q=//../%2f%2F;x=%00&r=%2e%2e?",
        "/?/admin",
        "/a/?%61",
    ] {
        let reply = Wire::connect(proxy.inbound()).get(target);
        assert_eq!((reply.status, reply.text()), (200, format!("GET {target}")));
        assert_eq!(over_http2(proxy.inbound(), target, "GET", &[]), (200, format!("GET {target}")));
    }
    // What HTTP/2 does not take, and browsers send as it is.
    let odd = "/a|b^c`{d}\"<>?\\";
    assert_eq!(Wire::connect(proxy.inbound()).get(odd).text(), format!("GET {odd}"));
    // What is forwarded is what was decided on.
    for (came, forwarded) in [
        ("/%6frders//%7e?x=%6f", "/orders/~?x=%6f"),
        ("/a/../b/./c%c3%a9", "/b/c%C3%A9"),
        ("/x/%2e%2E/y/", "/y/"),
        ("http://APP./%61", "/a"),
    ] {
        assert_eq!(Wire::connect(proxy.inbound()).get(came).text(), format!("GET {forwarded}"), "{came}");
    }
    assert_eq!(origin.last().header("host"), Some("app"));
    let entry = proxy.wait_log("a path that was brought into normal form", |e| e["path"] == "/x/%2e%2E/y/");
    assert_eq!(entry["status"], 200, "the log has it as it came");
}

#[test]
fn refusals_say_what_is_wrong() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&no_admin(origin.address()));
    for (target, why) in [
        ("/group%2Fproject", "encoded slash"),
        ("/a;x=1", "semicolon"),
        ("/a%5cb", "backslash"),
        ("/%2561", "twice"),
        ("/a%", "hexadecimal"),
    ] {
        let reply = Wire::connect(proxy.inbound()).get(target);
        assert_eq!((reply.status, reply.json()["error"].as_str()), (400, Some("http_request_error")), "{target}");
        assert!(reply.json()["message"].as_str().is_some_and(|m| m.contains(why)), "{}", reply.text());
        let status = reply.header("proxy-status").unwrap_or_default().to_owned();
        assert!(status.contains("error=http_request_error") && status.contains(why), "{status}");
    }
    assert!(origin.requests().is_empty());
    let explained = |url: &str| proxy.ask(&format!("/explain?listener=inbound&url=http%3A%2F%2Fapp{url}")).json();
    let normal = explained("%2Fx%2F%252e%252e%2Fadmin%2F%2Fy");
    assert_eq!(
        (normal["request"]["normal"].as_str(), normal["answer"]["status"].as_u64()),
        (Some("app/admin/y"), Some(403))
    );
    assert_eq!(explained("%2Fa%253bx")["answer"]["status"], 400);
}

#[test]
fn without_rules_about_paths_they_pass_as_they_came() {
    let origin = Origin::hello();
    let by_method = policy("app", "rules: [{ action: deny, to: [{ methods: [DELETE] }] }]");
    for more in ["", &by_method] {
        let proxy = Proxy::start(&(config::sidecar(origin.address()) + more));
        for target in [
            "/api/v4/projects/group%2fproject",
            "/@scope%2fname",
            "//double//slashes",
            "/a/../b",
            "/%7euser",
            "/a;jsessionid=1",
            "/caf%e9",
            "/100%",
            "/http://other/x",
            "/a\\b",
        ] {
            let reply = Wire::connect(proxy.inbound()).get(target);
            assert_eq!((reply.status, reply.text()), (200, format!("GET {target}")));
        }
    }
}
