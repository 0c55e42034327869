//! Real keys, made for each run, and the tokens that they sign.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accepting;
mod compiling;
mod extracting;
mod refusing;

use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::*;
use crate::{outcome::Word, secret::Secret};

pub(crate) const SECRET: &[u8] =
    b"a secret of quite some length that only tests know, 64 bytes....";
pub(super) const NOW: u64 = 1_800_000_000;

/// One key of each kind.
pub(crate) struct Pairs {
    pub(crate) rsa: rsa::KeyPair,
    pub(crate) p256: EcdsaKeyPair,
    pub(crate) p384: EcdsaKeyPair,
    pub(crate) p521: EcdsaKeyPair,
    pub(crate) ed: Ed25519KeyPair,
}

pub(crate) static PAIRS: LazyLock<Pairs> = LazyLock::new(Pairs::new);

impl Pairs {
    pub(crate) fn new() -> Self {
        Self {
            rsa: rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            p521: EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    pub(crate) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let mac = |hash| {
            hmac::sign(&hmac::Key::new(hash, SECRET), message)
                .as_ref()
                .to_vec()
        };
        let rsa = |encoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa
                .sign(encoding, &random, message, &mut signature)
                .unwrap();
            signature
        };
        match algorithm {
            Algorithm::Hs256 => mac(hmac::HMAC_SHA256),
            Algorithm::Hs384 => mac(hmac::HMAC_SHA384),
            Algorithm::Hs512 => mac(hmac::HMAC_SHA512),
            Algorithm::Rs256 => rsa(&RSA_PKCS1_SHA256),
            Algorithm::Rs384 => rsa(&RSA_PKCS1_SHA384),
            Algorithm::Rs512 => rsa(&RSA_PKCS1_SHA512),
            Algorithm::Ps256 => rsa(&RSA_PSS_SHA256),
            Algorithm::Ps384 => rsa(&RSA_PSS_SHA384),
            Algorithm::Ps512 => rsa(&RSA_PSS_SHA512),
            Algorithm::Es256 => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            Algorithm::Es384 => self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            Algorithm::Es512 => self.p521.sign(&random, message).unwrap().as_ref().to_vec(),
            Algorithm::EdDsa => self.ed.sign(message).as_ref().to_vec(),
        }
    }

    /// SubjectPublicKeyInfo of the key for an algorithm.
    pub(crate) fn spki(&self, algorithm: Algorithm) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match algorithm {
            Algorithm::Es256 => self.p256.public_key().as_der().unwrap(),
            Algorithm::Es384 => self.p384.public_key().as_der().unwrap(),
            Algorithm::Es512 => self.p521.public_key().as_der().unwrap(),
            Algorithm::EdDsa => self.ed.public_key().as_der().unwrap(),
            _ => self.rsa.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    pub(crate) fn pem(&self, algorithm: Algorithm) -> String {
        armour("PUBLIC KEY", &self.spki(algorithm))
    }
}

pub(crate) fn armour(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with this header and payload, signed.
pub(crate) fn token(algorithm: Algorithm, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", b64(header), b64(payload));
    let signature = PAIRS.sign(algorithm, signed.as_bytes());
    format!("{signed}.{}", b64(signature))
}

/// An HS256 token with this payload.
pub(crate) fn simple(payload: &str) -> String {
    token(Algorithm::Hs256, r#"{"alg":"HS256","typ":"JWT"}"#, payload)
}

pub(crate) fn value(text: impl AsRef<[u8]>) -> Secret {
    Secret(text.as_ref().to_vec())
}

pub(crate) fn secret_keys(algorithm: &str) -> JwtKeysSpec {
    JwtKeysSpec::Secret {
        secret: value(SECRET),
        algorithm: algorithm.into(),
    }
}

pub(crate) fn pem_keys(algorithm: Algorithm, pem: &str) -> JwtKeysSpec {
    JwtKeysSpec::Pem {
        pem: value(pem),
        algorithm: algorithm.as_str().into(),
    }
}

/// The contract's defaults.
pub(crate) fn spec(keys: JwtKeysSpec) -> JwtSpec {
    JwtSpec {
        keys,
        algorithms: None,
        issuer: vec![],
        audience: vec![],
        leeway: 0,
        require: vec!["exp".into()],
        cookie: None,
        invalid_status: 403,
        shared: false,
        forward: vec![
            ("userId".into(), "X-User-ID".into()),
            ("role".into(), "X-User-Role".into()),
        ],
        optional: false,
        realm: "storefront".into(),
    }
}

pub(crate) fn policy(edit: impl FnOnce(&mut JwtSpec)) -> JwtPolicy {
    let mut spec = spec(secret_keys("HS256"));
    edit(&mut spec);
    JwtPolicy::compile(spec).unwrap()
}

pub(crate) fn check(policy: &JwtPolicy, token: &str) -> Result<Claims, TokenError> {
    verify(policy, policy.static_keys().unwrap(), token.as_bytes(), NOW)
}

/// `verify` against the default policy.
pub(crate) fn check_default(token: &str) -> Result<Claims, TokenError> {
    check(&policy(|_| {}), token)
}
