//! A call of an endpoint, and the state that endpoints share.

use std::{path::PathBuf, pin::Pin, sync::Arc};

use bytes::Bytes;
use edgerouter_core::{http::Fields, strict_json};
use http::{Method, StatusCode};
use smallvec::SmallVec;

use super::{
    answer::{self, Answer},
    dashboard::{history::Pulse, sessions::Sessions},
    guard::Guard,
};
use crate::worker::Shared;

/// The largest request body.
pub(super) const MOST_BODY: usize = 1 << 20;

/// The answer of an endpoint that takes a while.
pub(super) type Later = Pin<Box<dyn Future<Output = Answer>>>;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A client of TCP, which may be anybody that can connect.
    Tcp,
    /// A process of the edge's own user, or of root, on the unix socket: the user's number.
    User(u32),
}

/// The state of the admin listener.
#[derive(Debug)]
pub(super) struct Room {
    pub shared: Arc<Shared>,
    pub guard: Guard,
    /// Permits for walks through the whole store: one at a time.
    pub walks: tokio::sync::Semaphore,
    /// Logins of browsers.
    pub sessions: Sessions,
    /// Permits for pages that are kept up to date.
    pub pages: Arc<tokio::sync::Semaphore>,
    pub pulse: Pulse,
    /// The file with the report on costs.
    pub cost_report: Option<PathBuf>,
}

impl Room {
    /// Runs work that waits for a disk or takes long on a thread, so that other calls are answered meanwhile.
    pub(super) async fn aside(&self, work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
            let message = "the work broke off; see the log";
            answer::error(StatusCode::INTERNAL_SERVER_ERROR, None, message)
        })
    }
}

/// The parameters in the path of an endpoint, with their values.
pub(super) type Parameters = SmallVec<[(&'static str, String); 2]>;

/// A complete request to an endpoint.
#[derive(Debug)]
pub(super) struct Call {
    pub method: Method,
    /// The path as it was sent.
    pub path: String,
    pub query: String,
    pub headers: Fields,
    pub body: Bytes,
    pub parameters: Parameters,
    pub peer: Peer,
}

impl Call {
    /// The decoded segment at `{name}`.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.parameters
            .iter()
            .find(|(known, _)| *known == name)
            .map_or("", |(_, value)| value)
    }

    /// The caller, for those who look at what was ordered.
    pub(super) fn author(&self) -> String {
        match self.peer {
            Peer::Tcp => "token".to_owned(),
            Peer::User(user) => format!("uid {user}"),
        }
    }

    /// The decoded value of a query parameter.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        edgerouter_core::http::uri::get_query(&self.query, name).map(|value| value.into_owned())
    }

    /// The decoded value of a query parameter by which something is chosen: nothing has an empty one.
    pub(super) fn choice(&self, name: &str) -> Result<Option<String>, Answer> {
        match self.query(name) {
            Some(value) if value.is_empty() => Err(answer::wrong(name, "must not be empty")),
            value => Ok(value),
        }
    }

    /// The query parameter `limit`, from 1 to `most`.
    pub(super) fn limit(&self, most: usize) -> Result<Option<usize>, Answer> {
        let Some(text) = self.query("limit") else {
            return Ok(None);
        };
        let limit = (text.parse().ok()).filter(|limit| (1..=most).contains(limit));
        limit.map(Some).ok_or_else(|| {
            let message = format!("{text:?} must be a whole number from 1 to {most}");
            answer::wrong("limit", &message)
        })
    }

    /// The query parameter `after`: a number of an event or a time, of which the first is after 0.
    pub(super) fn after(&self) -> Result<u64, Answer> {
        let Some(text) = self.query("after") else {
            return Ok(0);
        };
        text.parse().map_err(|_| {
            let message = format!("{text:?} must be a whole number");
            answer::wrong("after", &message)
        })
    }

    /// The body as JSON. A key that stands twice is a mistake of the caller, who may mean either value.
    pub(super) fn json(&self) -> Result<serde_json::Value, Answer> {
        strict_json::value(&self.body).map_err(|error| {
            answer::error(
                StatusCode::BAD_REQUEST,
                Some("body"),
                &format!("is not valid JSON: {error}"),
            )
        })
    }
}
