//! Why a token was refused.

use std::{fmt, sync::Arc};

use super::Algorithm;
use crate::outcome::words;

/// Why a token was refused. The text is for the log; the visitor gets the status and, if the policy allows it, the
/// description of RFC 6750. Never holds the token or a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The request, not the token, is at fault (RFC 6750 §3.1, `invalid_request`).
    #[error("the request's credentials are malformed: {0}")]
    Request(&'static str),
    /// Refused unread.
    #[error("the token is {got} bytes long; the limit is {limit}")]
    TooLong {
        /// Bytes.
        got: usize,
        /// [`token_bytes`](super::JwtPolicy::token_bytes) of the policy.
        limit: usize,
    },
    /// Its three parts are not those of RFC 7515 §7.1, or its header is no JSON object with `alg`.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// RFC 8725 §3.2.
    #[error("the token is not signed (alg \"none\")")]
    NotSigned,
    /// Not one of [`Algorithm`].
    #[error("the token names an algorithm that this edge does not verify")]
    UnknownAlgorithm,
    /// A key is used with one algorithm only (RFC 8725 §3.1).
    #[error("the token is signed with {got}, and its key is for another algorithm")]
    WrongAlgorithm {
        /// As the token names it.
        got: Algorithm,
    },
    /// A header parameter that is critical, changes the signed bytes, or brings or names a key (RFC 8725 §3.10).
    #[error("the token's header has {0:?}, which is refused")]
    ForbiddenHeader(&'static str),
    /// RFC 8725 §3.11.
    #[error("the token's header has a \"typ\" that is not that of a JWT")]
    WrongType,
    /// The set may be stale: the engine may fetch it again.
    #[error("no key has the id {kid:?}")]
    UnknownKey {
        /// As the token names it.
        kid: KeyId,
    },
    /// No key to verify with: the edge's fault, not the visitor's.
    #[error("there is no usable key")]
    NoKey,
    /// RFC 7515 §5.2, step 8.
    #[error("the signature does not match key {kid:?}")]
    BadSignature {
        /// As the token names it.
        kid: KeyId,
    },
    /// The payload is no JSON object, or a registered claim has another type than RFC 7519 §4.1 gives it.
    #[error("the claims are malformed: {0}")]
    BadClaims(&'static str),
    /// One that the policy requires.
    #[error("the claim {name:?} is missing")]
    MissingClaim {
        /// The claim.
        name: Arc<str>,
    },
    /// Past `exp` (RFC 7519 §4.1.4) by the leeway or more.
    #[error("the token expired {seconds} s ago")]
    Expired {
        /// Since `exp`, the leeway included.
        seconds: u64,
    },
    /// Before `nbf` (RFC 7519 §4.1.5) by more than the leeway.
    #[error("the token is not valid for another {seconds} s")]
    NotYetValid {
        /// Until `nbf`, the leeway included.
        seconds: u64,
    },
    /// `iss` is missing or not one that the policy accepts.
    #[error("the token is from another issuer")]
    WrongIssuer,
    /// `aud` is missing or has none that the policy accepts.
    #[error("the token is for another audience")]
    WrongAudience,
}

words! {
    impl TokenError {
        Request = "request",
        TooLong = "too_long",
        Malformed = "malformed",
        NotSigned = "not_signed",
        UnknownAlgorithm = "unknown_algorithm",
        WrongAlgorithm = "wrong_algorithm",
        ForbiddenHeader = "forbidden_header",
        WrongType = "wrong_type",
        UnknownKey = "unknown_key",
        NoKey = "no_key",
        BadSignature = "bad_signature",
        BadClaims = "bad_claims",
        MissingClaim = "missing_claim",
        Expired = "expired",
        NotYetValid = "not_yet_valid",
        WrongIssuer = "wrong_issuer",
        WrongAudience = "wrong_audience",
    }
}

impl TokenError {
    /// The description for the visitor (RFC 6750 §3: printable ASCII without `"` and `\`).
    pub(super) fn description(&self) -> &'static str {
        match self {
            Self::Request(_) => "the credentials are malformed",
            Self::Expired { .. } => "the token has expired",
            Self::NotYetValid { .. } => "the token is not valid yet",
            Self::TooLong { .. } | Self::Malformed(_) => "the token is malformed",
            // The name of the failed check would help only forgers.
            _ => "the token was refused",
        }
    }
}

/// The start of a `kid`, for messages: a client chose it, so it is truncated and shown escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId {
    bytes: [u8; Self::SHOWN],
    len: u8,
    cut: bool,
    given: bool,
}

impl KeyId {
    const SHOWN: usize = 40;
    /// A token without a `kid`.
    pub const NONE: Self = Self {
        bytes: [0; Self::SHOWN],
        len: 0,
        cut: false,
        given: false,
    };

    /// `None`: the token has no `kid`.
    pub fn new(kid: Option<&str>) -> Self {
        let Some(kid) = kid else { return Self::NONE };
        let mut bytes = [0; Self::SHOWN];
        let mut len = 0;
        for (slot, byte) in bytes.iter_mut().zip(kid.bytes()) {
            *slot = byte;
            len += 1;
        }
        Self {
            bytes,
            len,
            cut: kid.len() > Self::SHOWN,
            given: true,
        }
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.given {
            return f.write_str("(no kid)");
        }
        let shown = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if self.cut {
            f.write_str("…")?;
        }
        Ok(())
    }
}
