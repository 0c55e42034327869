//! One key, for one algorithm (RFC 8725 §3.1).

use std::fmt;

use aws_lc_rs::{
    hmac,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
        RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
        RSA_PSS_2048_8192_SHA512, RsaParameters, VerificationAlgorithm,
    },
};

use super::Algorithm;

/// RFC 7518 §3.3 wants at least 2048 bits; the upper bound keeps one verification bounded.
pub(crate) const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

/// A key that verifies with one algorithm. `Debug` shows neither secret nor material.
pub struct JwtKey {
    /// `kid` of the set; `None` where the key has no name (a secret, a PEM).
    pub(crate) id: Option<Box<str>>,
    pub(crate) algorithm: Algorithm,
    material: Material,
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl JwtKey {
    /// `None` for an algorithm that is not an HMAC.
    pub(crate) fn secret(algorithm: Algorithm, secret: &[u8]) -> Option<Self> {
        let hash = match algorithm {
            Algorithm::Hs256 => hmac::HMAC_SHA256,
            Algorithm::Hs384 => hmac::HMAC_SHA384,
            Algorithm::Hs512 => hmac::HMAC_SHA512,
            _ => return None,
        };
        Some(Self {
            id: None,
            algorithm,
            material: Material::Secret(Box::new(hmac::Key::new(hash, secret))),
        })
    }

    /// A public key: SubjectPublicKeyInfo, PKCS#1 (RSA), an uncompressed point (EC) or 32 bytes (Ed25519).
    /// The caller has made sure that it is of the algorithm's family.
    pub(crate) fn public(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        let verifier = verifier(algorithm)?;
        let key = ParsedPublicKey::new(verifier, bytes).ok()?;
        Some(Self {
            id: None,
            algorithm,
            material: Material::Public(key),
        })
    }

    /// An RSA key from its numbers, big-endian without leading zeros (RFC 7518 §6.3.1).
    pub(crate) fn rsa(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Option<Self> {
        let key = PublicKeyComponents { n, e }
            .to_parsed_public_key(rsa(algorithm)?)
            .ok()?;
        Some(Self {
            id: None,
            algorithm,
            material: Material::Public(key),
        })
    }

    /// The algorithm that this key is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// True if `signature` is this key's over `message`. MACs are compared in constant time.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        if self
            .algorithm
            .signature_bytes()
            .is_some_and(|length| length != signature.len())
        {
            return false;
        }
        match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        // The salt is as long as the hash (RFC 7518 §3.5): the library's default.
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn verifier(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => return None,
        // Raw r ‖ s, not ASN.1 (RFC 7518 §3.4).
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        Algorithm::Es512 => &ECDSA_P521_SHA512_FIXED,
        Algorithm::EdDsa => &ED25519,
        rs_or_ps => return rsa(rs_or_ps).map(|p| p as &'static dyn VerificationAlgorithm),
    })
}
