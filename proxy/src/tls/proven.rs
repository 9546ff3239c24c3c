//! Certificates whose chain has been verified once.
//!
//! A peer shows the same certificate on every connection for hours, and checking a root's signature on it takes a quarter of
//! a handshake's work. What that check says never changes for the same bytes and the same roots, but for the time: so it is
//! remembered with the validity of the certificate, by the verifier that those roots belong to. Only certificates that a root
//! itself has signed are remembered, as the validity of an intermediate would count as well. That the peer has the key is
//! proven in each handshake all the same.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Remembered of one verifier, at about 700 bytes each: those who call a busy service, or the pods behind one.
const MOST: usize = 256;
/// A larger certificate is verified each time; an SVID has about 600 bytes.
const LARGEST: usize = 4096;

/// From when until when a certificate is valid: seconds since 1970, both included (RFC 5280 4.1.2.5).
#[derive(Debug, Clone, Copy)]
struct Validity {
    from: u64,
    until: u64,
}

/// The certificates that the roots of one verifier have signed, as far as they have been seen.
#[derive(Debug, Default)]
pub(super) struct Proven {
    // By all of their bytes: no digest that somebody could find a second certificate for.
    leaves: Mutex<HashMap<Box<[u8]>, Validity>>,
}

impl Proven {
    /// Runs `verify`, unless that has succeeded before and the certificate is valid at `now`.
    ///
    /// # Errors
    /// Those of `verify`.
    pub(super) fn or_verify<E>(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        verify: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        if !intermediates.is_empty() || leaf.len() > LARGEST {
            return verify();
        }
        let time = now.as_secs();
        let known = self.leaves.lock().unwrap_or_else(PoisonError::into_inner).get(&**leaf).copied();
        if known.is_some_and(|validity| (validity.from..=validity.until).contains(&time)) {
            return Ok(());
        }
        verify()?;
        if let Some(validity) = validity(leaf) {
            let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
            if leaves.len() >= MOST {
                leaves.retain(|_, validity| validity.until >= time);
            }
            if leaves.len() >= MOST {
                // Rather than which to keep: one more verification for each is what it costs.
                leaves.clear();
            }
            leaves.insert((**leaf).into(), validity);
        }
        Ok(())
    }
}

fn validity(leaf: &[u8]) -> Option<Validity> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let validity = certificate.validity();
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).ok();
    Some(Validity { from: seconds(validity.not_before)?, until: seconds(validity.not_after)? })
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::Duration};

    use super::*;
    use crate::tls::tests::Ca;

    /// How often `verify` runs for these.
    fn runs(
        proven: &Proven,
        leaf: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        now: UnixTime,
        good: bool,
    ) -> usize {
        let count = Cell::new(0);
        let said = proven.or_verify(leaf, more, now, || {
            count.set(count.get() + 1);
            if good { Ok(()) } else { Err("no") }
        });
        assert!(said.is_ok() || !good);
        count.get()
    }

    #[test]
    fn the_same_certificate_is_verified_once_while_it_is_valid() {
        let (proven, ca, now) = (Proven::default(), Ca::new("mesh"), UnixTime::now());
        let leaf = ca.issue(|p| p.not_after = rcgen::date_time_ymd(2100, 1, 1)).der;
        assert_eq!(runs(&proven, &leaf, &[], now, false), 1, "a failure is not remembered");
        assert_eq!(runs(&proven, &leaf, &[], now, true), 1);
        assert_eq!(runs(&proven, &leaf, &[], now, true), 0);
        for other in [
            UnixTime::since_unix_epoch(Duration::from_secs(1)),
            UnixTime::since_unix_epoch(Duration::from_secs(5_000_000_000)),
        ] {
            assert_eq!(runs(&proven, &leaf, &[], other, false), 1, "outside of its time");
        }
        let mut other = leaf.to_vec();
        *other.last_mut().unwrap() ^= 1;
        assert_eq!(runs(&proven, &other.into(), &[], now, false), 1, "another signature");
        assert_eq!(runs(&proven, &leaf, std::slice::from_ref(&leaf), now, false), 1, "another chain");
        assert_eq!(runs(&Proven::default(), &leaf, &[], now, true), 1, "other roots");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (proven, ca, now) = (Proven::default(), Ca::new("mesh"), UnixTime::now());
        for n in 0..MOST + 10 {
            let leaf = ca.issue_to(&format!("spiffe://cluster.local/ns/shop/sa/web-{n}")).der;
            runs(&proven, &leaf, &[], now, true);
            assert!(proven.leaves.lock().unwrap().len() <= MOST);
        }
    }
}
