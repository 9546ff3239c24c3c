//! PEM (RFC 7468): reading certificates, and writing in buffers that can be wiped.
//!
//! The encoder is ours because those of crates leave copies of a key behind. It looks letters up in a table, as they all do: keys
//! are written once, by who made them, and not where others could measure.

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use zeroize::Zeroizing;

use super::CaError;

/// Every certificate of a text, at least one. `what` names the place in errors.
///
/// # Errors
/// Broken armour, or none.
pub fn certificates_of(text: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let fault = |why: String| CaError::Pem { what: what.to_owned(), why };
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let parsed = parsed.map_err(|e| fault(format!("is no valid PEM: {e}")))?;
    if parsed.is_empty() { Err(fault("has no section -----BEGIN CERTIFICATE-----".to_owned())) } else { Ok(parsed) }
}

/// Certificates, one section each.
#[must_use]
pub fn encode_certificates<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    certificates.into_iter().map(|der| encode_secret("CERTIFICATE", der).to_string()).collect()
}

/// One section, in a buffer that is as large as it has to be from the start, and wiped when dropped.
pub(super) fn encode_secret(label: &str, der: &[u8]) -> Zeroizing<String> {
    const LINE: usize = 48;
    let letters = der.len().div_ceil(3) * 4;
    let room = letters + der.len().div_ceil(LINE) + 2 * (label.len() + 20);
    let mut text = Zeroizing::new(String::with_capacity(room));
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.push_str(part);
    }
    for line in der.chunks(LINE) {
        line.chunks(3).for_each(|three| push_base64(&mut text, three));
        text.push('\n');
    }
    for part in ["-----END ", label, "-----\n"] {
        text.push_str(part);
    }
    text
}

/// One to three bytes as four letters (RFC 4648 4).
fn push_base64(text: &mut String, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let at = |i: usize| u32::from(bytes.get(i).copied().unwrap_or(0));
    let bits = at(0) << 16 | at(1) << 8 | at(2);
    for i in 0..4 {
        let letter = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
        text.push(if i <= bytes.len() { char::from(letter) } else { '=' });
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::SectionKind;

    use super::*;

    #[test]
    fn what_is_written_is_what_is_read_at_every_length() {
        for length in 0..200_u8 {
            let der: Vec<u8> = (0..length).map(|b| b.wrapping_mul(37)).collect();
            let text = encode_secret("CERTIFICATE", &der);
            let read = <(SectionKind, Vec<u8>)>::from_pem_slice(text.as_bytes()).unwrap();
            assert_eq!(read, (SectionKind::Certificate, der));
            assert!(text.lines().all(|line| line.len() <= 64));
            assert!(text.len() <= text.capacity());
        }
    }
}
