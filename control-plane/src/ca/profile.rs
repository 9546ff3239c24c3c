//! What a root and a workload's certificate are made of, by RFC 5280 and the SPIFFE standard "X509-SVID".

use outrigger_config::spiffe::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType, SerialNumber,
};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::DnsName;
use x509_parser::time::ASN1Time;

use super::CaError;

/// How much earlier than now a certificate begins, in seconds: clocks of two machines differ.
const BACKDATE: u64 = 5 * 60;

/// Longest common name (RFC 5280, upper bound of X520CommonName).
const MAX_COMMON_NAME: usize = 64;

/// When a certificate is valid, both in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Validity {
    /// From a little before `now` for `lifetime` seconds after it.
    pub(super) fn starting(now: u64, lifetime: u64) -> Self {
        Self { from: now.saturating_sub(BACKDATE), to: now.saturating_add(lifetime) }
    }

    /// As much of it as lies within `other`: nothing outlives who signed it.
    pub(super) fn within(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.min(other.to) }
    }
}

/// A root of a trust domain. It signs leaves and no other CA, and its one URI is the trust domain's: a
/// SPIFFE ID without a path, which identifies nobody (X509-SVID 4.1 and 5.2).
pub(super) fn root(trust_domain: &str, validity: Validity) -> Result<CertificateParams, CaError> {
    let serial = serial()?;
    let tail: String = serial.to_bytes().iter().take(4).map(|b| format!("{b:02x}")).collect();
    let room = MAX_COMMON_NAME - " root ".len() - tail.len();
    let domain: String = trust_domain.chars().take(room).collect();
    let mut params = base(validity, serial)?;
    // Roots of one trust domain that follow each other have names of their own: path building tells them apart.
    params.distinguished_name.push(DnType::CommonName, format!("{domain} root {tail}"));
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// An X.509-SVID: exactly one URI, for both ends of a connection, and no CA. The subject says nothing that anyone could match on.
pub(super) fn workload(
    id: &SpiffeId,
    dns_names: &[DnsName<'_>],
    validity: Validity,
) -> Result<CertificateParams, CaError> {
    let mut params = base(validity, serial()?)?;
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    for name in dns_names {
        params.subject_alt_names.push(SanType::DnsName(name.as_ref().try_into()?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn base(validity: Validity, serial: SerialNumber) -> Result<CertificateParams, CaError> {
    let time = |seconds: u64| {
        let time = i64::try_from(seconds).ok().and_then(|s| ASN1Time::from_timestamp(s).ok());
        time.map(|t| t.to_datetime()).ok_or_else(|| CaError::Lifetime("the lifetime ends after the year 9999".into()))
    };
    let mut params = CertificateParams::default();
    params.not_before = time(validity.from)?;
    params.not_after = time(validity.to)?;
    params.serial_number = Some(serial);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "outrigger");
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 127 random bits: positive, and not derived from the key, which a renewal may keep (RFC 5280 4.1.2.2).
fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    let random = aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| CaError::Crypto("the system has no randomness".into()))?;
    // A first byte of 0 would be encoded in fewer bytes, one above 127 as a negative number.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
