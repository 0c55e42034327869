//! Identity: no unsigned token is accepted, whatever its form.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use edgerouter_core::{
    identity::{
        client_address::resolve,
        jwks::KeySet,
        jwt::{Algorithm, JwtKeysSpec, JwtPolicy, JwtSpec, verify},
    },
    secret::Secret,
};

use super::{NOW, head};

const SECRET: &[u8] = b"a secret of quite some length that only fuzzing knows, and nobody else";

static POLICY: LazyLock<JwtPolicy> = LazyLock::new(|| {
    JwtPolicy::compile(JwtSpec {
        keys: JwtKeysSpec::Secret {
            secret: Secret(SECRET.to_vec()),
            algorithm: "HS256".into(),
        },
        algorithms: None,
        issuer: Vec::new(),
        audience: Vec::new(),
        leeway: 5,
        require: Vec::new(),
        cookie: None,
        invalid_status: 403,
        shared: false,
        forward: vec![
            ("sub".into(), "X-User-ID".into()),
            ("role".into(), "X-User-Role".into()),
        ],
        optional: false,
        realm: "fuzz".into(),
    })
    .unwrap_or_else(|problems| panic!("{problems:?}"))
});

fn keys() -> &'static KeySet {
    POLICY
        .static_keys()
        .expect("the secret came with the policy")
}

fn mac(signed: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed))
}

fn token(header: &[u8], payload: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    format!("{signed}.{}", mac(signed.as_bytes()))
}

/// Valid tokens and some invalid ones.
pub(crate) fn tokens() -> Vec<Vec<u8>> {
    let header = br#"{"alg":"HS256","typ":"JWT"}"#;
    let good = token(header, br#"{"sub":"u-1","role":"admin","exp":1900000000}"#);
    let (signed, _) = good.rsplit_once('.').unwrap_or_default();
    [
        good.clone(),
        token(header, b"{}"),
        token(br#"{"alg":"none"}"#, br#"{"sub":"root"}"#),
        token(br#"{"alg":"HS256","crit":["b64"],"b64":false}"#, b"{}"),
        token(br#"{"alg":"HS256","kid":"../../dev/null"}"#, b"{}"),
        token(br#"{"alg":"RS256","jwk":{"kty":"oct","k":"AA"}}"#, b"{}"),
        format!("{signed}."),
        format!("{good}="),
        "..".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

pub(crate) fn jwt(data: &[u8]) {
    if verify(&POLICY, keys(), data, NOW).is_ok() {
        // A token has one accepted spelling: a second one would be remembered as another token.
        let text = std::str::from_utf8(data).expect("a token is ASCII");
        let (signed, signature) = text.rsplit_once('.').expect("a token has three parts");
        assert_eq!(
            signature,
            mac(signed.as_bytes()),
            "a forged signature is accepted"
        );
    }
}

/// A header and a payload with a correct signature, so that the code behind the signature check is reached, too.
pub(crate) fn jwt_payload(data: &[u8]) {
    let at = data.iter().position(|&byte| byte == b'\n');
    let (header, payload) = match at {
        Some(at) => (
            data.get(..at).unwrap_or_default(),
            data.get(at + 1..).unwrap_or_default(),
        ),
        None => (&br#"{"alg":"HS256"}"#[..], data),
    };
    if let Ok(claims) = verify(&POLICY, keys(), token(header, payload).as_bytes(), NOW) {
        assert!(claims.current(NOW, 5));
        assert_eq!(claims.sub(), claims.claim("sub"));
        assert!(claims.forward().len() <= 2);
        assert!(
            serde_json::from_str::<serde_json::Value>(claims.json())
                .is_ok_and(|json| json.is_object())
        );
    }
}

pub(crate) fn jwks(data: &[u8]) {
    const ALLOWED: [Algorithm; 4] = [
        Algorithm::Hs256,
        Algorithm::Rs256,
        Algorithm::Es256,
        Algorithm::EdDsa,
    ];
    static TOKENS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        ["HS256", "RS256", "ES256", "EdDSA"]
            .map(|name| token(format!(r#"{{"alg":"{name}"}}"#).as_bytes(), b"{}").into_bytes())
            .to_vec()
    });
    for allowed in [None, Some(&ALLOWED[..])] {
        if let Ok(set) = KeySet::from_jwks(data, allowed) {
            assert!(!set.is_empty());
            for token in &*TOKENS {
                let verified = verify(&POLICY, &set, token, NOW);
                assert!(
                    verified.is_err() || allowed.is_some(),
                    "a published set turned on HMAC"
                );
            }
        }
    }
}

pub(crate) fn client_address(data: &[u8]) {
    let headers = head(data);
    let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let untrusted = resolve(peer, &headers, &[], false);
    assert_eq!((untrusted.address, untrusted.trusted_peer), (peer, false));
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    assert!(resolve(peer, &headers, &trusted, false).trusted_peer);
}
