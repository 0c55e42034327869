//! Sets of keys (RFC 7517): the keys that a token may be verified with, and the selection among them.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

use super::jwt::{Algorithm, Json, JsonMembers, JwtKey, KeyFamily, RSA_BITS, base64url, member};

/// Bound on a published set, which is normally a few kilobytes (docs/limits.md).
pub const MOST_BYTES: usize = 256 << 10;
/// Usable keys in a set. Real sets have two to ten.
const MOST_KEYS: usize = 128;

/// Why a set of keys cannot be used. Never holds any of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Refused unread.
    #[error("is {got} bytes long; the limit is {MOST_BYTES}")]
    TooLong {
        /// Bytes.
        got: usize,
    },
    /// The whole set is refused: other readers might see other keys in it.
    #[error(
        "is not a JSON object with a \"keys\" array (RFC 7517 §5) in which each member stands once"
    )]
    NotASet,
    /// Keys that the policy does not allow are not counted.
    #[error("has more than {MOST_KEYS} usable keys")]
    TooMany,
    /// Keys that are not usable are skipped (RFC 7517 §5), and none is left.
    #[error(
        "has no usable key among {keys}: a key needs a supported \"kty\", \"use\" other than \"enc\", an \"alg\" that the \
         policy allows, and secret (oct) keys need \"algorithms\" to name the HMAC"
    )]
    NoUsableKey {
        /// Members of `keys`, usable or not.
        keys: usize,
    },
}

/// Keys to verify with. Immutable; a refresh makes a new set. `Debug` shows ids and algorithms only.
pub struct KeySet {
    keys: Vec<JwtKey>,
    weak_secret: Option<WeakSecret>,
    fingerprint: u128,
}

/// A secret that has fewer bytes than the hash of its algorithm (RFC 7518 §3.2): it can be guessed offline from one
/// token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeakSecret {
    /// `kid` of the set; `None` where the key has no name.
    pub id: Option<Box<str>>,
    /// Of the algorithm.
    pub algorithm: Algorithm,
    /// Bytes of the secret.
    pub bytes: usize,
    /// Bytes that it needs.
    pub least: usize,
}

impl WeakSecret {
    /// `None` where the secret is long enough, and for public keys.
    fn of(key: &JwtKey, secret: &[u8]) -> Option<Self> {
        let (bytes, least) = (secret.len(), key.algorithm().least_secret());
        (bytes < least).then(|| Self {
            id: key.id.clone(),
            algorithm: key.algorithm(),
            bytes,
            least,
        })
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}

impl KeySet {
    /// No keys: every verification fails with `NoKey`.
    pub fn empty() -> Self {
        Self {
            keys: Vec::new(),
            weak_secret: None,
            fingerprint: 0,
        }
    }

    /// A set of one nameless key, made from `material`.
    pub(super) fn single(key: JwtKey, material: &[u8]) -> Self {
        Self {
            weak_secret: WeakSecret::of(&key, material),
            keys: vec![key],
            fingerprint: fingerprint(&[material]),
        }
    }

    /// Reads a JWK Set. Keys that cannot be used here are skipped, as RFC 7517 §5 requires; a set without a usable key
    /// is an error, so that it never replaces a good one.
    ///
    /// Each key serves the one algorithm that its `alg` names. If it names none: those of `allowed` that fit it, and
    /// without `allowed` the one that its type implies (RS256 for RSA). Secret keys serve only the algorithms that
    /// `allowed` names, so that a published set cannot enable HMAC.
    pub fn from_jwks(json: &[u8], allowed: Option<&[Algorithm]>) -> Result<Self, JwksError> {
        if json.len() > MOST_BYTES {
            return Err(JwksError::TooLong { got: json.len() });
        }
        let members = Json::object(json).ok_or(JwksError::NotASet)?;
        let Some(Json::Array(entries)) = member(&members, "keys") else {
            return Err(JwksError::NotASet);
        };
        let mut keys = Vec::new();
        let mut weak_secret = None;
        for entry in entries {
            if let Json::Object(jwk) = entry {
                read(jwk, allowed, &mut keys, &mut weak_secret);
            }
            if keys.len() > MOST_KEYS {
                return Err(JwksError::TooMany);
            }
        }
        if keys.is_empty() {
            return Err(JwksError::NoUsableKey {
                keys: entries.len(),
            });
        }
        Ok(Self {
            keys,
            weak_secret,
            fingerprint: fingerprint(&[json]),
        })
    }

    /// False for sets that were read from text: they have at least one key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The first secret that is too short for an algorithm that it serves: for advice.
    pub fn weak_secret(&self) -> Option<&WeakSecret> {
        self.weak_secret.as_ref()
    }

    /// Usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Equal for sets read from the same bytes: part of the identity of a remembered token.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// Keys that a token with this `kid` may be signed with: those of that name (RFC 7517 §4.5 lets several share it)
    /// and those without a name; all of them for a token without `kid`.
    pub(super) fn candidates(&self, kid: Option<&str>) -> impl Iterator<Item = &JwtKey> {
        self.keys
            .iter()
            .filter(move |key| match (kid, key.id.as_deref()) {
                (Some(wanted), Some(id)) => wanted == id,
                _ => true,
            })
    }
}

/// The first half of SHA-256 over the parts, each preceded by its length.
pub(super) fn fingerprint(parts: &[&[u8]]) -> u128 {
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part);
    }
    digest(&SHA256, &text)
        .as_ref()
        .iter()
        .take(16)
        .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// Adds the usable forms of one JWK. Private members (`d`, `p`, …) are not looked at.
fn read(
    jwk: &JsonMembers<'_>,
    allowed: Option<&[Algorithm]>,
    keys: &mut Vec<JwtKey>,
    weak_secret: &mut Option<WeakSecret>,
) {
    let text = |name| member(jwk, name).and_then(Json::as_str);
    let bytes = |name| text(name).and_then(|value| base64url(value.as_bytes()));
    // RFC 7517 §4.2, §4.3: a `use` or `key_ops` must allow verification.
    if member(jwk, "use").is_some() && text("use") != Some("sig") {
        return;
    }
    match member(jwk, "key_ops") {
        None => {}
        Some(Json::Array(ops)) if ops.iter().any(|op| op.as_str() == Some("verify")) => {}
        Some(_) => return,
    }
    let id = match member(jwk, "kid") {
        None => None,
        Some(Json::String(kid)) => Some(Box::<str>::from(&**kid)),
        Some(_) => return,
    };
    let family = match (text("kty"), text("crv")) {
        (Some("oct"), _) => KeyFamily::Secret,
        (Some("RSA"), _) => KeyFamily::Rsa,
        (Some("EC"), Some("P-256")) => KeyFamily::P256,
        (Some("EC"), Some("P-384")) => KeyFamily::P384,
        (Some("EC"), Some("P-521")) => KeyFamily::P521,
        (Some("OKP"), Some("Ed25519")) => KeyFamily::Ed25519,
        _ => return,
    };
    let named = match member(jwk, "alg") {
        None => None,
        Some(alg) => match alg.as_str().and_then(|name| name.parse::<Algorithm>().ok()) {
            Some(algorithm) => Some(algorithm),
            None => return,
        },
    };
    for algorithm in Algorithm::ALL {
        let fits = algorithm.family() == family
            && named.is_none_or(|named| named == algorithm)
            && match allowed {
                Some(list) => list.contains(&algorithm),
                None => family != KeyFamily::Secret && (named.is_some() || algorithm.is_default()),
            };
        if !fits {
            continue;
        }
        let secret = bytes("k").filter(|secret| !secret.is_empty());
        let key = match family {
            KeyFamily::Secret => secret
                .as_ref()
                .and_then(|secret| JwtKey::secret(algorithm, secret)),
            KeyFamily::Rsa => rsa(algorithm, bytes("n"), bytes("e")),
            KeyFamily::P256 => point(algorithm, 32, bytes("x"), bytes("y")),
            KeyFamily::P384 => point(algorithm, 48, bytes("x"), bytes("y")),
            KeyFamily::P521 => point(algorithm, 66, bytes("x"), bytes("y")),
            KeyFamily::Ed25519 => bytes("x")
                .filter(|x| x.len() == 32)
                .and_then(|x| JwtKey::public(algorithm, &x)),
        };
        if let Some(mut key) = key {
            key.id.clone_from(&id);
            if let (KeyFamily::Secret, Some(secret), None) = (family, &secret, &weak_secret) {
                *weak_secret = WeakSecret::of(&key, secret);
            }
            keys.push(key);
        }
    }
}

/// RFC 7518 §6.3.1, with the bounds of `JwtKey`; an even or tiny exponent makes the key invalid.
fn rsa(algorithm: Algorithm, n: Option<Vec<u8>>, e: Option<Vec<u8>>) -> Option<JwtKey> {
    let (n, e) = (n?, e?);
    let significant = |number: &[u8]| -> Option<Vec<u8>> {
        // Some issuers keep the sign byte of ASN.1.
        let start = number.iter().position(|byte| *byte != 0)?;
        number.get(start..).map(<[u8]>::to_vec)
    };
    let (n, e) = (significant(&n)?, significant(&e)?);
    let bits = (n.len() as u32).checked_mul(8)? - n.first()?.leading_zeros();
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    if !RSA_BITS.contains(&bits) || !odd(&n) || !odd(&e) || e.len() > 4 || e == [1] {
        return None;
    }
    JwtKey::rsa(algorithm, &n, &e)
}

/// An uncompressed point (SEC 1 §2.3.3); coordinates have the curve's full length (RFC 7518 §6.2.1.2).
fn point(
    algorithm: Algorithm,
    length: usize,
    x: Option<Vec<u8>>,
    y: Option<Vec<u8>>,
) -> Option<JwtKey> {
    let (x, y) = (x?, y?);
    if x.len() != length || y.len() != length {
        return None;
    }
    JwtKey::public(algorithm, &[&[4], x.as_slice(), y.as_slice()].concat())
}

#[cfg(test)]
mod tests;
