//! The address of a database server, read from its URL without any I/O.
//!
//! Refusals hold nothing of the URL, which may hold a password.

use std::net::IpAddr;

use crate::{http::percent, secret::Secret};

/// Products of database servers, by their protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerProduct {
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    MySql,
}

/// Protection of the connections to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerTls {
    /// Plain text.
    Off,
    /// TLS. The certificate must be for the host, and from an authority of this file, or of the system.
    Verified(Option<Box<str>>),
}

/// The place of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerPlace {
    /// A name or an address, and a port.
    Host(Box<str>, u16),
    /// A socket of this machine: its file, for PostgreSQL the folder that it is in, with the port as a part of its
    /// name.
    Socket(Box<str>, u16),
}

/// A database on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseServer {
    /// The product.
    pub product: ServerProduct,
    /// The place.
    pub place: ServerPlace,
    /// The name of the user.
    pub user: Box<str>,
    /// Absent where the server needs none.
    pub password: Option<Secret>,
    /// The name of the database.
    pub database: Box<str>,
    /// Protection on the way.
    pub tls: ServerTls,
}

const PARAMETERS: &str =
    "has a parameter that is not known; there are sslmode, sslrootcert and socket";
const MODES: &str = "has an sslmode that is not known; it may be verify-full, which is the default for other machines and \
    the meaning of require, or disable";

impl DatabaseServer {
    /// Reads what follows `postgresql:` or `mysql:`.
    pub(crate) fn parse(product: ServerProduct, rest: &str) -> Result<Self, &'static str> {
        let form = match product {
            ServerProduct::Postgres => "must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
            ServerProduct::MySql => "must be mysql://USER:PASSWORD@HOST:PORT/DATABASE",
        };
        let rest = rest.strip_prefix("//").ok_or(form)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').ok_or(form)?;
        let database = decoded(database).filter(|name| !name.is_empty() && !name.contains('/'));
        let (login, host) = authority.rsplit_once('@').ok_or(form)?;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let user = decoded(user).filter(|user| !user.is_empty()).ok_or(form)?;
        let password = match password {
            Some(password) => Some(Secret(decoded(password).ok_or(form)?.into_bytes())),
            None => None,
        };
        let mut address = Self {
            product,
            place: place(product, host).ok_or(form)?,
            user: user.into(),
            password,
            database: database.ok_or(form)?.into(),
            tls: ServerTls::Off,
        };
        address.configure(query)?;
        Ok(address)
    }

    fn configure(&mut self, query: &str) -> Result<(), &'static str> {
        let (mut mode, mut authorities) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(PARAMETERS)?;
            let value = decoded(value).ok_or(PARAMETERS)?;
            match name {
                "sslmode" => mode = Some(value),
                "sslrootcert" => authorities = Some(value.into_boxed_str()),
                "socket" if value.starts_with('/') => {
                    let (ServerPlace::Host(_, port) | ServerPlace::Socket(_, port)) = self.place;
                    self.place = ServerPlace::Socket(value.into(), port);
                }
                "socket" => return Err("has a socket that is no path from the root"),
                _ => return Err(PARAMETERS),
            }
        }
        let host = match &self.place {
            ServerPlace::Socket(..) => None,
            ServerPlace::Host(host, _) if host.is_empty() => {
                return Err("must name a host, or a socket by the parameter socket");
            }
            ServerPlace::Host(host, _) => Some(host),
        };
        let verified = match mode.as_deref() {
            None => host.is_some_and(|host| !is_local(host)) || authorities.is_some(),
            Some("verify-full" | "verify-ca" | "require") => true,
            Some("disable") => false,
            Some(_) => return Err(MODES),
        };
        if verified && host.is_none() {
            return Err(
                "must be without TLS on a socket of this machine; remove sslmode and sslrootcert",
            );
        }
        if !verified && authorities.is_some() {
            return Err(
                "has an sslrootcert, which has no effect with sslmode=disable; remove one of them",
            );
        }
        if verified {
            self.tls = ServerTls::Verified(authorities);
        }
        Ok(())
    }
}

pub(super) fn place(product: ServerProduct, host: &str) -> Option<ServerPlace> {
    let port = match product {
        ServerProduct::Postgres => 5432,
        ServerProduct::MySql => 3306,
    };
    let (host, given) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            let port = if after.is_empty() {
                None
            } else {
                Some(after.strip_prefix(':')?)
            };
            (address, port)
        }
        None => match host.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host, None),
        },
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.parse::<IpAddr>().is_err() && !host.bytes().all(is_name) {
        return None;
    }
    let port = match given {
        Some(text) => text.parse().ok().filter(|&port: &u16| port > 0)?,
        None => port,
    };
    Some(ServerPlace::Host(host.into(), port))
}

/// True for this machine, whose connections nobody else reads.
fn is_local(host: &str) -> bool {
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// A part of a URL; `None`: it has an escape that is none, or is not text, or has a zero character.
pub(super) fn decoded(part: &str) -> Option<String> {
    String::from_utf8(percent::strictly_decoded(part.as_bytes())?)
        .ok()
        .filter(|text| !text.contains('\0'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<DatabaseServer, &'static str> {
        DatabaseServer::parse(ServerProduct::Postgres, rest)
    }

    #[test]
    fn a_url_names_the_server_the_user_and_the_database() {
        let found = parse("//us%40er:p%2B%3A+@db.example.com:6000/sh%20op").unwrap();
        assert_eq!(
            found.place,
            ServerPlace::Host("db.example.com".into(), 6000)
        );
        assert_eq!((&*found.user, &*found.database), ("us@er", "sh op"));
        assert_eq!(found.password, Some(Secret(b"p+:+".to_vec())));
        assert!(!format!("{found:?}").contains("p+"));
        let found = parse("//u@[::1]/d").unwrap();
        assert_eq!(found.place, ServerPlace::Host("::1".into(), 5432));
        assert_eq!(found.password, None);
        let found =
            DatabaseServer::parse(ServerProduct::MySql, "//u:@localhost/d?socket=/run/m.sock");
        let found = found.unwrap();
        assert_eq!(found.place, ServerPlace::Socket("/run/m.sock".into(), 3306));
        assert_eq!(found.password, Some(Secret(Vec::new())));
    }

    #[test]
    fn connections_to_other_machines_are_verified_unless_the_url_says_otherwise() {
        let own = || ServerTls::Verified(Some("/etc/ca.pem".into()));
        for (rest, want) in [
            ("//u@127.0.0.1/d", ServerTls::Off),
            ("//u@localhost/d", ServerTls::Off),
            ("//u@[::1]/d", ServerTls::Off),
            ("//u@/d?socket=/run/postgresql", ServerTls::Off),
            ("//u@db.example.com/d?sslmode=disable", ServerTls::Off),
            ("//u@db.example.com/d", ServerTls::Verified(None)),
            ("//u@10.0.0.7/d", ServerTls::Verified(None)),
            ("//u@localhost/d?sslmode=require", ServerTls::Verified(None)),
            ("//u@localhost/d?sslrootcert=/etc/ca.pem", own()),
            (
                "//u@db/d?sslmode=verify-full&sslrootcert=/etc/ca.pem",
                own(),
            ),
        ] {
            assert_eq!(parse(rest).map(|found| found.tls), Ok(want), "{rest}");
        }
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_showing_it() {
        for rest in [
            "",
            "//",
            "//secret",
            "//secret@/d",
            "//secret@host",
            "//secret@host/",
            "//secret@host/a/b",
            "//host/d",
            "//:secret@host/d",
            "//secret@ho st/d",
            "//secret@host:0/d",
            "//secret@host:70000/d",
            "//secret@[::1/d",
            "//secret@[::1]1/d",
            "//secret%zz@host/d",
            "//secret%00@host/d",
            "//secret@host/d?sslmode=prefer",
            "//secret@host/d?sslmode",
            "//secret@host/d?password=secret",
            "//secret@host/d?sslmode=disable&sslrootcert=/etc/ca.pem",
            "//secret@host/d?socket=/run/p&sslmode=require",
            "//secret@host/d?socket=run",
        ] {
            let why = parse(rest).unwrap_err();
            assert!(!why.contains("secret"), "{rest}: {why}");
        }
    }
}
