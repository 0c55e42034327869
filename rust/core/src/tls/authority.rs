//! The TLS policy of a request's authority, against that of its connection (RFC 9110 §15.5.20).

use super::NameTable;

/// Digest of the terms that a client has to meet: versions, cipher suites and client authentication. Certificates are
/// not in it: a renewed one changes nothing about clients.
pub type TermsDigest = [u8; 32];

/// The TLS policies of a listener, as names select them.
#[derive(Debug, Default)]
pub struct PolicyNames {
    /// Positions among the listener's policies.
    pub own: NameTable<usize>,
    /// Names of the policies of all listeners, this one's included.
    pub all: std::sync::Arc<NameTable<()>>,
    /// The terms of each policy of the listener.
    pub terms: Vec<TermsDigest>,
}

/// The TLS of a connection, as its handshake left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionTerms<'a> {
    /// The name in SNI.
    pub name: Option<&'a str>,
    /// The terms that its client has met.
    pub terms: TermsDigest,
}

impl PolicyNames {
    /// The position of the policy for the host that a client names, or for one that names none: the first policy is for
    /// the hosts that no certificate is for.
    pub fn select(&self, host: Option<&str>) -> usize {
        let position = host.and_then(|host| self.own.find(host));
        position.copied().unwrap_or(0)
    }

    /// True if a request for `host` may not be served on a connection: the host selects another TLS policy than the
    /// name that the client gave in its handshake, or that policy has changed its terms since. A client that meets the
    /// terms of one host would get past those of another.
    pub fn misdirects(&self, connection: &ConnectionTerms<'_>, host: &str) -> bool {
        if self.own.find(host).is_none() && self.all.find(host).is_some() {
            return true;
        }
        let wanted = self.select(Some(host));
        wanted != self.select(connection.name) || self.terms.get(wanted) != Some(&connection.terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const OPEN: TermsDigest = [1; 32];
    const MUTUAL: TermsDigest = [2; 32];

    fn table<T: Clone>(names: &[(&str, T)]) -> NameTable<T> {
        let mut table = NameTable::default();
        for (name, value) in names {
            table.entry(name, || value.clone());
        }
        table
    }

    fn names() -> PolicyNames {
        PolicyNames {
            own: table(&[
                ("www.example.com", 0),
                ("admin.example.com", 1),
                ("*.api.example.com", 1),
            ]),
            all: Arc::new(table(&[
                ("www.example.com", ()),
                ("admin.example.com", ()),
                ("*.api.example.com", ()),
                ("elsewhere.example.com", ()),
            ])),
            terms: vec![OPEN, MUTUAL],
        }
    }

    #[test]
    fn a_host_is_served_on_connections_of_its_own_policy_only() {
        for (name, terms, host, misdirected) in [
            (Some("www.example.com"), OPEN, "www.example.com", false),
            (Some("www.example.com"), OPEN, "admin.example.com", true),
            (Some("www.example.com"), OPEN, "ADMIN.example.com", true),
            (Some("www.example.com"), OPEN, "admin.example.com.", true),
            (Some("www.example.com"), OPEN, "v1.api.example.com", true),
            (
                Some("admin.example.com"),
                MUTUAL,
                "v1.api.example.com",
                false,
            ),
            (Some("admin.example.com"), MUTUAL, "www.example.com", true),
            // No certificate is for it: the first policy.
            (Some("www.example.com"), OPEN, "other.example.org", false),
            (Some("unknown.example"), OPEN, "other.example.org", false),
            (Some("admin.example.com"), MUTUAL, "other.example.org", true),
            (None, OPEN, "192.0.2.1", false),
            (None, OPEN, "www.example.com", false),
            (None, OPEN, "admin.example.com", true),
            // Of another listener's policy, even where the client names it in the handshake.
            (Some("www.example.com"), OPEN, "elsewhere.example.com", true),
            (
                Some("elsewhere.example.com"),
                OPEN,
                "elsewhere.example.com",
                true,
            ),
            // A reload has changed the terms since the handshake.
            (Some("admin.example.com"), OPEN, "admin.example.com", true),
            (Some("www.example.com"), MUTUAL, "www.example.com", true),
        ] {
            let connection = ConnectionTerms { name, terms };
            assert_eq!(
                names().misdirects(&connection, host),
                misdirected,
                "{name:?} {host}"
            );
        }
    }
}
