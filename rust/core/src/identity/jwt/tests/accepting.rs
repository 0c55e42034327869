use super::*;

const CLAIMS: &str = r#"{"sub":"u1","userId":"42","role":"admin","exp":1800000100}"#;

#[test]
fn every_algorithm_verifies_its_own_signature_and_no_other() {
    for algorithm in Algorithm::ALL {
        let keys = if algorithm.least_secret() > 0 {
            secret_keys(algorithm.as_str())
        } else {
            pem_keys(algorithm, &PAIRS.pem(algorithm))
        };
        let policy = policy(|spec| spec.keys = keys);
        let header = format!(r#"{{"alg":"{algorithm}"}}"#);
        let good = token(algorithm, &header, CLAIMS);
        let claims = check(&policy, &good).unwrap_or_else(|error| panic!("{algorithm}: {error}"));
        assert_eq!(claims.sub(), Some("u1"));
        assert_eq!(claims.json().as_ref(), CLAIMS);

        // One bit of the payload, then of the signature.
        let other = token(algorithm, &header, &CLAIMS.replace("u1", "u2"));
        let (signed, _) = good.rsplit_once('.').unwrap();
        let (_, wrong) = other.rsplit_once('.').unwrap();
        let crossed = format!("{signed}.{wrong}");
        assert_eq!(
            check(&policy, &crossed).unwrap_err().as_str(),
            "bad_signature",
            "{algorithm}"
        );
        // An empty, a short and a long signature.
        let (_, right) = good.rsplit_once('.').unwrap();
        let bytes = base64url(right.as_bytes()).unwrap();
        for bytes in [&[][..], &bytes[1..], &[&bytes[..], &[0]].concat()] {
            let cut = format!("{signed}.{}", b64(bytes));
            assert_eq!(
                check(&policy, &cut).unwrap_err().as_str(),
                "bad_signature",
                "{algorithm}"
            );
        }
    }
}

#[test]
fn ecdsa_signatures_in_asn1_are_refused() {
    use aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let pem = armour("PUBLIC KEY", der.as_ref());
    let policy = policy(|spec| spec.keys = pem_keys(Algorithm::Es256, &pem));
    let signed = format!("{}.{}", b64(r#"{"alg":"ES256"}"#), b64(CLAIMS));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", b64(signature));
    assert_eq!(
        check(&policy, &token).unwrap_err().as_str(),
        "bad_signature"
    );
}

#[test]
fn a_jwt_from_the_rfc_is_accepted() {
    // RFC 7515 §A.1, which spells its header and payload with line breaks.
    let key = base64url(
        b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    )
    .unwrap();
    let policy = policy(|spec| {
        spec.keys = JwtKeysSpec::Secret {
            secret: value(key),
            algorithm: "HS256".into(),
        };
        spec.issuer = vec!["joe".into()];
    });
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let keys = policy.static_keys().unwrap();
    let claims = verify(&policy, keys, token.as_bytes(), 1_300_819_379).unwrap();
    assert_eq!(claims.claim("http://example.com/is_root"), Some("true"));
    assert_eq!(
        verify(&policy, keys, token.as_bytes(), 1_300_819_380).unwrap_err(),
        TokenError::Expired { seconds: 0 }
    );
}

#[test]
fn types_of_jwt_are_accepted_in_any_case() {
    for typ in [
        "JWT",
        "jwt",
        "at+jwt",
        "AT+JWT",
        "application/jwt",
        "Application/at+JWT",
    ] {
        let header = format!(r#"{{"alg":"HS256","typ":"{typ}","kid":"any","x5t":"abc"}}"#);
        check_default(&token(Algorithm::Hs256, &header, CLAIMS)).unwrap();
    }
}

#[test]
fn times_follow_the_rfc_with_leeway() {
    // exp: on or after it the token is refused (RFC 7519 §4.1.4); nbf: before it (§4.1.5).
    for (leeway, times, good) in [
        (0, r#""exp":1800000001"#, true),
        (0, r#""exp":1800000000"#, false),
        (0, r#""exp":1800000000.9"#, false),
        (0, r#""exp":1800000001.5"#, true),
        (0, r#""exp":1.8000001e9"#, true),
        (0, r#""exp":1e300"#, true),
        (0, r#""exp":-5"#, false),
        (5, r#""exp":1799999996"#, true),
        (5, r#""exp":1799999995"#, false),
        (0, r#""exp":1800000100,"nbf":1800000000"#, true),
        (0, r#""exp":1800000100,"nbf":1800000000.1"#, false),
        (0, r#""exp":1800000100,"nbf":1800000001"#, false),
        (5, r#""exp":1800000100,"nbf":1800000005"#, true),
        (5, r#""exp":1800000100,"nbf":1800000006"#, false),
        // An issuer's clock may run ahead: iat is for the application (§4.1.6).
        (0, r#""exp":1800000100,"iat":1800000050"#, true),
    ] {
        let policy = policy(|spec| spec.leeway = leeway);
        let found = check(&policy, &simple(&format!("{{{times}}}")));
        assert_eq!(found.is_ok(), good, "leeway {leeway}: {times}: {found:?}");
        if let Ok(claims) = found {
            assert!(claims.current(NOW, leeway.into()), "{times}");
        }
    }
}

#[test]
fn issuers_and_audiences_are_matched() {
    for (claims, issuer, audience, want) in [
        (r#"{}"#, "", "", "ok"),
        (r#"{"iss":"a","aud":"b"}"#, "", "", "ok"),
        (r#"{"iss":"a"}"#, "a", "", "ok"),
        (r#"{"iss":"A"}"#, "a", "", "wrong_issuer"),
        (r#"{"iss":"a/"}"#, "a", "", "wrong_issuer"),
        (r#"{}"#, "a", "", "wrong_issuer"),
        (r#"{"iss":["a"]}"#, "a", "", "bad_claims"),
        (r#"{"aud":"b"}"#, "", "b", "ok"),
        (r#"{"aud":["x","b"]}"#, "", "b", "ok"),
        (r#"{"aud":[]}"#, "", "b", "wrong_audience"),
        (r#"{"aud":["x"]}"#, "", "b", "wrong_audience"),
        (r#"{}"#, "", "b", "wrong_audience"),
        (r#"{"aud":["b",1]}"#, "", "b", "bad_claims"),
        (r#"{"aud":{"b":1}}"#, "", "b", "bad_claims"),
    ] {
        let list = |text: &str| -> Vec<String> {
            if text.is_empty() {
                vec![]
            } else {
                vec!["other".into(), text.into()]
            }
        };
        let policy = policy(|spec| {
            spec.require = vec![];
            spec.issuer = list(issuer);
            spec.audience = list(audience);
        });
        let found = check(&policy, &simple(claims));
        let got = found.map_or_else(|error| error.as_str(), |_| "ok");
        assert_eq!(got, want, "{claims} issuer {issuer} audience {audience}");
    }
}

#[test]
fn claims_become_fields() {
    for (claims, want) in [
        (
            r#""userId":"42","role":"admin""#,
            "x-user-id: 42, x-user-role: admin",
        ),
        (
            r#""sub":"u1","role":"admin""#,
            "x-user-id: u1, x-user-role: admin",
        ),
        (r#""sub":"u1","userId":"42""#, "x-user-id: 42"),
        (
            r#""userId":42,"role":true"#,
            "x-user-id: 42, x-user-role: true",
        ),
        (
            r#""userId":18446744073709551615"#,
            "x-user-id: 18446744073709551615",
        ),
        (r#""userId":-3"#, "x-user-id: -3"),
        (r#""userId":1.5"#, "x-user-id: 1.5"),
        // Two large numbers that print alike would be one user.
        (r#""userId":18446744073709551616"#, ""),
        (r#""role":["a","b"]"#, "x-user-role: a,b"),
        (r#""role":["a,admin"]"#, ""),
        (r#""role":[]"#, ""),
        (r#""role":["a",1]"#, ""),
        (r#""role":{"a":1}"#, ""),
        (r#""role":null"#, ""),
        (r#""role":"""#, ""),
        (r#""role":"a\r\nX-Admin: 1""#, ""),
        (r#""role":"a\u0000""#, ""),
        (r#""role":" a""#, ""),
        (r#""role":"J\u00fcrgen""#, "x-user-role: Jürgen"),
        // An unusable userId does not make the visitor somebody else.
        (r#""sub":"u1","userId":{}"#, ""),
    ] {
        let token = simple(&format!(r#"{{"exp":1800000100,{claims}}}"#));
        let found = check_default(&token).unwrap();
        let fields: Vec<String> = found
            .forward()
            .iter()
            .map(|one| {
                let value = std::str::from_utf8(one.value.as_bytes()).unwrap();
                format!("{}: {value}", one.field)
            })
            .collect();
        assert_eq!(fields.join(", "), want, "{claims}");
    }
}

#[test]
fn debug_shows_neither_claims_nor_secrets() {
    let policy = policy(|_| {});
    let claims = check(&policy, &simple(CLAIMS)).unwrap();
    let shown = format!("{policy:?} {claims:?}");
    assert!(
        !shown.contains("a secret") && !shown.contains("admin"),
        "{shown}"
    );
}
