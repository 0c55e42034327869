//! Custom policies: one statement, with a resource and conditions that are all enforced.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::SignatureRefusal;
use crate::{http::uri, strict_json};

/// The content of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// `None`: every URL of the route.
    resource: Option<String>,
    before: u64,
    after: Option<u64>,
    network: Option<IpNet>,
}

impl Statement {
    /// Reads a policy; `None`: it has something that is not known, and so could not be enforced, or a member twice, and
    /// so could be read in two ways.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let value = strict_json::value(text).ok()?;
        let whole = only(value.as_object()?, &["Statement"])?;
        let [statement] = whole.get("Statement")?.as_array()?.as_slice() else {
            return None;
        };
        let statement = only(statement.as_object()?, &["Resource", "Condition"])?;
        let resource = match statement.get("Resource") {
            None => None,
            Some(resource) => Some(resource.as_str()?.to_owned()),
        };
        let conditions = ["DateLessThan", "DateGreaterThan", "IpAddress"];
        let conditions = only(statement.get("Condition")?.as_object()?, &conditions)?;
        let operand = |condition: &str, name: &str| match conditions.get(condition) {
            None => Some(None),
            Some(value) => only(value.as_object()?, &[name])?.get(name).map(Some),
        };
        let time = |condition| match operand(condition, "AWS:EpochTime")? {
            None => Some(None),
            Some(value) => value.as_u64().map(Some),
        };
        let network = match operand("IpAddress", "AWS:SourceIp")? {
            None => None,
            Some(value) => Some(network(value.as_str()?)?),
        };
        Some(Self {
            resource,
            before: time("DateLessThan")??,
            after: time("DateGreaterThan")?,
            network,
        })
    }

    /// True if the policy is for this URL.
    pub(super) fn opens(&self, url: &str) -> bool {
        self.resource.as_ref().is_none_or(|resource| {
            matches(resource.as_bytes(), url.as_bytes()) || matches_in_normal_form(resource, url)
        })
    }

    pub(super) fn judge(
        &self,
        url: &str,
        address: IpAddr,
        now: u64,
    ) -> Result<(), SignatureRefusal> {
        if !self.opens(url) {
            return Err(SignatureRefusal::OtherUrl);
        }
        if let Some(network) = &self.network
            && !network.contains(&address.to_canonical())
        {
            return Err(SignatureRefusal::OtherAddress);
        }
        if self.after.is_some_and(|after| now <= after) {
            return Err(SignatureRefusal::NotYetValid);
        }
        if now >= self.before {
            return Err(SignatureRefusal::Expired);
        }
        Ok(())
    }
}

fn only<'v>(map: &'v Map<String, Value>, names: &[&str]) -> Option<&'v Map<String, Value>> {
    map.keys()
        .all(|key| names.contains(&key.as_str()))
        .then_some(map)
}

fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).ok()
}

/// Compares with the escapes of both in normal form, as another way to write the same pattern and the same URL (RFC
/// 3986 §6.2.2). No escape becomes a wildcard. The URL as it was sent is not compared: `?` and `*` would stand for
/// parts of an escape, and `/??.jpg` for `/a.jpg`.
fn matches_in_normal_form(pattern: &str, url: &str) -> bool {
    if !pattern.contains('%') {
        return false;
    }
    let (pattern, url) = (uri::normalise_escapes(pattern), uri::normalise_escapes(url));
    matches!((pattern, url), (Ok(pattern), Ok(url)) if matches(pattern.as_bytes(), url.as_bytes()))
}

/// `*` stands for any text, `?` for one character; everything else for itself.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pattern_at) = (0, 0);
    // The last star, and the place in the text where what follows it was tried.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(at) {
        match pattern.get(pattern_at) {
            Some(b'*') => {
                star = Some((pattern_at, at));
                pattern_at += 1;
            }
            Some(own) if own == byte || *own == b'?' => {
                at += 1;
                pattern_at += 1;
            }
            _ => {
                let Some((star_at, tried)) = star else {
                    return false;
                };
                star = Some((star_at, tried + 1));
                at = tried + 1;
                pattern_at = star_at + 1;
            }
        }
    }
    pattern
        .get(pattern_at..)
        .unwrap_or_default()
        .iter()
        .all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_a_question_mark_for_one_character() {
        for (pattern, text, want) in [
            ("https://h/a", "https://h/a", true),
            ("https://h/a", "https://h/ab", false),
            ("https://h/a*", "https://h/ab?c=d", true),
            ("http*://h/*", "https://h/", true),
            ("http*://h/*", "http://h/x/y", true),
            ("https://h/?.jpg", "https://h/1.jpg", true),
            ("https://h/?.jpg", "https://h/12.jpg", false),
            ("https://h/*/end", "https://h/a/end/b/end", true),
            ("https://h/*/end", "https://h/a/end/b", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("**a*", "bab", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                want,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn escapes_of_a_pattern_are_compared_in_their_normal_form() {
        for (pattern, url, want) in [
            ("https://h/a%2db/*", "https://h/a-b/c", true),
            ("https://h/a%2fb?q=%7e", "https://h/a%2Fb?q=~", true),
            ("https://h/a%2fb?q=%7e", "https://h/a%2Fb?q=%7e", true),
            ("https://h/a%2f*", "https://h/a/b", false),
            // An escaped wildcard is no wildcard, and a wildcard stands for no part of an escape.
            ("https://h/%2a", "https://h/secret", false),
            ("https://h/%3f%2d", "https://h/x-", false),
            ("https://h/???%2d", "https://h/a-", false),
            ("https://h/%*", "https://h/secret", false),
            ("https://h/%61%00", "https://h/a%00", false),
        ] {
            assert_eq!(
                matches_in_normal_form(pattern, url),
                want,
                "{pattern} {url}"
            );
        }
    }

    #[test]
    fn a_policy_with_anything_unknown_is_not_read() {
        let good =
            r#"{"Statement":[{"Resource":"r","Condition":{"DateLessThan":{"AWS:EpochTime":9}}}]}"#;
        assert!(Statement::read(good.as_bytes()).is_some());
        for text in [
            "",
            "{}",
            "[]",
            r#"{"Statement":[]}"#,
            r#"{"Statement":[{"Resource":"r"}]}"#,
            r#"{"Statement":[{"Resource":"r","Condition":{}}]}"#,
            r#"{"Statement":[{"Resource":7,"Condition":{"DateLessThan":{"AWS:EpochTime":9}}}]}"#,
            r#"{"Statement":[{"Resource":"r","Condition":{"DateLessThan":{"AWS:EpochTime":"9"}}}]}"#,
            r#"{"Statement":[{"Resource":"r","Condition":{"DateLessThan":{"AWS:EpochTime":-9}}}]}"#,
            r#"{"Statement":[{"Resource":"r","Condition":{"DateLessThan":{"AWS:EpochTime":9},"StringLike":{}}}]}"#,
            r#"{"Statement":[{"Resource":"r","Effect":"Allow","Condition":{"DateLessThan":{"AWS:EpochTime":9}}}]}"#,
            r#"{"Statement":[{"Resource":"r","Condition":{"DateLessThan":{"AWS:EpochTime":9},"IpAddress":{"AWS:SourceIp":"x"}}}]}"#,
            r#"{"Statement":[{"Condition":{"DateLessThan":{"AWS:EpochTime":9}}},{"Condition":{"DateLessThan":{"AWS:EpochTime":9}}}]}"#,
            r#"{"Statement":[],"Statement":[{"Condition":{"DateLessThan":{"AWS:EpochTime":9}}}]}"#,
            r#"{"Statement":[{"Resource":"a","Resource":"b","Condition":{"DateLessThan":{"AWS:EpochTime":9}}}]}"#,
            r#"{"Statement":[{"Condition":{"DateLessThan":{"AWS:EpochTime":1,"AWS:EpochTime":9}}}]}"#,
            r#"{"Version":"1","Statement":[{"Condition":{"DateLessThan":{"AWS:EpochTime":9}}}]}"#,
        ] {
            assert_eq!(Statement::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_condition_of_a_policy_is_enforced() {
        use SignatureRefusal::{Expired, NotYetValid, OtherAddress, OtherUrl};
        let policy = r#"{"Statement":[{"Resource":"https://h/*","Condition":{"DateLessThan":{"AWS:EpochTime":20},
            "DateGreaterThan":{"AWS:EpochTime":10},"IpAddress":{"AWS:SourceIp":"192.0.2.0/24"}}}]}"#;
        let statement = Statement::read(policy.as_bytes()).unwrap();
        for (url, address, now, want) in [
            ("https://h/x", "192.0.2.7", 11, Ok(())),
            ("https://h/x", "::ffff:192.0.2.7", 19, Ok(())),
            ("https://h/x", "192.0.2.7", 10, Err(NotYetValid)),
            ("https://h/x", "192.0.2.7", 20, Err(Expired)),
            ("https://h/x", "192.0.3.7", 11, Err(OtherAddress)),
            ("https://h/x", "2001:db8::1", 11, Err(OtherAddress)),
            ("https://i/x", "192.0.2.7", 11, Err(OtherUrl)),
        ] {
            assert_eq!(
                statement.judge(url, address.parse().unwrap(), now),
                want,
                "{url} {address} {now}"
            );
        }
    }
}
