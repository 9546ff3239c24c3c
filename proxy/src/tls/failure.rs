//! Errors of TLS as failures of a request: which of the three reasons, and in words whose certificate.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::spiffe::Refusal;
use crate::error::{Failure, Reason};

/// Which side of the handshake the peer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The peer called us.
    Client,
    /// We called the peer.
    Server,
}

impl Side {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What an error of [`Io`](crate::io::Io) says about TLS; `None` if it does not come from there. `who` is the
/// peer, for people.
///
/// Worth asking for errors of reads and writes, too: under TLS 1.3 a server refuses its client's
/// certificate when the client's handshake is over already.
#[must_use]
pub fn of_io(error: &io::Error, peer: Side, who: &str) -> Option<Failure> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(of_rustls(error, peer, who))
}

/// The failure that an error of rustls is.
#[must_use]
pub fn of_rustls(error: &Error, peer: Side, who: &str) -> Failure {
    let side = peer.as_str();
    let (reason, details) = match error {
        Error::InvalidCertificate(e) => {
            let why = certificate_words(e);
            (Reason::TlsCertificateError, format!("the certificate of the {side} {who} is refused: {why}"))
        }
        Error::NoCertificatesPresented => {
            (Reason::TlsCertificateError, format!("the {side} {who} presented no certificate"))
        }
        Error::AlertReceived(alert) if concerns_certificate(*alert) => (
            Reason::TlsAlertReceived,
            format!("the {side} {who} refused our certificate with the alert {}", alert_name(*alert)),
        ),
        Error::AlertReceived(alert) => {
            (Reason::TlsAlertReceived, format!("the {side} {who} sent the alert {}", alert_name(*alert)))
        }
        Error::InvalidMessage(_) => {
            (Reason::TlsProtocolError, format!("what the {side} {who} sent is no TLS, or is broken: {error}"))
        }
        _ => (Reason::TlsProtocolError, format!("the TLS handshake with the {side} {who} failed: {error}")),
    };
    Failure::new(reason, details)
}

/// The failure that a certificate is which we refuse after the handshake.
#[must_use]
pub fn refused(peer: Side, who: &str, refusal: &Refusal) -> Failure {
    let side = peer.as_str();
    Failure::new(Reason::TlsCertificateError, format!("the certificate of the {side} {who} is refused: {refusal}"))
}

fn certificate_words(error: &CertificateError) -> String {
    match error {
        CertificateError::Other(other) => other.0.to_string(),
        CertificateError::UnknownIssuer => "no root in the trust bundle has signed it".to_owned(),
        CertificateError::BadSignature => {
            "its signature does not match: the trust bundle has another root of its issuer's name, or the peer has \
             not the certificate's key"
                .to_owned()
        }
        other => other.to_string(),
    }
}

fn concerns_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}

/// As the RFC has it: `bad_certificate`.
fn alert_name(alert: AlertDescription) -> String {
    let name = format!("{alert:?}");
    let mut out = String::with_capacity(name.len() + 4);
    let mut last_was_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && last_was_lower {
            out.push('_');
        }
        last_was_lower = c.is_ascii_lowercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}
