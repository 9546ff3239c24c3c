//! Certificates for scenarios: an authority, what it signs, and the files that a proxy or curl is given.
//!
//! Made anew in every run by `rcgen`, so nothing expires in the repository and no key is in it. Files are
//! replaced by rename, as a renewing agent does: a reader sees the old text or the new one, never half of it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use tempfile::TempDir;

/// A root certificate, and what it signs.
#[derive(Debug)]
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    /// A new root of this common name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its own certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate of a workload, valid until the first day of `year`.
    #[must_use]
    pub fn workload(&self, id: &str, year: i32) -> Leaf {
        let uri = SanType::URI(id.try_into().expect("ASCII"));
        self.issue(vec![uri], year)
    }

    /// The certificate of a server with this DNS name.
    #[must_use]
    pub fn server(&self, name: &str) -> Leaf {
        let dns = SanType::DnsName(name.try_into().expect("ASCII"));
        self.issue(vec![dns], FAR)
    }

    /// The certificate of a server with this address.
    #[must_use]
    pub fn server_at(&self, ip: std::net::IpAddr) -> Leaf {
        self.issue(vec![SanType::IpAddress(ip)], FAR)
    }

    fn issue(&self, names: Vec<SanType>, year: i32) -> Leaf {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf { pem: certificate.pem(), key: key.serialize_pem() }
    }

    /// Signs a request (PKCS #10, DER) as it is, for so long from now; the certificate in DER.
    ///
    /// # Errors
    /// It is no request.
    pub fn sign(&self, csr: &[u8], lifetime: Duration) -> Result<Vec<u8>, String> {
        let der = csr.to_vec().into();
        let mut request = CertificateSigningRequestParams::from_der(&der).map_err(|e| e.to_string())?;
        let now = std::time::SystemTime::now();
        request.params.not_before = (now - Duration::from_secs(60)).into();
        request.params.not_after = (now + lifetime).into();
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        request.params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let signed = request.signed_by(&self.issuer).map_err(|e| e.to_string())?;
        Ok(signed.der().to_vec())
    }

    /// Files of a workload's identity, this root as its trust bundle.
    #[must_use]
    pub fn identity(&self, id: &str) -> Files {
        Files::new(&self.workload(id, FAR), &self.pem)
    }
}

/// A year that no test lives to see.
pub const FAR: i32 = 2090;

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate.
    pub pem: String,
    /// The key.
    pub key: String,
}

/// `tls.crt`, `tls.key` and `ca.crt` in a directory of their own, gone when dropped.
#[derive(Debug)]
pub struct Files {
    dir: TempDir,
}

impl Files {
    /// Writes them.
    #[must_use]
    pub fn new(leaf: &Leaf, bundle: &str) -> Self {
        let files = Self { dir: TempDir::new().expect("a temporary directory") };
        files.put("ca.crt", bundle);
        files.replace(leaf);
        files
    }

    /// Replaces certificate and key, one after the other.
    pub fn replace(&self, leaf: &Leaf) {
        self.put("tls.crt", &leaf.pem);
        self.put("tls.key", &leaf.key);
    }

    /// Writes or replaces one file.
    pub fn put(&self, name: &str, text: &str) {
        let draft = self.path(&format!("{name}.draft"));
        fs::write(&draft, text).expect("the directory is writable");
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        fs::rename(&draft, self.path(name)).expect("the directory is writable");
    }

    /// Where a file of this name is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The line `identity` of a `Proxy`'s spec.
    #[must_use]
    pub fn yaml(&self) -> String {
        let path = |name| self.path(name).display().to_string();
        format!(
            "  identity: {{ certificate: \"{}\", privateKey: \"{}\", trustBundle: \"{}\" }}\n",
            path("tls.crt"),
            path("tls.key"),
            path("ca.crt")
        )
    }
}
