//! Admission: which requests are accepted, and in which form (phase 2; RFC 9112, RFC 9110 §5–7).
//!
//! `http::h1` has read the message and refused what has more than one reading; `authority` gives its host one
//! spelling, `fields` decides which fields its header section may keep, `evasion` whether the path could be read as
//! another one.

mod authority;
mod evasion;
mod fields;
mod sanitise;

pub use authority::{Authority, LastAuthority, host_length};
pub use evasion::{Evasion, evades};
pub use fields::{accepts_trailers, plain_length, strip_hop_by_hop, switches_as_offered, upgrade};
pub use sanitise::{
    NAMED, NAMED_PREFIX, Sanitiser, is_named, is_twin_of_any, keep_only, late, may_identify,
    trailers, without_twins, without_twins_of_changes,
};

use http::StatusCode;

use crate::outcome::words;

words! {
    /// Why a request is refused.
    pub enum Refusal {
        /// RFC 9112 §3: the request line is malformed.
        BadRequestLine = "bad-request-line",
        /// RFC 9110 §9.1.
        BadMethod = "bad-method",
        /// Longer than any known method.
        MethodTooLong = "method-too-long",
        /// RFC 9112 §3.2.
        BadTarget = "bad-target",
        /// A lenient server would read the path as one behind a guard that the request has not passed.
        AmbiguousPath = "ambiguous-path",
        /// The request target is longer than the limit.
        UrlTooLong = "url-too-long",
        /// RFC 9112 §2.3: not HTTP/1.0 or HTTP/1.1.
        Version = "version",
        /// RFC 9112 §2.2: bare CR or LF.
        BadLineEnd = "bad-line-end",
        /// RFC 9113 §8.3: absent, repeated, unknown, or behind other fields.
        BadPseudoField = "bad-pseudo-field",
        /// RFC 9110 §5.1, §5.5; RFC 9112 §5.1.
        BadField = "bad-field",
        /// RFC 9112 §5.2.
        Folded = "folded-field",
        /// The head has more bytes than the limit.
        HeadTooLarge = "head-too-large",
        /// The head has more fields than the limit.
        TooManyFields = "too-many-fields",
        /// RFC 9110 §7.2: absent, repeated, or not a host.
        BadHost = "bad-host",
        /// RFC 9112 §6.3.
        BadContentLength = "bad-content-length",
        /// RFC 9112 §6.1.
        BadTransferEncoding = "bad-transfer-encoding",
        /// RFC 9112 §6.1: a coding other than chunked.
        UnknownTransferCoding = "unknown-transfer-coding",
        /// RFC 9112 §6.3: both framings at once.
        AmbiguousFraming = "ambiguous-framing",
        /// The content is longer than the limit.
        BodyTooLarge = "body-too-large",
        /// RFC 9112 §7.1.
        BadChunk = "bad-chunk",
        /// RFC 9110 §10.1.1.
        Expectation = "expectation",
        /// RFC 9110 §9.3.6: the edge is not a forward proxy.
        Connect = "connect",
        /// RFC 9110 §9.3.8: it would echo credentials.
        Trace = "trace",
        /// The head has not come whole within its time.
        HeadTooSlow = "head-too-slow",
        /// No content has come for longer than the limit.
        BodyTooSlow = "body-too-slow",
        /// RFC 9110 §15.5.20: the host selects another TLS policy than the connection has.
        Misdirected = "misdirected",
        /// RFC 9110 §7.4: an https URL, in absolute form, on a connection in plain text.
        PlainText = "plain-text",
    }
}

impl Refusal {
    /// The status that answers it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::UrlTooLong => StatusCode::URI_TOO_LONG,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::MethodTooLong | Self::UnknownTransferCoding | Self::Connect | Self::Trace => {
                StatusCode::NOT_IMPLEMENTED
            }
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::HeadTooSlow | Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Misdirected | Self::PlainText => StatusCode::MISDIRECTED_REQUEST,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// For the client: what to correct.
    pub fn message(self) -> &'static str {
        match self {
            Self::BadRequestLine => "The request line is malformed.",
            Self::BadMethod => "The method is not a token.",
            Self::MethodTooLong => "The method is not implemented.",
            Self::BadTarget => "The request target is malformed.",
            Self::AmbiguousPath => "The path can be read in two ways, and one of them is guarded.",
            Self::UrlTooLong => "The URL is too long.",
            Self::Version => "Only HTTP/1.0 and HTTP/1.1 are supported.",
            Self::BadLineEnd => "Lines must end in CR LF; neither may occur alone.",
            Self::BadPseudoField => "A pseudo-header field is missing, repeated or malformed.",
            Self::BadField => "A header field is malformed.",
            Self::Folded => "Header fields may not be folded over lines.",
            Self::HeadTooLarge => "The request's head is too large.",
            Self::TooManyFields => "The request has too many header fields.",
            Self::BadHost => "The Host field is missing, repeated or malformed.",
            Self::BadContentLength => "The Content-Length is malformed or repeated.",
            Self::BadTransferEncoding => "The Transfer-Encoding is malformed.",
            Self::UnknownTransferCoding => "The only accepted transfer coding is chunked.",
            Self::AmbiguousFraming => {
                "A request must not have both Content-Length and Transfer-Encoding."
            }
            Self::BodyTooLarge => "The body is too large.",
            Self::BadChunk => "The body broke off, or its chunks are malformed.",
            Self::Expectation => "The expectation cannot be met.",
            Self::Connect => "CONNECT is not offered.",
            Self::Trace => "TRACE is not offered.",
            Self::HeadTooSlow => "The request's head did not arrive in time.",
            Self::BodyTooSlow => "The request's body did not arrive in time.",
            Self::Misdirected => {
                "This host is not served on this connection; open another one for it."
            }
            Self::PlainText => {
                "An https URL is not served in plain text; open a connection with TLS."
            }
        }
    }
}
