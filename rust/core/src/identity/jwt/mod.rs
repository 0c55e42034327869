//! Tokens: JSON Web Signatures in compact form that carry claims (RFC 7515, 7519), verified according to RFC 8725.
//!
//! `policy` compiles a route's requirements, `pem` and `key` read keys, `extract` finds the token in a request,
//! `verify` checks it, `claims` keeps its content. Encrypted tokens (RFC 7516) are not here, signed URLs are in
//! `guard::signed`. A token never chooses how it is checked: algorithms come with the key, keys come from the policy.

mod algorithm;
mod claims;
mod error;
mod extract;
mod key;
mod pem;
mod policy;
mod spec;
mod verify;

pub use algorithm::Algorithm;
pub use claims::{Claims, Forwarded};
pub use error::{KeyId, TokenError};
pub use extract::{Extracted, challenge, check_form, extract};
pub use key::JwtKey;
pub(crate) use pem::{PemFamily, public_pem};
pub(crate) use policy::NOT_FORWARDED;
pub(crate) use policy::is_token;
pub use policy::{JwtPolicy, KeySource};
pub use spec::{JwtKeysSpec, JwtSpec};
pub use verify::verify;

pub(super) use crate::strict_json::{Json, JsonMembers, member};
pub(super) use algorithm::KeyFamily;
pub(super) use key::RSA_BITS;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Decodes base64url as RFC 7515 §2 requires: no padding, no line breaks, and only the canonical form (RFC 4648 §3.5:
/// unused bits are zero), so that one value has one spelling.
pub(super) fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
pub(super) mod tests;
