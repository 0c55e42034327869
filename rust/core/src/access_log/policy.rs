//! The policy of an access log: the values of queries that may be written.

use std::sync::Arc;

use crate::{http::percent, select::Select};

/// The fields that an access log writes about requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogPolicy {
    /// Query parameters whose values are shown.
    pub query: Select,
    /// True if the `sub` of a verified token is shown.
    pub user: bool,
}

/// Parameters that usually carry secrets.
const SECRETS: [&str; 20] = [
    "access_token",
    "api_key",
    "apikey",
    "auth",
    "authorization",
    "client_secret",
    "code",
    "id_token",
    "jwt",
    "key",
    "passwd",
    "password",
    "refresh_token",
    "secret",
    "session",
    "sig",
    "signature",
    "token",
    "x-amz-security-token",
    "x-amz-signature",
];

impl Default for AccessLogPolicy {
    fn default() -> Self {
        Self {
            query: Select::Except(SECRETS.map(Arc::from).to_vec()),
            user: false,
        }
    }
}

impl AccessLogPolicy {
    /// True if the value of a parameter may be written. Names are compared decoded and in lower case: most applications
    /// read `%74oken` as `token`.
    pub(super) fn shows(&self, name: &[u8]) -> bool {
        let decoded = percent::decoded(name);
        self.query
            .has(String::from_utf8_lossy(&decoded).to_lowercase())
    }
}
