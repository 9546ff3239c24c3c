//! Certificates: a root, what it signs, and what people are told of both.
//!
//! [`Authority`] signs, for the offline CA in a directory ([`Store`]) and for the control plane alike, so that both obey
//! the rules of an X.509-SVID in one place. Everything that needs the time takes it as an argument. Private keys are wiped
//! from memory ([`PrivateKey`]), have no `Debug` and are never part of an error.
//!
//! No name constraints are put into certificates of a CA. RFC 5280 has a form for URIs, which would tie a CA to its trust domain; but
//! rustls' path validation takes no certificate with a URI under such a constraint, and OpenSSL's goes by it. What the
//! constraint would say is checked without it: a proxy takes only identities of its own trust domain from its bundle.

mod authority;
mod csr;
mod files;
mod key;
mod pem;
mod profile;
mod show;
mod store;

#[cfg(test)]
mod tests;

pub(crate) use authority::check_root;
pub use authority::{Authority, Issued};
pub use csr::{Csr, CsrError};
pub use key::PrivateKey;
pub use pem::{certificates_of, encode_certificates};
pub use show::{CertificateWords, Description, Section, describe};
pub use store::{IssueRequest, LEAF_LIFETIME, ROOT_LIFETIME, Store};

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use outrigger_config::spiffe::IdError;
use thiserror::Error;
use zeroize::Zeroizing;

/// Why a CA cannot be made, read or asked to sign.
#[derive(Debug, Error)]
pub enum CaError {
    /// A file or directory.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// `init` where a CA is.
    #[error(
        "{} is a CA already; every certificate that it signed would be worthless: take another directory, `ca rotate` to replace its root \
         without an outage, or --force to lose it",
        .0.display()
    )]
    Exists(PathBuf),
    /// `issue` or `rotate` where none is.
    #[error("{} is no CA: it has no {missing}; `outrigger ca init --dir {}` makes one", .dir.display(), .dir.display())]
    NoCa {
        /// Where.
        dir: PathBuf,
        /// The file that is not there.
        missing: &'static str,
    },
    /// Broken armour, or no certificate in it.
    #[error("{what}: {why}")]
    Pem {
        /// Which file or Secret key.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// No certificate belongs to the key.
    #[error("none of the certificates belongs to the private key")]
    KeyMismatch,
    /// A certificate that cannot sign others.
    #[error("the certificate of the CA cannot sign: {0}")]
    NotCa(&'static str),
    /// Its validity is over, or has not begun.
    #[error("the certificate of the CA {0}")]
    Validity(String),
    /// Certificates that it signs are not believed by the bundle it came with.
    #[error("what this CA signs would be refused by its own trust bundle: {0}")]
    Unproven(String),
    /// The CA speaks for another trust domain.
    #[error("{id} is not of the trust domain {trust_domain} of this CA: spiffe://{trust_domain}/... would be right")]
    TrustDomain {
        /// What was asked for.
        id: String,
        /// Whom the CA speaks for.
        trust_domain: String,
    },
    /// The name of a trust domain that is none.
    #[error("`{name}` is no trust domain: {why}")]
    TrustDomainName {
        /// What was asked for.
        name: String,
        /// What is wrong.
        why: IdError,
    },
    /// A name for a certificate that is no DNS name.
    #[error("`{0}` is no DNS name: write it as `payments.internal`, without wildcard or port")]
    DnsName(String),
    /// Longer than the CA itself, or nothing.
    #[error("{0}")]
    Lifetime(String),
    /// `rotate` in the wrong order.
    #[error("{0}")]
    Stage(String),
    /// The crypto library.
    #[error("cannot sign: {0}")]
    Crypto(String),
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}

/// Reads a file of at most 1 MiB, wiped when dropped; `-` is stdin.
///
/// # Errors
/// It is not there, cannot be read, or is larger.
pub fn read_to_show(path: &Path) -> Result<Zeroizing<Vec<u8>>, CaError> {
    if path != Path::new("-") {
        let missing = || CaError::Io {
            path: path.to_owned(),
            error: io::Error::new(io::ErrorKind::NotFound, "there is no such file"),
        };
        return files::read(path)?.ok_or_else(missing);
    }
    let mut text = Zeroizing::new(Vec::new());
    let read = io::stdin().lock().take(files::MAX_FILE).read_to_end(&mut text);
    read.map_err(|error| CaError::Io { path: path.to_owned(), error })?;
    Ok(text)
}

/// RFC 3339, of seconds since 1970.
#[must_use]
pub fn time_in_words(seconds: u64) -> String {
    show::words::time(seconds)
}
