//! Admission to the admin listener: an expected `Host`, no page of another origin, and the token if one is set.

use std::net::{IpAddr, SocketAddr};

use edgerouter_core::http::{Fields, header};
use http::StatusCode;

use super::answer::{self, Answer};

/// The custom field by which a caller without a JSON body shows that it is not an HTML form.
pub(super) const NO_FORM: &str = "x-edgerouter";

/// The credentials of callers.
pub(crate) struct Credentials {
    pub token: Option<String>,
    /// The token of those who may read and change nothing.
    pub reader_token: Option<String>,
    /// Access keys and their secrets.
    pub keys: Vec<(String, String)>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("reader_token", &self.reader_token.as_ref().map(|_| "…"))
            .field("keys", &self.keys.len())
            .finish()
    }
}

/// The rights of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Reads and changes.
    Admin,
    /// Reads.
    Reader,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Reader => "reader",
        }
    }
}

#[derive(Debug)]
pub(super) struct Guard {
    pub credentials: Credentials,
    pub address: Option<SocketAddr>,
}

impl Guard {
    /// Refuses host names that a foreign DNS server can point here (DNS rebinding), and pages of other origins.
    pub(super) fn admit(&self, headers: &Fields) -> Result<(), Answer> {
        let once = [
            ("Host", header::HOST),
            ("Origin", header::ORIGIN),
            ("Authorization", header::AUTHORIZATION),
        ];
        for (shown, name) in once {
            if headers.get_all(name).iter().nth(1).is_some() {
                // A proxy in front may have looked at the other one.
                return Err(answer::error(
                    StatusCode::BAD_REQUEST,
                    Some(shown),
                    "must be given once",
                ));
            }
        }
        if !self.host_is_ours(headers) {
            return Err(answer::error(
                StatusCode::MISDIRECTED_REQUEST,
                Some("Host"),
                "names no address of this listener; use its IP address or localhost",
            ));
        }
        if !origin_is_ours(headers) {
            return Err(answer::error(
                StatusCode::FORBIDDEN,
                Some("Origin"),
                "requests from other origins are not answered",
            ));
        }
        Ok(())
    }

    /// True if callers have to know a token.
    pub(super) fn needs_token(&self) -> bool {
        self.credentials.token.is_some()
    }

    /// The role of the holder of a token.
    pub(super) fn role_of(&self, given: &[u8]) -> Option<Role> {
        let is = |token: &Option<String>| {
            let token = token.as_deref();
            token.is_some_and(|token| same(given, token.as_bytes()))
        };
        // Both are compared, whichever is right.
        let (admin, reader) = (
            is(&self.credentials.token),
            is(&self.credentials.reader_token),
        );
        if admin {
            Some(Role::Admin)
        } else {
            reader.then_some(Role::Reader)
        }
    }

    /// The role of a caller by its Bearer token.
    pub(super) fn check_token(&self, headers: &Fields) -> Result<Role, Answer> {
        if !self.needs_token() {
            return Ok(Role::Admin);
        }
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let given = given
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        if let Some(role) = given.and_then(|(_, given)| self.role_of(given.trim().as_bytes())) {
            return Ok(role);
        }
        let refused = answer::error(
            StatusCode::UNAUTHORIZED,
            Some("Authorization"),
            "a token is required: Authorization: Bearer …",
        );
        Err(answer::with(
            refused,
            header::WWW_AUTHENTICATE,
            "Bearer realm=\"edgerouter admin\"",
        ))
    }

    /// The same, where a listener without a token admits nobody.
    pub(super) fn check_set_token(&self, headers: &Fields) -> Result<Role, Answer> {
        if !self.needs_token() {
            let message = "deploys are for callers with a token, on loopback addresses, too: start the edge with --admin-token-env, or use its --admin-socket";
            let field = Some("Authorization");
            return Err(answer::error(StatusCode::FORBIDDEN, field, message));
        }
        self.check_token(headers)
    }

    /// True if only processes of this machine can connect.
    pub(super) fn is_loopback(&self) -> bool {
        self.address.is_some_and(|own| own.ip().is_loopback())
    }

    fn host_is_ours(&self, headers: &Fields) -> bool {
        let Some(host) = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
        else {
            return false;
        };
        let name = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(host, |(name, _)| name);
        let name = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|named| {
                match self.address.map(|address| address.ip()) {
                    Some(own) if !own.is_unspecified() => {
                        own == named || (own.is_loopback() && named.is_loopback())
                    }
                    _ => true,
                }
            })
    }
}

/// A browser names the origin of the requesting page: it must have the same host and port.
fn origin_is_ours(headers: &Fields) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    match headers.get(header::ORIGIN) {
        None => true,
        Some(origin) => origin
            .to_str()
            .is_ok_and(|origin| origin == format!("http://{host}")),
    }
}

/// A form can send neither a JSON body nor a custom field; a script that does must send a preflight first (CORS), which
/// is refused here. So a browser that does not send `Origin` cannot be made to change anything either.
pub(super) fn check_no_form(headers: &Fields) -> Result<(), Answer> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json")
        || headers.contains_key(NO_FORM)
        || headers.contains_key(header::AUTHORIZATION)
    {
        return Ok(());
    }
    Err(answer::error(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Some("Content-Type"),
        "must be application/json (or send the field X-Edgerouter: 1)",
    ))
}

/// Compares in a time that depends only on the lengths.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}
