//! What it costs to find a rule: the scan is linear in the number of matches, so its slope is what matters.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use outrigger_config::model::{PathMatch, RouteMatch, RouteTable, StringMatch, ValueMatch};
use outrigger_proxy::http::{RequestHead, h1};

/// The last rule matches: nothing is found earlier.
fn table(rules: u32, headers: &[(&str, &str)]) -> RouteTable {
    let values = headers
        .iter()
        .map(|(name, value)| ValueMatch { name: (*name).into(), value: StringMatch::Exact((*value).into()) })
        .collect::<Vec<_>>();
    let matches = (0..rules)
        .map(|rule| RouteMatch {
            hostnames: Vec::new(),
            path: PathMatch::Prefix(format!("/api/v1/service-{rule}").into()),
            method: None,
            headers: values.clone(),
            query: Vec::new(),
            grpc: false,
            rule,
        })
        .collect();
    RouteTable { matches, rules: Vec::new() }
}

fn request(rules: u32) -> RequestHead {
    let text = format!("GET /api/v1/service-{}/orders HTTP/1.1\r\nHost: shop\r\nx-beta: 1\r\n\r\n", rules - 1);
    let mut head = RequestHead::default();
    h1::parse_request(text.as_bytes(), &h1::Limits::default(), &mut head)
        .expect("the request is valid")
        .expect("the request is whole");
    head
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find the last rule of");
    for rules in [1, 20, 200] {
        let request = request(rules);
        for (what, headers) in [("by path", &[][..]), ("by path and header", &[("x-beta", "1")][..])] {
            let table = table(rules, headers);
            assert_eq!(table.find(&request).map(|m| m.rule), Some(rules - 1));
            group.bench_function(BenchmarkId::new(what, rules), |b| b.iter(|| table.find(black_box(&request))));
        }
    }
}

criterion_group!(benches, find);
criterion_main!(benches);
