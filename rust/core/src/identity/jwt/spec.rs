//! `JWT` as a plan declares it, read but not yet checked.

use crate::secret::Secret;

/// `JWT.keys`: the source of the verification keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeysSpec {
    /// A shared secret (HS256, HS384, HS512).
    Secret {
        /// The text's bytes are the key.
        secret: Secret,
        /// A name of RFC 7518 §3.1.
        algorithm: String,
    },
    /// One public key (RS*, PS*, ES*, EdDSA).
    Pem {
        /// One block.
        pem: Secret,
        /// A name of RFC 7518 §3.1 or RFC 8037 §3.1.
        algorithm: String,
    },
    /// A key set (RFC 7517 §5), as JSON text.
    Jwks {
        /// May hold secret keys.
        jwks: Secret,
    },
    /// A key set fetched by the engine; times in whole seconds.
    JwksUrl {
        /// Address at which the issuer publishes the set.
        url: String,
        /// Age at which the set is fetched again.
        refresh: u32,
        /// Minimum time between two requests to the issuer.
        cooldown: u32,
        /// How long the last good set is used while the issuer is down.
        max_stale: u32,
    },
}

/// `JWT`: how tokens are verified and which claims are forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtSpec {
    /// The source of the verification keys.
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
    /// True if responses do not depend on the user, so that the cache may share them.
    pub shared: bool,
    /// Claim → request field, in declaration order.
    pub forward: Vec<(String, String)>,
    /// True if a request without a token is let through.
    pub optional: bool,
    /// The realm of `WWW-Authenticate`; by default the plan's name.
    pub realm: String,
}
