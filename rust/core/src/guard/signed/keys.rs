//! Keys of signed URLs: public ones, as CloudFront has them, and shared secrets.

use std::fmt;

use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA1_ASN1, ECDSA_P256_SHA256_ASN1, ParsedPublicKey,
        RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
        VerificationAlgorithm,
    },
};

use crate::identity::jwt::{PemFamily, public_pem};

/// The hash under a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
}

/// A key. `Debug` shows nothing of it.
pub struct UrlKey(Material);

enum Material {
    Public {
        sha1: ParsedPublicKey,
        sha256: ParsedPublicKey,
    },
    Secret(Box<hmac::Key>),
}

impl fmt::Debug for UrlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_secret() {
            "UrlKey(secret)"
        } else {
            "UrlKey(public)"
        })
    }
}

/// Bytes that a secret must have at least: as many as SHA-256 gives (RFC 2104 §3).
const LEAST_SECRET: usize = 32;

impl UrlKey {
    /// A public key: RSA of 2,048 bits and more, or EC on P-256. `Err`: the fault, without any of the content.
    pub fn public(pem: &str) -> Result<Self, String> {
        let (family, bytes) = public_pem(pem)?;
        let (sha1, sha256): (
            &'static dyn VerificationAlgorithm,
            &'static dyn VerificationAlgorithm,
        ) = match family {
            PemFamily::Rsa => (
                &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
                &RSA_PKCS1_2048_8192_SHA256,
            ),
            PemFamily::P256 => (&ECDSA_P256_SHA1_ASN1, &ECDSA_P256_SHA256_ASN1),
            PemFamily::Other(kind) => {
                return Err(format!(
                    "is {kind}; a signed URL needs an RSA key or an EC key on P-256"
                ));
            }
        };
        let parsed = |algorithm| ParsedPublicKey::new(algorithm, &bytes).ok();
        match (parsed(sha1), parsed(sha256)) {
            (Some(sha1), Some(sha256)) => Ok(Self(Material::Public { sha1, sha256 })),
            _ => Err("is not a valid public key".to_owned()),
        }
    }

    /// A shared secret, for HMAC with SHA-256.
    pub fn secret(secret: &[u8]) -> Result<Self, String> {
        if secret.len() < LEAST_SECRET {
            return Err(format!(
                "has {} bytes; it must have at least {LEAST_SECRET}",
                secret.len()
            ));
        }
        Ok(Self(Material::Secret(Box::new(hmac::Key::new(
            hmac::HMAC_SHA256,
            secret,
        )))))
    }

    /// True for a shared secret, whose hash is always SHA-256.
    pub fn is_secret(&self) -> bool {
        matches!(self.0, Material::Secret(_))
    }

    /// True if `signature` is this key's over `text`. MACs are compared in constant time.
    pub(super) fn verifies(&self, hash: Hash, text: &[u8], signature: &[u8]) -> bool {
        match (&self.0, hash) {
            (Material::Secret(key), _) => hmac::verify(key, text, signature).is_ok(),
            (Material::Public { sha1, .. }, Hash::Sha1) => sha1.verify_sig(text, signature).is_ok(),
            (Material::Public { sha256, .. }, Hash::Sha256) => {
                sha256.verify_sig(text, signature).is_ok()
            }
        }
    }
}
