//! What is in a certificate, for people and for the expiry metric.

use serde::Serialize;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{ASN1Time, FromDer},
};

/// One certificate, as the admin port's `/certificates` shows it. Holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateInfo {
    /// What it is here: `identity`, `intermediate` or `root`.
    pub role: &'static str,
    /// The file that it is from.
    pub file: String,
    /// Distinguished name.
    pub subject: String,
    /// Distinguished name.
    pub issuer: String,
    /// Hexadecimal, with colons.
    pub serial: String,
    /// URIs of the subject alternative names: the SPIFFE ID is one of them.
    pub uris: Vec<String>,
    /// DNS names of the subject alternative names.
    pub dns_names: Vec<String>,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// Seconds since 1970.
    pub not_before_timestamp: i64,
    /// Seconds since 1970.
    pub not_after_timestamp: i64,
    /// Does it sign others?
    pub ca: bool,
}

impl CertificateInfo {
    /// Reads a certificate; `None`: it is not DER.
    #[must_use]
    pub fn of(der: &[u8], role: &'static str, file: impl Into<String>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map_or(&[][..], |san| &san.value.general_names);
        let uris = names.iter().filter_map(|n| if let GeneralName::URI(uri) = n { Some(*uri) } else { None });
        let dns = names.iter().filter_map(|n| if let GeneralName::DNSName(dns) = n { Some(*dns) } else { None });
        let validity = certificate.validity();
        Some(Self {
            role,
            file: file.into(),
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.raw_serial_as_string(),
            uris: uris.map(str::to_owned).collect(),
            dns_names: dns.map(str::to_owned).collect(),
            not_before: rfc3339(validity.not_before),
            not_after: rfc3339(validity.not_after),
            not_before_timestamp: validity.not_before.timestamp(),
            not_after_timestamp: validity.not_after.timestamp(),
            ca: certificate.is_ca(),
        })
    }
}

/// When a certificate ends: seconds since 1970, and RFC 3339. `None`: it is not DER.
pub(super) fn end_of(der: &[u8]) -> Option<(i64, String)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let end = certificate.validity().not_after;
    Some((end.timestamp(), rfc3339(end)))
}

fn rfc3339(time: ASN1Time) -> String {
    let t = time.to_datetime();
    let (month, day) = (u8::from(t.month()), t.day());
    format!("{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", t.year(), t.hour(), t.minute(), t.second())
}
