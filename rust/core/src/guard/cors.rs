//! Cross-origin requests (Fetch §3.2): which pages of other origins may read responses, and the answers to preflights.
//!
//! The origins, methods and fields are the policy's; nothing of a request is sent back unless the policy has it.
//! Responses are completed in phase 15, so that the stored ones are the same for all pages.

use http::{HeaderValue, Method};

use crate::http::{Fields, header, vary};

/// One origin, or all below a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// As browsers send it, in lower case (RFC 6454 §6.2); or `null`.
    Exact(Box<str>),
    /// `https://*.example.com`: scheme, and what the rest ends in, its port included.
    Below {
        /// With `://`.
        scheme: Box<str>,
        /// With the leading dot.
        ending: Box<str>,
    },
}

impl OriginPattern {
    /// Reads an origin; `Err`: what it must be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be an origin such as \"https://app.example.com\", \"https://*.example.com\" or \"null\"";
        if text == "null" {
            return Ok(Self::Exact(text.into()));
        }
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        if scheme.is_empty()
            || !scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        {
            return Err(FORM);
        }
        if rest.contains(['/', '?', '#', '@']) {
            return Err("must have no path: an origin ends with its host and port, without \"/\"");
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with(['0', '+'])) {
            return Err("has a port that is not a number from 1 to 65535");
        }
        if matches!(
            (scheme, port),
            ("http", Some("80")) | ("https", Some("443"))
        ) {
            return Err("must leave the default port out, as browsers do");
        }
        let below = host.strip_prefix('*');
        let name = below.map_or(host, |below| below.strip_prefix('.').unwrap_or_default());
        let is_address = below.is_none() && name.starts_with('[') && name.ends_with(']');
        let is_name = name.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
        if !is_address && !is_name {
            return Err(FORM);
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err("must be in lower case, as browsers send it");
        }
        Ok(match below {
            None => Self::Exact(text.into()),
            Some(below) => Self::Below {
                scheme: format!("{scheme}://").into(),
                ending: port
                    .map_or_else(|| below.to_owned(), |port| format!("{below}:{port}"))
                    .into(),
            },
        })
    }

    fn matches(&self, origin: &[u8]) -> bool {
        match self {
            Self::Exact(own) => own.as_bytes() == origin,
            Self::Below { scheme, ending } => origin
                .strip_prefix(scheme.as_bytes())
                .and_then(|rest| rest.strip_suffix(ending.as_bytes()))
                .is_some_and(|labels| {
                    !labels.is_empty()
                        && labels
                            .iter()
                            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
                }),
        }
    }
}

/// Names, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsNames {
    /// `*`, which never covers `Authorization` (Fetch §3.2.3).
    All,
    /// As they stand in a field; empty: none.
    Only(Box<[Box<str>]>),
}

impl CorsNames {
    fn value(&self) -> Option<HeaderValue> {
        match self {
            Self::All => Some(HeaderValue::from_static("*")),
            Self::Only(names) if names.is_empty() => None,
            Self::Only(names) => HeaderValue::from_str(&names.join(", ")).ok(),
        }
    }
}

/// A CORS policy as declared; [`Cors::compile`] makes the fields of it.
#[derive(Debug, Clone)]
pub struct CorsSpec {
    /// `None`: pages of every origin.
    pub origins: Option<Vec<OriginPattern>>,
    /// Methods of requests that need a preflight.
    pub methods: CorsNames,
    /// Fields of requests that need a preflight.
    pub headers: CorsNames,
    /// Fields of responses that pages may read.
    pub expose: CorsNames,
    /// Cookies and credentials are sent, and pages may read the responses. Never together with `All`.
    pub credentials: bool,
    /// Seconds for which a browser keeps the answer to a preflight.
    pub max_age: u32,
}

/// A compiled policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// `None`: pages of every origin, without credentials.
    pub origins: Option<Box<[OriginPattern]>>,
    /// Responses to requests with credentials may be read, too.
    pub credentials: bool,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

impl Cors {
    /// The fields of a policy; `Err`: the field that is wrong, and why.
    pub fn compile(spec: &CorsSpec) -> Result<Self, (&'static str, &'static str)> {
        if spec.credentials {
            // Browsers read "*" as a name where there are credentials, and refuse it as an origin (Fetch §3.2.5).
            const WHY: &str = "must be a list where credentials is true: \"*\" would be for requests without them only";
            for (name, is_all) in [
                ("origins", spec.origins.is_none()),
                ("methods", spec.methods == CorsNames::All),
                ("headers", spec.headers == CorsNames::All),
                ("expose", spec.expose == CorsNames::All),
            ] {
                if is_all {
                    return Err((name, WHY));
                }
            }
        }
        if spec.origins.as_ref().is_some_and(Vec::is_empty) {
            return Err((
                "origins",
                "must name at least one origin; without any leave cors out",
            ));
        }
        Ok(Self {
            origins: spec.origins.as_deref().map(Into::into),
            credentials: spec.credentials,
            methods: spec.methods.value(),
            headers: spec.headers.value(),
            expose: spec.expose.value(),
            max_age: HeaderValue::from(spec.max_age),
        })
    }

    /// The value of `Access-Control-Allow-Origin` for a request; `None`: its page may not read the response.
    pub fn allows(&self, request: &Fields) -> Option<HeaderValue> {
        let Some(origins) = &self.origins else {
            return Some(HeaderValue::from_static("*"));
        };
        let origin = request.sole(header::ORIGIN)?;
        origins
            .iter()
            .any(|own| own.matches(origin.as_bytes()))
            .then(|| origin.owned())
    }

    /// The methods that preflights allow, one by one; `*` for all.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        let text = self.methods.as_ref().and_then(|value| value.to_str().ok());
        text.unwrap_or_default().split(", ")
    }

    /// True if pages without an origin may read responses to requests with credentials.
    pub fn gives_secrets_to_null(&self) -> bool {
        let is_null = |own: &OriginPattern| own.matches(b"null");
        let origins = self.origins.as_deref().unwrap_or_default();
        self.credentials && origins.iter().any(is_null)
    }

    /// The fields of the answer to a preflight, besides those that [`Self::finish`] sets (Fetch §3.2.3).
    pub fn preflight(&self) -> Fields {
        let mut fields = Fields::with_capacity(6);
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
        ] {
            if let Some(value) = value {
                fields.insert(name, value);
            }
        }
        fields.insert(header::ACCESS_CONTROL_MAX_AGE, &self.max_age);
        fields
    }

    /// Completes a response (phase 15): the policy's fields in place of the origin's, and `Vary` where the response
    /// depends on the page, even if this request has none (Fetch §3.2.5).
    pub fn finish(&self, allowed: Option<&HeaderValue>, headers: &mut Fields) {
        headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
        headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
        if self.origins.is_some() {
            vary::add(headers, header::ORIGIN);
        }
        let Some(allowed) = allowed else { return };
        headers.append(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.append(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        if let Some(expose) = &self.expose {
            headers.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose);
        }
    }
}

/// The method that a preflight is for; `None` if it is not a method.
pub fn requested_method(request: &Fields) -> Option<Method> {
    let method = request.sole(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(method.as_bytes()).ok()
}

#[cfg(test)]
#[path = "cors/tests.rs"]
mod tests;
