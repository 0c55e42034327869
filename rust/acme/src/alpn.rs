//! TLS-ALPN-01 (RFC 8737): the certificate that proves a name in a handshake which no request follows.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};

/// The name of the protocol (RFC 8737 §6.2).
pub const ALPN: &[u8] = b"acme-tls/1";

/// A handshake that proves a name by a key authorization; `None` if no certificate could be made.
pub(crate) fn proof(name: &str, authorization: &str) -> Option<Arc<ServerConfig>> {
    let key = KeyPair::generate().ok()?;
    let mut params = CertificateParams::new(vec![name.to_owned()]).ok()?;
    params.distinguished_name = DistinguishedName::new();
    let hash = digest(&SHA256, authorization.as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(hash.as_ref())];
    let certificate = params.self_signed(&key).ok()?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(default_provider());
    let key = provider.key_provider.load_private_key(key).ok()?;
    let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_no_client_auth()
        // Its extension is critical and known to issuers only: a certificate that is looked at would be refused.
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Nothing is resumed.
    config.send_tls13_tickets = 0;
    Some(Arc::new(config))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_proof_is_made_for_a_name_and_offers_the_protocol_of_the_challenge_only() {
        let config = proof("a.example", "token.thumbprint").unwrap();
        assert_eq!(config.alpn_protocols, [ALPN.to_vec()]);
    }
}
