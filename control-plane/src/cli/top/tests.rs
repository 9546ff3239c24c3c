use serde_json::json;

use super::*;

fn stats(uptime: f64, requests: u64, failures: u64, buckets: [u64; 3], sent: u64) -> Stats {
    serde_json::from_value(json!({
        "uptime_seconds": uptime, "bucket_bounds": [0.01, 0.1], "name": "unknown fields are left alone",
        "routes": [{
            "direction": "outbound", "upstream": "payments", "route": "main", "requests": requests, "failures": failures,
            "buckets": buckets,
        }],
        "upstreams": [{ "name": "payments", "breaker": { "state": null, "ejected": 1 }, "endpoints": [{}, {}] }],
        "retries": { "payments": { "sent": sent, "budget": 7 } },
    }))
    .unwrap()
}

#[test]
fn rows_are_differences() {
    let rows = figures::rows("p", Some(&stats(10.0, 100, 0, [100, 0, 0], 2)), &stats(12.0, 120, 5, [100, 20, 0], 8));
    let row = &rows[0];
    assert_eq!((row.rate, row.success, row.retries, row.requests), (10.0, Some(0.75), 3.0, 120));
    assert_eq!(row.circuit, "1/2 ejected");
    assert!(row.p50_seconds.is_some_and(|p| p > 0.01 && p < 0.1), "{row:?}");
    // After a restart, counts begin anew.
    let rows = figures::rows("p", Some(&stats(1000.0, 100, 0, [100, 0, 0], 0)), &stats(10.0, 20, 0, [20, 0, 0], 0));
    assert_eq!((rows[0].rate, rows[0].success), (2.0, Some(1.0)));
    let rows = figures::rows("p", Some(&stats(1.0, 20, 0, [20, 0, 0], 0)), &stats(2.0, 20, 0, [20, 0, 0], 0));
    assert_eq!((rows[0].rate, rows[0].success, rows[0].p99_seconds), (0.0, None, None));
}

#[test]
fn who_does_not_answer_is_named() {
    let answers = [
        ("shop/a".to_owned(), Ok(stats(2.0, 2, 0, [2, 0, 0], 0))),
        ("shop/b".to_owned(), Err("503 \u{1b}x".to_owned())),
    ];
    let look = Look {
        interval_seconds: 2.0,
        proxies: 2,
        rows: figures::rows("shop/a", None, answers[0].1.as_ref().unwrap()),
        more: 3,
        errors: vec![Silent { proxy: "shop/b".into(), error: "503 \u{1b}x".into() }],
    };
    let text = written(&look, true, false);
    assert!(text.contains("shop/a  outbound") && text.contains("shop/b does not answer: 503 \\u{1b}x"), "{text}");
    assert!(text.contains("3 more rows") && !text.contains('\x1b'), "{text}");
    assert!(written(&look, false, true).starts_with("\x1b[H"));
    assert!(!written(&look, false, false).contains("shop/a"));
}
