//! Events of a tap as lines for people.

use serde_json::Value;

use super::super::table::printable;

/// The line (with the lines of its headers) of an event; `None`: it is none for people. `from`: the proxy, where there are several.
pub(super) fn line(event: &Value, from: Option<&str>, headers: bool) -> Option<String> {
    let text = |key: &str| printable(event[key].as_str().unwrap_or_default());
    let number = |key: &str| event[key].as_u64().unwrap_or(0);
    let what = match event["event"].as_str()? {
        "request" => request(event),
        "retry" => {
            let why = event["reason"].as_str().map_or_else(|| "its answer asks for another".to_owned(), printable);
            format!("~ attempt {} to {} came to nothing: {why}; again", number("attempt"), text("endpoint"))
        }
        "response" => response(event),
        "end" => end(event),
        _ => return None,
    };
    let time = text("time");
    let time = time.split_once('T').map_or(&*time, |(_, time)| time.trim_end_matches('Z')).to_owned();
    let from = from.map_or_else(String::new, |from| format!("{from} "));
    let mut out = format!("{time} {from}#{} {what}\n", number("id"));
    if headers && let Some(fields) = event["headers"].as_array() {
        for field in fields {
            let part = |i: usize| printable(field[i].as_str().unwrap_or_default());
            out.push_str(&format!("    {}: {}\n", part(0), part(1)));
        }
    }
    Some(out)
}

fn request(event: &Value) -> String {
    let text = |key: &str| printable(event[key].as_str().unwrap_or_default());
    let peer = match text("peer") {
        peer if peer.is_empty() => text("peer_address"),
        peer => peer,
    };
    let to = match (text("upstream"), text("route")) {
        (upstream, _) if upstream.is_empty() => "no upstream".to_owned(),
        (upstream, route) if route.is_empty() => upstream,
        (upstream, route) => format!("{upstream} (route {route})"),
    };
    let url = format!("{}://{}{}", text("scheme"), text("authority"), text("path"));
    format!("> {} {url} {} {}, from {peer} to {to}", text("method"), text("protocol"), text("direction"))
}

fn response(event: &Value) -> String {
    let text = |key: &str| printable(event[key].as_str().unwrap_or_default());
    let after = milliseconds(&event["elapsed_ms"]);
    if event["attempt"] == 0 {
        return format!("< {} by the proxy itself after {after}", event["status"]);
    }
    let server = text("server");
    let server = if server.is_empty() { server } else { format!(" ({server})") };
    format!("< {} after {after} from {}{server}", event["status"], text("endpoint"))
}

fn end(event: &Value) -> String {
    let text = |key: &str| printable(event[key].as_str().unwrap_or_default());
    let number = |key: &str| event[key].as_u64().unwrap_or(0);
    let mut words = vec![
        format!(". {} in {}", event["status"], milliseconds(&event["duration_ms"])),
        format!("{} bytes up, {} down", number("request_bytes"), number("response_bytes")),
    ];
    if let Some(status) = event["grpc_status"].as_u64() {
        words.push(format!("grpc-status {status}"));
    }
    match number("retries") {
        0 => {}
        1 => words.push("1 retry".to_owned()),
        n => words.push(format!("{n} retries")),
    }
    if !text("reason").is_empty() {
        words.push(format!("{}: {}", text("reason"), text("details")));
    }
    words.join(", ")
}

fn milliseconds(value: &Value) -> String {
    format!("{:.1} ms", value.as_f64().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_lines() {
        let event = json!({
            "event": "request", "id": 7, "time": "2026-01-02T03:04:05.678Z", "direction": "inbound", "upstream": "orders",
            "route": "main", "method": "GET", "scheme": "http", "authority": "orders", "path": "/a\u{1b}[2J", "protocol": "HTTP/2",
            "peer_address": "10.0.0.1:5", "peer": "spiffe://a/b", "headers": [["cookie", "[redacted]"]],
        });
        assert_eq!(
            line(&event, Some("shop/web-1"), true).unwrap(),
            "03:04:05.678 shop/web-1 #7 > GET http://orders/a\\u{1b}[2J HTTP/2 inbound, from spiffe://a/b to orders (route main)\n    cookie: [redacted]\n"
        );
        let event = json!({
            "event": "end", "id": 7, "time": "x", "status": 503, "duration_ms": 12.34, "request_bytes": 1, "response_bytes": 2,
            "retries": 1, "reason": "circuit_open", "details": "why",
        });
        assert_eq!(
            line(&event, None, false).unwrap(),
            "x #7 . 503 in 12.3 ms, 1 bytes up, 2 down, 1 retry, circuit_open: why\n"
        );
        let event = json!({ "event": "response", "id": 7, "time": "x", "status": 200, "attempt": 1, "endpoint": "10.0.0.7:1", "elapsed_ms": 1.0 });
        assert_eq!(line(&event, None, true).unwrap(), "x #7 < 200 after 1.0 ms from 10.0.0.7:1\n");
        assert_eq!(line(&json!({ "event": "status" }), None, true), None);
    }
}
