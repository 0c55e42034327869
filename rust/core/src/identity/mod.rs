//! Identity: the client's address behind trusted proxies, and tokens (RFC 7519, 7515, 7517, 7518, 8725).
//!
//! Verification is pure: keys, policy, token and *now* in; claims or a reason out. Fetching keys, remembering verified
//! tokens and reading clocks are the engine's. Data flows `client_address` → scheme and address; `jwt::extract` →
//! token; `jwks` → keys; `jwt::verify` → claims, or a `TokenError` from which `jwt::challenge` makes the response.

pub mod client_address;
pub mod jwks;
pub mod jwt;
