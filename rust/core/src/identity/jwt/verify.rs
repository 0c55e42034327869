//! Verification of one token (RFC 7515 §5.2, RFC 7519 §7.2, RFC 8725 §3).
//!
//! The order matters: bounds, then form, then key, then signature, and only then the claims. Nothing in an unverified
//! payload is read.

use super::{Algorithm, Claims, JwtPolicy, KeyId, TokenError, base64url};
use crate::{
    identity::jwks::KeySet,
    strict_json::{Json, JsonMembers, member},
};

/// A JOSE header has three or four short members; this bounds the cost of an unverified one.
const MOST_HEADER_BYTES: usize = 2048;
const MOST_KID_BYTES: usize = 512;
/// How many keys a token is tried with: a token without `kid` could otherwise cost a verification for each key of a
/// set.
const MOST_TRIES: usize = 8;

/// Members that bring or fetch a key (RFC 8725 §3.10), change what was signed (RFC 7797), or compress (RFC 8725 §3.6).
/// `crit` names extensions that must be understood, and this edge has none (RFC 7515 §4.1.11).
const FORBIDDEN: [&str; 7] = ["crit", "b64", "jwk", "jku", "x5u", "x5c", "zip"];

/// The claims of `token` if `keys` verify it and `policy` accepts it at `now` (seconds since the Unix epoch).
pub fn verify(
    policy: &JwtPolicy,
    keys: &KeySet,
    token: &[u8],
    now: u64,
) -> Result<Claims, TokenError> {
    if keys.is_empty() {
        return Err(TokenError::NoKey);
    }
    if token.len() > policy.token_bytes {
        return Err(TokenError::TooLong {
            got: token.len(),
            limit: policy.token_bytes,
        });
    }
    let parts = TokenParts::of(token)?;
    let header = Header::read(parts.header)?;
    let signature = base64url(parts.signature)
        .ok_or(TokenError::Malformed("the signature is not base64url"))?;
    check_signature(keys, &header, parts.signed, &signature)?;
    let payload =
        base64url(parts.payload).ok_or(TokenError::Malformed("the payload is not base64url"))?;
    accept(policy, &payload, now)
}

struct TokenParts<'a> {
    header: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
    /// Header and payload with the dot between them.
    signed: &'a [u8],
}

impl<'a> TokenParts<'a> {
    fn of(token: &'a [u8]) -> Result<Self, TokenError> {
        const NOT_THREE: TokenError = TokenError::Malformed("it has not three parts");
        let mut dots = memchr::memchr_iter(b'.', token);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(NOT_THREE);
        };
        let part = |range| token.get(range).unwrap_or_default();
        Ok(Self {
            header: part(0..first),
            payload: part(first + 1..second),
            signature: part(second + 1..token.len()),
            signed: part(0..second),
        })
    }
}

struct Header {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
}

impl Header {
    fn read(text: &[u8]) -> Result<Self, TokenError> {
        if text.len() > MOST_HEADER_BYTES {
            return Err(TokenError::Malformed("the header is too long"));
        }
        let text = base64url(text).ok_or(TokenError::Malformed("the header is not base64url"))?;
        let members = Json::object(&text).ok_or(TokenError::Malformed(
            "the header is not a JSON object with each member once",
        ))?;
        let algorithm = match member(&members, "alg") {
            Some(Json::String(name)) if name.eq_ignore_ascii_case("none") => {
                return Err(TokenError::NotSigned);
            }
            Some(Json::String(name)) => name.parse().map_err(|()| TokenError::UnknownAlgorithm)?,
            Some(_) => return Err(TokenError::Malformed("\"alg\" is not a string")),
            None => return Err(TokenError::Malformed("the header has no \"alg\"")),
        };
        if let Some(name) = FORBIDDEN
            .into_iter()
            .find(|name| member(&members, name).is_some())
        {
            return Err(TokenError::ForbiddenHeader(name));
        }
        match member(&members, "typ") {
            None => {}
            Some(Json::String(name)) if is_jwt(name) => {}
            Some(_) => return Err(TokenError::WrongType),
        }
        let kid = match member(&members, "kid") {
            None => None,
            Some(Json::String(kid)) if kid.len() <= MOST_KID_BYTES => Some((**kid).into()),
            Some(_) => return Err(TokenError::Malformed("\"kid\" is not a short string")),
        };
        Ok(Self { algorithm, kid })
    }
}

/// `typ` is a media type whose `application/` may be left out (RFC 7515 §4.1.9); access tokens have their own
/// (RFC 9068 §2.1). Another type is a token for another purpose (RFC 8725 §3.11).
fn is_jwt(typ: &str) -> bool {
    const PREFIX: &str = "application/";
    let name = match typ.split_at_checked(PREFIX.len()) {
        Some((prefix, name)) if prefix.eq_ignore_ascii_case(PREFIX) => name,
        _ => typ,
    };
    name.eq_ignore_ascii_case("JWT") || name.eq_ignore_ascii_case("at+jwt")
}

fn check_signature(
    keys: &KeySet,
    header: &Header,
    signed: &[u8],
    signature: &[u8],
) -> Result<(), TokenError> {
    let kid = header.kid.as_deref();
    let mut named = false;
    let mut tries = 0;
    for key in keys.candidates(kid) {
        named = true;
        // The key determines the algorithm; the token's own is only compared (RFC 8725 §3.1).
        if key.algorithm() != header.algorithm {
            continue;
        }
        tries += 1;
        if key.verifies(signed, signature) {
            return Ok(());
        }
        if tries == MOST_TRIES {
            break;
        }
    }
    Err(match (named, tries > 0) {
        (_, true) => TokenError::BadSignature {
            kid: KeyId::new(kid),
        },
        (true, false) => TokenError::WrongAlgorithm {
            got: header.algorithm,
        },
        (false, false) => TokenError::UnknownKey {
            kid: KeyId::new(kid),
        },
    })
}

/// Checks the claims of a token whose signature is valid.
fn accept(policy: &JwtPolicy, payload: &[u8], now: u64) -> Result<Claims, TokenError> {
    let json =
        std::str::from_utf8(payload).map_err(|_| TokenError::BadClaims("they are not UTF-8"))?;
    let members = Json::object(payload).ok_or(TokenError::BadClaims(
        "they are not a JSON object with each member once",
    ))?;
    let expires = date(&members, "exp", "\"exp\" is not a number", f64::floor)?;
    let not_before = date(&members, "nbf", "\"nbf\" is not a number", f64::ceil)?;
    date(&members, "iat", "\"iat\" is not a number", f64::floor)?;
    for name in &policy.require {
        if matches!(member(&members, name), None | Some(Json::Null)) {
            return Err(TokenError::MissingClaim { name: name.clone() });
        }
    }
    if let Some(exp) = expires.filter(|exp| now >= exp.saturating_add(policy.leeway)) {
        return Err(TokenError::Expired {
            seconds: now.saturating_sub(exp),
        });
    }
    if let Some(nbf) = not_before.filter(|nbf| now.saturating_add(policy.leeway) < *nbf) {
        return Err(TokenError::NotYetValid {
            seconds: nbf.saturating_sub(now),
        });
    }
    issuer(policy, &members)?;
    audience(policy, &members)?;
    Ok(Claims::new(
        json,
        &members,
        &policy.forward,
        expires,
        not_before,
    ))
}

/// A NumericDate (RFC 7519 §2), which may have a fraction; before the epoch counts as the epoch.
fn date(
    members: &JsonMembers<'_>,
    name: &str,
    wrong: &'static str,
    round: fn(f64) -> f64,
) -> Result<Option<u64>, TokenError> {
    match member(members, name) {
        None => Ok(None),
        Some(Json::Number(number)) => Ok(Some(match (number.as_u64(), number.as_f64()) {
            (Some(seconds), _) => seconds,
            // `as` saturates, and makes negative numbers 0.
            (None, Some(seconds)) if seconds.is_finite() => round(seconds) as u64,
            _ => return Err(TokenError::BadClaims(wrong)),
        })),
        Some(_) => Err(TokenError::BadClaims(wrong)),
    }
}

/// RFC 7519 §4.1.1, RFC 8725 §3.8. Issuers are compared literally.
fn issuer(policy: &JwtPolicy, members: &JsonMembers<'_>) -> Result<(), TokenError> {
    let issuer = match member(members, "iss") {
        None => None,
        Some(Json::String(issuer)) => Some(&**issuer),
        Some(_) => return Err(TokenError::BadClaims("\"iss\" is not a string")),
    };
    if policy.issuer.is_empty() || policy.issuer.iter().any(|one| Some(&**one) == issuer) {
        return Ok(());
    }
    Err(TokenError::WrongIssuer)
}

/// RFC 7519 §4.1.3: one of the token's audiences is one of the policy's. A policy that names none accepts any.
fn audience(policy: &JwtPolicy, members: &JsonMembers<'_>) -> Result<(), TokenError> {
    const WRONG: TokenError =
        TokenError::BadClaims("\"aud\" is neither a string nor an array of strings");
    let accepted = |one: &str| policy.audience.iter().any(|want| **want == *one);
    let mut good = policy.audience.is_empty();
    match member(members, "aud") {
        None => {}
        Some(Json::String(one)) => good |= accepted(one),
        Some(Json::Array(several)) => {
            for one in several {
                good |= accepted(one.as_str().ok_or(WRONG)?);
            }
        }
        Some(_) => return Err(WRONG),
    }
    if good {
        Ok(())
    } else {
        Err(TokenError::WrongAudience)
    }
}
