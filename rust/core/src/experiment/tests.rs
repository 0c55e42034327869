#![allow(clippy::unwrap_used)]

use super::*;

fn spec() -> ExperimentSpec {
    ExperimentSpec {
        name: "home".into(),
        cookie: "ab-variant".into(),
        variants: vec![("control".into(), 50.0), ("treatment".into(), 50.0)],
        mode: Mode::Cookie,
        by: ExperimentBy::Cookie,
        salt: String::new(),
        header: "X-Variant".into(),
        max_age: 2_592_000,
        secure: false,
        same_site: "Lax".into(),
        config: None,
        conversion: None,
    }
}

fn experiment(edit: impl FnOnce(&mut ExperimentSpec)) -> Experiment {
    let mut spec = spec();
    edit(&mut spec);
    Experiment::compile(spec).unwrap()
}

fn weighted(weights: &[(&str, u32)]) -> Experiment {
    experiment(|spec| {
        spec.variants = weights
            .iter()
            .map(|(name, weight)| ((*name).into(), f64::from(*weight)))
            .collect();
    })
}

fn named(experiment: &Experiment, variant: usize) -> &str {
    experiment.variant(variant)
}

#[test]
fn the_cookie_is_the_one_of_the_reference_article() {
    assert_eq!(
        experiment(|_| {}).set_cookie(1),
        "ab-variant=treatment; Path=/; Max-Age=2592000; SameSite=Lax"
    );
    let strict = experiment(|spec| {
        spec.secure = true;
        spec.same_site = "None".into();
        spec.max_age = 60;
    });
    assert_eq!(
        strict.set_cookie(0),
        "ab-variant=control; Path=/; Max-Age=60; SameSite=None; Secure"
    );
    assert_eq!(strict.value(0), "control");
    assert_eq!(strict.set_cookie(9), "");
}

#[test]
fn a_cookie_is_kept_when_it_names_a_variant_in_use() {
    let experiment = weighted(&[("control", 100), ("treatment", 0)]);
    for (cookie, want, fresh, reason) in [
        ("", "control", true, AssignedBy::New),
        ("other=control", "control", true, AssignedBy::New),
        ("ab-variant=control", "control", false, AssignedBy::Kept),
        (
            "a=1; ab-variant=control; b=2",
            "control",
            false,
            AssignedBy::Kept,
        ),
        // Switched off, forged, of another case, empty.
        (
            "ab-variant=treatment",
            "control",
            true,
            AssignedBy::Reassigned,
        ),
        ("ab-variant=evil", "control", true, AssignedBy::Reassigned),
        (
            "ab-variant=Control",
            "control",
            true,
            AssignedBy::Reassigned,
        ),
        ("ab-variant=", "control", true, AssignedBy::Reassigned),
        (
            "ab-variant=evil; ab-variant=control",
            "control",
            false,
            AssignedBy::Kept,
        ),
    ] {
        let map = Fields::of_lines(&[("cookie", cookie)]);
        let found = experiment.assign(&map, None, u64::MAX, None);
        assert_eq!(
            (&**found.variant, found.fresh, found.reason),
            (want, fresh, reason),
            "{cookie}"
        );
    }
}

#[test]
fn chance_follows_the_weights_exactly() {
    let experiment = weighted(&[("off", 0), ("a", 1), ("b", 2), ("none", 0), ("c", 1)]);
    let none = Fields::new();
    let quarter = 1u64 << 62;
    for (random, want) in [
        (0, "a"),
        (quarter - 1, "a"),
        (quarter, "b"),
        (quarter * 3 - 1, "b"),
        (quarter * 3, "c"),
        (u64::MAX, "c"),
    ] {
        assert_eq!(
            named(
                &experiment,
                experiment.assign(&none, None, random, None).index
            ),
            want,
            "{random:x}"
        );
    }
}

#[test]
fn a_stable_id_decides_before_the_cookie() {
    let experiment = experiment(|spec| spec.by = ExperimentBy::Header("X-User".into()));
    let bucket = experiment.bucket(b"u1");
    let other = 1 - bucket;
    let cookie = |index| format!("ab-variant={}", named(&experiment, index));
    for (user, cookie, want) in [
        ("u1", cookie(bucket), (bucket, false, AssignedBy::Id)),
        ("u1", cookie(other), (bucket, true, AssignedBy::Id)),
        ("u1", String::new(), (bucket, true, AssignedBy::Id)),
        ("", cookie(other), (other, false, AssignedBy::Kept)),
    ] {
        let map = Fields::of_lines(&[("x-user", user), ("cookie", &cookie)]);
        for random in [0, u64::MAX] {
            let found = experiment.assign(&map, None, random, None);
            assert_eq!(
                (found.index, found.fresh, found.reason),
                want,
                "{user} {cookie}"
            );
        }
    }
}

#[test]
fn buckets_never_change() {
    // Recorded when the mapping was made: a change here moves every site's visitors.
    let experiment = weighted(&[("a", 50), ("b", 30), ("c", 20)]);
    let found: String = (0..32)
        .map(|i| {
            named(
                &experiment,
                experiment.bucket(format!("user-{i}").as_bytes()),
            )
        })
        .collect();
    assert_eq!(found, "bbbbabbbbbaabcbabaabaaaabbabbaac");
}

const PEOPLE: usize = 40_000;

fn buckets(weights: &[(&str, u32)]) -> Vec<String> {
    let experiment = weighted(weights);
    (0..PEOPLE)
        .map(|i| {
            named(
                &experiment,
                experiment.bucket(format!("user-{i}").as_bytes()),
            )
            .to_owned()
        })
        .collect()
}

#[test]
fn shares_follow_the_weights() {
    let found = buckets(&[("a", 50), ("b", 30), ("c", 20), ("off", 0)]);
    for (name, share) in [("a", 0.5), ("b", 0.3), ("c", 0.2), ("off", 0.0)] {
        let got = found.iter().filter(|variant| *variant == name).count() as f64 / PEOPLE as f64;
        assert!((got - share).abs() < 0.01, "{name}: {got}");
    }
}

#[test]
fn a_change_of_weights_moves_few() {
    let before = buckets(&[("a", 50), ("b", 50)]);
    for (weights, least) in [
        // The same ratio in other numbers and another order.
        (&[("a", 500), ("b", 500)][..], 0.0),
        (&[("b", 50), ("a", 50)], 0.0),
        (&[("a", 40), ("b", 60)], 0.10),
        (&[("a", 100), ("b", 0)], 0.50),
        (&[("a", 50), ("b", 50), ("c", 10)], 0.0909),
        (&[("c", 10), ("a", 50), ("b", 50)], 0.0909),
    ] {
        let after = buckets(weights);
        let moved =
            before.iter().zip(&after).filter(|(b, a)| b != a).count() as f64 / PEOPLE as f64;
        assert!((moved - least).abs() < 0.01, "{weights:?}: {moved}");
    }
    // A new variant only takes: nobody moves between the old ones.
    let after = buckets(&[("a", 50), ("b", 50), ("c", 25)]);
    assert!(before.iter().zip(&after).all(|(b, a)| b == a || a == "c"));
}

#[test]
fn experiments_and_salts_are_independent() {
    let home = buckets(&[("a", 50), ("b", 50)]);
    type Edit = fn(&mut ExperimentSpec);
    let edits: [Edit; 2] = [
        |spec| spec.name = "cart".into(),
        |spec| spec.salt = "2".into(),
    ];
    for edit in edits {
        let other = experiment(|spec| {
            spec.variants = vec![("a".into(), 50.0), ("b".into(), 50.0)];
            edit(spec);
        });
        let same = home
            .iter()
            .enumerate()
            .filter(|(i, variant)| {
                named(&other, other.bucket(format!("user-{i}").as_bytes())) == *variant
            })
            .count() as f64
            / PEOPLE as f64;
        assert!((same - 0.5).abs() < 0.01, "{same}");
    }
}

#[test]
fn each_mistake_is_named_with_its_field() {
    type Edit = fn(&mut ExperimentSpec);
    let cases: [(Edit, &str); 11] = [
        (|s| s.name = "a b".into(), "name"),
        (|s| s.cookie = "a=b".into(), "cookie"),
        (|s| s.cookie = String::new(), "cookie"),
        (|s| s.cookie = "__Host-ab".into(), "cookie"),
        (|s| s.same_site = "None".into(), "same_site"),
        (|s| s.by = ExperimentBy::Header(String::new()), "by"),
        (|s| s.header = "a b".into(), "header"),
        (|s| s.variants = vec![], "variants"),
        (|s| s.variants = vec![("a".into(), 0.0)], "variants"),
        (|s| s.variants = vec![("a;b".into(), 1.0)], "variants[0]"),
        (
            |s| s.variants = vec![("a".into(), 1.0), ("a".into(), 1.0)],
            "variants[1]",
        ),
    ];
    for (edit, want) in cases {
        let mut spec = spec();
        edit(&mut spec);
        let found = Experiment::compile(spec).unwrap_err();
        let paths: Vec<&str> = found.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(paths, [want], "{found:?}");
    }
}

#[test]
fn a_claim_is_an_id() {
    for (by, want) in [
        (ExperimentBy::Sub, "sub"),
        (ExperimentBy::Claim("team".into()), "team"),
    ] {
        assert_eq!(
            experiment(|spec| spec.by = by).by,
            By::Claim(Arc::from(want))
        );
    }
}

#[test]
fn weights_may_have_fractions() {
    let spec = |a, b| [("a", a), ("b", b)];
    for (weights, want) in [
        (spec(1.0, 3.0), [1, 3]),
        (spec(0.5, 0.25), [1 << 32, 1 << 31]),
        (spec(1e300, 1.0), [1 << 32, 1]),
        (spec(0.1, 0.0), [1 << 32, 0]),
    ] {
        assert_eq!(
            Shares::of(weights.iter().map(|(_, weight): &(&str, f64)| *weight)).each,
            want,
            "{weights:?}"
        );
    }
}

fn configured(key: &str, header: Option<&str>) -> Experiment {
    experiment(|spec| {
        spec.config = Some(ConfigSpec {
            binding: "EXPERIMENTS".into(),
            key: key.into(),
            interval: std::time::Duration::from_secs(5),
            header: header.map(str::to_owned),
        });
    })
}

fn read(experiment: &Experiment, values: &[Option<&str>]) -> Result<Reading, String> {
    let values: Vec<Option<&[u8]>> = values.iter().map(|it| it.map(str::as_bytes)).collect();
    let source = experiment.config.as_ref().unwrap();
    (experiment.read(source, &values)).map_err(|error| error.to_string())
}

#[test]
fn a_reading_sets_weights_switches_and_payloads() {
    let each = configured("experiment:{variant}", None);
    let whole = configured("{name}", None);
    let one = |text| [Some(text), None];
    for (experiment, values, shares) in [
        (&each, [None, None], [50, 50]),
        (&each, one("{}"), [50, 50]),
        (&each, one(r#"{"weight": 0}"#), [0, 50]),
        (&each, one(r#"{"weight": 7, "enabled": true}"#), [7, 50]),
        (&each, one(r#"{"weight": 7, "enabled": false}"#), [0, 50]),
        (&each, one(r#"{"payload": null}"#), [50, 50]),
        (&whole, [None, None], [50, 50]),
        (
            &whole,
            one(r#"{"variants": {"treatment": {"weight": 1}}}"#),
            [50, 1],
        ),
        (
            &whole,
            one(r#"{"enabled": false, "variants": {"control": {"weight": 0}}}"#),
            [1, 0],
        ),
    ] {
        let reading = read(experiment, &values).unwrap();
        assert_eq!(reading.shares.each, shares, "{values:?}");
        assert_eq!(reading.payload(0), None);
    }
    let reading = read(&each, &[None, Some(r#"{"payload": {"color": "é"}}"#)]).unwrap();
    assert_eq!(each.dimension(0, Some(&reading)), "control");
    let dimension = each.dimension(1, Some(&reading));
    assert!(dimension.starts_with("treatment~") && dimension.len() == 42);
    assert_eq!(&*reading.payload(1).unwrap().json, r#"{"color":"é"}"#);
    assert_eq!(reading.payload(1).unwrap().header, None);
    let other = read(&each, &[None, Some(r#"{"payload": {"color": "e"}}"#)]).unwrap();
    assert_ne!(dimension, each.dimension(1, Some(&other)));
}

#[test]
fn a_value_that_does_not_fit_is_no_reading() {
    let each = configured("experiment:{variant}", None);
    let whole = configured("{name}", None);
    let long = format!(r#"{{"payload": "{}"}}"#, "x".repeat(4_095));
    let longer = format!("{{{}}}", " ".repeat(65_536));
    for (experiment, value, message) in [
        (&each, "", "experiment:control: must be a JSON object"),
        (&each, "[]", "experiment:control: must be a JSON object"),
        (
            &each,
            "\u{fffd}",
            "experiment:control: must be a JSON object",
        ),
        (
            &each,
            r#"{"wieght": 1}"#,
            "experiment:control.wieght: must be weight, enabled",
        ),
        (
            &each,
            r#"{"weight": "1"}"#,
            "experiment:control.weight: must be a number ≥ 0",
        ),
        (
            &each,
            r#"{"weight": -1}"#,
            "experiment:control.weight: must be a number ≥ 0",
        ),
        (
            &each,
            r#"{"weight": 1e999}"#,
            "experiment:control: must be a JSON object",
        ),
        (
            &each,
            r#"{"enabled": 1}"#,
            "experiment:control.enabled: must be true or false",
        ),
        (
            &each,
            &long,
            "control.payload: has 4097 bytes as JSON; at most 4096",
        ),
        (
            &each,
            &longer,
            "experiment:control: has 65538 bytes; at most 65536",
        ),
        (
            &whole,
            r#"{"weight": 1}"#,
            "home.weight: must be enabled or variants",
        ),
        (
            &whole,
            r#"{"variants": []}"#,
            "home.variants: must be an object",
        ),
        (
            &whole,
            r#"{"variants": {"x": {}}}"#,
            "home.variants.x: is no variant",
        ),
        (
            &whole,
            r#"{"variants": {"control": 1}}"#,
            "home.variants.control: must be a JSON object",
        ),
        (
            &whole,
            r#"{"variants": {"control": {"weight": 0}, "treatment": {"enabled": false}}}"#,
            "home: no variant has a weight above 0",
        ),
    ] {
        let refused = read(experiment, &[Some(value), None]).unwrap_err();
        assert!(refused.starts_with(message), "{value}: {refused}");
    }
}

#[test]
fn the_field_of_a_payload_is_base64url_and_at_most_4_kib() {
    let experiment = configured("experiment:{variant}", Some("X-Settings"));
    let value = |text: String| Some(format!(r#"{{"payload": {}}}"#, serde_json::json!(text)));
    let lines = value("a\r\nSet-Cookie: b".into());
    let reading = read(&experiment, &[lines.as_deref(), None]).unwrap();
    let header = reading.payload(0).unwrap().header.clone().unwrap();
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    assert!(header.as_bytes().iter().all(safe), "{header:?}");
    let most = value("x".repeat(3_070));
    assert!(read(&experiment, &[most.as_deref(), None]).is_ok());
    let more = value("x".repeat(3_071));
    let refused = read(&experiment, &[more.as_deref(), None]).unwrap_err();
    assert!(
        refused.contains("bytes as base64url for its field"),
        "{refused}"
    );
}

#[test]
fn weights_that_are_read_decide_who_stays() {
    let experiment = configured("experiment:{variant}", None);
    let off = read(&experiment, &[Some(r#"{"enabled": false}"#), None]).unwrap();
    let kept = Fields::of_lines(&[("cookie", "ab-variant=control")]);
    for random in [0, u64::MAX] {
        let found = experiment.assign(&kept, None, random, Some(&off));
        assert_eq!((found.index, found.reason), (1, AssignedBy::Reassigned));
        let declared = experiment.assign(&kept, None, random, None);
        assert_eq!((declared.index, declared.reason), (0, AssignedBy::Kept));
    }
}
