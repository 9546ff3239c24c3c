//! A `ClientHello` before anybody answers it: whose TLS is it, and which name does it ask for.
//!
//! Nothing is sent and nothing is lost: the bytes are looked at where they lie, so that they can be handed to a
//! handshake of ours or passed on as they came. The parser is rustls' own, which takes messages in any number of
//! records. What it does not take (TLS before 1.2 without the extensions that it needs, nonsense) is not ours.

use rustls::server::{Accepted, Acceptor};

use super::Alpn;

/// Longest `ClientHello` that is looked at. A browser's with post-quantum shares has 2 KiB; rustls takes 64 KiB.
pub const MAX_HELLO: usize = 32 * 1024;

/// What is told before the handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// It offers a protocol name that only our proxies have.
    pub mesh: bool,
    /// The host that it asks for, in lower case.
    pub sni: Option<Box<str>>,
}

/// Looks at a `ClientHello` as it comes.
#[derive(Default)]
pub struct HelloReader {
    acceptor: Acceptor,
    /// Bytes that the acceptor has been given.
    fed: usize,
}

impl HelloReader {
    /// `bytes` is everything that has come so far. `None`: more is needed.
    pub fn read(&mut self, bytes: &[u8]) -> Option<Hello> {
        let mut new = bytes.get(self.fed..).unwrap_or_default();
        loop {
            let before = new.len();
            match self.acceptor.read_tls(&mut new) {
                Ok(_) => self.fed += before - new.len(),
                Err(_) => return Some(Hello::default()),
            }
            match self.acceptor.accept() {
                Ok(Some(accepted)) => return Some(Hello::of(&accepted)),
                Err(_) => return Some(Hello::default()),
                Ok(None) if new.is_empty() => break,
                Ok(None) if new.len() == before => return Some(Hello::default()),
                Ok(None) => {}
            }
        }
        (bytes.len() > MAX_HELLO).then(Hello::default)
    }
}

impl Hello {
    fn of(accepted: &Accepted) -> Self {
        let hello = accepted.client_hello();
        let mesh = hello.alpn().is_some_and(|mut names| names.any(Alpn::is_mesh));
        Self { mesh, sni: hello.server_name().map(|name| name.to_ascii_lowercase().into()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;
    use crate::tls::crypto_provider;

    /// A `ClientHello` that offers `protocols`, as rustls writes it.
    fn hello(protocols: &[&[u8]], name: &'static str) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        let mut connection = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn ours_is_told_by_its_protocol_names_alone() {
        for (protocols, mesh) in [
            (&[&b"outrigger/h2"[..], b"h2"][..], true),
            (&[b"http/1.1", b"outrigger/tcp"], true),
            (&[b"h2", b"http/1.1"], false),
            (&[b"outrigger/h3"], false),
            (&[b"xoutrigger/h2"], false),
            (&[], false),
        ] {
            let read = HelloReader::default().read(&hello(protocols, "Site.Test"));
            assert_eq!(read, Some(Hello { mesh, sni: Some("site.test".into()) }), "{protocols:?}");
        }
    }

    #[test]
    fn it_may_come_byte_by_byte_and_in_many_records() {
        let whole = hello(&[b"outrigger/h2"], "a.test");
        // One record for every 7 bytes of the message.
        let mut records = Vec::new();
        for piece in whole[5..].chunks(7) {
            records.extend_from_slice(&whole[..3]);
            records.extend_from_slice(&u16::try_from(piece.len()).unwrap().to_be_bytes());
            records.extend_from_slice(piece);
        }
        for bytes in [whole, records] {
            let mut reader = HelloReader::default();
            for n in 1..bytes.len() {
                assert_eq!(reader.read(&bytes[..n]), None, "{n}");
            }
            assert!(reader.read(&bytes).is_some_and(|h| h.mesh));
        }
    }

    #[test]
    fn what_is_no_hello_is_not_ours() {
        let mut broken = hello(&[b"outrigger/h2"], "a.test");
        broken[5] = 2;
        assert_eq!(HelloReader::default().read(&broken), Some(Hello::default()));
        let endless = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xf0][..], &[0; 0x4000 - 4]].concat();
        let mut bytes = endless.clone();
        for _ in 0..3 {
            bytes.extend_from_slice(&[0x16, 3, 1, 0x40, 0]);
            bytes.extend_from_slice(&[0; 0x4000]);
        }
        assert_eq!(HelloReader::default().read(&bytes), Some(Hello::default()));
    }
}
