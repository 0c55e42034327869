//! The words for a handshake that failed: the fault, and the field of the origin that would change it.

use std::io;

use edgerouter_core::tls::pin;
use edgerouter_telemetry::system_error::in_words;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// The fault of a handshake, as the log has it. Parts of it come from the other side.
pub(crate) fn worded(error: &io::Error) -> String {
    let Some(inner) = tls_error(error) else {
        return if error.kind() == io::ErrorKind::UnexpectedEof {
            "the connection was closed during the handshake; does this port speak TLS?".to_owned()
        } else {
            in_words(error)
        };
    };
    let text = match remedy(inner) {
        Some(remedy) => format!("{inner}; {remedy}"),
        None => inner.to_string(),
    };
    text.chars()
        .filter(|it| !it.is_control())
        .take(600)
        .collect()
}

/// The alert by which an origin ends a connection after its handshake: in TLS 1.3 it judges the edge's certificate
/// then.
pub(crate) fn refused(error: &io::Error) -> Option<String> {
    matches!(tls_error(error), Some(Error::AlertReceived(_))).then(|| worded(error))
}

/// The fault of a certificate whose key is none of `tls_pins`.
pub(super) fn unpinned(digest: &[u8]) -> String {
    format!(
        "the public key of the certificate is {}, which is not in tls_pins; add it if the origin's key was changed on purpose",
        pin(digest)
    )
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn remedy(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::InvalidCertificate(why) => match why {
            CertificateError::UnknownIssuer => {
                "give the certificate of the authority that issued it as tls_ca, or its public key as tls_pins with tls_verify=False"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "give a name that it is valid for as tls_server_name"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew it on the origin"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "compare the clocks of this machine and of the one that issued it"
            }
            CertificateError::Revoked => "replace it on the origin",
            CertificateError::Other(_) => {
                "it cannot be verified: give its public key as tls_pins with tls_verify=False"
            }
            _ => return None,
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "the origin demands a certificate of the edge: give tls_certificate"
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => {
                "the origin does not accept the edge's certificate: give one as tls_certificate that its authority has issued"
            }
            AlertDescription::ProtocolVersion => {
                "the origin speaks none of the versions in tls_versions"
            }
            AlertDescription::HandshakeFailure => {
                "there is no common version or cipher suite, or the origin demands a certificate (tls_certificate)"
            }
            AlertDescription::UnrecognisedName => {
                "the origin does not know the name: give another as tls_server_name"
            }
            AlertDescription::NoApplicationProtocol => {
                "the origin does not speak HTTP/1.1, and the edge speaks no other version with origins"
            }
            _ => return None,
        },
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "the origin speaks none of the versions in tls_versions",
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => "this port does not speak TLS: give a URL with http, or the port of https",
        _ => return None,
    })
}
