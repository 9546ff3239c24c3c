//! What is printed parses back to itself; no input panics.

use outrigger_config::{Source, documents::*, parse, validate};
use proptest::{collection::vec, option, prelude::*, sample::select};

fn source(text: &str) -> Source {
    Source { name: "f".into(), text: text.to_owned() }
}

fn name() -> impl Strategy<Value = Spanned<String>> {
    "[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?".prop_map(Spanned::new)
}

/// Strings that YAML may take for something else, and any others without control characters and line separators, which
/// serde_yaml writes as the breaks that they were in YAML 1.1.
fn text() -> impl Strategy<Value = Spanned<String>> {
    let tricky = select(vec![
        "",
        "~",
        "null",
        "true",
        "no",
        "on",
        "1",
        "1.5",
        "0x1f",
        "0o7",
        "1e3",
        "1e310",
        ".inf",
        ".nan",
        "-",
        "- a",
        "a: b",
        "#c",
        " a ",
        "&a",
        "*a",
        "!t",
        "|",
        ">",
        "'",
        "\"",
        "{",
        "[",
        "0123",
        "1_000",
        "+1",
        "<<",
        "=",
        "2001-01-01",
        "y",
        "é",
        "\u{1f600}",
    ]);
    prop_oneof![tricky.prop_map(str::to_owned), "[ -~]{0,20}", "[^\\p{C}\\p{Zl}\\p{Zp}]{0,12}"].prop_map(Spanned::new)
}

fn duration() -> impl Strategy<Value = Duration> {
    (0u64..=99_999 * 3_600_000).prop_map(|ms| Duration(std::time::Duration::from_millis(ms)))
}

fn metadata() -> impl Strategy<Value = Metadata> {
    (name(), option::of(name()), option::of(proptest::collection::btree_map("[a-z]{1,5}", text(), 0..3))).prop_map(
        |(name, namespace, labels)| Metadata {
            namespace,
            labels: labels.map(|l| l.into_iter().map(|(k, v)| (k, v.inner)).collect()),
            ..Metadata::named(&name)
        },
    )
}

fn document<S>(kind: Kind, metadata: Metadata, spec: S) -> Box<Resource<S>> {
    Box::new(Resource {
        api_version: kind.api_version().into(),
        kind: kind.as_str().into(),
        metadata,
        spec: Spanned::new(spec),
        status: None,
    })
}

fn backend() -> impl Strategy<Value = Spanned<BackendRef>> {
    (option::of(text()), name(), option::of(1u16..), option::of(0u32..1_000_000)).prop_map(
        |(kind, name, port, weight)| {
            Spanned::new(BackendRef {
                group: None,
                kind,
                name,
                namespace: None,
                port: port.map(Spanned::new),
                weight: weight.map(Spanned::new),
                filters: Vec::new(),
            })
        },
    )
}

fn value_match() -> impl Strategy<Value = Spanned<ValueMatchSpec>> {
    ("[A-Za-z-]{1,10}", text(), option::of(select(vec![ValueMatchWord::Exact, ValueMatchWord::RegularExpression])))
        .prop_map(|(name, value, word)| {
            Spanned::new(ValueMatchSpec { r#type: word.map(Spanned::new), name: name.into(), value })
        })
}

fn route() -> impl Strategy<Value = Document> {
    let path = (option::of(Just(Spanned::new(PathMatchWord::Exact))), option::of(text()))
        .prop_map(|(word, value)| Spanned::new(HttpPathMatch { r#type: word, value }));
    let one =
        (option::of(path), vec(value_match(), 0..3), vec(value_match(), 0..2)).prop_map(|(path, headers, query)| {
            Spanned::new(HttpRouteMatch {
                path,
                headers,
                query_params: query,
                method: Some(Spanned::new(MethodWord::Get)),
            })
        });
    let header = ("[A-Za-z-]{1,10}", text()).prop_map(|(n, value)| Spanned::new(HttpHeader { name: n.into(), value }));
    let filter = vec(header, 0..3).prop_map(|set| {
        Spanned::new(RouteFilter {
            r#type: Spanned::new(FilterTypeWord::RequestHeaderModifier),
            request_header_modifier: Some(Spanned::new(HeaderModifier { set, add: Vec::new(), remove: Vec::new() })),
            response_header_modifier: None,
            request_redirect: None,
            url_rewrite: None,
            request_mirror: None,
            extension_ref: None,
            cors: None,
            external_auth: None,
        })
    });
    let rule = (option::of(name()), vec(one, 0..3), vec(filter, 0..2), vec(backend(), 0..3), option::of(duration()))
        .prop_map(|(name, matches, filters, backend_refs, time)| {
            Spanned::new(HttpRouteRule {
                name,
                matches,
                filters,
                backend_refs,
                timeouts: time.map(|t| Spanned::new(RouteTimeouts { request: Some(t.into()), backend_request: None })),
                retry: None,
                session_persistence: None,
            })
        });
    (metadata(), vec(rule, 1..3)).prop_map(|(metadata, rules)| {
        let spec = HttpRouteSpec { parent_refs: Vec::new(), hostnames: Vec::new(), rules, use_default_gateways: None };
        Document::HTTPRoute(document(Kind::HTTPRoute, metadata, spec))
    })
}

fn policy() -> impl Strategy<Value = Document> {
    let times = vec(option::of(duration().prop_map(Spanned::new)), 6).prop_map(|mut t| {
        let mut next = || t.pop().flatten();
        Spanned::new(TimeoutsSpec {
            request: next(),
            backend_request: next(),
            connect: next(),
            idle: next(),
            upstream_idle: next(),
            max_connection_age: next(),
        })
    });
    let fallback = (vec(select(TOKENS), 1..4), option::of(text()), 200u16..600).prop_map(|(on, body, status)| {
        Spanned::new(FallbackSpec {
            on: on.into_iter().map(|t| Spanned::new(ErrorToken(t.to_owned()))).collect(),
            stale_if_error: None,
            response: Some(Spanned::new(StaticResponseSpec {
                status: Some(status),
                headers: Vec::new(),
                body: body.map(|b| b.inner),
            })),
            backend_ref: None,
        })
    });
    let delay = (0.0..=100.0f64, duration()).prop_map(|(percent, duration)| {
        Spanned::new(FaultSpec { delay: Some(FaultDelaySpec { percent, duration }), abort: None, when: None })
    });
    let target = (text(), text()).prop_map(|(kind, name)| {
        Spanned::new(TargetRef { group: None, kind, name, namespace: None, section_name: None })
    });
    (metadata(), vec(target, 1..3), option::of(times), option::of(fallback), option::of(delay), any::<Option<u32>>())
        .prop_map(|(metadata, target_refs, timeouts, fallback, fault, max_pending)| {
            let spec = TrafficPolicySpec {
                target_refs,
                mode: Some(ModeWord::Observe),
                timeouts,
                retry: None,
                circuit_breaker: None,
                limits: Some(LimitsSpec {
                    max_connections: None,
                    max_requests: None,
                    max_pending,
                    max_requests_per_connection: None,
                }),
                rate_limit: None,
                adaptive_concurrency: None,
                load_balancing: None,
                fallback,
                fault,
            };
            Document::TrafficPolicy(document(Kind::TrafficPolicy, metadata, spec))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_printed_parses_back_to_itself(documents in vec(prop_oneof![route(), policy()], 1..4)) {
        let printed: String = documents.iter().map(|d| format!("---\n{}", d.to_yaml())).collect();
        let again = parse(&source(&printed));
        prop_assert_eq!(again.as_ref(), Ok(&documents), "{}", printed);
    }

    #[test]
    fn durations_print_canonically(d in duration()) {
        let text = d.to_string();
        prop_assert_eq!(text.parse(), Ok(d));
        prop_assert_eq!(text.parse::<Duration>().map(|d| d.to_string()), Ok(text));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        drop(validate(&[source(&text)]));
    }

    #[test]
    fn no_yaml_like_text_panics(text in "([-a-z:{}\\[\\]&*!|>'\"%@`#,? \n\t0-9~]{0,12}(\n|: |- )){0,30}") {
        drop(validate(&[source(&text)]));
    }

    /// The contract's example with something put in, cut out or doubled anywhere.
    #[test]
    fn no_mutation_of_the_example_panics(cuts in vec((0usize..8000, 0usize..40, "[-a-z0-9:{}\\[\\]&*!|\n \"']{0,6}"), 1..5)) {
        let mut text = include_str!("contract.yaml").to_owned();
        for (start, length, put) in cuts {
            let floor = |mut at: usize| { while !text.is_char_boundary(at) { at -= 1; } at };
            let (start, end) = (start.min(text.len()), (start + length).min(text.len()));
            let range = floor(start)..floor(end);
            text.replace_range(range, &put);
        }
        for fault in validate(&[source(&text)]) {
            prop_assert!(fault.origin.line >= 1 && fault.origin.column >= 1 && !fault.message.contains(":0:0"));
            prop_assert!(fault.message.len() < 2000 && !fault.message.contains('\n'), "{}", fault);
        }
    }
}

/// The printer writes it without quotes, for it is no number to it either.
#[test]
fn a_name_beyond_the_numbers_is_a_name() {
    let route = Document::GRPCRoute(document(
        Kind::GRPCRoute,
        Metadata { namespace: Some(Spanned::new("1e310".to_owned())), ..Metadata::named("1e999") },
        GrpcRouteSpec {
            parent_refs: Vec::new(),
            hostnames: Vec::new(),
            rules: vec![Spanned::new(GrpcRouteRule {
                name: None,
                matches: Vec::new(),
                filters: Vec::new(),
                backend_refs: Vec::new(),
                session_persistence: None,
            })],
            use_default_gateways: None,
        },
    ));
    assert_eq!(parse(&source(&route.to_yaml())), Ok(vec![route]));
}

#[test]
fn a_list_holds_documents() {
    let items = "items:\n- apiVersion: outrigger.dev/v1alpha1\n  kind: Upstream\n  metadata: { name: a }\n  spec: { dns: { srv: a } }\n";
    let list = format!("apiVersion: v1\nkind: List\n{items}");
    let documents = parse(&source(&format!("{list}---\n{list}"))).expect("no fault of form");
    let names: Vec<&str> = documents.iter().map(|d| d.metadata().name.as_str()).collect();
    assert_eq!(names, ["a", "a"]);
}

#[test]
fn the_example_prints_and_parses_back() {
    let documents = parse(&source(include_str!("contract.yaml"))).expect("no fault");
    let printed: String = documents.iter().map(|d| format!("---\n{}", d.to_yaml())).collect();
    assert_eq!(parse(&source(&printed)).expect("no fault"), documents);
}

/// A short text that multiplies into a large model, or into many comparisons, is refused too.
#[test]
fn products_are_bounded() {
    let head = |kind: &str, name: usize| {
        let group = if kind == "HTTPRoute" { "gateway.networking.k8s.io/v1" } else { "outrigger.dev/v1alpha1" };
        format!("---\napiVersion: {group}\nkind: {kind}\nmetadata: {{ name: n{name} }}\n")
    };
    let upstream = |n| format!("{}spec: {{ endpoints: [{{ address: 127.0.0.1:1 }}] }}\n", head("Upstream", n));
    let hosts: Vec<String> = (0..64).map(|n| format!("h{n}.example")).collect();
    let rules = format!("{{ matches: [{}] }}", vec!["{}"; 256].join(", "));
    let route = format!(
        "{}spec: {{ parentRefs: [{{ kind: Upstream, name: n0 }}], hostnames: [{}], rules: [{}] }}\n",
        head("HTTPRoute", 0),
        hosts.join(", "),
        vec![rules; 100].join(", "),
    );
    let unknown: Vec<String> = (0..1000).map(|n| format!("{{ kind: Upstream, name: unknown-{n} }}")).collect();
    let policies: String = (0..20)
        .map(|n| format!("{}spec: {{ targetRefs: [{}] }}\n", head("TrafficPolicy", n), unknown.join(", ")))
        .collect();
    let upstreams: String = (0..500).map(upstream).collect();
    let matches = vec!["{ headers: [{ name: x, type: RegularExpression, value: a }] }"; 250].join(", ");
    let regexes = format!(
        "{}spec: {{ parentRefs: [{{ name: s }}], rules: [{}] }}\n",
        head("HTTPRoute", 1),
        vec![format!("{{ matches: [{matches}] }}"); 5].join(", ")
    );
    for (text, message) in [
        (format!("{}{route}", upstream(0)), "multiply to more than"),
        (format!("{upstreams}{policies}"), "there is no Upstream"),
        (regexes, "one of more than 1000"),
    ] {
        let faults = validate(&[source(&text)]);
        assert!(faults.iter().any(|f| f.message.contains(message)), "{message}: {:?}", faults.first());
        assert!(faults.len() <= 1000);
    }
}

/// What would cost a reader its memory or its stack is refused, and quickly.
#[test]
fn bombs_are_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let before = n - 1;
        let refs = vec![format!("*a{before}"); 9].join(", ");
        laughs.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
    }
    let nested = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let indented: String = (0..2_000).map(|n| format!("{}- \n", " ".repeat(n))).collect();
    let keys: String = (0..200_000).map(|n| format!("k{n}: 1\n")).collect();
    let large = "a".repeat(9 << 20);
    let many = "- 1\n".repeat(600_000);
    let documents = "---\na\n".repeat(600_000);
    let text = "x".repeat(100_000);
    let copies = format!("a: &a {text}\nb: [{}]", vec!["*a"; 10_000].join(", "));
    for bomb in [laughs, nested, indented, keys, large, many, documents, copies] {
        let faults = validate(&[source(&bomb)]);
        assert!(!faults.is_empty(), "{}", &bomb[..40]);
        assert!(faults.len() <= 1000, "{} faults of {}", faults.len(), &bomb[..40]);
    }
}
