//! Keys and certificates.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::info;

use super::{Authorities, Authority, CERTIFICATE_LIFE, LEEWAY};
use crate::OPERATOR;
use crate::tls::{ALPN, TlsError, operator_name, roots};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A key or certificate could not be made, or what was stored could not be read.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What was made is not usable.
    #[error("cannot use the certificate that was made: {0}")]
    Use(#[from] rustls::Error),
    /// The key of an authority does not belong to its certificate.
    #[error("what authority {0} signs is not believed by who has its certificate: delete the Secret that holds it")]
    Mismatch(String),
    /// No authority may sign now.
    #[error("there is no authority that may sign now")]
    NoSigner,
}

/// A new authority: its certificate and its key, in PEM.
pub(super) fn authority(
    name: &str,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<(String, String), IssueError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = authority_params(name);
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// A new certificate of this replica.
fn certificate(authority: &Authority, now: SystemTime) -> Result<CertifiedKey, IssueError> {
    let issuer = Issuer::new(authority_params(&authority.name), KeyPair::from_pem(&authority.key)?);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(vec![OPERATOR.to_owned()])?;
    params.distinguished_name = named(OPERATOR);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - LEEWAY).into();
    params.not_after = (now + CERTIFICATE_LIFE).into();
    let certificate = params.signed_by(&key, &issuer)?;
    if !is_trusted(certificate.der(), &authority.certificate, now) {
        return Err(IssueError::Mismatch(authority.name.clone()));
    }
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(CertifiedKey::new(vec![certificate.der().clone()], ring::sign::any_supported_type(&private)?))
}

/// Whether agents that have the authorities of `pem` believe a certificate.
fn is_trusted(certificate: &CertificateDer<'_>, pem: &str, now: SystemTime) -> bool {
    let check = || -> Result<(), TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(pem)?), provider).build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(since);
        verifier.verify_server_cert(certificate, &[], &operator_name()?, &[], now)?;
        Ok(())
    };
    check().is_ok()
}

/// The certificate of this replica, which is another one from time to time.
#[derive(Debug, Default)]
pub struct Certificates(RwLock<Option<Serving>>);

#[derive(Debug)]
struct Serving {
    key: Arc<CertifiedKey>,
    authority: String,
    since: SystemTime,
}

impl Certificates {
    /// Issues another one where it is time, and tells whether it did. Connections that there are go on.
    pub fn renew(&self, authorities: &Authorities, now: SystemTime) -> Result<bool, IssueError> {
        let signer = authorities.signer(now).ok_or(IssueError::NoSigner)?;
        if self.is_good(&signer.name, now) {
            return Ok(false);
        }
        let key = Arc::new(certificate(signer, now)?);
        let serving = Serving { key, authority: signer.name.clone(), since: now };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(serving);
        info!(authority = signer.name, "certificate renewed");
        Ok(true)
    }

    /// Whether the one that there is is of this authority, and a third of its life is left. Where the clock went back, it
    /// is not.
    fn is_good(&self, authority: &str, now: SystemTime) -> bool {
        let serving = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_young =
            |serving: &Serving| now.duration_since(serving.since).is_ok_and(|age| age < CERTIFICATE_LIFE / 3 * 2);
        serving.as_ref().is_some_and(|serving| serving.authority == authority && is_young(serving))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|serving| serving.key.clone())
    }
}

/// TLS 1.3 with these certificates, for connections that stay: nothing is kept to resume them.
pub fn server_config(certificates: Arc<Certificates>) -> Result<ServerConfig, IssueError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificates);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
