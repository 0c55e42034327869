//! The answers that end a request in phases 2 to 6: status, outcome and text of each.

use http::{HeaderValue, Method, StatusCode};

use crate::{
    admit::{Evasion, Refusal},
    guard::{addresses::AddressRefusal, basic::BasicRefusal, signed::SignatureRefusal},
    http::Fields,
    identity::jwt::TokenError,
    outcome::{Detail, Outcome},
};

/// An answer that ends a request in phases 2 to 6.
#[derive(Debug)]
pub enum PathEnd {
    /// The request is refused on admission.
    Refused(Refusal),
    /// It has passed this edge before (RFC 9110 §7.6.3).
    Loop,
    /// The site or the route does not serve the client's address.
    Address(AddressRefusal),
    /// The site does not serve the host (RFC 9110 §15.5.20).
    Misdirected,
    /// The answer to a preflight (Fetch §4.8); `None`: pages of its origin may not use the route.
    Preflight(Option<Box<Fields>>),
    /// No user with that password (RFC 7617), and the value of `WWW-Authenticate`.
    Basic(BasicRefusal, HeaderValue),
    /// The password must be verified first; [`Admitted::identify_again`] continues.
    Password,
    /// Too many requests (RFC 6585 §4): the seconds after which another one may come.
    RateLimited(u32),
    /// The URL is not signed as the route demands.
    Signature(SignatureRefusal),
    /// It is about the server itself, which is the edge (RFC 9110 §9.3.7).
    Server,
    /// No route matches host, path, method and fields, and none matches with another method.
    NoRoute,
    /// The methods that the URL accepts.
    MethodNotAllowed(Vec<Method>),
    /// A lenient server would read the path as one that the route must not serve.
    Evades(Evasion),
    /// The route refuses plain http.
    HttpsOnly,
    /// The same URL over https.
    Https(StatusCode, HeaderValue),
    /// No token, or the reason why it is refused.
    Unauthorized(Option<TokenError>, StatusCode, Option<HeaderValue>),
    /// The same URL, to be requested again with the cookie of the variant.
    Variant(HeaderValue),
    /// The same URL is not valid in a `Location`.
    NoVariant,
    /// A parameter's value is not valid in that part of the location.
    NoLocation,
    /// The route's rewrite gives no valid path.
    NoPath,
}

impl PathEnd {
    /// The response's status, as far as it is decided here.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Address(_) | Self::Preflight(None) | Self::Signature(_) => StatusCode::FORBIDDEN,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Basic(BasicRefusal::Busy, _) | Self::Password => StatusCode::SERVICE_UNAVAILABLE,
            Self::Basic(..) => StatusCode::UNAUTHORIZED,
            Self::Server | Self::Preflight(Some(_)) => StatusCode::NO_CONTENT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Evades(_) => Refusal::AmbiguousPath.status(),
            Self::HttpsOnly => StatusCode::FORBIDDEN,
            Self::Https(status, _) | Self::Unauthorized(_, status, _) => *status,
            Self::Variant(_) => StatusCode::FOUND,
            Self::NoVariant | Self::NoLocation | Self::NoPath => StatusCode::BAD_REQUEST,
        }
    }

    /// The response's outcome and detail.
    pub fn noted(&self) -> (Outcome, Option<Detail>) {
        let (outcome, detail) = match self {
            Self::Refused(_) | Self::Loop | Self::Evades(_) | Self::NoPath => {
                return (Outcome::Pass, None);
            }
            Self::Server => (Outcome::Pass, Detail::Options),
            Self::Address(_) => (Outcome::Error, Detail::Address),
            Self::Misdirected => (Outcome::Error, Detail::Misdirected),
            Self::Preflight(_) => (Outcome::Pass, Detail::Preflight),
            Self::Signature(_) => (Outcome::Error, Detail::Signature),
            Self::RateLimited(_) => (Outcome::Error, Detail::RateLimited),
            Self::NoRoute => (Outcome::Error, Detail::NoRoute),
            Self::MethodNotAllowed(_) => (Outcome::Error, Detail::MethodNotAllowed),
            Self::HttpsOnly => (Outcome::Error, Detail::HttpsOnly),
            Self::Unauthorized(..) | Self::Basic(..) | Self::Password => {
                (Outcome::Error, Detail::Unauthorized)
            }
            Self::Https(..) | Self::Variant(_) | Self::NoVariant | Self::NoLocation => {
                (Outcome::Redirect, Detail::Redirect)
            }
        };
        (outcome, Some(detail))
    }

    /// For the client; empty if the status is enough.
    pub fn message(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.message(),
            Self::Evades(_) => Refusal::AmbiguousPath.message(),
            Self::Loop => "The request has passed this edge before (Via).",
            Self::Address(_) => "The edge does not serve this address.",
            Self::Misdirected => "The edge does not serve this host.",
            Self::Signature(refusal) => refusal.message(),
            Self::RateLimited(_) => "Too many requests.",
            Self::Basic(BasicRefusal::Busy, _) | Self::Password => {
                "Passwords cannot be verified right now."
            }
            Self::Basic(..) => "Unauthorized",
            Self::Preflight(None) => "Pages of this origin may not use the URL.",
            Self::NoRoute => "No route of this edge matches the request.",
            Self::MethodNotAllowed(_) => "This URL does not allow that method.",
            Self::HttpsOnly => "This URL is served over HTTPS only.",
            Self::Unauthorized(_, StatusCode::UNAUTHORIZED, _) => "Unauthorized",
            Self::Unauthorized(_, StatusCode::SERVICE_UNAVAILABLE, _) => {
                "Tokens cannot be verified right now."
            }
            Self::Unauthorized(..) => "Invalid token",
            Self::NoVariant => "The URL cannot be redirected to.",
            Self::NoLocation => "The URL cannot be redirected from.",
            Self::NoPath => "The URL cannot be rewritten.",
            Self::Server | Self::Https(..) | Self::Variant(_) | Self::Preflight(Some(_)) => "",
        }
    }
}
