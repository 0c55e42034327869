//! Why an origin did not answer.

use std::time::Duration;

/// What went wrong, and whether the request may have been acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("the group has no origin")]
    NoOrigin,
    #[error("the name {0} could not be resolved: {1}")]
    Dns(String, String),
    #[error("no connection to {0}: {1}")]
    Connect(String, String),
    #[error("no connection to {0} within {1:?}")]
    ConnectTimeout(String, Duration),
    #[error("no TLS with {0}: {1}")]
    Tls(String, String),
    #[error("all {0} connections to {1} are in use")]
    PoolExhausted(usize, String),
    #[error("no answer from {0} within {1:?}")]
    FirstByteTimeout(String, Duration),
    #[error("nothing more of the body from {0} within {1:?}")]
    BetweenBytesTimeout(String, Duration),
    #[error("{0} took longer than {1:?} in all")]
    TotalTimeout(String, Duration),
    /// `sent`: the request may have reached the origin.
    #[error("{origin} closed the connection before it answered")]
    Reset { origin: String, sent: bool },
    #[error("{0} answered what is no HTTP response: {1}")]
    BadResponse(String, String),
    #[error("{0} stopped in the middle of the body: {1}")]
    BodyAborted(String, String),
    #[error("the request's own body broke off: {0}")]
    RequestBody(String),
}

impl FetchError {
    pub fn no_origin() -> Self {
        Self::NoOrigin
    }

    /// For metrics and Cache-Status.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoOrigin => "no-origin",
            Self::Dns(..) => "dns",
            Self::Connect(..) => "connect",
            Self::ConnectTimeout(..) => "connect-timeout",
            Self::Tls(..) => "tls",
            Self::PoolExhausted(..) => "pool-exhausted",
            Self::FirstByteTimeout(..) => "first-byte-timeout",
            Self::BetweenBytesTimeout(..) => "between-bytes-timeout",
            Self::TotalTimeout(..) => "total-timeout",
            Self::Reset { .. } => "reset",
            Self::BadResponse(..) => "bad-response",
            Self::BodyAborted(..) => "body-aborted",
            Self::RequestBody(_) => "request-body",
        }
    }

    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout(..)
                | Self::FirstByteTimeout(..)
                | Self::BetweenBytesTimeout(..)
                | Self::TotalTimeout(..)
        )
    }

    /// Whether the origin may have acted on the request.
    pub fn sent(&self) -> bool {
        match self {
            Self::NoOrigin
            | Self::Dns(..)
            | Self::Connect(..)
            | Self::ConnectTimeout(..)
            | Self::Tls(..)
            | Self::PoolExhausted(..) => false,
            Self::Reset { sent, .. } => *sent,
            _ => true,
        }
    }

    /// Whether it says something about the origin's health.
    pub fn is_origins_fault(&self) -> bool {
        !matches!(
            self,
            Self::RequestBody(_) | Self::PoolExhausted(..) | Self::NoOrigin
        )
    }
}
