#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use aws_lc_rs::signature::KeyPair;

use super::*;
use crate::{
    identity::jwt::{
        JwtKeysSpec, JwtPolicy, TokenError,
        tests::{PAIRS, SECRET, b64, policy, token, value},
        verify,
    },
    outcome::Word,
};

const CLAIMS: &str = r#"{"exp":1800000100}"#;

fn rsa_jwk(more: &str) -> String {
    // PKCS#1: SEQUENCE { INTEGER n, INTEGER e }; a 2048-bit n starts after nine bytes, sign byte left out.
    let der = PAIRS.rsa.public_key().as_ref();
    let (n, e) = (&der[9..9 + 256], &der[der.len() - 3..]);
    format!(r#"{{"kty":"RSA","n":"{}","e":"{}"{more}}}"#, b64(n), b64(e))
}

fn ec_jwk(curve: &str, point: &[u8], more: &str) -> String {
    let (x, y) = point[1..].split_at(point.len() / 2);
    format!(
        r#"{{"kty":"EC","crv":"{curve}","x":"{}","y":"{}"{more}}}"#,
        b64(x),
        b64(y)
    )
}

fn p256_jwk(more: &str) -> String {
    ec_jwk("P-256", PAIRS.p256.public_key().as_ref(), more)
}

fn ed_jwk(more: &str) -> String {
    format!(
        r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"{more}}}"#,
        b64(PAIRS.ed.public_key())
    )
}

fn oct_jwk(more: &str) -> String {
    format!(r#"{{"kty":"oct","k":"{}"{more}}}"#, b64(SECRET))
}

fn set(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}],"other":1}}"#, keys.join(","))
}

fn read(keys: &[String], allowed: Option<&[Algorithm]>) -> Result<KeySet, JwksError> {
    KeySet::from_jwks(set(keys).as_bytes(), allowed)
}

#[test]
fn the_first_secret_that_is_too_short_is_noted_with_its_key() {
    let key = |id: &str, secret: &[u8], algorithm: &str| {
        format!(
            r#"{{"kty":"oct","kid":"{id}","alg":"{algorithm}","k":"{}"}}"#,
            b64(secret)
        )
    };
    let allowed: Vec<Algorithm> = ["HS256", "HS512"]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    let strong = [key("a", &[7; 32], "HS256"), key("b", &[7; 64], "HS512")];
    let keys = read(&strong, Some(&allowed)).unwrap();
    assert_eq!(keys.weak_secret(), None);
    let weak = [
        key("a", &[7; 32], "HS256"),
        key("b", &[7; 63], "HS512"),
        key("c", &[7; 5], "HS256"),
    ];
    let keys = read(&weak, Some(&allowed)).unwrap();
    let found = keys.weak_secret().unwrap();
    let found = (
        found.id.as_deref(),
        found.algorithm,
        found.bytes,
        found.least,
    );
    assert_eq!(found, (Some("b"), Algorithm::Hs512, 63, 64));
    // A key that the policy does not allow verifies nothing.
    let keys = read(
        &[key("a", &[7; 32], "HS256"), key("c", &[7; 5], "HS384")],
        Some(&allowed),
    );
    assert_eq!(keys.unwrap().weak_secret(), None);
}

fn described(keys: &KeySet) -> String {
    let each: Vec<String> = keys
        .keys
        .iter()
        .map(|key| format!("{}:{}", key.id.as_deref().unwrap_or("-"), key.algorithm()))
        .collect();
    each.join(" ")
}

fn open() -> JwtPolicy {
    policy(|_| {})
}

fn try_with(keys: &KeySet, algorithm: Algorithm, header: &str) -> Result<(), TokenError> {
    let token = token(algorithm, header, CLAIMS);
    verify(&open(), keys, token.as_bytes(), 1_800_000_000).map(|_| ())
}

#[test]
fn each_kind_of_key_verifies() {
    for (jwk, algorithm) in [
        (rsa_jwk(""), Algorithm::Rs256),
        (rsa_jwk(r#","alg":"PS384""#), Algorithm::Ps384),
        (p256_jwk(""), Algorithm::Es256),
        (
            ec_jwk("P-384", PAIRS.p384.public_key().as_ref(), ""),
            Algorithm::Es384,
        ),
        (
            ec_jwk("P-521", PAIRS.p521.public_key().as_ref(), ""),
            Algorithm::Es512,
        ),
        (ed_jwk(""), Algorithm::EdDsa),
    ] {
        let keys = read(&[jwk], None).unwrap();
        try_with(&keys, algorithm, &format!(r#"{{"alg":"{algorithm}"}}"#)).unwrap();
    }
    let keys = read(&[oct_jwk("")], Some(&[Algorithm::Hs512])).unwrap();
    try_with(&keys, Algorithm::Hs512, r#"{"alg":"HS512"}"#).unwrap();
}

#[test]
fn keys_serve_what_they_say_and_the_policy_allows() {
    use Algorithm::{EdDsa, Hs256, Hs384, Ps256, Rs256};
    for (jwk, allowed, want) in [
        (rsa_jwk(r#","kid":"a""#), None, "a:RS256"),
        (
            rsa_jwk(r#","kid":"a","alg":"RS512","use":"sig""#),
            None,
            "a:RS512",
        ),
        (
            rsa_jwk(""),
            Some(&[Rs256, Ps256, Hs256][..]),
            "-:RS256 -:PS256",
        ),
        (rsa_jwk(r#","alg":"RS512""#), Some(&[Rs256][..]), ""),
        (rsa_jwk(r#","alg":"ES256""#), None, ""),
        (rsa_jwk(r#","alg":"HS256""#), None, ""),
        (rsa_jwk(r#","alg":"RSA-OAEP""#), None, ""),
        (rsa_jwk(r#","alg":1"#), None, ""),
        (rsa_jwk(r#","use":"enc""#), None, ""),
        (rsa_jwk(r#","use":1"#), None, ""),
        (rsa_jwk(r#","key_ops":["verify"]"#), None, "-:RS256"),
        (rsa_jwk(r#","key_ops":["sign","verify"]"#), None, "-:RS256"),
        (rsa_jwk(r#","key_ops":["encrypt"]"#), None, ""),
        (rsa_jwk(r#","key_ops":"verify""#), None, ""),
        (rsa_jwk(r#","kid":7"#), None, ""),
        // A private key that was published by mistake still verifies, and its private part is not kept.
        (rsa_jwk(r#","d":"AQAB","p":"AQAB""#), None, "-:RS256"),
        (ed_jwk(""), Some(&[EdDsa][..]), "-:EdDSA"),
        (ed_jwk(r#","alg":"Ed25519""#), None, "-:EdDSA"),
        (ed_jwk(r#","alg":"Ed448""#), None, ""),
        (p256_jwk(r#","alg":"ES384""#), None, ""),
        (
            ec_jwk("P-521", PAIRS.p256.public_key().as_ref(), ""),
            None,
            "",
        ),
        (oct_jwk(""), None, ""),
        (oct_jwk(r#","alg":"HS256""#), None, ""),
        (oct_jwk(r#","alg":"HS256""#), Some(&[Rs256][..]), ""),
        (
            oct_jwk(r#","alg":"HS256""#),
            Some(&[Hs256, Hs384][..]),
            "-:HS256",
        ),
        (r#"{"kty":"oct","k":""}"#.into(), Some(&[Hs256][..]), ""),
        (r#"{"kty":"oct","k":"a b"}"#.into(), Some(&[Hs256][..]), ""),
        (r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.into(), None, ""),
        (
            rsa_jwk("").replace(r#""e":"AQAB""#, r#""e":"AQ""#),
            None,
            "",
        ),
        (
            rsa_jwk("").replace(r#""e":"AQAB""#, r#""e":"Ag""#),
            None,
            "",
        ),
        (
            rsa_jwk("").replace(r#""e":"AQAB""#, r#""e":"AQAAAAAB""#),
            None,
            "",
        ),
        (
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.into(),
            None,
            "",
        ),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#.into(), None, ""),
        (r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#.into(), None, ""),
        (r#"{"kty":"LATTICE"}"#.into(), None, ""),
        ("7".into(), None, ""),
    ] {
        let found = match read(std::slice::from_ref(&jwk), allowed) {
            Ok(keys) => described(&keys),
            Err(JwksError::NoUsableKey { keys: 1 }) => String::new(),
            Err(error) => panic!("{jwk}: {error}"),
        };
        assert_eq!(found, want, "{jwk} {allowed:?}");
    }
}

#[test]
fn unusable_keys_do_not_spoil_the_others() {
    let keys = read(
        &[
            r#"{"kty":"LATTICE"}"#.into(),
            ed_jwk(r#","kid":"e""#),
            "{}".into(),
        ],
        None,
    );
    assert_eq!(described(&keys.unwrap()), "e:EdDSA");
}

#[test]
fn texts_that_are_no_set_are_refused() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"kty":"RSA","kty":"oct"}]}"#,
        r#"{"keys":[]} x"#,
    ] {
        let found = KeySet::from_jwks(text.as_bytes(), None).unwrap_err();
        assert_eq!(found, JwksError::NotASet, "{text}");
    }
    assert_eq!(
        read(&[], None).unwrap_err(),
        JwksError::NoUsableKey { keys: 0 }
    );
    let long = vec![b' '; MOST_BYTES + 1];
    assert_eq!(
        KeySet::from_jwks(&long, None).unwrap_err(),
        JwksError::TooLong {
            got: MOST_BYTES + 1
        }
    );
    let many = vec![ed_jwk(""); MOST_KEYS + 1];
    assert_eq!(read(&many, None).unwrap_err(), JwksError::TooMany);
}

#[test]
fn the_kid_chooses_among_keys() {
    let keys = read(
        &[
            p256_jwk(r#","kid":"a""#),
            ed_jwk(r#","kid":"b""#),
            ed_jwk(r#","kid":"a""#),
        ],
        None,
    )
    .unwrap();
    for (header, want) in [
        (r#"{"alg":"EdDSA","kid":"b"}"#, "ok"),
        // Two keys of one name: the one of the token's algorithm (RFC 7517 §4.5).
        (r#"{"alg":"EdDSA","kid":"a"}"#, "ok"),
        (r#"{"alg":"EdDSA"}"#, "ok"),
        (r#"{"alg":"Ed25519","kid":"b"}"#, "ok"),
        (r#"{"alg":"Ed448","kid":"b"}"#, "unknown_algorithm"),
        (r#"{"alg":"EdDSA","kid":"c"}"#, "unknown_key"),
        (r#"{"alg":"EdDSA","kid":""}"#, "unknown_key"),
        (r#"{"alg":"ES256","kid":"b"}"#, "wrong_algorithm"),
        (r#"{"alg":"RS256"}"#, "wrong_algorithm"),
    ] {
        let found = try_with(&keys, Algorithm::EdDsa, header);
        assert_eq!(
            found.map_or_else(|error| error.as_str(), |()| "ok"),
            want,
            "{header}"
        );
    }
}

#[test]
fn a_key_without_a_name_serves_any_kid() {
    let keys = read(&[ed_jwk("")], None).unwrap();
    try_with(&keys, Algorithm::EdDsa, r#"{"alg":"EdDSA","kid":"c"}"#).unwrap();
}

#[test]
fn a_token_without_kid_is_tried_with_few_keys() {
    let other = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let stranger = format!(
        r#"{{"kty":"OKP","crv":"Ed25519","x":"{}","kid":"s"}}"#,
        b64(other.public_key())
    );
    let last = |strangers: usize| {
        let mut keys = vec![stranger.clone(); strangers];
        keys.push(ed_jwk(r#","kid":"ours""#));
        let keys = read(&keys, None).unwrap();
        (
            try_with(&keys, Algorithm::EdDsa, r#"{"alg":"EdDSA"}"#).is_ok(),
            try_with(&keys, Algorithm::EdDsa, r#"{"alg":"EdDSA","kid":"ours"}"#).is_ok(),
        )
    };
    assert_eq!(last(7), (true, true));
    assert_eq!(last(8), (false, true));
}

#[test]
fn a_set_in_the_plan_is_judged_with_the_plan() {
    let good = policy(|spec| {
        spec.keys = JwtKeysSpec::Jwks {
            jwks: value(set(&[oct_jwk("")])),
        };
        spec.algorithms = Some(vec!["HS256".into()]);
    });
    assert_eq!(described(good.static_keys().unwrap()), "-:HS256");
    assert!(!format!("{good:?}").contains("secret of"));
}

#[test]
fn sets_are_told_apart_by_their_bytes() {
    let one = read(&[ed_jwk("")], None).unwrap().fingerprint();
    assert_eq!(one, read(&[ed_jwk("")], None).unwrap().fingerprint());
    assert_ne!(
        one,
        read(&[ed_jwk(r#","kid":"a""#)], None)
            .unwrap()
            .fingerprint()
    );
}
