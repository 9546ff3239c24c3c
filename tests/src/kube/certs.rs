//! Throw-away certificates and keys of an API server, and the administrator's kubeconfig.

use std::{fs, net::SocketAddr, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// Writes all files that an API server at `address` needs into `dir`.
pub(super) fn write(dir: &Path, address: SocketAddr) {
    let put = |name: &str, text: String| fs::write(dir.join(name), text).expect("the directory is writable");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "test cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().expect("a key");
    put("ca.crt", params.self_signed(&key).expect("a certificate").pem());
    let ca = Issuer::new(params, key);

    let mut server = CertificateParams::default();
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    let dns = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    server.subject_alt_names = dns.map(|name| SanType::DnsName(name.try_into().expect("ASCII"))).into();
    server.subject_alt_names.push(SanType::IpAddress(address.ip()));
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let (certificate, key) = sign(server, &ca);
    put("apiserver.crt", certificate);
    put("apiserver.key", key);

    let mut admin = CertificateParams::default();
    admin.distinguished_name.push(DnType::CommonName, "admin");
    // The group that RBAC lets do everything.
    admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let (certificate, key) = sign(admin, &ca);
    put("admin.crt", certificate);
    put("admin.key", key);

    let accounts = KeyPair::generate().expect("a key");
    put("sa.key", accounts.serialize_pem());
    put("sa.pub", accounts.public_key_pem());

    let user = format!("client-certificate: {0}/admin.crt, client-key: {0}/admin.key", dir.display());
    put("admin.kubeconfig", kubeconfig(dir, address, &user));
}

/// A kubeconfig whose user has these fields.
pub(super) fn kubeconfig(dir: &Path, address: SocketAddr, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         contexts: [{{ name: test, context: {{ cluster: test, user: test }} }}]\n\
         clusters: [{{ name: test, cluster: {{ server: \"https://{address}\", certificate-authority: {}/ca.crt }} }}]\n\
         users: [{{ name: test, user: {{ {user} }} }}]\n",
        dir.display()
    )
}

fn sign(mut params: CertificateParams, ca: &Issuer<'_, KeyPair>) -> (String, String) {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().expect("a key");
    (params.signed_by(&key, ca).expect("a certificate").pem(), key.serialize_pem())
}
