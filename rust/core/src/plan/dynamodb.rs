//! The address of a key-value store in a table of DynamoDB, read from its URL without any I/O.
//!
//! A URL never holds credentials. Refusals show nothing of it all the same, because somebody may have tried.

use http::Uri;

use super::database_server::decoded;

/// A key-value store in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamoTable {
    /// The name of the table.
    pub table: Box<str>,
    /// `None`: that of the environment.
    pub region: Option<Box<str>>,
    /// `None`: that of the environment, or else the service's own.
    pub endpoint: Option<DynamoEndpoint>,
    /// The partition key of all entries; `None`: the name of the binding.
    pub partition: Option<Box<str>>,
}

/// The server of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamoEndpoint {
    /// https.
    pub tls: bool,
    /// A name or an address.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
}

const FORM: &str = "must be dynamodb://TABLE, with region=, endpoint= and partition= after a \"?\" where they are needed";
const NO_ENDPOINT: &str =
    "has an endpoint that is none: it must be https://HOST:PORT, or http:// without TLS";

impl DynamoTable {
    /// Reads what follows `dynamodb:`.
    pub(super) fn parse(rest: &str) -> Result<Self, &'static str> {
        let rest = rest.strip_prefix("//").ok_or(FORM)?;
        let (table, query) = rest.split_once('?').unwrap_or((rest, ""));
        if table.contains('@') {
            return Err(
                "must hold no credentials: they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from a file",
            );
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(3..=255).contains(&table.len()) || !table.bytes().all(is_name) {
            return Err(
                "must name a table, as in dynamodb://edge-kv: 3 to 255 letters, digits, \"_\", \"-\" and \".\"",
            );
        }
        let mut found = Self {
            table: table.into(),
            region: None,
            endpoint: None,
            partition: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(FORM)?;
            let value = decoded(value).filter(|value| !value.is_empty());
            let value = value.ok_or(FORM)?;
            let doubled = match name {
                "region" => {
                    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
                    if value.len() > 64 || !value.bytes().all(letter) {
                        return Err(
                            "has a region that is none; it must be a name such as eu-central-1",
                        );
                    }
                    found.region.replace(value.into()).is_some()
                }
                "endpoint" => {
                    let endpoint = DynamoEndpoint::parse(&value).ok_or(NO_ENDPOINT)?;
                    found.endpoint.replace(endpoint).is_some()
                }
                "partition" if value.len() > 1_024 => {
                    return Err("has a partition of more than 1024 bytes");
                }
                "partition" => found.partition.replace(value.into()).is_some(),
                _ => {
                    return Err(
                        "has a parameter that is not known; there are region, endpoint and partition",
                    );
                }
            };
            if doubled {
                return Err("has a parameter twice");
            }
        }
        Ok(found)
    }
}

impl DynamoEndpoint {
    /// Reads the URL of a server.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let (tls, port) = match uri.scheme_str()? {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return None,
        };
        let authority = uri.authority()?;
        let is_plain = !authority.as_str().contains('@')
            && uri.path_and_query().is_none_or(|path| path.as_str() == "/");
        let endpoint = Self {
            tls,
            host: authority.host().trim_matches(['[', ']']).into(),
            port: authority.port_u16().unwrap_or(port),
        };
        (is_plain && !endpoint.host.is_empty() && endpoint.port > 0).then_some(endpoint)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_table_and_where_it_is() {
        let plain = DynamoTable::parse("//edge-kv").unwrap();
        assert_eq!(
            (&*plain.table, plain.region, plain.endpoint),
            ("edge-kv", None, None)
        );
        let full = DynamoTable::parse(
            "//edge.kv_2?region=eu-central-1&endpoint=http%3A%2F%2F127.0.0.1%3A8000&partition=a%20b",
        );
        let full = full.unwrap();
        assert_eq!(full.region.as_deref(), Some("eu-central-1"));
        assert_eq!(full.partition.as_deref(), Some("a b"));
        let endpoint = DynamoEndpoint {
            tls: false,
            host: "127.0.0.1".into(),
            port: 8000,
        };
        assert_eq!(full.endpoint, Some(endpoint));
        let v6 = DynamoEndpoint::parse("https://[::1]/").unwrap();
        assert_eq!((v6.tls, &*v6.host, v6.port), (true, "::1", 443));
    }

    #[test]
    fn another_url_is_refused_and_not_shown() {
        for text in [
            "edge-kv",
            "//",
            "//kv",
            "//edge/kv",
            "//AKIA:secret@edge-kv",
            "//edge-kv?region",
            "//edge-kv?region=",
            "//edge-kv?region=a/b",
            "//edge-kv?region=a&region=b",
            "//edge-kv?key=secret",
            "//edge-kv?endpoint=127.0.0.1:8000",
            "//edge-kv?endpoint=ftp://a",
            "//edge-kv?endpoint=http://a:secret@b",
            "//edge-kv?endpoint=http://a/path",
            "//edge-kv?endpoint=http://a:0",
        ] {
            let refused = DynamoTable::parse(text).unwrap_err();
            assert!(!refused.contains("secret@"), "{text}");
        }
    }
}
