//! Servers that are no proxies, sessions that outlive a certificate, and the h2 crate on top.

use std::sync::Arc;

use rcgen::{SanType, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use tokio::task::yield_now;

use super::{Io, pair, run, spawn};
use crate::{
    error::{Failure, Reason},
    tls::{
        Alpn, ClientContext, crypto_provider,
        tests::{Ca, Files, identity, mesh_client, server, simple_client, uri},
    },
};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const API: &str = "spiffe://cluster.local/ns/shop/sa/api";

/// A server as the web has them: a DNS name, nothing asked of clients.
fn site(ca: &Ca, name: &str, version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let leaf = ca.issue(|params| params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())]);
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(crypto_provider()).with_protocol_versions(&[version]).unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![leaf.der], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn browser(ca: &Ca, name: &str) -> ClientContext {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    simple_client(roots, name)
}

type Both = (Result<Io, Failure>, Result<Io, Failure>);

async fn shake(client: &ClientContext, server: &Arc<ServerConfig>) -> Both {
    shake_for(client, server, Some(Alpn::H2)).await
}

async fn shake_for(client: &ClientContext, server: &Arc<ServerConfig>, speaks: Option<Alpn>) -> Both {
    let (near, far) = pair().await;
    tokio::join!(Io::connect_tls(near, client, speaks), Io::accept_tls(far, Vec::new(), Arc::clone(server)))
}

#[test]
fn simple_upstreams_are_known_by_name_and_may_speak_tls_1_2() {
    run(async {
        let ca = Ca::new("root");
        for (version, words) in [(&TLS13, "TLSv1.3"), (&TLS12, "TLSv1.2")] {
            let config = site(&ca, "api.example.com", version);
            let client = browser(&ca, "api.example.com");
            let (near, far) = shake_for(&client, &config, Some(Alpn::Http1)).await;
            let (near, far) = (near.unwrap(), far.unwrap());
            let (client, server) = (near.tls().unwrap(), far.tls().unwrap());
            assert_eq!((client.version, client.alpn, &client.peer_identity), (words, Some(Alpn::Http1), &None));
            assert_eq!(server.sni.as_deref(), Some("api.example.com"));
        }
    });
}

#[test]
fn simple_upstreams_of_another_name_or_root_are_refused() {
    run(async {
        let ca = Ca::new("root");
        let client = browser(&ca, "api.example.com");
        let refusal = shake(&client, &site(&ca, "example.com", &TLS13)).await.0.err().unwrap();
        assert_eq!(refusal.reason, Reason::TlsCertificateError);
        assert!(refusal.details.contains("api.example.com") && refusal.details.contains("example.com"), "{refusal}");
        let stranger = site(&Ca::new("stranger"), "api.example.com", &TLS13);
        let refusal = shake(&client, &stranger).await.0.err().unwrap();
        assert!(refusal.details.contains("no root in the trust bundle has signed it"), "{refusal}");
    });
}

#[test]
fn between_proxies_nothing_below_tls_1_3_and_nobody_without_a_certificate() {
    run(async {
        let ca = Ca::new("root");
        let (web, api) = (identity(&ca.issue_to(WEB), &ca.pem), identity(&ca.issue_to(API), &ca.pem));
        let refusal = shake(&mesh_client(&web, API), &site(&ca, "api", &TLS12)).await.0.err().unwrap();
        assert!(matches!(refusal.reason, Reason::TlsAlertReceived | Reason::TlsProtocolError), "{refusal}");
        // A client that shows none, whatever it believes of the server.
        let (_, far) = shake(&browser(&ca, "api.example.com"), &server(&api)).await;
        assert!(matches!(far.err().unwrap().reason, Reason::TlsAlertReceived));
        let config = rustls::ClientConfig::builder_with_provider(crypto_provider());
        let config = config.with_protocol_versions(&[&TLS13]).unwrap().dangerous();
        let config = config.with_custom_certificate_verifier(Arc::new(Anyone)).with_no_client_auth();
        let nobody = ClientContext::of(&config, "mesh.invalid".try_into().unwrap());
        let refusal = shake(&nobody, &server(&api)).await.1.err().unwrap();
        assert_eq!(refusal.reason, Reason::TlsCertificateError);
        assert!(refusal.details.contains("presented no certificate"), "{refusal}");
    });
}

#[test]
fn a_resumed_session_does_not_outlive_the_certificate_it_was_made_with() {
    run(async {
        let ca = Ca::new("root");
        let old = ca.issue(|params| {
            params.subject_alt_names = vec![uri(WEB)];
            params.not_after = date_time_ymd(2020, 1, 1);
        });
        let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_500_000_000));
        let web = Arc::new(Files::new(&old, &ca.pem).load_at(then).unwrap().0);
        let api = identity(&ca.issue_to(API), &ca.pem);
        // The server's clock stood in 2017 when it verified; the clock of this process says otherwise.
        let mut config = (*server(&api)).clone();
        config.time_provider = Arc::new(Stopped(then));
        let (client, config) = (mesh_client(&web, API), Arc::new(config));
        // A client does not even try with what has expired.
        let refusal = shake(&client, &config).await.0.err().unwrap();
        assert_eq!(refusal.reason, Reason::TlsCertificateError);
        assert!(
            refusal.details.contains("our own certificate of spiffe://cluster.local/ns/shop/sa/web, from /"),
            "{refusal}"
        );
        assert!(refusal.details.contains("tls.crt, expired at 2020-01-01T00:00:00Z"), "{refusal}");
        let client = client.unchecked();
        let (near, far) = shake(&client, &config).await;
        let (near, far) = (near.unwrap(), far.unwrap());
        far.write_all(b"x").await.unwrap();
        near.read_buf(&mut Vec::with_capacity(8)).await.unwrap();
        let (near, far) = shake(&client, &config).await;
        assert!(near.unwrap().tls().unwrap().resumed);
        let refusal = far.err().unwrap();
        assert_eq!(refusal.reason, Reason::TlsCertificateError);
        assert!(refusal.details.contains("it expired at 2020-01-01T00:00:00Z"), "{refusal}");
    });
}

#[test]
fn a_ticket_is_good_under_the_trust_that_made_it_alone() {
    run(async {
        let (ca, other) = (Ca::new("root"), Ca::new("other"));
        let (web, leaf) = (identity(&ca.issue_to(WEB), &ca.pem), ca.issue_to(API));
        let client = mesh_client(&web, API);
        let meet = async |config: &Arc<ServerConfig>| {
            let (near, far) = shake(&client, config).await;
            let (near, far) = (near.unwrap(), far?);
            // The ticket comes after the handshake.
            far.write_all(b"x").await.unwrap();
            near.read_buf(&mut Vec::with_capacity(8)).await.unwrap();
            Ok::<_, Failure>(near.tls().unwrap().resumed)
        };
        let before = server(&identity(&leaf, &ca.pem));
        assert!(!meet(&before).await.unwrap());
        assert!(meet(&before).await.unwrap(), "the second handshake resumes the first");
        // Another root beside the old one: the client is verified anew, and passes.
        let both = server(&identity(&leaf, &(ca.pem.clone() + &other.pem)));
        assert!(!meet(&both).await.unwrap());
        assert!(meet(&both).await.unwrap());
        // The old root is gone: a ticket does not help.
        let after = server(&identity(&leaf, &other.pem));
        let refusal = meet(&after).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::TlsCertificateError, "{refusal}");
    });
}

#[test]
fn h2_works_on_it() {
    run(async {
        let ca = Ca::new("root");
        let (web, api) = (identity(&ca.issue_to(WEB), &ca.pem), identity(&ca.issue_to(API), &ca.pem));
        let (near, far) = shake(&mesh_client(&web, API), &server(&api)).await;
        let served = spawn(async move {
            let mut connection = h2::server::handshake(far.unwrap()).await.unwrap();
            while let Some(request) = connection.accept().await {
                let (_, mut respond) = request.unwrap();
                let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                body.send_data(bytes::Bytes::from(vec![7; 50_000]), true).unwrap();
            }
        });
        let (mut client, connection) = h2::client::handshake(near.unwrap()).await.unwrap();
        let driver = spawn(connection);
        let (response, _) = client.send_request(http::Request::new(()), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut total = 0;
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            total += data.len();
            body.flow_control().release_capacity(data.len()).unwrap();
            yield_now().await;
        }
        assert_eq!(total, 50_000);
        drop((client, body));
        driver.await.unwrap().unwrap();
        served.await.unwrap();
    });
}

#[derive(Debug)]
struct Stopped(UnixTime);

impl TimeProvider for Stopped {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// Believes every server.
#[derive(Debug)]
struct Anyone;

mod anyone {
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    impl ServerCertVerifier for super::Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            crate::tls::crypto_provider().signature_verification_algorithms.supported_schemes()
        }
    }
}
