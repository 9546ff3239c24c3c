//! One certificate in words.

use std::fmt;

use outrigger_config::spiffe::{Refusal, identity_of};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::{Section, words};

/// What a certificate says, and what it is good for.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateWords {
    /// `a workload certificate`, `a root`, ...
    pub is: String,
    /// The SPIFFE ID that it proves.
    pub spiffe_id: Option<String>,
    /// Why it proves none to a proxy; absent if it does.
    pub not_an_svid: Option<String>,
    /// Distinguished name.
    pub subject: String,
    /// Distinguished name.
    pub issuer: String,
    /// Whose signature is on it, if that is in the same file.
    pub signed_by: String,
    /// URIs.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// `for another 23 hours`, `expired 3 days ago`, ...
    pub validity: String,
    /// Is it valid now?
    pub valid: bool,
    /// When it ends, in seconds since 1970.
    #[serde(skip)]
    pub ends: u64,
    /// `ECDSA P-256`.
    pub key: String,
    /// Hexadecimal, with colons.
    pub serial: String,
    /// Of the whole certificate, hexadecimal, with colons.
    pub sha256: String,
    /// SHA-256 of the public key.
    pub public_key_sha256: String,
}

impl CertificateWords {
    /// Describes `der`; `others` are the certificates of the same file, in order.
    pub(super) fn section(der: &[u8], others: &[CertificateDer<'_>], now: u64) -> Section {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Section::Certificate(Box::new(Self::of(der, &certificate, others, now))),
            _ => Section::Other { words: "a certificate that cannot be parsed".to_owned(), broken: true },
        }
    }

    fn of(der: &[u8], certificate: &X509Certificate<'_>, others: &[CertificateDer<'_>], now: u64) -> Self {
        // Of a CA there is one thing to say, whatever its names are.
        let svid = if certificate.is_ca() { Err(Refusal::Ca) } else { identity_of(der) };
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map_or(&[][..], |san| &san.value.general_names);
        let uris = names.iter().filter_map(|n| if let GeneralName::URI(uri) = n { Some(*uri) } else { None });
        let dns = names.iter().filter_map(|n| if let GeneralName::DNSName(dns) = n { Some(*dns) } else { None });
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        let from = seconds(certificate.validity().not_before.timestamp());
        let to = seconds(certificate.validity().not_after.timestamp());
        let uris: Vec<String> = uris.map(str::to_owned).collect();
        Self {
            is: what(certificate, svid.as_ref(), &uris),
            spiffe_id: svid.as_ref().ok().map(ToString::to_string),
            not_an_svid: svid.err().map(|e| e.to_string()),
            subject: or_empty(certificate.subject().to_string()),
            issuer: or_empty(certificate.issuer().to_string()),
            signed_by: signer(certificate, others),
            uris,
            dns_names: dns.map(str::to_owned).collect(),
            not_before: words::time(from),
            not_after: words::time(to),
            validity: words::validity(from, to, now),
            valid: (from..=to).contains(&now),
            ends: to,
            key: words::key(certificate.public_key().raw),
            serial: certificate.raw_serial_as_string(),
            sha256: words::sha256(der),
            public_key_sha256: words::sha256(certificate.public_key().raw),
        }
    }
}

fn or_empty(name: String) -> String {
    if name.is_empty() { "(empty)".to_owned() } else { name }
}

fn what(
    certificate: &X509Certificate<'_>,
    svid: Result<&outrigger_config::spiffe::SpiffeId, &Refusal>,
    uris: &[String],
) -> String {
    if let Ok(id) = svid {
        return format!("the certificate of the workload {id}");
    }
    if !certificate.is_ca() {
        return "a certificate that is no workload's".to_owned();
    }
    let domain = uris.iter().find_map(|uri| uri.strip_prefix("spiffe://")).filter(|domain| !domain.contains('/'));
    let domain = domain.map_or_else(String::new, |domain| format!(" of the trust domain {domain}"));
    let rank = if certificate.subject() == certificate.issuer() { "a root" } else { "an intermediate CA" };
    format!("{rank}{domain}")
}

/// By signature, not by name: two roots of one name are two roots.
fn signer(certificate: &X509Certificate<'_>, others: &[CertificateDer<'_>]) -> String {
    if certificate.verify_signature(None).is_ok() {
        return "itself".to_owned();
    }
    // A file of a megabyte has thousands; only those of the right name are worth a verification.
    let signed = |other: &CertificateDer<'_>| {
        X509Certificate::from_der(other).is_ok_and(|(_, other)| {
            other.subject() == certificate.issuer() && certificate.verify_signature(Some(other.public_key())).is_ok()
        })
    };
    match others.iter().position(signed) {
        Some(i) => format!("certificate {} of this file", i + 1),
        None => "nobody in this file".to_owned(),
    }
}

impl fmt::Display for CertificateWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.is)?;
        let mut line = |name: &str, value: &str| writeln!(f, "  {name:<19} {value}");
        let svid = match &self.not_an_svid {
            None if self.valid => "yes".to_owned(),
            None => "not now: see its validity".to_owned(),
            Some(why) => format!("no: {why}"),
        };
        line("usable as SVID", &svid)?;
        line("validity", &format!("{}, from {} to {}", self.validity, self.not_before, self.not_after))?;
        line("subject", &self.subject)?;
        line("issuer", &self.issuer)?;
        line("signed by", &self.signed_by)?;
        self.uris.iter().try_for_each(|uri| line("URI", uri))?;
        self.dns_names.iter().try_for_each(|name| line("DNS name", name))?;
        line("key", &self.key)?;
        line("serial", &self.serial)?;
        line("SHA-256", &self.sha256)?;
        line("public key SHA-256", &self.public_key_sha256)
    }
}
