#![allow(clippy::unwrap_used)]

use edgerouter_core::{
    identity::jwt::{JwtKeysSpec, KeySource, verify},
    secret::Secret,
};

use super::*;
use crate::identity::tests::{TOKEN, policy};

fn keys(policy: &JwtPolicy) -> &KeySet {
    policy.static_keys().unwrap()
}

fn claims(policy: &JwtPolicy) -> Arc<Claims> {
    Arc::new(verify(policy, keys(policy), TOKEN.as_bytes(), 1500).unwrap())
}

fn len(memory: &Remembered) -> usize {
    memory.young.entries.len() + memory.old.entries.len()
}

fn bytes(memory: &Remembered) -> usize {
    memory.young.bytes + memory.old.bytes
}

#[test]
fn a_token_is_known_again_while_its_times_allow_it() {
    for (leeway, now, known) in [
        (0, 999, false),
        (0, 1000, true),
        (0, 1999, true),
        (0, 2000, false),
        (5, 994, false),
        (5, 995, true),
        (5, 2004, true),
        (5, 2005, false),
    ] {
        let policy = policy(|spec| spec.leeway = leeway);
        let mut memory = Remembered::new(10);
        assert!(
            memory
                .get(&policy, keys(&policy), TOKEN.as_bytes(), 1500)
                .is_none()
        );
        memory.put(&policy, keys(&policy), TOKEN.as_bytes(), claims(&policy));
        let found = memory.get(&policy, keys(&policy), TOKEN.as_bytes(), now);
        assert_eq!(found.is_some(), known, "leeway {leeway} at {now}");
        // Expired tokens are forgotten.
        assert_eq!(len(&memory), usize::from(known));
        assert_eq!(bytes(&memory) > 0, known);
    }
}

#[test]
fn another_token_policy_or_key_set_finds_nothing() {
    let ours = policy(|_| {});
    let mut memory = Remembered::new(10);
    memory.put(&ours, keys(&ours), TOKEN.as_bytes(), claims(&ours));
    let other_issuer = policy(|spec| spec.issuer = vec!["a".into()]);
    let other_secret = policy(|spec| {
        spec.keys = JwtKeysSpec::Secret {
            secret: Secret(b"another".to_vec()),
            algorithm: "HS256".into(),
        };
    });
    let forged = TOKEN.replace("J", "K");
    assert!(
        memory
            .get(&ours, keys(&ours), forged.as_bytes(), 1500)
            .is_none()
    );
    assert!(
        memory
            .get(&ours, keys(&ours), &TOKEN.as_bytes()[1..], 1500)
            .is_none()
    );
    assert!(
        memory
            .get(&other_issuer, keys(&other_issuer), TOKEN.as_bytes(), 1500)
            .is_none()
    );
    assert!(
        memory
            .get(&other_secret, keys(&other_secret), TOKEN.as_bytes(), 1500)
            .is_none()
    );
    // The set was refreshed and is another one now.
    assert!(
        memory
            .get(&ours, keys(&other_secret), TOKEN.as_bytes(), 1500)
            .is_none()
    );
    // A reload with the same policy forgets nothing.
    let again = policy(|_| {});
    assert!(matches!(again.source, KeySource::Static(_)));
    assert!(
        memory
            .get(&again, keys(&again), TOKEN.as_bytes(), 1500)
            .is_some()
    );
}

#[test]
fn the_memory_is_bounded_and_keeps_what_is_used() {
    let policy = policy(|_| {});
    let claims = claims(&policy);
    let mut memory = Remembered::new(100);
    memory.put(
        &policy,
        keys(&policy),
        TOKEN.as_bytes(),
        Arc::clone(&claims),
    );
    for i in 0..1000 {
        memory.put(
            &policy,
            keys(&policy),
            format!("{TOKEN}{i}").as_bytes(),
            Arc::clone(&claims),
        );
        assert!(len(&memory) <= 100, "{}", len(&memory));
        assert!(
            memory
                .get(&policy, keys(&policy), TOKEN.as_bytes(), 1500)
                .is_some(),
            "{i}"
        );
    }
    assert!(
        memory
            .get(
                &policy,
                keys(&policy),
                format!("{TOKEN}999").as_bytes(),
                1500
            )
            .is_some()
    );
    assert!(
        memory
            .get(&policy, keys(&policy), format!("{TOKEN}5").as_bytes(), 1500)
            .is_none()
    );
}

#[test]
fn long_tokens_count_as_more() {
    let policy = policy(|_| {});
    let claims = claims(&policy);
    let mut memory = Remembered::new(100);
    for i in 0..200 {
        let token = format!("{i}{}", "x".repeat(8000));
        memory.put(
            &policy,
            keys(&policy),
            token.as_bytes(),
            Arc::clone(&claims),
        );
    }
    assert!(bytes(&memory) <= 100 * AVERAGE_BYTES, "{}", bytes(&memory));
    assert!(len(&memory) >= 10);
}

#[test]
fn the_same_token_is_held_once() {
    let policy = policy(|_| {});
    let claims = claims(&policy);
    let mut memory = Remembered::new(100);
    for _ in 0..10 {
        memory.put(
            &policy,
            keys(&policy),
            TOKEN.as_bytes(),
            Arc::clone(&claims),
        );
    }
    assert_eq!(len(&memory), 1);
}

#[test]
fn a_memory_of_none_remembers_none() {
    let policy = policy(|_| {});
    let mut memory = Remembered::new(0);
    memory.put(&policy, keys(&policy), TOKEN.as_bytes(), claims(&policy));
    assert!(len(&memory) == 0);
}

#[test]
fn debug_shows_no_token() {
    let policy = policy(|_| {});
    let mut memory = Remembered::new(10);
    memory.put(&policy, keys(&policy), TOKEN.as_bytes(), claims(&policy));
    let shown = format!("{memory:?}");
    assert!(
        !shown.contains(&TOKEN[..10]) && shown.contains("Token(…)"),
        "{shown}"
    );
}
