//! `JWT` as a plan declares it, read but not yet checked.

use crate::secret::Secret;

/// `JWT.keys`: the source of the verification keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeysSpec {
    /// A shared secret (HS256, HS384, HS512).
    Secret { secret: Secret, algorithm: String },
    /// One public key (RS*, PS*, ES*, EdDSA).
    Pem { pem: Secret, algorithm: String },
    /// A key set (RFC 7517 §5), as JSON text.
    Jwks { jwks: Secret },
    /// A key set fetched by the engine; times in whole seconds.
    JwksUrl {
        url: String,
        refresh: u32,
        cooldown: u32,
        max_stale: u32,
    },
}

/// `JWT`: how tokens are verified and which claims are forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtSpec {
    pub keys: JwtKeysSpec,
    /// Algorithms accepted from a key set; `None`: those of each key's kind.
    pub algorithms: Option<Vec<String>>,
    /// Accepted `iss`; empty: any.
    pub issuer: Vec<String>,
    /// Accepted `aud`; empty: any.
    pub audience: Vec<String>,
    /// Seconds of tolerance on `exp` and `nbf`.
    pub leeway: u32,
    /// Claims that must be present.
    pub require: Vec<String>,
    /// Cookie that may carry the token when `Authorization` does not.
    pub cookie: Option<String>,
    /// 401 or 403 (checked by the reader).
    pub invalid_status: u16,
    pub shared: bool,
    /// Claim → request field, in declaration order.
    pub forward: Vec<(String, String)>,
    pub optional: bool,
    /// The realm of `WWW-Authenticate`; by default the plan's name.
    pub realm: String,
}
