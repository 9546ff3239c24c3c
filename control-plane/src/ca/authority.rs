//! Who signs: a certificate of a CA, its key, and proof that what they sign is believed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use outrigger_config::spiffe::{SpiffeId, check_trust_domain, identity_of};
use rcgen::{Issuer, PublicKeyData};
use rustls::{
    RootCertStore, client::verify_server_cert_signed_by_trust_anchor, crypto::aws_lc_rs, server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, DnsName, UnixTime};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::{
    CaError, PrivateKey,
    profile::{self, Validity},
    show::words,
};

/// A CA that can sign. It has shown that the roots it was made with believe what it signs.
pub struct Authority {
    issuer: Issuer<'static, PrivateKey>,
    /// Its own certificate.
    certificate: CertificateDer<'static>,
    /// What a peer needs between a leaf and a root, the CA's own certificate first: nothing if it is a root itself.
    intermediates: Vec<CertificateDer<'static>>,
    validity: Validity,
    trust_domain: Arc<str>,
    issued: AtomicU64,
}

/// What was signed.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate first, then intermediates, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// When it ends, in seconds since 1970.
    pub not_after: u64,
}

impl Authority {
    /// A new root for `trust_domain`, valid for `lifetime` seconds.
    ///
    /// # Errors
    /// No trust domain, or no randomness.
    pub fn generate(trust_domain: &str, lifetime: u64, now: u64) -> Result<Self, CaError> {
        check_trust_domain(trust_domain)
            .map_err(|why| CaError::TrustDomainName { name: trust_domain.to_owned(), why })?;
        let key = PrivateKey::generate()?;
        let params = profile::root(trust_domain, Validity::starting(now, lifetime))?;
        let certificate = params.self_signed(&key)?.der().clone();
        let roots = [certificate.clone()];
        Self::new(&[certificate], key, &roots, Some(trust_domain), now)
    }

    /// A CA of certificates and a key: one of `chain` belongs to the key, and `roots` vouch for it.
    ///
    /// `trust_domain` is for a CA whose certificate does not say whom it speaks for, as those of other tools don't.
    ///
    /// # Errors
    /// Whatever would make the certificates that it signs worthless.
    pub fn new(
        chain: &[CertificateDer<'static>],
        key: PrivateKey,
        roots: &[CertificateDer<'static>],
        trust_domain: Option<&str>,
        now: u64,
    ) -> Result<Self, CaError> {
        let own = chain.iter().find(|der| belongs(der, &key)).ok_or(CaError::KeyMismatch)?.clone();
        let (validity, trust_domain) = check(&own, trust_domain, now)?;
        let issuer = Issuer::from_ca_cert_der(&own, key)
            .map_err(|_| CaError::NotCa("its subject is of a form that is not supported"))?;
        let from_own = chain.iter().skip_while(|der| **der != own);
        let intermediates = from_own.filter(|der| !is_self_issued(der)).cloned().collect();
        let authority =
            Self { issuer, certificate: own, intermediates, validity, trust_domain, issued: AtomicU64::new(0) };
        authority.prove(roots, now)?;
        Ok(authority)
    }

    /// Signs a certificate for `id` and `key`, valid for `lifetime` seconds or until the CA ends, whichever is sooner.
    ///
    /// # Errors
    /// Another trust domain, or a CA that is not valid at `now`.
    pub fn issue(
        &self,
        id: &SpiffeId,
        key: &impl PublicKeyData,
        dns_names: &[DnsName<'_>],
        lifetime: u64,
        now: u64,
    ) -> Result<Issued, CaError> {
        if id.trust_domain() != &*self.trust_domain {
            return Err(CaError::TrustDomain { id: id.to_string(), trust_domain: self.trust_domain.to_string() });
        }
        self.valid_at(now)?;
        self.issued.fetch_add(1, Ordering::Relaxed);
        self.sign(id, key, dns_names, lifetime, now)
    }

    /// How many certificates it was asked to sign and did not refuse.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// Is the CA itself valid?
    ///
    /// # Errors
    /// How it is not.
    pub fn valid_at(&self, now: u64) -> Result<(), CaError> {
        validity_at(self.validity, now)
    }

    /// Its own certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// When its certificate ends, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.validity.to
    }

    /// Whom it speaks for.
    #[must_use]
    pub fn trust_domain(&self) -> &Arc<str> {
        &self.trust_domain
    }

    /// Its private key, to write it out.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        self.issuer.key()
    }

    fn sign(
        &self,
        id: &SpiffeId,
        key: &impl PublicKeyData,
        dns_names: &[DnsName<'_>],
        lifetime: u64,
        now: u64,
    ) -> Result<Issued, CaError> {
        let validity = Validity::starting(now, lifetime).within(self.validity);
        let leaf = profile::workload(id, dns_names, validity)?.signed_by(key, &self.issuer)?;
        let chain = std::iter::once(leaf.der().clone()).chain(self.intermediates.iter().cloned()).collect();
        Ok(Issued { chain, not_after: validity.to })
    }

    /// Signs for the CA's own key, shows it to nobody, and asks what a proxy would say of it. Path length, name constraints, key
    /// purposes, algorithms and names that cannot be reproduced all show here and not in a handshake.
    fn prove(&self, roots: &[CertificateDer<'static>], now: u64) -> Result<(), CaError> {
        let fault = |why: &dyn std::fmt::Display| CaError::Unproven(why.to_string());
        let id = format!("spiffe://{}/ns/probe/sa/probe", self.trust_domain);
        let id = SpiffeId::parse(&id).map_err(|e| fault(&e))?;
        let issued = self.sign(&id, self.key(), &[], 1, now)?;
        let [leaf, intermediates @ ..] = &issued.chain[..] else { return Err(fault(&"nothing was signed")) };
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone()).map_err(|e| fault(&e))?;
        }
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        ParsedCertificate::try_from(leaf)
            .and_then(|leaf| verify_server_cert_signed_by_trust_anchor(&leaf, &store, intermediates, now, algorithms))
            .map_err(|e| fault(&e))?;
        identity_of(leaf).map(drop).map_err(|e| fault(&e))
    }
}

fn belongs(der: &CertificateDer<'_>, key: &PrivateKey) -> bool {
    X509Certificate::from_der(der)
        .is_ok_and(|(_, certificate)| *certificate.public_key().subject_public_key.data == *key.der_bytes())
}

fn is_self_issued(der: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, c)| c.subject().as_raw() == c.issuer().as_raw())
}

/// May this certificate sign, when, and for whom?
fn check(der: &CertificateDer<'_>, trust_domain: Option<&str>, now: u64) -> Result<(Validity, Arc<str>), CaError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CaError::NotCa("it cannot be parsed"))?;
    // Whoever reads names next takes it for granted that none is empty.
    if certificate.subject().iter().any(|name| name.iter().next().is_none()) {
        return Err(CaError::NotCa("its subject has an empty name"));
    }
    if !certificate.is_ca() {
        return Err(CaError::NotCa("it is no certificate of a CA (basic constraints)"));
    }
    let usage = certificate.key_usage().map_err(|_| CaError::NotCa("its key usage is there twice"))?;
    if !usage.is_some_and(|u| u.value.key_cert_sign()) {
        return Err(CaError::NotCa("its key usage lacks keyCertSign"));
    }
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let (from, to) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    let validity = Validity { from: seconds(from), to: seconds(to) };
    validity_at(validity, now)?;
    let domain = match (stated_domain(&certificate)?, trust_domain) {
        (Some(stated), Some(expected)) if stated != expected => {
            let (id, trust_domain) = (format!("spiffe://{stated}"), expected.to_owned());
            return Err(CaError::TrustDomain { id, trust_domain });
        }
        (Some(stated), _) => stated,
        (None, Some(expected)) => expected.to_owned(),
        (None, None) => return Err(CaError::NotCa("it does not say which trust domain it speaks for")),
    };
    check_trust_domain(&domain).map_err(|why| CaError::TrustDomainName { name: domain.clone(), why })?;
    Ok((validity, domain.into()))
}

/// The trust domain of a CA's URI, if it has one.
fn stated_domain(certificate: &X509Certificate<'_>) -> Result<Option<String>, CaError> {
    let names = certificate.subject_alternative_name().map_err(|_| CaError::NotCa("its names are there twice"))?;
    let names = names.map_or(&[][..], |san| &san.value.general_names);
    let mut uris = names.iter().filter_map(|n| if let GeneralName::URI(uri) = n { Some(*uri) } else { None });
    let stated = uris.find_map(|uri| uri.strip_prefix("spiffe://"));
    match stated {
        // X509-SVID 5.2: the certificate of a CA must not have a path.
        Some(domain) if domain.contains('/') => Err(CaError::NotCa("its SPIFFE ID has a path")),
        other => Ok(other.map(str::to_owned)),
    }
}

/// Does this root, by its own word, stand for another trust domain than `expected`? Then its certificates must not be taken for ours.
///
/// # Errors
/// It does, or it cannot be parsed.
pub(crate) fn check_root(der: &CertificateDer<'_>, expected: &str) -> Result<(), CaError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CaError::NotCa("it cannot be parsed"))?;
    match stated_domain(&certificate)? {
        Some(stated) if stated != expected => {
            let (id, trust_domain) = (format!("the root of spiffe://{stated}"), expected.to_owned());
            Err(CaError::TrustDomain { id, trust_domain })
        }
        _ => Ok(()),
    }
}

fn validity_at(validity: Validity, now: u64) -> Result<(), CaError> {
    if now > validity.to {
        let ago = words::span(now - validity.to);
        return Err(CaError::Validity(format!("expired at {}, {ago} ago", words::time(validity.to))));
    }
    if now < validity.from {
        let ahead = words::span(validity.from - now);
        let from = words::time(validity.from);
        return Err(CaError::Validity(format!("is not valid before {from}, in {ahead}: is the clock right?")));
    }
    Ok(())
}
