//! The place of a token in a request (RFC 6750 §2.1), and the response to a request without a valid one (§3).

use http::{HeaderValue, StatusCode};

use super::{JwtPolicy, TokenError};
use crate::http::{FieldValue, Fields, cookie, header};

/// The credentials of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extracted<'a> {
    /// Neither a bearer token nor the policy's cookie.
    Absent,
    /// Credentials that have more than one reading ([`TokenError::Request`]), or that are not a token.
    Malformed(TokenError),
    /// Not yet verified, and not yet looked at: `check_form` says why it may not even be a token.
    Token(&'a [u8]),
}

/// The bearer token of a request, or else the cookie that the policy names.
///
/// Another scheme in `Authorization` (`Basic` for the origin, say) is not a bearer token and does not hide the cookie.
pub fn extract<'a>(policy: &JwtPolicy, headers: &'a Fields) -> Extracted<'a> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    match (fields.next(), fields.next()) {
        (Some(_), Some(_)) => return malformed("more than one Authorization field"),
        (Some(field), None) => match bearer(field) {
            Extracted::Absent => {}
            found => return found,
        },
        (None, _) => {}
    }
    match &policy.cookie {
        Some(name) => from_cookie(headers, name),
        None => Extracted::Absent,
    }
}

fn malformed<'a>(reason: &'static str) -> Extracted<'a> {
    Extracted::Malformed(TokenError::Request(reason))
}

/// `Bearer 1*SP b64token` (RFC 6750 §2.1); the scheme in any case (RFC 9110 §11.1).
fn bearer(field: FieldValue<'_>) -> Extracted<'_> {
    const SCHEME: &[u8] = b"Bearer";
    let value = field.as_bytes().trim_ascii();
    let (scheme, rest) = value.split_at_checked(SCHEME.len()).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Extracted::Absent;
    }
    // The scheme without a token after it counts as absent.
    if !matches!(rest.first(), Some(b' ' | b'\t')) {
        return Extracted::Absent;
    }
    Extracted::Token(rest.trim_ascii_start())
}

/// Refuses credentials that are not one `b64token` (RFC 6750 §2.1). No such token is ever verified, so only one that
/// was refused has to be looked at.
pub fn check_form(token: &[u8]) -> Result<(), TokenError> {
    let is_of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    if token.iter().all(is_of_token) {
        return Ok(());
    }
    Err(TokenError::Malformed(
        "it has other characters than a token may have",
    ))
}

/// Two cookies of the name with different values are refused: a neighbour domain can set one of its own beside ours
/// (RFC 6265 §8.6), and nothing shows which was set first.
fn from_cookie<'a>(headers: &'a Fields, name: &str) -> Extracted<'a> {
    let mut found = None;
    for (_, value) in cookie::pairs(headers).filter(|(other, _)| *other == name.as_bytes()) {
        match found {
            Some(first) if first != value => {
                return malformed("two different cookies of the token's name");
            }
            _ => found = Some(value),
        }
    }
    // Applications clear a cookie by emptying it.
    match found {
        None | Some(b"") => Extracted::Absent,
        Some(token) => Extracted::Token(token),
    }
}

/// The response to a request without a valid token: the status, and `WWW-Authenticate` if it applies.
///
/// No token: 401 and the bare challenge (RFC 6750 §3.1 wants no error code there). Unreadable credentials: 400 with
/// `invalid_request`. A refused token: the policy's status, 403 without a challenge (another token of the same user
/// would not help) or 401 with `invalid_token`. No key to verify with: 503, because the fault is the edge's.
pub fn challenge(
    policy: &JwtPolicy,
    error: Option<&TokenError>,
) -> (StatusCode, Option<HeaderValue>) {
    let (status, code, error) = match error {
        None => return (StatusCode::UNAUTHORIZED, Some(policy.challenge.clone())),
        Some(TokenError::NoKey) => return (StatusCode::SERVICE_UNAVAILABLE, None),
        Some(error @ TokenError::Request(_)) => (StatusCode::BAD_REQUEST, "invalid_request", error),
        Some(_) if policy.invalid_status != StatusCode::UNAUTHORIZED => {
            return (policy.invalid_status, None);
        }
        Some(error) => (StatusCode::UNAUTHORIZED, "invalid_token", error),
    };
    let mut value = policy.challenge.as_bytes().to_vec();
    for text in [
        ", error=\"",
        code,
        "\", error_description=\"",
        error.description(),
        "\"",
    ] {
        value.extend_from_slice(text.as_bytes());
    }
    let value = HeaderValue::from_bytes(&value).unwrap_or_else(|_| policy.challenge.clone());
    (status, Some(value))
}
