//! Failures of orders, and the one that is no failure: a nonce that the issuer does not accept.

use std::io;

use instant_acme::Error;

use crate::pair::PairFault;

/// The reason why an order gave no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderFault {
    #[error("{}", described(.0))]
    Acme(#[from] Error),
    #[error("the account in {0} cannot be read; remove the file, and a new account is made")]
    Account(String),
    #[error("the folder cannot be used: {0}")]
    Folder(#[from] io::Error),
    #[error("the issuer wants no request for this name for another {0} seconds")]
    Patience(i64),
    #[error("the issuer offers no profile {wanted:?}; it offers {offered}")]
    NoProfile { wanted: String, offered: String },
    #[error("the issuer offers none of the challenges that are allowed")]
    NoChallenge,
    #[error("the issuer's token is not one of RFC 8555")]
    BadToken,
    #[error("the record of DNS was not set: {0}")]
    Record(String),
    #[error("the issuer refused the proof: {0}")]
    Refused(String),
    #[error("no key could be made")]
    Key(#[from] rcgen::Error),
    #[error("the certificate that was issued cannot be used: {0}")]
    Unusable(#[from] PairFault),
    #[error("the order broke off")]
    BrokenOff,
    #[error("the order took longer than limits.tls.order_timeout")]
    Slow,
}

/// The innermost cause of an error of a connection says more than its surface.
pub(crate) fn described(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text.chars()
        .filter(|it| !it.is_control())
        .take(500)
        .collect()
}

/// Tries that a step gets when the issuer does not accept its nonce (RFC 8555 §6.5): nothing has happened then.
pub(crate) const NONCES: usize = 20;

/// Takes a step again as long as only its nonce was refused.
pub(crate) async fn insist<T>(mut step: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..NONCES {
        match step().await {
            Err(error) if is_bad_nonce(&error) => {}
            ended => return ended,
        }
    }
    step().await
}

/// True for a problem of this kind (RFC 8555 §6.7).
pub(crate) fn is_problem(error: &Error, kind: &str) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref().and_then(|it| it.rsplit(':').next()) == Some(kind))
}

/// True if a step was not taken because of its nonce.
pub(crate) fn is_bad_nonce(error: &Error) -> bool {
    is_problem(error, "badNonce")
}
