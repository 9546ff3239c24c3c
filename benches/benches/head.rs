//! What one HTTP/1 head costs: reading it, editing it, writing it. These are most of what the proxy itself, and
//! not the kernel, does for a request.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use outrigger_config::model::HeaderEdits;
use outrigger_proxy::{
    correlate::{Correlator, RequestId},
    edit,
    http::{
        RequestHead, ResponseHead,
        h1::{self, Framing, Limits, Persist},
    },
};

/// What a service's client sends: ten fields, 450 bytes.
const REQUEST: &[u8] = b"GET /api/v1/service-10/orders/4711?expand=lines HTTP/1.1\r\n\
    Host: orders.shop.svc.cluster.local:8080\r\n\
    User-Agent: shop-web/3.14 (linux; amd64)\r\n\
    Accept: application/json\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Authorization: Bearer 3f1d7c55a0b94e0c8f4e7a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f\r\n\
    Cache-Control: no-cache\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
    X-Request-Id: 0190163d-8694-7000-8000-b94e0c8f4e7a\r\n\
    Connection: keep-alive\r\n\r\n";

/// What a service answers.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: orders\r\n\
    Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    Content-Type: application/json\r\n\
    Cache-Control: no-store\r\n\
    ETag: \"8f2b9c\"\r\n\
    Content-Length: 1024\r\n\r\n";

fn parse(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    let mut head = RequestHead::default();
    group.bench_function("request", |b| {
        b.iter(|| {
            head.clear();
            h1::parse_request(black_box(REQUEST), &limits, &mut head)
        });
    });
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    let mut head = ResponseHead::default();
    group.bench_function("response", |b| {
        b.iter(|| {
            head.clear();
            h1::parse_response(black_box(RESPONSE), &limits, &http::Method::GET, &mut head)
        });
    });
}

fn edits(c: &mut Criterion) {
    let limits = Limits::default();
    let pair = |name: &str, value: &str| (Arc::from(name), Arc::from(value));
    let edits = HeaderEdits {
        set: vec![pair("x-tier", "gold")],
        add: vec![pair("via", "1.1 outrigger")],
        remove: vec!["cache-control".into()],
    };
    let correlator = Correlator::new(&["x-request-id".into(), "x-correlation-id".into()]);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut read = RequestHead::default();
    h1::parse_request(REQUEST, &limits, &mut read).expect("the request is valid").expect("the request is whole");

    let mut group = c.benchmark_group("edit");
    // All of them work on a copy, so the price of the copy is to be known.
    group.bench_function("copy alone", |b| b.iter(|| read.clone()));
    group.bench_function("set, add, remove", |b| {
        b.iter(|| {
            let mut head = read.clone();
            edit::apply_to_request(&edits, &mut head);
            head
        });
    });
    group.bench_function("correlate, kept", |b| {
        b.iter(|| {
            let mut head = read.clone();
            let mut id = RequestId::EMPTY;
            correlator.apply(&mut head.headers, true, 1_767_225_600_000, &mut rng, &mut id);
            id
        });
    });
    group.bench_function("correlate, generated", |b| {
        b.iter(|| {
            let mut head = read.clone();
            let mut id = RequestId::EMPTY;
            correlator.apply(&mut head.headers, false, 1_767_225_600_000, &mut rng, &mut id);
            id
        });
    });
}

fn hop(c: &mut Criterion) {
    let limits = Limits::default();
    let (mut head, mut out) = (RequestHead::default(), Vec::with_capacity(4096));
    c.bench_function("parse, strip and write a request", |b| {
        b.iter(|| {
            head.clear();
            out.clear();
            let read = h1::parse_request(black_box(REQUEST), &limits, &mut head);
            h1::strip_hop_by_hop(&mut head.headers, true);
            h1::encode_request(&head, Framing::None, Persist::KeepAlive, &mut out);
            (read, out.len())
        });
    });
}

criterion_group!(benches, parse, edits, hop);
criterion_main!(benches);
