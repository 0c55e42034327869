use super::*;
use crate::identity::jwks::KeySet;

const CLAIMS: &str = r#"{"exp":1800000100}"#;

fn header(header: &str) -> &'static str {
    check_default(&token(Algorithm::Hs256, header, CLAIMS))
        .map_or_else(|error| error.as_str(), |_| "ok")
}

#[test]
fn headers_that_could_mean_something_else_are_refused() {
    for (text, want) in [
        (r#"{"alg":"HS256"}"#, "ok"),
        (r#"{"alg":"none"}"#, "not_signed"),
        (r#"{"alg":"NONE"}"#, "not_signed"),
        (r#"{"alg":"nOnE"}"#, "not_signed"),
        (r#"{"alg":"hs256"}"#, "unknown_algorithm"),
        (r#"{"alg":""}"#, "unknown_algorithm"),
        (r#"{"alg":"ES256K"}"#, "unknown_algorithm"),
        (r#"{"alg":["HS256"]}"#, "malformed"),
        (r#"{"alg":null}"#, "malformed"),
        (r#"{}"#, "malformed"),
        (r#"{"alg":"HS384"}"#, "wrong_algorithm"),
        (r#"{"alg":"RS256"}"#, "wrong_algorithm"),
        (r#"{"alg":"HS256","alg":"HS256"}"#, "malformed"),
        (r#"{"alg":"none","alg":"HS256"}"#, "malformed"),
        (r#"{"alg":"HS256","a\u006cg":"none"}"#, "malformed"),
        (r#"{"alg":"HS256","x":{"a":1,"a":2}}"#, "malformed"),
        (
            r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
            "forbidden_header",
        ),
        (r#"{"alg":"HS256","crit":[]}"#, "forbidden_header"),
        (r#"{"alg":"HS256","b64":true}"#, "forbidden_header"),
        (r#"{"alg":"HS256","zip":"DEF"}"#, "forbidden_header"),
        (
            r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}"#,
            "forbidden_header",
        ),
        (
            r#"{"alg":"HS256","jku":"https://evil.example/jwks"}"#,
            "forbidden_header",
        ),
        (
            r#"{"alg":"HS256","x5u":"https://evil.example/"}"#,
            "forbidden_header",
        ),
        (r#"{"alg":"HS256","x5c":["MII"]}"#, "forbidden_header"),
        (r#"{"alg":"HS256","typ":"secevent+jwt"}"#, "wrong_type"),
        (r#"{"alg":"HS256","typ":"application/json"}"#, "wrong_type"),
        (r#"{"alg":"HS256","typ":""}"#, "wrong_type"),
        (r#"{"alg":"HS256","typ":1}"#, "wrong_type"),
        (r#"{"alg":"HS256","kid":7}"#, "malformed"),
        (r#"["HS256"]"#, "malformed"),
        (r#"{"alg":"HS256"} x"#, "malformed"),
        ("{\"alg\":\"HS256\",\"kid\":\"\u{0}\"}", "malformed"),
        ("", "malformed"),
    ] {
        assert_eq!(header(text), want, "{text}");
    }
    assert_eq!(
        header(&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(600))),
        "malformed"
    );
    assert_eq!(
        header(&format!(r#"{{"alg":"HS256","x":"{}"}}"#, "k".repeat(3000))),
        "malformed"
    );
    let deep = format!(
        r#"{{"alg":"HS256","x":{}{}}}"#,
        "[".repeat(500),
        "]".repeat(500)
    );
    assert_eq!(header(&deep), "malformed");
}

#[test]
fn a_public_key_is_never_an_hmac_secret() {
    // Algorithm confusion: HS256 with the published RSA key as the secret.
    let pem = PAIRS.pem(Algorithm::Rs256);
    let policy = policy(|spec| spec.keys = pem_keys(Algorithm::Rs256, &pem));
    let signed = format!("{}.{}", b64(r#"{"alg":"HS256"}"#), b64(CLAIMS));
    for secret in [pem.as_bytes(), &PAIRS.spki(Algorithm::Rs256)] {
        let mac = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, secret),
            signed.as_bytes(),
        );
        let token = format!("{signed}.{}", b64(mac));
        assert_eq!(
            check(&policy, &token).unwrap_err(),
            TokenError::WrongAlgorithm {
                got: Algorithm::Hs256
            }
        );
    }
    // PSS and PKCS#1 v1.5 are not interchangeable either.
    let token = token(Algorithm::Ps256, r#"{"alg":"PS256"}"#, CLAIMS);
    assert_eq!(
        check(&policy, &token).unwrap_err().as_str(),
        "wrong_algorithm"
    );
}

#[test]
fn forms_that_are_not_one_token_are_refused() {
    let good = simple(CLAIMS);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (head, payload) = signed.split_once('.').unwrap();
    // The last character of 32 bytes in base64url has two unused bits: one more spelling for each would verify.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet
        .chars()
        .nth(alphabet.find(last).unwrap() + 1)
        .unwrap();
    let twin = format!("{}{next}", &good[..good.len() - 1]);
    let padded = {
        let signed = format!("{head}.{payload}=");
        let signature = PAIRS.sign(Algorithm::Hs256, signed.as_bytes());
        format!("{signed}.{}", b64(signature))
    };
    for text in [
        String::new(),
        "garbage".into(),
        ".".into(),
        "..".into(),
        format!("{head}.{payload}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.x.y"),
        format!("{good}="),
        format!("{signed}.{signature}\n"),
        format!(" {good}"),
        padded,
        format!(
            "{head}.{payload}.{}",
            signature.replace(['-', '_'], "+") + "+"
        ),
        twin,
        "\u{e9}.\u{e9}.\u{e9}".into(),
    ] {
        assert_eq!(
            check_default(&text).unwrap_err().as_str(),
            "malformed",
            "{text}"
        );
    }
    check_default(&good).unwrap();
}

#[test]
fn long_tokens_are_refused_before_anything_is_read() {
    let policy = policy(|_| {});
    assert_eq!(
        check(&policy, &"a".repeat(8193)).unwrap_err(),
        TokenError::TooLong {
            got: 8193,
            limit: 8192
        }
    );
    assert_eq!(
        check(&policy, &"a".repeat(8192)).unwrap_err().as_str(),
        "malformed"
    );
}

#[test]
fn claims_that_could_mean_something_else_are_refused() {
    for claims in [
        r#"[]"#,
        r#""exp""#,
        "",
        r#"{"exp":1800000100"#,
        r#"{"exp":1800000100}{}"#,
        r#"{"exp":1800000100,"exp":1800000200}"#,
        r#"{"exp":1800000100,"sub":"a","sub":"b"}"#,
        r#"{"exp":1800000100,"x":[{"a":1,"a":1}]}"#,
        r#"{"exp":"1800000100"}"#,
        r#"{"exp":null}"#,
        r#"{"exp":true}"#,
        r#"{"exp":1e999}"#,
        r#"{"exp":NaN}"#,
        r#"{"exp":1800000100,"nbf":"0"}"#,
        r#"{"exp":1800000100,"iat":"0"}"#,
    ] {
        assert_eq!(
            check_default(&simple(claims)).unwrap_err().as_str(),
            "bad_claims",
            "{claims}"
        );
    }
    // Past the number of members that are compared one by one.
    let many: Vec<String> = (0..40).map(|i| format!(r#""m{i}":1"#)).collect();
    let many = format!(r#"{{"exp":1800000100,{},"m7":2}}"#, many.join(","));
    assert_eq!(
        check_default(&simple(&many)).unwrap_err().as_str(),
        "bad_claims"
    );
}

#[test]
fn required_claims_are_required() {
    assert_eq!(
        check_default(&simple("{}")).unwrap_err(),
        TokenError::MissingClaim { name: "exp".into() }
    );
    let policy = policy(|spec| spec.require = vec!["sub".into()]);
    for (claims, good) in [
        (r#"{"sub":"a"}"#, true),
        (r#"{"sub":""}"#, true),
        (r#"{"sub":null}"#, false),
        (r#"{"exp":1800000100}"#, false),
    ] {
        assert_eq!(check(&policy, &simple(claims)).is_ok(), good, "{claims}");
    }
}

#[test]
fn without_keys_there_is_no_verdict() {
    let policy = policy(|_| {});
    let found = verify(&policy, &KeySet::empty(), b"garbage", NOW);
    assert_eq!(found.unwrap_err(), TokenError::NoKey);
}

#[test]
fn messages_show_a_kid_cut_and_escaped() {
    let kid = KeyId::new(Some("a\n\"b"));
    assert_eq!(
        format!("{}", TokenError::UnknownKey { kid }),
        r#"no key has the id "a\n\"b""#
    );
    let long = KeyId::new(Some(&"k".repeat(100)));
    assert_eq!(format!("{long:?}"), format!("\"{}\"…", "k".repeat(40)));
    assert_eq!(format!("{:?}", KeyId::NONE), "(no kid)");
}
