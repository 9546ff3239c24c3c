//! Times, spans, keys and digests as people read them.

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use x509_parser::{prelude::FromDer as _, public_key::PublicKey, time::ASN1Time, x509::SubjectPublicKeyInfo};

/// RFC 3339, of seconds since 1970.
pub(in crate::ca) fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| ASN1Time::from_timestamp(s).ok());
    let Some(t) = time.map(|t| t.to_datetime()) else { return "a time after the year 9999".to_owned() };
    let (month, day) = (u8::from(t.month()), t.day());
    format!("{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", t.year(), t.hour(), t.minute(), t.second())
}

/// A span in the unit in which people would say it: `90 seconds`, `23 hours`, `10 years`. Rounded down, so that nothing seems
/// to last longer than it does.
pub(in crate::ca) fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(365 * 86_400, "years"), (86_400, "days"), (3600, "hours"), (60, "minutes")];
    let unit = UNITS.iter().find(|(length, _)| seconds >= 2 * length);
    let (count, name) = unit.map_or((seconds, "seconds"), |(length, name)| (seconds / length, *name));
    let name = if count == 1 { name.trim_end_matches('s') } else { name };
    format!("{count} {name}")
}

/// Whether something is valid, and for how long or since when not.
pub(super) fn validity(from: u64, to: u64, now: u64) -> String {
    if now < from {
        format!("NOT YET VALID, begins in {}", span(from - now))
    } else if now > to {
        format!("EXPIRED {} ago", span(now - to))
    } else {
        format!("valid for another {}", span(to - now))
    }
}

/// The kind of a public key (SubjectPublicKeyInfo in DER).
pub(super) fn key(spki: &[u8]) -> String {
    let Ok((_, info)) = SubjectPublicKeyInfo::from_der(spki) else { return "of an unknown kind".to_owned() };
    let curve = info.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|oid| oid.to_id_string());
    match (info.parsed(), curve.as_deref()) {
        (Ok(PublicKey::EC(_)), Some("1.2.840.10045.3.1.7")) => "ECDSA P-256".to_owned(),
        (Ok(PublicKey::EC(_)), Some("1.3.132.0.34")) => "ECDSA P-384".to_owned(),
        (Ok(PublicKey::EC(_)), Some("1.3.132.0.35")) => "ECDSA P-521".to_owned(),
        (Ok(PublicKey::RSA(rsa)), _) => format!("RSA {} bits", rsa.key_size()),
        _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => "Ed25519".to_owned(),
        _ => format!("of the kind {}", info.algorithm.algorithm.to_id_string()),
    }
}

/// SHA-256 in hexadecimal with colons, as OpenSSL prints it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    // The digest of a cipher suite, because rustls has it and no other crate is needed for it.
    let Some(suite) = TLS13_AES_128_GCM_SHA256.tls13() else { return String::new() };
    let digest = suite.common.hash_provider.hash(bytes);
    let bytes: Vec<String> = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
    bytes.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_as_people_say_them() {
        for (seconds, words) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (90, "90 seconds"),
            (7200, "2 hours"),
            (86_399, "23 hours"),
            (86_400, "24 hours"),
            (3 * 86_400 + 5, "3 days"),
            (3650 * 86_400, "10 years"),
        ] {
            assert_eq!(span(seconds), words);
        }
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(validity(0, 10, 5), "valid for another 5 seconds");
        assert_eq!(validity(0, 10, 11), "EXPIRED 1 second ago");
        assert_eq!(validity(6, 10, 5), "NOT YET VALID, begins in 1 second");
    }
}
