//! Signatures of requests: AWS Signature Version 4, for a POST to `/` without a query.

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};

use super::credentials::Credentials;
use crate::sql::calendar;

/// The service, as signatures name it.
const SERVICE: &str = "dynamodb";

/// A moment as `20150830T123600Z`. `seconds`: since the Unix epoch.
pub(super) fn moment(seconds: u64) -> String {
    let days = i64::try_from(seconds / 86_400).unwrap_or_default();
    let of_day = seconds % 86_400;
    let date = calendar::date(days).replace('-', "");
    let (hours, minutes) = (of_day / 3_600, of_day / 60 % 60);
    format!("{date}T{hours:02}{minutes:02}{:02}Z", of_day % 60)
}

/// The value of `Authorization`. `headers`: all that are signed, by their names in lower case, sorted. `moment`: that
/// of `x-amz-date`, which is among them.
pub(super) fn authorization(
    credentials: &Credentials,
    region: &str,
    moment: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> String {
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut canonical = String::from("POST\n/\n\n");
    for (name, value) in headers {
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let _ = write!(canonical, "\n{names}\n{}", hash(body));
    let day = moment.get(..8).unwrap_or_default();
    let scope = format!("{day}/{region}/{SERVICE}/aws4_request");
    let text = format!(
        "AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}",
        hash(canonical.as_bytes())
    );
    let key = key(credentials, day, region, SERVICE);
    let signature = hex(mac(&key, text.as_bytes()).as_ref());
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.key
    )
}

fn key(credentials: &Credentials, day: &str, region: &str, service: &str) -> hmac::Tag {
    let mut first = b"AWS4".to_vec();
    first.extend_from_slice(credentials.secret.as_bytes());
    let first = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &first), day.as_bytes());
    [region, service, "aws4_request"]
        .iter()
        .fold(first, |key, part| mac(&key, part.as_bytes()))
}

fn mac(key: &hmac::Tag, bytes: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), bytes)
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use edgerouter_core::secret::Secret;

    use super::*;

    #[test]
    fn a_key_is_that_of_the_example_in_the_documentation() {
        let credentials = Credentials {
            key: "AKIDEXAMPLE".into(),
            secret: Secret(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec()),
            token: None,
        };
        let key = key(&credentials, "20150830", "us-east-1", "iam");
        let want = "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9";
        assert_eq!(hex(key.as_ref()), want);
        assert!(!format!("{credentials:?}").contains("wJalr"));
    }

    #[test]
    fn a_moment_is_written_as_signatures_have_it() {
        assert_eq!(moment(1_440_938_160), "20150830T123600Z");
        assert_eq!(moment(0), "19700101T000000Z");
    }
}
