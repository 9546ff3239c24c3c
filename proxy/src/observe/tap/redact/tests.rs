//! Where secrets hide in headers and URLs, and what must stay readable.

use proptest::prelude::*;

use super::*;

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
const WORD: &str = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5";

fn shown(name: &str, value: &str) -> String {
    header(name.as_bytes(), value).into_owned()
}

#[test]
fn a_credential_in_a_list_is_hidden() {
    for (name, value, after) in [
        ("sec-websocket-protocol", format!("graphql-ws, {JWT}"), "graphql-ws, [redacted]"),
        ("Sec-WebSocket-Protocol", format!("graphql-ws, {WORD}"), "graphql-ws, [redacted]"),
        (
            "sec-websocket-protocol",
            "base64url.bearer.authorization.k8s.io.YWJj, v4.channel.k8s.io".into(),
            "[redacted], v4.channel.k8s.io",
        ),
        ("sec-websocket-protocol", "mqtt, access_token, hunter2".into(), "mqtt, [redacted]"),
        ("sec-websocket-protocol", "mqtt, Bearer, hunter2".into(), "mqtt, [redacted]"),
        ("sec-websocket-protocol", "graphql-transport-ws, v5.channel.k8s.io".into(), ""),
        ("x-list", format!("a,{JWT}&b"), "a,[redacted]&b"),
        ("x-json", format!("{{\"a\":\"{WORD}\"}}"), REDACTED),
        ("x-list", format!("v1.{JWT}"), REDACTED),
        ("x-list", format!("a.{WORD}.b c"), "[redacted] c"),
        ("x-list", format!("\"{WORD}==\""), REDACTED),
        ("x-list", format!("{WORD}=="), REDACTED),
        ("x-list", "one, bearer two".into(), "one, [redacted]"),
        ("x-list", "0190c5a4-7d1e-7a00-8000-0123456789ab, b".into(), ""),
        ("location", format!("/verify/{JWT}/x"), "/verify/[redacted]/x"),
        ("etag", JWT.into(), REDACTED),
    ] {
        assert_eq!(shown(name, &value), if after.is_empty() { &value } else { after }, "{name}: {value}");
    }
}

#[test]
fn a_parameter_in_a_header_is_hidden() {
    for (value, after) in [
        ("password=hunter2", "password=[redacted]"),
        ("user=bob&password=hunter2&x=1", "user=bob&password=[redacted]&x=1"),
        ("user=bob password=hunter2", "user=bob password=[redacted]"),
        ("user=bob, password= \"hunter 2, 3\"; x=1", "user=bob, password=[redacted]; x=1"),
        ("a=1;next=%2Fcb%3Fcode%3D1", "a=1;next=[redacted]"),
        ("max-age=1, stale-while-revalidate=86400", "max-age=1, stale-while-revalidate=86400"),
        ("password=", "password="),
        ("", ""),
    ] {
        assert_eq!(shown("x-args", value), after);
    }
}

#[test]
fn identifiers_stay_readable() {
    for (name, value) in [
        ("X-Request-Id", WORD),
        ("x-correlation-id", WORD),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE00f067aa0ba902b7"),
        ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"),
        ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("etag", "W/\"80f198ee56343ba864fe8b2a57d3eff7\""),
        ("if-none-match", "\"80f198ee56343ba864fe8b2a57d3eff7\", \"b\""),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZTEyMw=="),
        ("host", "web-7d9f8b6c5d-x2k4q-and-more.shop.svc.cluster.local:8080"),
        ("location", "/orders/2024/80f198ee56343ba864fe8b2a57d3eff7"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0"),
        ("x-original-uri", "/orders/2024-01-02/items/of-customer-7"),
        ("x-forwarded-for", "2001:db8::1, 10.0.0.1"),
        ("date", "Mon, 23 Nov 2026 06:51:24 GMT"),
        ("forwarded", "for=\"[2001:db8::1]\";proto=http;host=web-1.shop.svc.cluster.local"),
    ] {
        assert_eq!(shown(name, value), value, "{name}");
    }
    assert_eq!(shown("location", &format!("/a?x={WORD}")), "/a?x=[redacted]");
}

#[test]
fn a_url_in_a_query_is_hidden_if_it_holds_a_secret() {
    for (before, after) in [
        ("/login?next=https%3A%2F%2Fapp%2Fcb%3Fcode%3DSECRET%26access_token%3Dabc&a=1", "/login?next=[redacted]&a=1"),
        ("/login?next=https%3A%2F%2Fu%3Ap%40app%2Fcb", "/login?next=[redacted]"),
        ("/login?next=%2Fcb%23access_token%3Dabc", "/login?next=[redacted]"),
        ("/go/https%3A%2F%2Fapp%2F%3Ftoken%3Dabc/x", "/go/[redacted]/x"),
        ("/login?next=%2Fcb%3Fpage%3D2%26sort%3Da", "/login?next=%2Fcb%3Fpage%3D2%26sort%3Da"),
        ("/login?mail=a%40b", "/login?mail=a%40b"),
    ] {
        assert_eq!(url(before), after);
    }
    assert_eq!(url(&format!("/a?{WORD}==")), "/a?[redacted]");
}

proptest! {
    #[test]
    fn a_named_secret_never_shows_in_a_header(text in ".{0,200}", secret in "[a-z]{8,20}Q7") {
        for separator in [";", "&", "?", ", ", " "] {
            let value = format!("{text}{separator}token={secret}, {secret}");
            prop_assert!(!shown("x-args", &value).contains(&secret), "{value}");
        }
    }
}
