//! Guarding: no URL is opened without a signature of the key, and no policy that cannot be enforced opens one.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use edgerouter_core::{
    guard::signed::{
        PARAMETERS, SignatureRefusal, SignedPolicy, SignedRequest, UrlKey, without_parameters,
    },
    http::{Fields, header},
};
use http::HeaderValue;

use super::NOW;

const SECRET: &[u8] = b"a secret of quite some length that only fuzzing knows, and nobody else";
const URL: &str = "https://www.example.com/a/b.jpg";

static POLICY: LazyLock<SignedPolicy> = LazyLock::new(|| SignedPolicy {
    keys: [(
        "k".into(),
        UrlKey::secret(SECRET).expect("the secret is long enough"),
    )]
    .into(),
    sha1: true,
});

fn encoded(bytes: &[u8]) -> String {
    STANDARD
        .encode(bytes)
        .replace('+', "-")
        .replace('/', "~")
        .replace('=', "_")
}

fn mac(text: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    encoded(hmac::sign(&key, text).as_ref())
}

fn canned(url: &str, expires: &str) -> String {
    format!(
        r#"{{"Statement":[{{"Resource":"{url}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}"#
    )
}

fn judged(query: Option<&str>, headers: &Fields) -> Result<(), SignatureRefusal> {
    POLICY.judge(SignedRequest {
        origin: "https://www.example.com",
        path: "/a/b.jpg",
        sent_path: Some("/a/%62.jpg"),
        query,
        headers,
        address: [192, 0, 2, 7].into(),
        now: NOW,
    })
}

/// Signed queries and cookies.
pub(crate) fn queries() -> Vec<Vec<u8>> {
    let good = mac(canned(URL, "1900000000").as_bytes());
    let with_query = mac(canned(&format!("{URL}?size=1"), "1900000000").as_bytes());
    let policy = policies().swap_remove(0);
    [
        format!("Expires=1900000000&Signature={good}&Key-Pair-Id=k"),
        format!(
            "size=1&Expires=1900000000&Signature={with_query}&Key-Pair-Id=k&Hash-Algorithm=SHA256"
        ),
        format!(
            "Policy={}&Signature={}&Key-Pair-Id=k",
            encoded(&policy),
            mac(&policy)
        ),
        format!(
            "CloudFront-Expires=1900000000; CloudFront-Signature={good}; CloudFront-Key-Pair-Id=k"
        ),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// Custom policies.
pub(crate) fn policies() -> Vec<Vec<u8>> {
    [
        r#"{"Statement":[{"Resource":"https://www.example.com/*","Condition":{"DateLessThan":{"AWS:EpochTime":1900000000}}}]}"#,
        r#"{"Statement":[{"Resource":"http*://*/?/b.jpg","Condition":{"DateLessThan":{"AWS:EpochTime":1900000000},"DateGreaterThan":{"AWS:EpochTime":1},"IpAddress":{"AWS:SourceIp":"192.0.2.0/24"}}}]}"#,
        r#"{"Statement":[{"Condition":{"DateLessThan":{"AWS:EpochTime":1900000000},"IpAddress":{"AWS:SourceIp":"2001:db8::/32"}}}]}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// The query, and the same bytes as cookies: one that opens the URL has a signature that the key made.
pub(crate) fn signed_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(rest) = without_parameters(text) {
        let names = rest
            .split('&')
            .map(|pair| pair.split('=').next().unwrap_or_default());
        assert!(names.into_iter().all(|name| !PARAMETERS.contains(&name)));
        assert_eq!(without_parameters(&rest), Some(rest.clone()));
    }
    if judged(Some(text), &Fields::new()).is_ok() {
        let url =
            without_parameters(text).map_or_else(|| URL.to_owned(), |rest| format!("{URL}?{rest}"));
        assert_signed(text, '&', "", &url);
    }
    let mut headers = Fields::new();
    if let Ok(line) = HeaderValue::from_str(text) {
        headers.append(header::COOKIE, line);
        if judged(None, &headers).is_ok() {
            assert_signed(text, ';', "CloudFront-", URL);
        }
    }
}

fn assert_signed(text: &str, separator: char, prefix: &str, url: &str) {
    let part = |name: &str| {
        let name = format!("{prefix}{name}");
        let mut pairs = text
            .split(separator)
            .filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(known, _)| known.trim() == name)
            .map(|(_, value)| value.trim().to_owned())
    };
    let policy = match (part("Expires"), part("Policy")) {
        (Some(expires), None) => canned(url, &expires).into_bytes(),
        (None, Some(policy)) => {
            let standard = policy.replace('-', "+").replace('~', "/").replace('_', "=");
            STANDARD
                .decode(standard)
                .expect("an accepted policy is base64")
        }
        _ => panic!("a URL without exactly one policy is opened"),
    };
    assert_eq!(
        part("Signature"),
        Some(mac(&policy)),
        "a forged signature is accepted"
    );
}

/// A policy with a correct signature, so that the code behind the signature check is reached, too.
pub(crate) fn signed_policy(data: &[u8]) {
    let query = format!(
        "Policy={}&Signature={}&Key-Pair-Id=k",
        encoded(data),
        mac(data)
    );
    let found = judged(Some(&query), &Fields::new());
    assert!(!matches!(
        found,
        Err(SignatureRefusal::Missing | SignatureRefusal::Mismatch | SignatureRefusal::UnknownKey)
    ));
    if found.is_ok() {
        let policy: serde_json::Value =
            serde_json::from_slice(data).expect("an accepted policy is JSON");
        let before = policy.pointer("/Statement/0/Condition/DateLessThan/AWS:EpochTime");
        let before = before.and_then(serde_json::Value::as_u64);
        assert!(
            before.is_some_and(|before| before > NOW),
            "a policy that is over opens a URL"
        );
    }
}
