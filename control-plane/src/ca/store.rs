//! A CA in a directory: `ca.key` signs, `ca.crt` is the bundle that proxies trust.
//!
//! The certificate of the CA is the one of the bundle that belongs to the key, wherever it stands. So which root signs is decided by one
//! file, and every step of a rotation is one rename: no crash leaves a CA that cannot sign or that nobody believes. A root
//! that waits for its turn has its key in `next.key`.

use std::path::{Path, PathBuf};

use outrigger_config::spiffe::SpiffeId;
use rustls_pki_types::{CertificateDer, DnsName};

use super::{
    Authority, CaError, Issued, PrivateKey, certificates_of, encode_certificates,
    files::{self, Draft, PUBLIC, SECRET},
    show::words,
};

const BUNDLE: &str = "ca.crt";
const KEY: &str = "ca.key";
const NEXT_KEY: &str = "next.key";

/// How long a root is valid unless asked otherwise, in seconds: ten years.
pub const ROOT_LIFETIME: u64 = 3650 * DAY;
/// How long a workload's certificate is valid unless asked otherwise, in seconds: ninety days, for nothing renews it by itself.
pub const LEAF_LIFETIME: u64 = 90 * DAY;
const DAY: u64 = 24 * 60 * 60;

/// An offline CA.
pub struct Store {
    dir: PathBuf,
    /// The signing root first.
    bundle: Vec<CertificateDer<'static>>,
    authority: Authority,
}

/// What is asked of [`Store::issue`].
#[derive(Debug)]
pub struct IssueRequest<'a> {
    /// For whom.
    pub id: &'a SpiffeId,
    /// DNS names beside the identity, for peers that are no proxies.
    pub dns_names: &'a [DnsName<'a>],
    /// In seconds.
    pub lifetime: u64,
    /// Directory for `tls.crt`, `tls.key` and `ca.crt`.
    pub out: &'a Path,
}

impl Store {
    /// Makes a CA in `dir`. With `force`, one that is there is lost.
    ///
    /// # Errors
    /// There is one, the trust domain is none, or the directory cannot be written.
    pub fn init(dir: &Path, trust_domain: &str, lifetime: u64, force: bool, now: u64) -> Result<Self, CaError> {
        if lifetime == 0 {
            return Err(CaError::Lifetime("a lifetime of 0s would make a certificate that has expired".into()));
        }
        let authority = Authority::generate(trust_domain, lifetime, now)?;
        let bundle = vec![authority.certificate().clone()];
        files::make_dir(dir)?;
        let (key_path, bundle_path) = (dir.join(KEY), dir.join(BUNDLE));
        let exists = || CaError::Exists(dir.to_owned());
        if !force && (key_path.exists() || bundle_path.exists()) {
            return Err(exists());
        }
        let key = Draft::write(key_path, &authority.key().to_pem(), SECRET)?;
        let certificates = Draft::write(bundle_path, &encode_certificates(&bundle), PUBLIC)?;
        if force {
            files::remove(&dir.join(NEXT_KEY))?;
            key.replace()?;
        } else if !key.keep_if_absent()? {
            // Somebody else was faster: theirs is the CA.
            return Err(exists());
        }
        certificates.replace()?;
        Ok(Self { dir: dir.to_owned(), bundle, authority })
    }

    /// Opens the CA in `dir`.
    ///
    /// # Errors
    /// There is none, it has expired, or it does not hang together.
    pub fn open(dir: &Path, now: u64) -> Result<Self, CaError> {
        let missing = |missing| CaError::NoCa { dir: dir.to_owned(), missing };
        let key_path = dir.join(KEY);
        let key = files::read(&key_path)?.ok_or_else(|| missing(KEY))?;
        let key = PrivateKey::from_pem(&key, &key_path.display().to_string())?;
        let bundle_path = dir.join(BUNDLE);
        let text = files::read(&bundle_path)?.ok_or_else(|| missing(BUNDLE))?;
        let bundle = certificates_of(&text, &bundle_path.display().to_string())?;
        let authority = Authority::new(&bundle, key, &bundle, None, now)?;
        Ok(Self { dir: dir.to_owned(), bundle, authority })
    }

    /// Who signs.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Signs for a new key, and writes `tls.crt`, `tls.key` and `ca.crt`.
    ///
    /// # Errors
    /// Another trust domain, a lifetime that the CA does not have, or a directory that cannot be written. What was there is
    /// then there still.
    pub fn issue(&self, request: &IssueRequest<'_>, now: u64) -> Result<Issued, CaError> {
        let left = self.authority.not_after().saturating_sub(now);
        if request.lifetime == 0 || request.lifetime > left {
            let message =
                format!("the lifetime must be between 1s and what the CA itself has left, {}", words::span(left));
            return Err(CaError::Lifetime(message));
        }
        let key = PrivateKey::generate()?;
        let issued = self.authority.issue(request.id, &key, request.dns_names, request.lifetime, now)?;
        files::make_dir(request.out)?;
        let place = |name| request.out.join(name);
        let drafts = [
            // The bundle first: a certificate of a new root is then never there without it.
            Draft::write(place("ca.crt"), &encode_certificates(&self.bundle), PUBLIC)?,
            Draft::write(place("tls.key"), &key.to_pem(), SECRET)?,
            Draft::write(place("tls.crt"), &encode_certificates(&issued.chain), PUBLIC)?,
        ];
        drafts.into_iter().try_for_each(Draft::replace)?;
        Ok(issued)
    }

    /// First step of a rotation: a new root beside the old one, which still signs.
    ///
    /// # Errors
    /// A rotation is under way.
    pub fn prepare(&mut self, lifetime: u64, now: u64) -> Result<(), CaError> {
        let next = self.dir.join(NEXT_KEY);
        if self.bundle.len() > 1 {
            let message = "the bundle has several roots: finish the rotation that is under way (`ca rotate --finish`)";
            return Err(CaError::Stage(message.into()));
        }
        let new = Authority::generate(self.authority.trust_domain(), lifetime, now)?;
        // A key without its root in the bundle is of a rotation that did not get as far, and belongs to nothing.
        Draft::write(next, &new.key().to_pem(), SECRET)?.replace()?;
        self.bundle.push(new.certificate().clone());
        self.write_bundle()
    }

    /// Second step: the new root signs. What the old one signed is still believed.
    ///
    /// # Errors
    /// There is no new root.
    pub fn switch(&mut self, now: u64) -> Result<(), CaError> {
        let path = self.dir.join(NEXT_KEY);
        let Some(key) = files::read(&path)? else {
            let message = "there is no new root to switch to: `ca rotate --prepare` makes one";
            return Err(CaError::Stage(message.into()));
        };
        let key = PrivateKey::from_pem(&key, &path.display().to_string())?;
        let domain = self.authority.trust_domain().to_string();
        let authority = Authority::new(&self.bundle, key, &self.bundle, Some(&domain), now)?;
        std::fs::rename(&path, self.dir.join(KEY)).map_err(|error| CaError::Io { path, error })?;
        self.authority = authority;
        Ok(())
    }

    /// Last step: only the root that signs is trusted.
    ///
    /// # Errors
    /// The new root does not sign yet, or there is no old one.
    pub fn finish(&mut self) -> Result<(), CaError> {
        if self.dir.join(NEXT_KEY).exists() {
            let message =
                "the new root does not sign yet: `ca rotate --switch`, and issue every certificate anew, first";
            return Err(CaError::Stage(message.into()));
        }
        if self.bundle.len() == 1 {
            return Err(CaError::Stage("the bundle has one root: there is nothing to drop".into()));
        }
        self.bundle = vec![self.authority.certificate().clone()];
        self.write_bundle()
    }

    fn write_bundle(&self) -> Result<(), CaError> {
        let text = encode_certificates(&self.bundle);
        Draft::write(self.dir.join(BUNDLE), &text, PUBLIC)?.replace()
    }
}
