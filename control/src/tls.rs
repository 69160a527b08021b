//! What agents believe: whoever shows a certificate for the operator's name that one of its authorities signed.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

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
pub(crate) fn roots(pem: &str) -> Result<RootCertStore, TlsError> {
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
