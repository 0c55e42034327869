#![allow(clippy::unwrap_used)]

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;

use super::*;
use crate::http::header;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn encoded(bytes: &[u8]) -> String {
    STANDARD
        .encode(bytes)
        .replace('+', "-")
        .replace('/', "~")
        .replace('=', "_")
}

fn signed(text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    encoded(hmac::sign(&key, text.as_bytes()).as_ref())
}

fn canned(url: &str, expires: u64) -> String {
    signed(&format!(
        r#"{{"Statement":[{{"Resource":"{url}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}"#
    ))
}

fn judged(query: Option<&str>, cookies: Option<&str>) -> Result<(), SignatureRefusal> {
    judged_as_sent("/a", None, query, cookies)
}

fn judged_as_sent(
    path: &str,
    sent_path: Option<&str>,
    query: Option<&str>,
    cookies: Option<&str>,
) -> Result<(), SignatureRefusal> {
    let policy = SignedPolicy {
        keys: [("k".into(), UrlKey::secret(SECRET).unwrap())].into(),
        sha1: false,
    };
    let mut headers = Fields::new();
    if let Some(cookies) = cookies {
        headers.append(header::COOKIE, HeaderValue::from_str(cookies).unwrap());
    }
    policy.judge(SignedRequest {
        origin: "https://h",
        path,
        sent_path,
        query,
        headers: &headers,
        address: [192, 0, 2, 7].into(),
        now: 1_000,
    })
}

#[test]
fn a_canned_signature_covers_the_whole_url_and_its_time() {
    use SignatureRefusal::{Expired, Malformed, Mismatch, Missing, UnknownKey};
    let plain = canned("https://h/a", 1_001);
    let asked = canned("https://h/a?x=1&y", 1_001);
    let late = canned("https://h/a", 1_000);
    for (query, want) in [
        (
            format!("Expires=1001&Signature={plain}&Key-Pair-Id=k"),
            Ok(()),
        ),
        (
            format!("Key-Pair-Id=k&Hash-Algorithm=SHA256&Signature={plain}&Expires=1001"),
            Ok(()),
        ),
        (
            format!("x=1&Expires=1001&Signature={asked}&y&Key-Pair-Id=k"),
            Ok(()),
        ),
        (
            format!("y&x=1&Expires=1001&Signature={asked}&Key-Pair-Id=k"),
            Err(Mismatch),
        ),
        (
            format!("x=2&Expires=1001&Signature={plain}&Key-Pair-Id=k"),
            Err(Mismatch),
        ),
        (
            format!("Expires=1002&Signature={plain}&Key-Pair-Id=k"),
            Err(Mismatch),
        ),
        (
            format!("Expires=1000&Signature={late}&Key-Pair-Id=k"),
            Err(Expired),
        ),
        (
            format!("Expires=1001&Signature={plain}&Key-Pair-Id=other"),
            Err(UnknownKey),
        ),
        (
            format!("Expires=01001&Signature={plain}&Key-Pair-Id=k"),
            Err(Malformed),
        ),
        (
            format!("Expires=&Signature={plain}&Key-Pair-Id=k"),
            Err(Malformed),
        ),
        (
            format!("Expires=1001&Expires=1001&Signature={plain}&Key-Pair-Id=k"),
            Err(Malformed),
        ),
        (
            format!("Expires=1001&Policy=x&Signature={plain}&Key-Pair-Id=k"),
            Err(Malformed),
        ),
        (format!("Expires=1001&Signature={plain}"), Err(Malformed)),
        (format!("Signature={plain}&Key-Pair-Id=k"), Err(Malformed)),
        (
            format!("Expires=1001&Signature={plain}&Key-Pair-Id=k&Hash-Algorithm=MD5"),
            Err(Malformed),
        ),
        (
            "Expires=1001&Signature=&Key-Pair-Id=k".to_owned(),
            Err(Mismatch),
        ),
        (
            "Expires=1001&Signature=A&Key-Pair-Id=k".to_owned(),
            Err(Malformed),
        ),
        (
            format!("expires=1001&signature={plain}&key-pair-id=k"),
            Err(Missing),
        ),
        ("Expires=1001".to_owned(), Err(Missing)),
        (String::new(), Err(Missing)),
    ] {
        assert_eq!(judged(Some(&query), None), want, "{query}");
    }
    assert_eq!(judged(None, None), Err(Missing));
}

#[test]
fn a_custom_policy_is_verified_before_it_is_read() {
    use SignatureRefusal::{BadPolicy, Malformed, Mismatch, OtherAddress};
    let policy = |network: &str| {
        format!(
            r#"{{"Statement":[{{"Resource":"http*://h/*","Condition":{{"DateLessThan":{{"AWS:EpochTime":1001}},"IpAddress":{{"AWS:SourceIp":"{network}"}}}}}}]}}"#
        )
    };
    let here = policy("192.0.2.0/24");
    let long = format!("{here}{}", " ".repeat(MOST_POLICY));
    for (text, signature, want) in [
        (here.clone(), signed(&here), Ok(())),
        (
            policy("198.51.100.0/24"),
            signed(&policy("198.51.100.0/24")),
            Err(OtherAddress),
        ),
        (here.clone(), signed("x"), Err(Mismatch)),
        ("not JSON".to_owned(), signed("x"), Err(Mismatch)),
        ("not JSON".to_owned(), signed("not JSON"), Err(BadPolicy)),
        (long.clone(), signed(&long), Err(Malformed)),
    ] {
        let query = format!(
            "Policy={}&Signature={signature}&Key-Pair-Id=k",
            encoded(text.as_bytes())
        );
        assert_eq!(judged(Some(&query), None), want, "{text}");
    }
}

#[test]
fn cookies_count_where_the_url_has_no_signature() {
    use SignatureRefusal::{Malformed, Mismatch};
    let good = canned("https://h/a", 1_001);
    let cookies = format!(
        "a=b; CloudFront-Expires=1001; CloudFront-Signature={good}; CloudFront-Key-Pair-Id=k"
    );
    let twice = format!("{cookies}; CloudFront-Expires=1001");
    let with_query = canned("https://h/a?Policy", 1_001);
    for (query, cookies, want) in [
        (None, &*cookies, Ok(())),
        (Some("Expires=7"), &*cookies, Ok(())),
        (
            Some("Signature=x&Key-Pair-Id=k&Expires=1001"),
            &*cookies,
            Err(Malformed),
        ),
        (None, &*twice, Err(Malformed)),
        (Some("x"), &*cookies, Err(Mismatch)),
        (
            None,
            &*format!(
                "CloudFront-Expires=1001; CloudFront-Signature={with_query}; CloudFront-Key-Pair-Id=k"
            ),
            Err(Mismatch),
        ),
    ] {
        assert_eq!(judged(query, Some(cookies)), want, "{query:?} {cookies}");
    }
}

#[test]
fn the_parameters_leave_the_query_and_everything_else_stays_as_it_is() {
    for (query, want) in [
        ("a=1&Expires=2&b", Some("a=1&b")),
        (
            "Policy&Signature=&Key-Pair-Id=k&Hash-Algorithm=SHA256",
            None,
        ),
        (
            "expires=2&Expires2=3&%45xpires=4",
            Some("expires=2&Expires2=3&%45xpires=4"),
        ),
        ("a=%20+&&c", Some("a=%20+&&c")),
        ("", None),
    ] {
        assert_eq!(without_parameters(query).as_deref(), want, "{query}");
    }
}

#[test]
fn a_key_must_be_of_a_kind_that_can_sign_urls() {
    assert!(UrlKey::secret(b"short").is_err_and(|text| text.contains("5 bytes")));
    assert!(UrlKey::public("x").is_err_and(|text| text.contains("is not PEM")));
}

#[test]
fn a_canned_signature_covers_the_spelling_that_was_sent_or_the_normal_form() {
    use SignatureRefusal::Mismatch;
    let sent = "/a%2db%2fc";
    let normal = "/a-b%2Fc";
    for (signed_path, path, sent_path, want) in [
        (normal, normal, None, Ok(())),
        (normal, normal, Some(sent), Ok(())),
        (sent, normal, Some(sent), Ok(())),
        // Each signature is for one spelling, beside the normal form.
        (sent, normal, None, Err(Mismatch)),
        (sent, normal, Some("/a%2Db%2fc"), Err(Mismatch)),
        ("/a-b/c", normal, Some(sent), Err(Mismatch)),
    ] {
        let signature = canned(&format!("https://h{signed_path}"), 1_001);
        let query = format!("Expires=1001&Signature={signature}&Key-Pair-Id=k");
        let judged = judged_as_sent(path, sent_path, Some(&query), None);
        assert_eq!(judged, want, "{signed_path} {sent_path:?}");
    }
}
