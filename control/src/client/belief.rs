//! Whom to believe.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::time_provider::TimeProvider;

use crate::tls::{ALPN, TlsError, roots};

/// TLS 1.3 toward operators of these authorities, by this clock.
pub(super) fn client_config(pem: &str, clock: Arc<dyn TimeProvider>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), clock);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder.with_root_certificates(roots(pem)?).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
