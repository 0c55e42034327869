//! The address of a libSQL server, which speaks Hrana over HTTP; read from its URL without any I/O.
//!
//! Refusals hold nothing of the URL, which may hold a token that somebody put there.

use super::database_server::{ServerPlace, ServerProduct, ServerTls, place};

/// A database on a libSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibSqlServer {
    /// A name or an address.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// Protection on the way.
    pub tls: ServerTls,
}

const FORM: &str =
    "must be libsql://HOST, as in libsql://shop.turso.io, or http+libsql://HOST:PORT without TLS";

impl LibSqlServer {
    /// Reads what follows the scheme; `is_plain`: the scheme is the one without TLS.
    pub(crate) fn parse(rest: &str, is_plain: bool) -> Result<Self, &'static str> {
        let rest = rest.strip_prefix("//").ok_or(FORM)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.to_ascii_lowercase().contains("token") || rest.contains('@') {
            return Err(
                "has a token in it, where it would be shown; give it by auth_token=env(\"TURSO_AUTH_TOKEN\")",
            );
        }
        let host = rest.strip_suffix('/').unwrap_or(rest);
        let with_port = match host.rsplit_once(':') {
            Some((_, port)) if !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit()) => {
                host.to_owned()
            }
            _ => format!("{host}:{}", if is_plain { 80 } else { 443 }),
        };
        let Some(ServerPlace::Host(host, port)) = place(ServerProduct::Postgres, &with_port) else {
            return Err(FORM);
        };
        if host.is_empty() {
            return Err(FORM);
        }
        let tls = match query.split_once('=') {
            None if query.is_empty() && is_plain => ServerTls::Off,
            None if query.is_empty() => ServerTls::Verified(None),
            Some(("sslrootcert", file)) if !is_plain && !file.is_empty() && !file.contains('&') => {
                ServerTls::Verified(Some(file.into()))
            }
            _ => return Err("has a parameter that is not known; there is sslrootcert, with TLS"),
        };
        Ok(Self { host, port, tls })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_host_and_the_protection() {
        let tls = || ServerTls::Verified(None);
        let own = || ServerTls::Verified(Some("/etc/ca.pem".into()));
        for (rest, is_plain, host, port, want) in [
            ("//shop.turso.io", false, "shop.turso.io", 443, tls()),
            ("//shop.turso.io/", false, "shop.turso.io", 443, tls()),
            ("//[::1]", false, "::1", 443, tls()),
            (
                "//db:8443?sslrootcert=/etc/ca.pem",
                false,
                "db",
                8443,
                own(),
            ),
            ("//127.0.0.1:8080", true, "127.0.0.1", 8080, ServerTls::Off),
            ("//db", true, "db", 80, ServerTls::Off),
        ] {
            let found = LibSqlServer::parse(rest, is_plain).unwrap();
            assert_eq!(
                (&*found.host, found.port, found.tls),
                (host, port, want),
                "{rest}"
            );
        }
        for rest in [
            "",
            "secret",
            "//",
            "//:80",
            "//secret:0",
            "//secret/path",
            "//se cret",
            "//host?authToken=secret",
            "//user:secret@host",
            "//host?sslmode=secret",
            "//host?sslrootcert=",
        ] {
            let why = LibSqlServer::parse(rest, false).unwrap_err();
            assert!(!why.contains("secret"), "{rest}: {why}");
        }
    }
}
