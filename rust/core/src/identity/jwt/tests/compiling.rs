use super::*;

fn problems(edit: impl FnOnce(&mut JwtSpec)) -> Vec<String> {
    let mut spec = spec(secret_keys("HS256"));
    edit(&mut spec);
    match JwtPolicy::compile(spec) {
        Ok(_) => vec![],
        Err(problems) => problems
            .into_iter()
            .map(|(path, value, message)| match value {
                Some(value) => format!("{path}: {value}: {message}"),
                None => format!("{path}: {message}"),
            })
            .collect(),
    }
}

#[test]
fn each_mistake_is_named_with_its_field() {
    type Edit = fn(&mut JwtSpec);
    let cases: [(Edit, &str); 16] = [
        (
            |s| s.keys = secret_keys("none"),
            "keys.algorithm: none: must be one of HS256, HS384, HS512",
        ),
        (
            |s| s.keys = secret_keys("RS256"),
            "keys.algorithm: RS256: must be one of HS256, HS384, HS512",
        ),
        (
            |s| {
                s.keys = JwtKeysSpec::Secret {
                    secret: value(""),
                    algorithm: "HS256".into(),
                }
            },
            "keys.secret: must not be empty: make one with openssl rand -base64 48",
        ),
        (
            |s| s.cookie = Some("a b".into()),
            "cookie: a b: must be a cookie name (RFC 6265 §4.1.1)",
        ),
        (
            |s| s.issuer = vec![String::new()],
            "issuer[0]: must not be empty",
        ),
        (
            |s| s.algorithms = Some(vec!["HS256".into()]),
            "algorithms: is for key sets only: this key has its one \"algorithm\"",
        ),
        (
            |s| s.realm = "a\nb".into(),
            "realm: a\\nb: must be printable ASCII",
        ),
        (
            |s| s.forward = vec![("a".into(), "Content-Length".into())],
            "forward.a: Content-Length: must not be a header that frames a message or carries credentials",
        ),
        (
            |s| s.forward = vec![("a".into(), "a b".into())],
            "forward.a: a b: must be a header name (RFC 9110 §5.1)",
        ),
        (
            |s| s.forward = vec![("a".into(), "X-A".into()), ("b".into(), "x-a".into())],
            "forward.b: x-a: must not be the header of another claim",
        ),
        (
            |s| s.keys = url("http://issuer.example/jwks"),
            "keys.url: \"http://issuer.example/jwks\": must be an https URL without user information (http only for this machine)",
        ),
        (
            |s| s.keys = url("https://me:pw@issuer.example/jwks"),
            "keys.url: must be an https URL without user information (http only for this machine)",
        ),
        (
            |s| s.keys = JwtKeysSpec::Jwks { jwks: value("{}") },
            "keys.jwks: is not a JSON object with a \"keys\" array (RFC 7517 §5) in which each member stands once",
        ),
        (
            |s| {
                s.keys = JwtKeysSpec::JwksUrl {
                    url: "https://a/".into(),
                    refresh: 0,
                    cooldown: 30,
                    max_stale: 0,
                }
            },
            "keys.refresh: 0: must be ≥ 1 seconds",
        ),
        (
            |s| {
                s.keys = JwtKeysSpec::JwksUrl {
                    url: "https://a/".into(),
                    refresh: 9,
                    cooldown: 0,
                    max_stale: 0,
                }
            },
            "keys.cooldown: 0: must be ≥ 1 seconds",
        ),
        (|s| s.keys = url("https://issuer.example/jwks"), ""),
    ];
    for (edit, want) in cases {
        assert_eq!(problems(edit).join("\n"), want);
    }
}

fn url(url: &str) -> JwtKeysSpec {
    JwtKeysSpec::JwksUrl {
        url: url.into(),
        refresh: 300,
        cooldown: 30,
        max_stale: 86400,
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let found = problems(|spec| {
        spec.keys = secret_keys("RS256");
        spec.realm = "\u{e9}".into();
        spec.cookie = Some(String::new());
        spec.forward = vec![("a".into(), String::new())];
    });
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn a_pem_that_will_not_do_is_told_from_one_that_will() {
    let rsa = PAIRS.pem(Algorithm::Rs256);
    let small = {
        // A PKCS#1 key of 1024 bits: SEQUENCE { INTEGER n, INTEGER 65537 }.
        let mut der = vec![0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00];
        der.extend([0xff; 128]);
        der.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
        armour("RSA PUBLIC KEY", &der)
    };
    let pkcs1 = armour("RSA PUBLIC KEY", PAIRS.rsa.public_key().as_ref());
    for (algorithm, pem, want) in [
        (Algorithm::Rs256, rsa.clone(), ""),
        (Algorithm::Rs256, rsa.replace('\n', "\r\n"), ""),
        (Algorithm::Ps512, format!("a comment\n{rsa}"), ""),
        (Algorithm::Rs384, pkcs1.clone(), ""),
        (Algorithm::Es256, PAIRS.pem(Algorithm::Es256), ""),
        (Algorithm::Es384, PAIRS.pem(Algorithm::Es384), ""),
        (Algorithm::Es512, PAIRS.pem(Algorithm::Es512), ""),
        (Algorithm::EdDsa, PAIRS.pem(Algorithm::EdDsa), ""),
        (
            Algorithm::Es256,
            rsa.clone(),
            "is an RSA key; ES256 needs an EC key on P-256",
        ),
        (
            Algorithm::Es256,
            pkcs1,
            "is an RSA key; ES256 needs an EC key on P-256",
        ),
        (
            Algorithm::Rs256,
            PAIRS.pem(Algorithm::Es256),
            "is an EC key on P-256; RS256 needs an RSA key",
        ),
        (
            Algorithm::Es256,
            PAIRS.pem(Algorithm::Es384),
            "is an EC key on P-384; ES256 needs an EC key on P-256",
        ),
        (
            Algorithm::Es384,
            PAIRS.pem(Algorithm::EdDsa),
            "is an Ed25519 key; ES384 needs an EC key on P-384",
        ),
        (
            Algorithm::Rs256,
            armour("PRIVATE KEY", b"x"),
            "is a private key; the edge needs only the public one: openssl pkey -pubout -in FILE",
        ),
        (
            Algorithm::Rs256,
            armour("RSA PRIVATE KEY", b"x"),
            "is a private key; the edge needs only the public one: openssl pkey -pubout -in FILE",
        ),
        (
            Algorithm::Es256,
            armour("EC PRIVATE KEY", b"x"),
            "is a private key; the edge needs only the public one: openssl pkey -pubout -in FILE",
        ),
        (
            Algorithm::Rs256,
            armour("CERTIFICATE", b"x"),
            "is a certificate; give its public key: openssl x509 -pubkey -noout -in FILE",
        ),
        (
            Algorithm::Rs256,
            armour("PARROT", b"x"),
            "is PEM, but of neither PUBLIC KEY nor RSA PUBLIC KEY",
        ),
        (
            Algorithm::Rs256,
            armour("PUBLIC KEY", b"x"),
            "is a public key of a kind that is not supported: take RSA, EC on P-256, P-384 or P-521, or Ed25519",
        ),
        (
            Algorithm::Rs256,
            armour("RSA PUBLIC KEY", b"x"),
            "is not a valid RSA public key",
        ),
        (
            Algorithm::Rs256,
            small,
            "is an RSA key of 1024 bits; it must have 2048 to 8192",
        ),
        (
            Algorithm::Rs256,
            format!("{rsa}{rsa}"),
            "has more than one PEM block; give the one public key",
        ),
        (
            Algorithm::Rs256,
            "secret".into(),
            "is not PEM: there is no -----BEGIN PUBLIC KEY-----",
        ),
        (
            Algorithm::Rs256,
            rsa.replace("-----END", "-----FIN"),
            "is not PEM: there is no -----END line",
        ),
        (
            Algorithm::Rs256,
            rsa.replace("END PUBLIC", "END RSA PUBLIC"),
            "is not PEM: its BEGIN and END lines differ",
        ),
        (
            Algorithm::Rs256,
            rsa.replacen("MII", "MI*", 1),
            "is not PEM: its content is not base64",
        ),
    ] {
        let found = problems(|spec| spec.keys = pem_keys(algorithm, &pem));
        let want: Vec<String> = [want]
            .iter()
            .filter(|w| !w.is_empty())
            .map(|w| format!("keys.pem: {w}"))
            .collect();
        assert_eq!(found, want);
    }
}

#[test]
fn an_ec_point_off_its_curve_is_refused() {
    let mut der = PAIRS.spki(Algorithm::Es256);
    *der.last_mut().unwrap() ^= 1;
    let pem = armour("PUBLIC KEY", &der);
    let found = problems(|spec| spec.keys = pem_keys(Algorithm::Es256, &pem));
    assert_eq!(found, ["keys.pem: is not a valid key for ES256"]);
}

#[test]
fn a_weak_secret_is_usable_but_noted() {
    assert_eq!(policy(|_| {}).weak_secret(), None);
    let weak = policy(|spec| {
        spec.keys = JwtKeysSpec::Secret {
            secret: value("hunter2"),
            algorithm: "HS512".into(),
        };
    });
    let found = weak.weak_secret().unwrap();
    assert_eq!(
        (found.bytes, found.least, found.id.as_deref()),
        (7, 64, None)
    );
}

#[test]
fn policies_are_told_apart_by_what_they_accept_and_forward() {
    let same = policy(|_| {}).fingerprint();
    assert_eq!(policy(|spec| spec.invalid_status = 401).fingerprint(), same);
    type Edit = fn(&mut JwtSpec);
    let edits: [Edit; 7] = [
        |s| s.issuer = vec!["a".into()],
        |s| s.audience = vec!["a".into()],
        |s| s.require = vec![],
        |s| s.leeway = 1,
        |s| s.forward = vec![],
        |s| s.keys = secret_keys("HS384"),
        |s| {
            s.keys = JwtKeysSpec::Secret {
                secret: value("other"),
                algorithm: "HS256".into(),
            }
        },
    ];
    let mut all: Vec<u128> = edits
        .into_iter()
        .map(|edit| policy(edit).fingerprint())
        .collect();
    all.push(same);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 8);
}
