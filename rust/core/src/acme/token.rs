//! Tokens of HTTP-01 challenges (RFC 8555 §8.3).

/// The start of the path of a challenge.
pub const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// Longest token. RFC 8555 §8.1 demands 128 bits of entropy, which take 22 characters; issuers use 43.
const LONGEST: usize = 256;

/// The token that a path names; `None` if it is of no challenge.
pub fn challenge_token(path: &str) -> Option<&str> {
    path.strip_prefix(CHALLENGE_PATH)
        .filter(|token| is_token(token))
}

/// True for characters of base64url (RFC 8555 §8.1). Such a token is safe as the name of a file.
pub fn is_token(text: &str) -> bool {
    (22..=LONGEST).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_base64url_of_128_bits_or_more_and_the_whole_rest_of_the_path() {
        let token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
        let path = format!("{CHALLENGE_PATH}{token}");
        assert_eq!(challenge_token(&path), Some(token));
        for other in [
            String::new(),
            "/".to_owned(),
            CHALLENGE_PATH.to_owned(),
            format!("{path}/"),
            format!("{path}?a"),
            format!("{path}="),
            format!("/x{path}"),
            format!("{CHALLENGE_PATH}../../../../etc/passwd-------"),
            format!("{CHALLENGE_PATH}{}", "a".repeat(21)),
            format!("{CHALLENGE_PATH}{}", "a".repeat(257)),
            format!("{CHALLENGE_PATH}{}é", "a".repeat(30)),
        ] {
            assert_eq!(challenge_token(&other), None, "{other}");
        }
    }
}
