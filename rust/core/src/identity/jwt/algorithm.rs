//! Signature algorithms by their names in the IANA registry (RFC 7518 §3.1, RFC 8037 §3.1).

use std::{fmt, str::FromStr};

/// An algorithm that the edge verifies. `none` is not one and never will be (RFC 8725 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519 only, not Ed448.
    EdDsa,
}

/// The kind of an algorithm's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyFamily {
    Secret,
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

impl KeyFamily {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Secret => "a shared secret",
            Self::Rsa => "an RSA key",
            Self::P256 => "an EC key on P-256",
            Self::P384 => "an EC key on P-384",
            Self::P521 => "an EC key on P-521",
            Self::Ed25519 => "an Ed25519 key",
        }
    }
}

impl Algorithm {
    /// In the order of declaration.
    pub const ALL: [Self; 13] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// The name in a token's `alg` (case-sensitive, RFC 7515 §4.1.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(crate) fn family(self) -> KeyFamily {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => KeyFamily::Secret,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => {
                KeyFamily::Rsa
            }
            Self::Es256 => KeyFamily::P256,
            Self::Es384 => KeyFamily::P384,
            // 521 bits, not 512 (RFC 7518 §3.4).
            Self::Es512 => KeyFamily::P521,
            Self::EdDsa => KeyFamily::Ed25519,
        }
    }

    /// True if a published key that names no algorithm is for this one. RSA keys could serve six (RFC 8725 §3.1 wants
    /// one): issuers that leave `alg` out sign with RS256. Secrets are for none.
    pub(crate) fn is_default(self) -> bool {
        matches!(
            self,
            Self::Rs256 | Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa
        )
    }

    /// Bytes of the hash behind an HMAC: the least that its secret should have (RFC 7518 §3.2).
    pub(crate) fn least_secret(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            _ => 0,
        }
    }

    /// The exact length of a signature where it does not depend on the key (RFC 7518 §3.4, RFC 8032 §5.1.6).
    pub(crate) fn signature_bytes(self) -> Option<usize> {
        match self {
            Self::Hs256 => Some(32),
            Self::Hs384 => Some(48),
            Self::Hs512 | Self::Es256 | Self::EdDsa => Some(64),
            Self::Es384 => Some(96),
            Self::Es512 => Some(132),
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = ();

    /// `Ed25519` is the newer name of `EdDSA` with that curve (RFC 9864 §2.2).
    fn from_str(name: &str) -> Result<Self, ()> {
        if name == "Ed25519" {
            return Ok(Self::EdDsa);
        }
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
            .ok_or(())
    }
}
