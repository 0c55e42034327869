//! The reasons why an origin did not answer.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use crate::{cache::decide, origin::attempts::Failure, outcome::Detail};

/// The failure of an attempt, and whether the request may have been acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The group has no member.
    #[error("the group has no origin")]
    NoOrigin,
    /// The name of the host, and the resolver's error.
    #[error("the name {0} could not be resolved: {1}")]
    Dns(String, String),
    /// The origin, and the system's error: nothing was sent.
    #[error("no connection to {0}: {1}")]
    Connect(String, String),
    /// The origin, and the limit for making a connection.
    #[error("no connection to {0} within {1:?}")]
    ConnectTimeout(String, Duration),
    /// The origin, and the error of its handshake or certificate.
    #[error("no TLS with {0}: {1}")]
    Tls(String, String),
    /// The limit of connections that is reached, and the origin.
    #[error("all {0} connections to {1} are in use")]
    PoolExhausted(usize, String),
    /// The origin, and the time in which no header section came.
    #[error("no answer from {0} within {1:?}")]
    FirstByteTimeout(String, Duration),
    /// The origin, and the time in which no byte of the body came.
    #[error("no further bytes of the body from {0} within {1:?}")]
    BetweenBytesTimeout(String, Duration),
    /// The origin, and the limit for a request from its start to the end of the body.
    #[error("{0} took longer than {1:?} in all")]
    TotalTimeout(String, Duration),
    /// The connection ended before the response.
    #[error("{origin} closed the connection before it answered")]
    Reset {
        /// The origin whose connection ended.
        origin: String,
        /// True if the request may have reached it.
        sent: bool,
        /// True if the connection had carried a request before.
        kept: bool,
    },
    /// The origin, and the rule of HTTP that it broke.
    #[error("{0} sent an invalid HTTP response: {1}")]
    BadResponse(String, String),
    /// The origin, and the error after the header section had come.
    #[error("{0} stopped in the middle of the body: {1}")]
    BodyAborted(String, String),
    /// The error in the client's own body: no fault of the origin.
    #[error("the request's own body broke off: {0}")]
    RequestBody(String),
    /// The group, and the limit for all its attempts together.
    #[error("no origin of {0} answered within {1:?}")]
    Deadline(String, Duration),
    /// No client waits for this response, and other requests wait for the connection.
    #[error("the connection to {0} was given to a request whose client is waiting")]
    GaveWay(String),
    /// The client is slow to send the request's content, and other requests wait for the connection.
    #[error("the connection to {0} was taken from an upload whose client is slow")]
    SlowUpload(String),
    /// The group of which no member may get a request.
    #[error("every origin of {0} is unhealthy")]
    Unhealthy(String),
    /// The bound on memory for requests is reached: an overload of the edge, no fault of the origin.
    #[error("the memory for requests is exhausted (limits.http.request_memory_bytes)")]
    NoMemory,
    /// The function in the place of an origin failed.
    #[error("{0}")]
    Function(Arc<FunctionFailure>),
}

/// The failure of a function in the place of an origin, as its visitors see it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FunctionFailure {
    /// 502, 503 or 504.
    pub status: StatusCode,
    /// True if the client may come again at once.
    pub retry: bool,
    /// The text of the page.
    pub message: String,
    /// The id under which the log has the traceback.
    pub id: Option<String>,
    /// The traceback, where developers are shown it.
    pub trace: Option<Arc<str>>,
}

/// No origin of a group has answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Unavailable {
    /// The end of the last attempt.
    pub error: FetchError,
    /// Every member was refused, reset, closed without a response or timed out, or is known to be unhealthy: the edge
    /// is disconnected (RFC 9111 §4.2.4). Neither a bound of the edge's own nor a response of any status counts.
    pub disconnected: bool,
}

impl Unavailable {
    /// The failure that decides the use of a stored response.
    pub fn failure(&self) -> decide::Outage {
        if self.disconnected {
            decide::Outage::Disconnected
        } else {
            decide::Outage::Error
        }
    }
}

impl From<FetchError> for Unavailable {
    /// The failure of a group when only the last error is known.
    fn from(error: FetchError) -> Self {
        Self {
            disconnected: error.ended().disconnected(),
            error,
        }
    }
}

impl From<&FetchError> for Detail {
    fn from(why: &FetchError) -> Self {
        match why {
            FetchError::NoOrigin => Self::NoOrigin,
            FetchError::Dns(..) => Self::Dns,
            FetchError::Connect(..) => Self::Connect,
            FetchError::ConnectTimeout(..) => Self::ConnectTimeout,
            FetchError::Tls(..) => Self::Tls,
            FetchError::PoolExhausted(..) => Self::PoolExhausted,
            FetchError::FirstByteTimeout(..) => Self::FirstByteTimeout,
            FetchError::BetweenBytesTimeout(..) => Self::BetweenBytesTimeout,
            FetchError::TotalTimeout(..) => Self::TotalTimeout,
            FetchError::Reset { .. } => Self::Reset,
            FetchError::BadResponse(..) => Self::BadResponse,
            FetchError::BodyAborted(..) => Self::BodyAborted,
            FetchError::RequestBody(_) | FetchError::SlowUpload(_) => Self::RequestBody,
            FetchError::Deadline(..) => Self::Deadline,
            FetchError::GaveWay(_) => Self::GaveWay,
            FetchError::Unhealthy(_) => Self::Unhealthy,
            FetchError::NoMemory => Self::NoMemory,
            FetchError::Function(_) => Self::FunctionFailed,
        }
    }
}

impl FetchError {
    /// For metrics and Cache-Status.
    pub fn as_str(&self) -> &'static str {
        Detail::from(self).as_str()
    }

    /// True if a limit of time ended the attempt: a 504 instead of a 502 (RFC 9110 §15.6.5).
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout(..)
                | Self::FirstByteTimeout(..)
                | Self::BetweenBytesTimeout(..)
                | Self::TotalTimeout(..)
                | Self::Deadline(..)
        )
    }

    /// The failure as the state machine of attempts sees it.
    pub fn ended(&self) -> Failure {
        match self {
            Self::NoOrigin | Self::PoolExhausted(..) | Self::NoMemory => Failure::Bound,
            Self::Dns(..) | Self::Connect(..) | Self::Tls(..) => Failure::Unreachable,
            Self::ConnectTimeout(..) => Failure::TimedOut { sent: false },
            Self::FirstByteTimeout(..)
            | Self::BetweenBytesTimeout(..)
            | Self::TotalTimeout(..)
            | Self::Deadline(..)
            | Self::Unhealthy(_) => Failure::TimedOut { sent: true },
            Self::Reset { sent, kept, .. } => Failure::Closed {
                kept: *kept,
                sent: *sent,
            },
            Self::BadResponse(..) => Failure::Malformed,
            Self::BodyAborted(..) => Failure::BrokeOff,
            // An origin that answers with an error is not disconnected either.
            Self::RequestBody(_) | Self::SlowUpload(_) | Self::GaveWay(_) | Self::Function(_) => {
                Failure::Request
            }
        }
    }

    /// True if it counts against the origin's health.
    pub fn is_origins_fault(&self) -> bool {
        !matches!(self.ended(), Failure::Request | Failure::Bound)
    }
}
