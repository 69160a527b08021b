//! Certificates and the kubeconfigs that carry them.
//!
//! One authority signs everything, as in "PKI certificates and requirements" of the Kubernetes documentation with a
//! single root. Keys are ECDSA P-256.

use std::{net::IpAddr, path::Path};

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The key or certificate could not be made.
    #[error("make a certificate for {subject}: {source}")]
    Certificate {
        /// For whom.
        subject: String,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A file of the authority's could not be read or written.
    #[error("certificate authority file {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the kernel answered.
        source: std::io::Error,
    },
}

/// A certificate with its key, both PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

/// Whom a certificate names.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The user (`CN`).
    pub name: String,
    /// The group (`O`), if any.
    pub group: Option<String>,
    /// Names that a server answers to.
    pub dns: Vec<String>,
    /// Addresses that a server answers on.
    pub addresses: Vec<IpAddr>,
}

impl Subject {
    /// A client without a group.
    pub fn user(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// A client in a group.
    pub fn member(name: &str, group: &str) -> Self {
        Self { group: Some(group.to_owned()), ..Self::user(name) }
    }
}

/// The authority of a lab.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// The authority whose key is in `folder`, or a new one, kept there.
    ///
    /// # Errors
    /// When the folder cannot be written or holds something else.
    pub fn open(folder: &Path) -> Result<Self, PkiError> {
        let path = folder.join("ca.key");
        let io = |source| PkiError::Io { path: path.display().to_string(), source };
        let made = certificate_error("the authority");
        let key = if path.exists() {
            KeyPair::from_pem(&std::fs::read_to_string(&path).map_err(io)?).map_err(made)?
        } else {
            let key = KeyPair::generate().map_err(made)?;
            write_private(&path, &key.serialize_pem()).map_err(io)?;
            key
        };
        let issuer =
            CertifiedIssuer::self_signed(authority_params(), key).map_err(certificate_error("the authority"))?;
        let certificate = folder.join("ca.crt");
        // Made anew from the same key it differs in nothing that a verifier looks at, but the first one stays.
        if !certificate.exists() {
            let io = |source| PkiError::Io { path: certificate.display().to_string(), source };
            std::fs::write(&certificate, issuer.pem()).map_err(io)?;
        }
        Ok(Self { issuer })
    }

    /// The authority's own certificate, PEM.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// Signs a new key for `subject`, for servers and clients alike.
    ///
    /// # Errors
    /// When a name in the subject cannot be in a certificate.
    pub fn issue(&self, subject: &Subject) -> Result<Identity, PkiError> {
        let failed = certificate_error(&subject.name);
        let key = KeyPair::generate().map_err(&failed)?;
        let mut params = CertificateParams::new(subject.dns.clone()).map_err(&failed)?;
        params.distinguished_name = name(&subject.name, subject.group.as_deref());
        params.subject_alt_names.extend(subject.addresses.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(&failed)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// A server on the loopback addresses that vouches for itself.
///
/// # Errors
/// When no certificate can be made.
pub fn loopback_server() -> Result<Identity, PkiError> {
    let failed = certificate_error("localhost");
    let key = KeyPair::generate().map_err(&failed)?;
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let certificate = CertificateParams::new(names).and_then(|params| params.self_signed(&key)).map_err(&failed)?;
    Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A key pair that signs service account tokens: the private half and the public one, PEM.
///
/// # Errors
/// When no key can be made.
pub fn signing_key() -> Result<(String, String), PkiError> {
    let key = KeyPair::generate().map_err(certificate_error("service accounts"))?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// A kubeconfig with everything inside. It is JSON, which is YAML.
pub fn kubeconfig(cluster: &str, server: &str, authority: &str, user: &str, identity: &Identity) -> String {
    let config: Value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": cluster,
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": ByteString(authority.into())}}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "users": [{"name": user, "user": {
            "client-certificate-data": ByteString(identity.certificate.clone().into()),
            "client-key-data": ByteString(identity.key.clone().into()),
        }}],
    });
    format!("{config:#}\n")
}

/// Writes a file that only root may read.
///
/// # Errors
/// What the kernel answered.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn certificate_error(subject: &str) -> impl Fn(rcgen::Error) -> PkiError + use<> {
    let subject = subject.to_owned();
    move |source| PkiError::Certificate { subject: subject.clone(), source }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("towpath-lab", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn name(common: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name.push(DnType::CommonName, common);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_is_opened_again_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let key = |_: &Authority| std::fs::read_to_string(folder.path().join("ca.key")).unwrap();
        let first = Authority::open(folder.path()).unwrap();
        let before = (key(&first), std::fs::read(folder.path().join("ca.crt")).unwrap());
        let second = Authority::open(folder.path()).unwrap();
        assert_eq!(before, (key(&second), std::fs::read(folder.path().join("ca.crt")).unwrap()));
        let identity = second.issue(&Subject::member("system:node:n1", "system:nodes")).unwrap();
        assert!(identity.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
    }
}
