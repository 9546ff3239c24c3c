//! A private key that is wiped when it is dropped.
//!
//! `rcgen` keeps the key twice: inside the crypto library, which wipes its own, and as text to write it out, which it does not.

use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls_pki_types::{
    PrivateKeyDer, PrivatePkcs8KeyDer,
    pem::{self, PemObject as _},
};
use zeroize::{Zeroize as _, Zeroizing};

use super::{CaError, pem::encode_secret};

/// A private key. Has no `Debug`, and nothing prints it but [`PrivateKey::to_pem`].
pub struct PrivateKey(KeyPair);

impl PrivateKey {
    /// A new one: ECDSA on P-256.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self, CaError> {
        Ok(Self(KeyPair::generate()?))
    }

    /// Reads PKCS#8, SEC1 or PKCS#1 in PEM, not encrypted. `what` names the place in errors.
    ///
    /// # Errors
    /// There is none, or none that the crypto library takes. The text is never part of the error.
    pub fn from_pem(text: &[u8], what: &str) -> Result<Self, CaError> {
        let fault = |why: &str| CaError::Pem { what: what.to_owned(), why: why.to_owned() };
        let mut der = PrivateKeyDer::from_pem_slice(text).map_err(|e| match e {
            pem::Error::NoItemsFound => fault("has no private key in PEM (PKCS#8, SEC1 or PKCS#1, not encrypted)"),
            _ => fault("is no valid PEM"),
        })?;
        let pair = KeyPair::try_from(&der);
        der.zeroize();
        pair.map(Self).map_err(|_| fault("holds a private key of a kind that cannot be used: ECDSA P-256 is right"))
    }

    /// PKCS#8 in PEM.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        encode_secret("PRIVATE KEY", self.0.serialized_der())
    }

    /// PKCS#8, for rustls, which wipes it.
    #[must_use]
    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialized_der().to_vec()).into()
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}
