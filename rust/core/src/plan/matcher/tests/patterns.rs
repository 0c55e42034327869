//! Patterns of paths and their parameters.

use super::super::tokens::{LONGEST, PatternError};
use super::*;

#[test]
fn patterns_agree_with_the_obvious_matcher() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut matched = 0;
    for _ in 0..40_000 {
        let Some((text, pattern)) = random_pattern(&mut dice) else {
            continue;
        };
        let path = format!("/{}", dice.text(&["/", "x", "y", "xx"], 7));
        let want = slow(text.as_bytes(), path.as_bytes());
        matched += usize::from(want);
        assert_eq!(pattern.matches(&path), want, "{text} on {path}");
        assert_eq!(
            pattern.automaton.matches(path.as_bytes()),
            want,
            "automaton: {text} on {path}"
        );
        let captured = pattern.captures(&path);
        assert_eq!(captured.is_some(), want, "captures: {text} on {path}");
        if let Some(captured) = captured {
            // Filled in again, the captures of a pattern without anonymous wildcards give the path.
            let mut filled = text.clone();
            for (name, value) in captured {
                filled = filled
                    .replace(&format!("{{{name}}}"), &value)
                    .replace(&format!("{{{name}:path}}"), &value);
            }
            assert!(
                filled.contains(['*', '?']) || filled == path,
                "{text} on {path}: {filled}"
            );
        }
    }
    assert!(matched > 4_000, "the test must see matches: {matched}");
}

#[test]
fn covering_and_intersecting_agree_with_samples() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let paths: Vec<String> = (0..400)
        .map(|_| format!("/{}", dice.text(&["/", "x", "y"], 6)))
        .collect();
    let mut covered = 0;
    for _ in 0..2_000 {
        let (Some((a, left)), Some((b, right))) =
            (random_pattern(&mut dice), random_pattern(&mut dice))
        else {
            continue;
        };
        let covers = left.covers(&right);
        let intersects = left.intersects(&right);
        covered += usize::from(covers);
        assert_eq!(intersects, right.intersects(&left), "{a} and {b}");
        assert!(left.covers(&left), "{a}");
        for path in &paths {
            let (l, r) = (left.matches(path), right.matches(path));
            assert!(!(covers && r && !l), "{a} covers {b}, but {path}");
            assert!(intersects || !(l && r), "{a} and {b} are apart, but {path}");
        }
    }
    assert!(covered > 50, "{covered}");
}

#[test]
fn patterns_match_as_the_table_says() {
    for (pattern, path, want) in [
        ("/", "/", true),
        ("/", "/x", false),
        ("/*", "/", true),
        ("/static/*", "/static/", true),
        ("/static/*", "/static", false),
        ("/static/*", "/Static/a", false),
        ("/static/*.css", "/static/a/b.css", true),
        ("/a?c", "/abc", true),
        ("/a?c", "/a/c", true),
        ("/a?c", "/ac", false),
        ("/caf???", "/caf%C3", true),
        ("/hello/{name}", "/hello/x", true),
        ("/hello/{name}", "/hello/", false),
        ("/hello/{name}", "/hello/x/y", false),
        ("/hello/{name}/", "/hello/x/", true),
        ("/{a}-{b}.html", "/x-y-z.html", true),
        ("/{rest:path}", "/", true),
        ("/v/{rest:path}/end", "/v/a/b/end", true),
        ("/café/*", "/caf%C3%A9/x", true),
        ("/%7euser/*", "/~user/x", true),
        ("/a%2fb", "/a%2Fb", true),
        ("/a b", "/a%20b", true),
        ("/**", "/x", true),
    ] {
        assert_eq!(
            PathPattern::parse(pattern).unwrap().matches(path),
            want,
            "{pattern} on {path}"
        );
    }
}

#[test]
fn bad_patterns_say_what_to_do() {
    for (pattern, part) in [
        ("static/*", "start with"),
        ("", "start with"),
        ("/{name", "no \"}\""),
        ("/name}", "no \"{\""),
        ("/{}", "not a parameter"),
        ("/{a:int}", "not a parameter"),
        ("/{1a}", "not a parameter"),
        ("/{a}/{a}", "twice"),
        ("/{a}{b}", "touch"),
        ("/%zz", "hexadecimal"),
        ("/a#b", "fragment"),
        ("/a/../b", "never match"),
        ("/a/%2E", "never match"),
        ("/a\n", "control"),
    ] {
        let error = PathPattern::parse(pattern).unwrap_err().to_string();
        assert!(error.contains(part), "{pattern}: {error}");
    }
    assert!(PathPattern::parse(&format!("/{}", "x".repeat(2_000))).is_err());
}

#[test]
fn captures_are_decoded_and_greedy_from_the_left() {
    let of = |pattern: &str, path: &str| PathPattern::parse(pattern).unwrap().captures(path);
    let pairs = |pairs: &[(&str, &str)]| {
        Some(
            pairs
                .iter()
                .map(|(a, b)| (std::sync::Arc::<str>::from(*a), String::from(*b)))
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        of("/hello/{name}", "/hello/J%C3%BCrgen%2Fx"),
        pairs(&[("name", "Jürgen/x")])
    );
    assert_eq!(of("/{a}-{b}", "/x-y-z"), pairs(&[("a", "x-y"), ("b", "z")]));
    assert_eq!(
        of("/{a:path}/{b}", "/x/y/z"),
        pairs(&[("a", "x/y"), ("b", "z")])
    );
    assert_eq!(of("/{a:path}", "/"), pairs(&[("a", "")]));
    assert_eq!(of("/{a}", "/%FF"), pairs(&[("a", "\u{fffd}")]));
    assert_eq!(of("/{a}", "/x/y"), None);
    assert_eq!(of("/*", "/x"), pairs(&[]));
}

/// A matcher that tries every division of a path among the wildcards takes longer than the age of the universe here.
#[test]
fn a_hostile_path_makes_no_pattern_try_every_division() {
    let path = format!("/{}", "a".repeat(16_000));
    for pattern in [
        "/*a*a*a*a*a*a*a*b",
        "/{x}a{y}a{z}ab",
        "/*{x}ab*?{y}b",
        "/?*a{x}aa?b*b",
    ] {
        let parsed = PathPattern::parse(pattern).unwrap();
        assert!(!parsed.matches(&path), "{pattern}");
    }
}

#[test]
fn a_pattern_is_as_long_as_its_encoding() {
    // "é" has two bytes, and six on the wire.
    for (count, fits) in [(170, true), (171, false), (500, false)] {
        let text = format!("/{}*", "é".repeat(count));
        let path = format!("/{}x", "%C3%A9".repeat(count));
        match PathPattern::parse(&text) {
            Ok(pattern) => assert!(fits && pattern.matches(&path), "{count}"),
            Err(error) => {
                assert_eq!(error, PatternError::TooLongEncoded(2 + 6 * count));
                assert!(!fits, "{count}");
            }
        }
    }
    let longest = format!("/{{a}}{}*", "x".repeat(LONGEST - 5));
    assert!(
        PathPattern::parse(&longest)
            .unwrap()
            .matches(&format!("/b{}", "x".repeat(LONGEST - 5)))
    );
}
