#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use http::HeaderValue;

use super::*;

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// The result for hooks that read like this, on a route whose key has something of each kind.
fn effect(read: impl FnOnce(&mut Reads)) -> HookEffect {
    let policy = CachePolicy {
        key_headers: vec![FieldName::from_static("x-plan")],
        key_cookies: Some(Select::Only(names(&["theme"]))),
        key_query: Select::Only(names(&["page"])),
        key_claims: vec!["sub".into()],
        accept_encoding: true,
        ..CachePolicy::default()
    };
    let viewer = Fields::of_lines(&[
        ("accept-language", "de"),
        ("cookie", "theme=dark; variant=a"),
    ]);
    let mut shown = viewer.clone();
    shown.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
    shown.insert("x-role", HeaderValue::from_static("admin"));
    shown.insert("x-fixed", HeaderValue::from_static("1"));
    shown.insert("x-unknown", HeaderValue::from_static("2"));
    let mut written = Written::default();
    written
        .fields
        .push((CallableId(0), FieldName::from_static("x-written")));
    let edits = HeaderEdits {
        set: vec![(
            FieldName::from_static("x-fixed"),
            HeaderValue::from_static("1"),
        )],
        ..HeaderEdits::default()
    };
    let mut reads = Reads::default();
    read(&mut reads);
    let mut effect = HookEffect::default();
    Facts {
        policy: &policy,
        forward_query: &Select::All,
        edits: &edits,
        written: Some(&written),
        viewer: &viewer,
        shown: &shown,
        identity: &[FieldName::from_static("x-role")],
        experiments: &[FieldName::from_static("x-home")],
        anonymous: true,
        params: false,
        claims: None,
    }
    .apply(&reads, &mut effect);
    effect
}

#[test]
fn what_the_key_has_and_what_is_the_same_for_all_selects_nothing() {
    for name in [
        "x-plan",
        "x-written",
        "x-home",
        "x-fixed",
        "accept-encoding",
        "host",
        "if-none-match",
        "range",
        "no field name",
    ] {
        assert_eq!(
            effect(|reads| reads.field(name)),
            HookEffect::default(),
            "{name}"
        );
    }
    assert_eq!(effect(|_| {}), HookEffect::default());
    assert_eq!(effect(|reads| reads.cookie("theme")), HookEffect::default());
    assert_eq!(
        effect(|reads| reads.query.note("page")),
        HookEffect::default()
    );
    assert_eq!(
        effect(|reads| reads.claims.note("sub")),
        HookEffect::default()
    );
}

#[test]
fn a_field_or_cookie_that_the_key_lacks_selects() {
    for (name, selects) in [
        ("Accept-Language", header::ACCEPT_LANGUAGE.into()),
        ("x-absent", FieldName::from_static("x-absent")),
        ("cookie", header::COOKIE.into()),
    ] {
        let effect = effect(|reads| reads.field(name));
        assert_eq!(
            (&effect.selects[..], effect.forbids),
            (&[selects][..], None)
        );
    }
    let effect = effect(|reads| reads.cookie("variant"));
    assert_eq!(effect.selects[..], [vary::cookie("variant")]);
}

#[test]
fn what_nothing_later_could_be_compared_with_is_not_stored() {
    let reads: [(&str, fn(&mut Reads)); 11] = [
        ("the client", |reads| reads.personal = true),
        ("everything", Reads::all_fields),
        ("the chain of addresses", |reads| {
            reads.field("x-forwarded-for")
        }),
        ("a claim's field", |reads| reads.field("x-role")),
        ("a field of nobody knows whom", |reads| {
            reads.field("x-unknown")
        }),
        ("another parameter", |reads| reads.query.note("q")),
        ("the whole query", |reads| reads.query.all = true),
        ("another claim", |reads| reads.claims.note("role")),
        ("the whole token", |reads| reads.claims.all = true),
        ("the pattern's parameters", |reads| reads.params = true),
        ("too many fields", |reads| {
            for number in 0..=MOST_NAMES {
                reads.field(&format!("x-{number}"));
            }
        }),
    ];
    for (what, read) in reads {
        assert_eq!(effect(read).forbids, Some(NotStored::Hook), "{what}");
    }
}

#[test]
fn reading_back_what_was_written_reads_nothing() {
    let own = effect(|reads| {
        reads.wrote(&FieldName::from_static("x-own"));
        reads.field("X-Own");
        reads.wrote(&header::COOKIE.into());
        reads.cookie("variant");
        reads.all_cookies();
    });
    assert_eq!(own, HookEffect::default());
    let cleared = effect(|reads| {
        reads.clear();
        reads.all_fields();
        reads.field("accept-language");
    });
    assert_eq!(cleared, HookEffect::default());
}

#[test]
fn what_hooks_wrote_is_named_once_and_in_order() {
    let mut written = Written::default();
    let mut reads = Reads::default();
    for name in ["x-b", "x-a", "x-b"] {
        reads.wrote(&FieldName::from_static(name));
    }
    let nothing = Fields::new();
    written.by(CallableId(1), &reads, &nothing, &nothing);
    written.by(CallableId(2), &reads, &nothing, &nothing);
    assert_eq!(written.names(), ["x-a", "x-b"]);
    assert!(
        written
            .fields
            .iter()
            .all(|(call, _)| *call == CallableId(1))
    );
    reads.clear();
    let (before, after) = (
        Fields::of_lines(&[("x-old", "1")]),
        Fields::of_lines(&[("x-new", "1")]),
    );
    written.by(CallableId(3), &reads, &before, &after);
    assert_eq!(written.names(), ["x-a", "x-b", "x-new", "x-old"]);
    assert!(written.wrote("anything"));
}

#[test]
fn the_key_covers_the_query_only_where_it_has_every_parameter_that_is_sent() {
    let only = |list: &[&str]| Select::Only(names(list));
    let except = |list: &[&str]| Select::Except(names(list));
    for (key, sent, want) in [
        (Select::All, Select::All, true),
        (Select::None, Select::None, true),
        (Select::None, Select::All, false),
        (only(&["a", "b"]), only(&["a"]), true),
        (only(&["a"]), only(&["a", "b"]), false),
        (only(&["a"]), Select::All, false),
        (except(&["a"]), except(&["a", "b"]), true),
        (except(&["a", "b"]), except(&["a"]), false),
        (except(&["a"]), only(&["b"]), true),
        (except(&["a"]), only(&["a"]), false),
        (except(&["a"]), Select::All, false),
    ] {
        assert_eq!(key.covers(&sent), want, "{key:?} {sent:?}");
    }
}
