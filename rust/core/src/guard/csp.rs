//! Content-Security-Policy (CSP 3): the mistakes in a policy that browsers pass over in silence.
//!
//! [`check`] finds those that can be nothing else, which are refused. [`doubts`] finds parts that no browser of today
//! follows, perhaps since they are newer than this list: they are advice.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::nonce;

/// The field of a policy that only reports.
pub const REPORT_ONLY: &str = "content-security-policy-report-only";

/// Keywords that have an effect between quotes only (§2.3.1).
const KEYWORDS: [&str; 9] = [
    "self",
    "none",
    "unsafe-inline",
    "unsafe-eval",
    "unsafe-hashes",
    "strict-dynamic",
    "report-sample",
    "wasm-unsafe-eval",
    "inline-speculation-rules",
];
/// Words between quotes that a few directives take, besides the keywords.
const QUOTED: [&str; 9] = [
    "report-sha256",
    "report-sha384",
    "report-sha512",
    "trusted-types-eval",
    "unsafe-webtransport-hashes",
    "script",
    "allow-duplicates",
    "allow",
    "block",
];
/// Directives that browsers follow (§6, and the specifications that add some).
const DIRECTIVES: [&str; 28] = [
    "base-uri",
    "block-all-mixed-content",
    "child-src",
    "connect-src",
    "default-src",
    "fenced-frame-src",
    "font-src",
    "form-action",
    "frame-ancestors",
    "frame-src",
    "img-src",
    "manifest-src",
    "media-src",
    "object-src",
    "report-to",
    "report-uri",
    "require-trusted-types-for",
    "sandbox",
    "script-src",
    "script-src-attr",
    "script-src-elem",
    "style-src",
    "style-src-attr",
    "style-src-elem",
    "trusted-types",
    "upgrade-insecure-requests",
    "webrtc",
    "worker-src",
];
/// Hashes, and the bytes that each has (§2.3.1).
const HASHES: [(&str, usize); 3] = [("sha256-", 32), ("sha384-", 48), ("sha512-", 64)];

/// The directives of a policy: their names, and the words after them.
fn directives(policy: &str) -> impl Iterator<Item = (&str, std::str::SplitAsciiWhitespace<'_>)> {
    policy.split(';').filter_map(|directive| {
        let mut words = directive.split_ascii_whitespace();
        Some((words.next()?, words))
    })
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(word))
}

/// The length of the bytes that a hash of this kind has, and its text.
fn hash(word: &str) -> Option<(usize, &str)> {
    HASHES.iter().find_map(|(kind, bytes)| {
        let (start, text) = word.split_at_checked(kind.len())?;
        start.eq_ignore_ascii_case(kind).then_some((*bytes, text))
    })
}

/// `Err`: a mistake, and its remedy.
pub fn check(policy: &str) -> Result<(), String> {
    let mut seen: Vec<&str> = Vec::new();
    for (name, words) in directives(policy) {
        let is_name = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        if !is_name {
            return Err(format!(
                "has {name:?} where the name of a directive must stand, in lower case"
            ));
        }
        if seen.contains(&name) {
            return Err(format!(
                "has {name} twice: browsers ignore the second one (CSP 3 §2.2.1)"
            ));
        }
        seen.push(name);
        for word in words {
            if word.contains(',') {
                return Err(
                    "has a comma, which would begin another policy: separate directives by \";\""
                        .into(),
                );
            }
            if is_keyword(word) && !matches!(name, "sandbox" | "report-to" | "trusted-types") {
                return Err(format!(
                    "needs quotes in {name}: '{word}' is the keyword, {word} would be a host"
                ));
            }
            if hash(word).is_some() {
                return Err(format!(
                    "needs quotes in {name}: '{word}' is a hash, {word} is nothing"
                ));
            }
            if word != nonce::PLACE && word.to_ascii_lowercase().starts_with("'nonce-") {
                return Err(format!(
                    "has the nonce {word}, the same in all responses: anybody could use it. Name hashes ('sha256-…'), or write 'nonce-{{nonce}}' and give the placeholder of your pages as nonce"
                ));
            }
        }
    }
    if seen.is_empty() {
        return Err("has no directive".into());
    }
    Ok(())
}

/// Parts of a policy without mistakes that have no effect, each with the reason.
pub fn doubts(policy: &str, only_reports: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut reports = false;
    for (name, words) in directives(policy) {
        reports |= matches!(name, "report-to" | "report-uri");
        if !DIRECTIVES.contains(&name) {
            found.push(format!("{name} is no directive that browsers follow"));
            continue;
        }
        if only_reports && matches!(name, "sandbox" | "upgrade-insecure-requests") {
            found.push(format!(
                "{name} has no effect in a policy that only reports"
            ));
        }
        let is_alone = words.clone().count() == 1;
        for word in words {
            let quoted = word
                .strip_prefix('\'')
                .and_then(|word| word.strip_suffix('\''));
            let Some(quoted) = quoted else { continue };
            if quoted.eq_ignore_ascii_case("none") && !is_alone {
                found.push(format!("{word} in {name} counts only if it stands alone"));
            } else if let Some((bytes, text)) = hash(quoted) {
                if digest_length(text) != Some(bytes) {
                    found.push(format!(
                        "{word} in {name} is not the base64 of {bytes} bytes, so it fits nothing"
                    ));
                }
            } else if !(word == nonce::PLACE || is_keyword(quoted) || is_quoted(quoted)) {
                found.push(format!(
                    "{word} in {name} is no keyword that browsers follow"
                ));
            }
        }
    }
    if only_reports && !reports {
        let why = "the policy that only reports has neither report-to nor report-uri, so nobody gets a report";
        found.push(why.to_owned());
    }
    found
}

fn is_quoted(word: &str) -> bool {
    QUOTED.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// The number of bytes that a text of base64 stands for, in either alphabet (§2.3.1).
fn digest_length(text: &str) -> Option<usize> {
    const EITHER: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) {
        &alphabet::URL_SAFE
    } else {
        &alphabet::STANDARD
    };
    let bytes = GeneralPurpose::new(alphabet, EITHER).decode(text).ok()?;
    Some(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_that_browsers_pass_over_are_refused() {
        for (policy, wrong) in [
            ("default-src 'self'", None),
            (
                "default-src 'self'; img-src * data:; upgrade-insecure-requests",
                None,
            ),
            ("default-src 'self';", None),
            (
                "script-src 'sha256-RFWPLDbv2BY+rCkDzsE+0fr8ylGr2R2faWMhq4lfEQc='",
                None,
            ),
            ("sandbox allow-scripts", None),
            ("", Some("no directive")),
            (" ; ", Some("no directive")),
            ("default-src self", Some("needs quotes")),
            ("default-src SELF", Some("needs quotes")),
            ("script-src unsafe-inline", Some("needs quotes")),
            ("script-src sha256-RFWPLDbv2BY+r=", Some("is a hash")),
            ("script-src 'self'; script-src 'none'", Some("twice")),
            ("default-src 'self', script-src 'none'", Some("comma")),
            ("script-src 'nonce-abc'", Some("nonce")),
            ("script-src 'Nonce-abc'", Some("nonce")),
            ("Default-Src 'self'", Some("lower case")),
            ("'self'", Some("name of a directive")),
        ] {
            let found = check(policy);
            match wrong {
                None => assert_eq!(found, Ok(()), "{policy}"),
                Some(part) => assert!(found.is_err_and(|text| text.contains(part)), "{policy}"),
            }
        }
    }

    #[test]
    fn parts_without_an_effect_are_named() {
        let none: [&str; 0] = [];
        for (policy, only_reports, want) in [
            ("default-src 'self' https: *.example.com", false, &none[..]),
            (
                "script-src 'nonce-{nonce}' 'strict-dynamic'; object-src 'none'",
                false,
                &none,
            ),
            (
                "script-src 'SHA256-RFWPLDbv2BY-rCkDzsE-0fr8ylGr2R2faWMhq4lfEQc' 'report-sha256'",
                false,
                &none,
            ),
            (
                "require-trusted-types-for 'script'; trusted-types 'allow-duplicates' a; webrtc 'block'",
                false,
                &none,
            ),
            ("default-src 'self'; report-to csp", true, &none),
            ("scirpt-src 'self'", false, &["scirpt-src is no directive"]),
            (
                "script-src 'unsafe-inlien'",
                false,
                &["'unsafe-inlien' in script-src is no keyword"],
            ),
            (
                "img-src 'example.com'",
                false,
                &["'example.com' in img-src is no keyword"],
            ),
            (
                "img-src 'none' 'self'",
                false,
                &["'none' in img-src counts only"],
            ),
            (
                "script-src 'sha1-YWJj'",
                false,
                &["'sha1-YWJj' in script-src is no keyword"],
            ),
            (
                "script-src 'sha256-YWJj'",
                false,
                &["is not the base64 of 32 bytes"],
            ),
            (
                "sandbox; upgrade-insecure-requests",
                true,
                &[
                    "sandbox has no effect",
                    "upgrade-insecure-requests has",
                    "nobody gets a report",
                ],
            ),
        ] {
            let found = doubts(policy, only_reports);
            assert_eq!(found.len(), want.len(), "{policy}: {found:?}");
            for (found, want) in found.iter().zip(want) {
                assert!(found.contains(want), "{policy}: {found}");
            }
        }
    }
}
