#![allow(clippy::unwrap_used, clippy::panic)]

use edgerouter_core::{
    identity::jwt::{JwtKeysSpec, JwtSpec},
    secret::Secret,
};

use super::*;

/// HS256 under [`policy`]'s secret: `{"sub":"u1","nbf":1000,"exp":2000}`.
pub(super) const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1MSIsIm5iZiI6MTAwMCwiZXhwIjoyMDAwfQ.-GLcQlHIpvJzjBBJp3mq5MdSmY0WBgu71CLmj7ocPwo";
/// The key of RFC 8037 §A.2.
pub(super) const ED_KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"}]}"#;

pub(super) fn policy(edit: impl FnOnce(&mut JwtSpec)) -> Arc<JwtPolicy> {
    let mut spec = JwtSpec {
        keys: JwtKeysSpec::Secret {
            secret: Secret(b"0123456789abcdef0123456789abcdef".to_vec()),
            algorithm: "HS256".into(),
        },
        algorithms: None,
        issuer: vec![],
        audience: vec![],
        leeway: 0,
        require: vec!["exp".into()],
        cookie: None,
        invalid_status: 403,
        shared: false,
        forward: vec![("userId".into(), "X-User-ID".into())],
        optional: false,
        realm: "test".into(),
    };
    edit(&mut spec);
    Arc::new(JwtPolicy::compile(spec).unwrap())
}

pub(super) fn fetched(refresh: u32) -> Arc<JwtPolicy> {
    policy(|spec| {
        spec.keys = JwtKeysSpec::JwksUrl {
            url: "https://issuer.example/jwks".into(),
            refresh,
            cooldown: 1,
            max_stale: 60,
        };
    })
}

#[test]
fn keys_of_the_plan_need_no_source() {
    let policy = policy(|_| {});
    let sources = KeySources::for_policies(&KeySources::default(), [&policy].into_iter());
    assert_eq!(sources.sources().count(), 0);
    assert_eq!(sources.keys_of(&policy).unwrap().len(), 1);
}

#[test]
fn without_fetched_keys_there_is_no_key() {
    let policy = fetched(300);
    let sources = KeySources::for_policies(&KeySources::default(), [&policy].into_iter());
    assert_eq!(sources.keys_of(&policy).unwrap_err(), TokenError::NoKey);
    sources.request_keys(&policy);
}

#[test]
fn policies_with_the_same_url_share_a_source_and_a_reload_keeps_it() {
    let (one, two, other) = (fetched(300), fetched(300), fetched(600));
    let first = KeySources::for_policies(&KeySources::default(), [&one, &two].into_iter());
    assert_eq!(first.sources().count(), 1);
    let second = KeySources::for_policies(&first, [&two, &other].into_iter());
    let kept: Vec<bool> = second
        .sources()
        .map(|source| first.sources().any(|before| Arc::ptr_eq(&before, &source)))
        .collect();
    assert_eq!(kept, [true, false]);
}
