//! Why an origin did not answer.

use std::time::Duration;

use edgerouter_core::cache::decide::Failure;

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
    /// How the last member of a group failed, where another one answered or was kept from it by the edge's own bounds.
    #[error(transparent)]
    LastOfGroup(Box<FetchError>),
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
            Self::LastOfGroup(last) => last.as_str(),
        }
    }

    pub fn is_timeout(&self) -> bool {
        if let Self::LastOfGroup(last) = self {
            return last.is_timeout();
        }
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
            Self::LastOfGroup(last) => last.sent(),
            _ => true,
        }
    }

    /// Whether the origin could not be reached, or did not answer (RFC 9111 §4.2.4). A bound of the edge's own says nothing
    /// about the origin, and an answer that is no HTTP is one.
    pub fn is_disconnection(&self) -> bool {
        match self {
            Self::Dns(..)
            | Self::Connect(..)
            | Self::ConnectTimeout(..)
            | Self::Tls(..)
            | Self::FirstByteTimeout(..)
            | Self::BetweenBytesTimeout(..)
            | Self::TotalTimeout(..)
            | Self::Reset { .. }
            | Self::BodyAborted(..) => true,
            Self::NoOrigin
            | Self::PoolExhausted(..)
            | Self::BadResponse(..)
            | Self::RequestBody(_)
            | Self::LastOfGroup(_) => false,
        }
    }

    /// What it lets a stored response do.
    pub fn failure(&self) -> Failure {
        if self.is_disconnection() {
            Failure::Disconnected
        } else {
            Failure::Error
        }
    }

    /// Whether it says something about the origin's health.
    pub fn is_origins_fault(&self) -> bool {
        if let Self::LastOfGroup(last) = self {
            return last.is_origins_fault();
        }
        !matches!(
            self,
            Self::RequestBody(_) | Self::PoolExhausted(..) | Self::NoOrigin
        )
    }
}
