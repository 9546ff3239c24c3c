//! What callers say about themselves is not believed, however they spell it.

use outrigger_tests::{
    Origin, Proxy, Wire, config,
    h2peer::{self, H2Origin},
};

/// Fields that only a proxy may set, in the spellings that apps take for them.
const CLAIMS: &[&str] = &[
    "x-forwarded-client-cert",
    "X-Forwarded-Client-Cert",
    "X-FORWARDED-CLIENT-CERT",
    "x_forwarded_client_cert",
    "X_Forwarded_Client_Cert",
    "x-forwarded_client-cert",
    "X-Forwarded-Client_Cert",
    "x_outrigger_attempt",
    "X_Outrigger_Anything",
    "x-outrigger-degraded_x",
    "x_outrigger_timeout_ms",
    "transfer_encoding",
    "Content_Length",
    "x_request_id",
];

const FORGED: &str = "URI=spiffe://cluster.local/ns/shop/sa/web";

#[test]
fn no_spelling_of_a_claim_arrives_over_http_1() {
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    for claim in CLAIMS {
        if claim.starts_with("x-outrigger") {
            continue;
        }
        let request = format!(
            "POST / HTTP/1.1\r\nHost: app\r\n{claim}: {FORGED}\r\n{claim}: {FORGED}\r\nConnection: {claim}\r\n\
             Transfer-Encoding: chunked\r\nTrailer: {claim}\r\n\r\n2\r\nhi\r\n0\r\n{claim}: {FORGED}\r\nx-sum: 1\r\n\r\n"
        );
        let reply = Wire::connect(proxy.inbound()).exchange(&request);
        assert_eq!(reply.status, 200, "{claim}: {}", reply.text());
        let got = origin.last();
        assert!(got.headers.iter().chain(&got.trailers).all(|(_, value)| value != FORGED), "{claim}: {got:?}");
        assert!(got.trailers.iter().any(|(name, _)| name == "x-sum"), "{got:?}");
    }
    // A field of the app's own is none of ours, nor is one of the same start.
    let reply = Wire::connect(proxy.inbound())
        .exchange("GET / HTTP/1.1\r\nHost: app\r\napi_key: k\r\nx_forwarded_clients: 1\r\n\r\n");
    assert_eq!(reply.status, 200);
    let got = origin.last();
    assert_eq!((got.header("api_key"), got.header("x_forwarded_clients")), (Some("k"), Some("1")));
}

#[test]
fn no_spelling_of_a_claim_arrives_over_http_2() {
    let origin = H2Origin::start();
    let proxy = Proxy::start(&config::sidecar_protocol(origin.address(), "http2"));
    for claim in
        ["x-forwarded-client-cert", "x_forwarded_client_cert", "x-forwarded_client-cert", "x_outrigger_attempt"]
    {
        let reply = h2peer::run(async {
            let sender = h2peer::connect(proxy.inbound()).await;
            let request = h2peer::request("POST", "/echo", &[(claim, FORGED), (claim, FORGED), ("x-app", "1")]);
            h2peer::call(&sender, request, b"hi", &[(claim, FORGED), ("x-sum", "1")]).await.expect("an answer")
        });
        assert_eq!(reply.status, 200, "{claim}");
        let got = origin.last();
        assert_eq!((got.header(claim), got.header("x-app")), (None, Some("1")), "{claim}");
    }
}

#[test]
fn the_mesh_s_own_fields_come_from_trusted_peers_alone() {
    let origin = Origin::hello();
    let ca = outrigger_tests::pki::Ca::new("mesh");
    let own = ca.identity("spiffe://cluster.local/ns/shop/sa/app");
    let yaml = config::proxy_with(&own.yaml(), &[&config::inbound("mtls: permissive")]);
    let proxy = Proxy::start(&(yaml + &config::upstream("app", origin.address())));
    let request = "GET / HTTP/1.1\r\nHost: app\r\nx-outrigger-timeout-ms: 1\r\nx-outrigger-anything: 1\r\nx-outrigger-attempt: 9\r\n\r\n";
    assert_eq!(Wire::connect(proxy.inbound()).exchange(request).status, 200);
    let names: Vec<_> = origin.last().headers.into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().all(|name| !name.to_ascii_lowercase().starts_with("x-outrigger")), "{names:?}");
}
