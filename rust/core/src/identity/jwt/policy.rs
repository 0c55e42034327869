//! A route's requirements on a token: compiled once, with its keys parsed.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode, uri::Uri};

use super::{Algorithm, JwtKey, JwtKeysSpec, JwtSpec, TokenError, pem};
use crate::{
    http::{FieldName, KnownSet, header},
    identity::jwks::{JwksError, KeySet, WeakSecret, fingerprint},
    problem::{SubProblem, shown_url},
};

/// A route's token policy.
#[derive(Debug)]
pub struct JwtPolicy {
    /// Source of the verification keys.
    pub source: KeySource,
    /// Algorithms that keys of a set may serve; `None`: those that each key names.
    pub algorithms: Option<Vec<Algorithm>>,
    /// A longer token is refused unread.
    pub token_bytes: usize,
    /// Empty: any, or none.
    pub issuer: Vec<Arc<str>>,
    /// Empty: any, or none.
    pub audience: Vec<Arc<str>>,
    /// Seconds by which clocks may differ.
    pub leeway: u64,
    /// Claims that must be present.
    pub require: Vec<Arc<str>>,
    /// The cookie that may carry the token if `Authorization` does not.
    pub cookie: Option<Arc<str>>,
    /// 403, or 401 with the error of RFC 6750.
    pub invalid_status: StatusCode,
    /// Claim → field of the request to the origin.
    pub forward: Vec<(Arc<str>, FieldName)>,
    /// Responses behind this policy do not depend on the token.
    pub shared: bool,
    /// A request without a token continues anonymously. One with an invalid token does not.
    pub optional: bool,
    /// `Bearer realm="…"`.
    pub(super) challenge: HeaderValue,
    fingerprint: u128,
}

/// The source of keys.
#[derive(Debug)]
pub enum KeySource {
    /// The plan.
    Static(KeySet),
    /// The engine fetches them.
    Url {
        /// Of a key set (RFC 7517 §5).
        url: Arc<str>,
        /// Age at which the keys are fetched again.
        refresh: Duration,
        /// Minimum time between two requests to the issuer.
        cooldown: Duration,
        /// How long the last good keys are used while the issuer is down.
        max_stale: Duration,
    },
}

/// The default of `limits.identity.token_bytes` (docs/design.md §11).
const TOKEN_BYTES: usize = 8 << 10;

/// Fields that frame or route a message, or that carry other credentials: no claim and no variant goes in them.
pub(crate) const NOT_FORWARDED: KnownSet = KnownSet::of(&[
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::COOKIE,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::VIA,
    header::RANGE,
]);

impl JwtPolicy {
    /// Compiles a spec. The limit on a token's length is the default; the plan's own is set on the policy.
    pub fn compile(spec: JwtSpec) -> Result<Self, Vec<SubProblem>> {
        let mut problems = SubProblems::default();
        let algorithms = problems.algorithms(&spec);
        let source = problems.keys(&spec.keys, algorithms.as_deref());
        let forward = problems.forward(&spec.forward);
        let challenge = problems.challenge(&spec.realm);
        if let Some(cookie) = spec.cookie.as_deref().filter(|name| !is_token(name)) {
            problems.add(
                "cookie",
                Some(cookie.into()),
                "must be a cookie name (RFC 6265 §4.1.1)",
            );
        }
        for (list, name) in [
            (&spec.issuer, "issuer"),
            (&spec.audience, "audience"),
            (&spec.require, "require"),
        ] {
            if let Some(index) = list.iter().position(String::is_empty) {
                problems.add(&format!("{name}[{index}]"), None, "must not be empty");
            }
        }
        let (Some((source, material)), Some(challenge), true) =
            (source, challenge, problems.0.is_empty())
        else {
            return Err(problems.0);
        };
        let mut policy = Self {
            source,
            algorithms,
            issuer: shared(&spec.issuer),
            audience: shared(&spec.audience),
            leeway: spec.leeway.into(),
            require: shared(&spec.require),
            cookie: spec.cookie.as_deref().map(Arc::from),
            // The reader accepts only these two.
            invalid_status: match spec.invalid_status {
                401 => StatusCode::UNAUTHORIZED,
                _ => StatusCode::FORBIDDEN,
            },
            shared: spec.shared,
            forward,
            optional: spec.optional,
            token_bytes: TOKEN_BYTES,
            challenge,
            fingerprint: 0,
        };
        policy.fingerprint = policy.identify(&material);
        Ok(policy)
    }

    /// Keys that came with the plan; `None` if the engine fetches them.
    pub fn static_keys(&self) -> Option<&KeySet> {
        match &self.source {
            KeySource::Static(keys) => Some(keys),
            KeySource::Url { .. } => None,
        }
    }

    /// Reads a fetched key set under this policy.
    pub fn read_keys(&self, json: &[u8]) -> Result<KeySet, JwksError> {
        KeySet::from_jwks(json, self.algorithms.as_deref())
    }

    /// Equal for policies that accept the same tokens and forward the same claims: remembered tokens are shared by it,
    /// across reloads and routes.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// For lints: a secret of the plan that is too short.
    pub fn weak_secret(&self) -> Option<&WeakSecret> {
        self.static_keys().and_then(KeySet::weak_secret)
    }

    /// True if fetching new keys could remedy the error.
    pub fn may_be_rotated(&self, error: &TokenError) -> bool {
        matches!(self.source, KeySource::Url { .. })
            && matches!(error, TokenError::UnknownKey { .. } | TokenError::NoKey)
    }

    /// Names of the fields that only this policy may set on a request.
    pub fn forward_names(&self) -> impl Iterator<Item = &FieldName> {
        self.forward.iter().map(|(_, name)| name)
    }

    fn identify(&self, material: &[u8]) -> u128 {
        let mut text = String::new();
        let mut put = |part: &str| {
            text.push_str(&part.len().to_string());
            text.push(':');
            text.push_str(part);
        };
        for list in [&self.issuer, &self.audience, &self.require] {
            put(&list.len().to_string());
            list.iter().for_each(|item| put(item));
        }
        for (claim, header) in &self.forward {
            put(claim);
            put(header.as_str());
        }
        match &self.source {
            KeySource::Url { url, .. } => put(url),
            KeySource::Static(keys) => put(&format!("{keys:?}")),
        }
        put(&format!("{:?}{}", self.algorithms, self.leeway));
        fingerprint(&[material, text.as_bytes()])
    }
}

fn shared(list: &[String]) -> Vec<Arc<str>> {
    list.iter().map(|item| Arc::from(item.as_str())).collect()
}

/// A token of RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The source and its material.
type Source = (KeySource, Vec<u8>);

#[derive(Default)]
struct SubProblems(Vec<SubProblem>);

impl SubProblems {
    fn add(&mut self, path: &str, value: Option<String>, message: impl Into<String>) {
        self.0.push((path.into(), value, message.into()));
    }

    fn algorithm(
        &mut self,
        path: &str,
        name: &str,
        fits: fn(Algorithm) -> bool,
    ) -> Option<Algorithm> {
        let found = name.parse().ok().filter(|algorithm| fits(*algorithm));
        if found.is_none() {
            let names: Vec<&str> = Algorithm::ALL
                .into_iter()
                .filter(|algorithm| fits(*algorithm))
                .map(Algorithm::as_str)
                .collect();
            let message = format!("must be one of {}", names.join(", "));
            self.add(path, Some(name.chars().take(40).collect()), message);
        }
        found
    }

    fn algorithms(&mut self, spec: &JwtSpec) -> Option<Vec<Algorithm>> {
        let names = spec.algorithms.as_ref()?;
        if matches!(
            spec.keys,
            JwtKeysSpec::Secret { .. } | JwtKeysSpec::Pem { .. }
        ) {
            self.add(
                "algorithms",
                None,
                "is for key sets only: this key has its one \"algorithm\"",
            );
        } else if names.is_empty() {
            self.add(
                "algorithms",
                None,
                "must name at least one algorithm, or be left out",
            );
        }
        let found: Vec<Algorithm> = names
            .iter()
            .enumerate()
            .filter_map(|(i, name)| self.algorithm(&format!("algorithms[{i}]"), name, |_| true))
            .collect();
        Some(found)
    }

    fn keys(&mut self, keys: &JwtKeysSpec, allowed: Option<&[Algorithm]>) -> Option<Source> {
        match keys {
            JwtKeysSpec::Secret { secret, algorithm } => {
                let algorithm =
                    self.algorithm("keys.algorithm", algorithm, |one| one.least_secret() > 0);
                let (algorithm, secret) = (algorithm?, secret.as_bytes());
                if secret.is_empty() {
                    self.add(
                        "keys.secret",
                        None,
                        "must not be empty: make one with openssl rand -base64 48",
                    );
                    return None;
                }
                let key = JwtKey::secret(algorithm, secret)?;
                Some((
                    KeySource::Static(KeySet::single(key, secret)),
                    secret.to_vec(),
                ))
            }
            JwtKeysSpec::Pem { pem, algorithm } => {
                let algorithm =
                    self.algorithm("keys.algorithm", algorithm, |one| one.least_secret() == 0);
                let text = std::str::from_utf8(pem.as_bytes()).unwrap_or_default();
                match pem::key(text, algorithm?) {
                    Ok((key, der)) => Some((KeySource::Static(KeySet::single(key, &der)), der)),
                    Err(message) => {
                        self.add("keys.pem", None, message);
                        None
                    }
                }
            }
            JwtKeysSpec::Jwks { jwks } => {
                let json = jwks.as_bytes();
                match KeySet::from_jwks(json, allowed) {
                    Ok(keys) => Some((KeySource::Static(keys), json.to_vec())),
                    Err(error) => {
                        self.add("keys.jwks", None, error.to_string());
                        None
                    }
                }
            }
            JwtKeysSpec::JwksUrl {
                url,
                refresh,
                cooldown,
                max_stale,
            } => {
                let good = self.url(url);
                for (path, value) in [("keys.refresh", *refresh), ("keys.cooldown", *cooldown)] {
                    if value == 0 {
                        self.add(path, Some("0".into()), "must be ≥ 1 seconds");
                    }
                }
                let seconds = |value: &u32| Duration::from_secs(u64::from(*value));
                let source = KeySource::Url {
                    url: good?,
                    refresh: seconds(refresh),
                    cooldown: seconds(cooldown),
                    max_stale: seconds(max_stale),
                };
                Some((source, Vec::new()))
            }
        }
    }

    /// Keys fetched over plain http could be anybody's.
    fn url(&mut self, url: &str) -> Option<Arc<str>> {
        let parsed = url.parse::<Uri>().ok();
        let host = parsed.as_ref().and_then(Uri::host).unwrap_or_default();
        let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        let scheme = parsed.as_ref().and_then(Uri::scheme_str);
        let good = !host.is_empty()
            && !url.contains('@')
            && (scheme == Some("https") || (scheme == Some("http") && local));
        if !good {
            let message =
                "must be an https URL without user information (http only for this machine)";
            self.add("keys.url", shown_url(url), message);
        }
        good.then(|| Arc::from(url))
    }

    fn forward(&mut self, map: &[(String, String)]) -> Vec<(Arc<str>, FieldName)> {
        let mut forward: Vec<(Arc<str>, FieldName)> = Vec::with_capacity(map.len());
        for (claim, header) in map {
            let path = format!("forward.{claim}");
            let shown = Some(header.clone());
            match FieldName::from_bytes(header.as_bytes()) {
                Err(_) => self.add(&path, shown, "must be a header name (RFC 9110 §5.1)"),
                Ok(name) if name.is_of(NOT_FORWARDED) => {
                    self.add(
                        &path,
                        shown,
                        "must not be a header that frames a message or carries credentials",
                    );
                }
                Ok(name) if forward.iter().any(|(_, other)| *other == name) => {
                    self.add(&path, shown, "must not be the header of another claim");
                }
                Ok(name) => forward.push((Arc::from(claim.as_str()), name)),
            }
        }
        forward
    }

    fn challenge(&mut self, realm: &str) -> Option<HeaderValue> {
        let plain = realm.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let value = HeaderValue::from_str(&format!("Bearer realm=\"{quoted}\"")).ok();
        if !plain {
            self.add(
                "realm",
                Some(realm.escape_debug().to_string()),
                "must be printable ASCII",
            );
        }
        value
    }
}
