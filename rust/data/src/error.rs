//! Why an operation on a binding failed. The text is for the program that called it, and never holds a secret.

use std::time::Duration;

/// Results of operations, as labels.
pub(crate) const RESULTS: [&str; 5] = ["ok", "refused", "busy", "timed-out", "unreachable"];

/// Rules of a schema that every engine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraint {
    /// A value that must not be there twice, a primary key among them.
    Unique,
    /// A row that another one refers to.
    ForeignKey,
    /// A value that must be there.
    NotNull,
    /// A condition.
    Check,
}

impl Constraint {
    /// The name in Python.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unique => "unique",
            Self::ForeignKey => "foreign-key",
            Self::NotNull => "not-null",
            Self::Check => "check",
        }
    }
}

/// The failure of an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// An argument is not what the operation takes.
    #[error("{0}")]
    Invalid(String),
    /// The number of operations that may be under way.
    #[error(
        "{0} operations are under way already, which is as many as limits.data.operations allows; retry later, or raise it"
    )]
    Busy(usize),
    /// The time limit.
    #[error("no answer within {} s (limits.data.timeout); whether it took effect is not known", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The time limit, before the operation had a connection.
    #[error(
        "no connection was free within {} s (limits.data.timeout), so nothing was done: the server is slow or does not \
         answer, or limits.data.connections is too low",
        .0.as_secs_f64()
    )]
    NoConnection(Duration),
    /// The file or the server cannot be used now.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The file or the server cannot be used now, and has done nothing for the operation.
    #[error("cannot be reached: {0}")]
    NotBegun(String),
    /// The engine refused the operation.
    #[error("{0}")]
    Refused(String),
    /// The operation would break a rule of the schema.
    #[error("{message}")]
    Violated {
        /// The rule.
        constraint: Constraint,
        /// In the words of the engine.
        message: String,
    },
    /// A binding in memory has no room.
    #[error("has no room for this: {0}")]
    Full(&'static str),
    /// A function may keep a binding for longer than the edge lives.
    #[error("is closed: the edge has stopped, or was reloaded without this binding")]
    Closed,
}

impl DataError {
    /// The label in metrics.
    pub(crate) fn label(&self) -> usize {
        match self {
            Self::Invalid(_) | Self::Refused(_) | Self::Violated { .. } | Self::Full(_) => 1,
            Self::Busy(_) => 2,
            Self::TimedOut(_) | Self::NoConnection(_) => 3,
            Self::Unreachable(_) | Self::NotBegun(_) | Self::Closed => 4,
        }
    }

    /// The word for it in metrics and spans.
    pub fn word(&self) -> &'static str {
        RESULTS.get(self.label()).copied().unwrap_or_default()
    }

    /// The rule of the schema that the operation would break.
    pub fn constraint(&self) -> Option<Constraint> {
        match self {
            Self::Violated { constraint, .. } => Some(*constraint),
            _ => None,
        }
    }

    /// True if the operation may have taken effect all the same.
    pub fn is_in_doubt(&self) -> bool {
        matches!(
            self,
            Self::TimedOut(_) | Self::Unreachable(_) | Self::Closed
        )
    }

    /// True if it says that the file or the server did not do its work.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::NoConnection(_)) || self.is_unreachable()
    }

    /// True if the file or the server cannot be used now.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::NotBegun(_))
    }

    /// The same failure of a file that was not opened, or of a server that was not connected to, yet.
    pub(crate) fn before_it_began(self) -> Self {
        match self {
            Self::Unreachable(why) => Self::NotBegun(why),
            other => other,
        }
    }
}
