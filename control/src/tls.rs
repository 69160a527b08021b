//! What agents believe: whoever shows a certificate for the operator's name that one of its authorities signed.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};

use crate::OPERATOR;

/// HTTP/2 (RFC 9113, section 3.1).
pub(crate) const ALPN: &[u8] = b"h2";

/// Authorities that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// They are no certificates.
    #[error("the operator's authorities are not certificates in PEM: {0}")]
    Pem(rustls::pki_types::pem::Error),
    /// There are none.
    #[error("there is no certificate among the operator's authorities")]
    None,
    /// They are none that can be used.
    #[error("the operator's authorities cannot be used: {0}")]
    Use(#[from] rustls::Error),
}

/// The certificates of a text in PEM.
fn roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(TlsError::Pem)?)?;
    }
    if roots.is_empty() { Err(TlsError::None) } else { Ok(roots) }
}

/// The name that every replica shows, whatever address it is reached by.
pub(crate) fn operator_name() -> Result<ServerName<'static>, rustls::Error> {
    ServerName::try_from(OPERATOR).map_err(|_| rustls::Error::UnsupportedNameType)
}

/// TLS 1.3 toward operators of these authorities, by this clock.
#[cfg(feature = "client")]
pub(crate) fn client_config(pem: &str, clock: Arc<dyn TimeProvider>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), clock);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder.with_root_certificates(roots(pem)?).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Whether agents that have the authorities of `pem` believe a certificate.
#[cfg(feature = "server")]
pub(crate) fn is_trusted(certificate: &CertificateDer<'_>, pem: &str, now: SystemTime) -> bool {
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
