//! A stored response's key in readable form: the parts that `key`, `vary` and `api` put into it.
//!
//! Parts that distinguish visitors may be personal or secret (cookies, claims, credentials): they are named, and not
//! shown.

use super::{
    key::{Base, DIMENSIONS, FUNCTION, base_of},
    vary,
};
use crate::{http::FieldName, images::VARIANT, plan::Scheme};

/// The parts of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// The scheme of the viewer's request.
    pub scheme: Scheme,
    /// In lower case, without port.
    pub host: String,
    /// `None` for the scheme's default port.
    pub port: Option<u16>,
    /// Normalised, after the route's rewriting; begins with `/`.
    pub path: String,
    /// The part of the query that the policy selects.
    pub query: Option<String>,
    /// The function's cache, if a function stored it.
    pub function: Option<String>,
    /// The parts that distinguish responses for the URL by the route's policy: `experiment home=control`.
    pub dimensions: Vec<String>,
    /// Bytes of the key of the URL alone, under which its variants are named.
    pub url: usize,
    /// With dimensions: number of bytes of the key up to them, and the nonce that all responses with dimensions share.
    pub among: Option<(usize, u64)>,
    /// For a variant: the nonce of its siblings, and the values of the fields that select it, in their order.
    pub variant: Option<(u64, Vec<Option<String>>)>,
}

impl Keyed {
    /// Takes a key apart; `None` for bytes that are no key.
    pub fn read(key: &[u8]) -> Option<Self> {
        let mut rest = key;
        let host = text(until_zero(&mut rest)?);
        let base = std::str::from_utf8(until_zero(&mut rest)?).ok()?;
        let Base { scheme, port, .. } = base_of("", base)?;
        let path = text(until_zero(&mut rest)?);
        let query = until_zero(&mut rest)?;
        let query = query.strip_prefix(b"?").map(text);
        let mut url = key.len() - rest.len();
        let mut function = None;
        let mut dimensions = Vec::new();
        let mut among = None;
        rest = rest.strip_prefix(&[DIMENSIONS]).unwrap_or(rest);
        while let Some((&kind, after)) = rest.split_first().filter(|(kind, _)| **kind != 0) {
            rest = after;
            let (name, value) = (text(counted(&mut rest)?), text(counted(&mut rest)?));
            if kind == FUNCTION {
                url = key.len() - rest.len();
                function = Some(name);
                continue;
            }
            dimensions.push(match kind {
                b'v' => format!("experiment {name}={value}"),
                b'c' => format!("claim {name}=…"),
                b'i' => format!("identity {name}=…"),
                b'f' if name == VARIANT.as_str() => format!("image {value}"),
                b'f' => format!("hook {name}={}", shown(&name, &value)),
                b'r' => format!("hook without {name}"),
                b'k' => format!("cookie {name}=…"),
                b'h' => format!("header {name}={}", shown(&name, &value)),
                b'e' => format!("encoding {value}"),
                b't' => format!("route {}", value.trim().replace('\n', ", ")),
                _ => format!("{}: {name}={value}", char::from(kind)),
            });
        }
        if !dimensions.is_empty()
            && let Some((_, after)) = rest.split_first()
        {
            let (nonce, after) = after.split_first_chunk::<8>()?;
            among = Some((key.len() - rest.len(), u64::from_le_bytes(*nonce)));
            rest = after;
        }
        let mut variant = None;
        if let Some((_, after)) = rest.split_first() {
            let (nonce, mut after) = after.split_first_chunk::<8>()?;
            let mut values = Vec::new();
            while let Some(value) = until_zero(&mut after) {
                values.push(value.strip_prefix(&[1]).map(text));
            }
            variant = Some((u64::from_le_bytes(*nonce), values));
        }
        Some(Self {
            scheme,
            host,
            port,
            path,
            query,
            function,
            dimensions,
            url,
            among,
            variant,
        })
    }

    /// The URL, with the selected part of the query.
    pub fn address(&self) -> String {
        let base = Base {
            scheme: self.scheme,
            host: &self.host,
            port: self.port,
        };
        match &self.query {
            Some(query) => format!("{base}{}?{query}", self.path),
            None => format!("{base}{}", self.path),
        }
    }

    /// The entries that lead to this one: the length of each one's key, and the nonce of the entries that it leads to.
    pub fn leads(&self) -> impl Iterator<Item = (usize, u64)> + use<> {
        // A zero byte precedes a nonce.
        let below = self
            .among
            .map_or(self.url, |(end, _)| end + 1 + size_of::<u64>());
        let among = self.among.map(|(_, nonce)| (self.url + 1, nonce));
        let variant = self.variant.as_ref().map(|(nonce, _)| (below, *nonce));
        among.into_iter().chain(variant)
    }

    /// The fields that select this variant, with `names` from the entry that names its siblings.
    pub fn selected_by(&self, names: &[FieldName]) -> Vec<String> {
        let values = self.variant.iter().flat_map(|(_, values)| values);
        names
            .iter()
            .zip(values)
            .map(|(name, value)| match (vary::cookie_of(name), value) {
                (Some(cookie), Some(_)) => format!("cookie {cookie}=…"),
                (Some(cookie), None) => format!("no cookie {cookie}"),
                (None, Some(value)) => format!("{name}: {}", shown(name.as_str(), value)),
                (None, None) => format!("no {name}"),
            })
            .collect()
    }
}

/// True if a field's value must be seen by the visitor and the origin only.
pub fn personal(name: &str) -> bool {
    const FIELDS: [&str; 6] = [
        "authorization",
        "cookie",
        "proxy-authorization",
        "set-cookie",
        "x-api-key",
        "x-auth-token",
    ];
    FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field))
}

fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    if personal(name) { "…" } else { value }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn until_zero<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&b| b == 0)?;
    let (found, after) = rest.split_at(end);
    *rest = after.get(1..)?;
    Some(found)
}

fn counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (found, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::http::{Fields, header};
    use http::HeaderValue;

    use super::*;
    use crate::{
        cache::{
            api::CacheUrl,
            key::{Key, KeyParts},
        },
        plan::{CachePolicy, Select},
    };

    #[test]
    fn a_key_is_read_back_to_what_it_was_made_of() {
        let mut headers = Fields::new();
        for (name, value) in [
            ("accept-language", "de"),
            ("cookie", "session=secret"),
            ("x-plan", "gold"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let policy = CachePolicy {
            key_headers: vec![FieldName::from_static("x-plan")],
            key_cookies: Some(Select::All),
            ..CachePolicy::default()
        };
        let base = Base {
            scheme: Scheme::Https,
            host: "h",
            port: Some(8443),
        };
        let mut key = Key::of(Vec::new(), base, "/a", Some("x=1"), &policy);
        let url = key.url().len();
        key.add(&KeyParts {
            headers: &headers,
            policy: &policy,
            variants: &[("home", "control")],
            claims: &[("sub", "u1")],
            edge_set: &[],
            hooked: &[],
            tag: None,
        });
        let mut bytes = key.into_buffer();
        let with_dimensions = bytes.len();
        for nonce in [9u64, 7] {
            bytes.push(0);
            bytes.extend_from_slice(&nonce.to_le_bytes());
        }
        let names = [
            header::ACCEPT_LANGUAGE,
            header::COOKIE,
            header::ACCEPT_ENCODING,
        ]
        .map(FieldName::known);
        vary::secondary(&mut bytes, &names, &headers, vary::Reduced::default());

        let keyed = Keyed::read(&bytes).unwrap();
        assert_eq!(
            (keyed.address().as_str(), keyed.url),
            ("https://h:8443/a?x=1", url)
        );
        assert_eq!(
            keyed.dimensions,
            [
                "experiment home=control",
                "claim sub=…",
                "header x-plan=gold",
                "cookie session=…"
            ]
        );
        assert_eq!(keyed.among, Some((with_dimensions, 9)));
        assert_eq!(keyed.variant.as_ref().unwrap().0, 7);
        assert_eq!(
            keyed.selected_by(&names),
            ["accept-language: de", "cookie: …", "no accept-encoding"]
        );
    }

    #[test]
    fn a_functions_key_names_its_cache() {
        let key = CacheUrl::parse("https://h:8443/a").unwrap().key("own");
        let key = key.url();
        let keyed = Keyed::read(key).unwrap();
        assert_eq!(keyed.function, Some("own".to_owned()));
        assert_eq!((keyed.url, keyed.variant), (key.len(), None));
    }

    #[test]
    fn what_is_no_key_is_not_read() {
        for bytes in [
            &b""[..],
            b"h",
            b"h\0/a",
            b"h\0/a\0\0v\xff\xff\xff\xff",
            b"h\0/a\0\0\0short",
        ] {
            assert_eq!(Keyed::read(bytes), None, "{bytes:?}");
        }
    }
}
