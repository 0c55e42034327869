//! This hop in `Via` (RFC 9110 §7.6.3).

use crate::http::{Fields, header};
use http::{HeaderValue, Version};

/// The edge's pseudonym, and its members of `Via`, one for each protocol version of a received message: made once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    pseudonym: Box<str>,
    http_10: HeaderValue,
    http_11: HeaderValue,
    http_2: HeaderValue,
    http_3: HeaderValue,
}

impl Via {
    /// `None` if the pseudonym is not a token.
    pub fn new(pseudonym: &str) -> Option<Self> {
        if pseudonym.is_empty() || !pseudonym.bytes().all(super::is_token_byte) {
            return None;
        }
        let value = |version: &str| HeaderValue::try_from(format!("{version} {pseudonym}")).ok();
        Some(Self {
            pseudonym: pseudonym.into(),
            http_10: value("1.0")?,
            http_11: value("1.1")?,
            http_2: value("2")?,
            http_3: value("3")?,
        })
    }

    pub fn pseudonym(&self) -> &str {
        &self.pseudonym
    }

    /// Appends this hop: the protocol version as received, and the pseudonym.
    pub fn append(&self, headers: &mut Fields, received: Version) {
        let value = match received {
            Version::HTTP_10 => &self.http_10,
            Version::HTTP_2 => &self.http_2,
            Version::HTTP_3 => &self.http_3,
            _ => &self.http_11,
        };
        headers.append(header::VIA, value.clone());
    }

    /// True if the message has already passed this edge: `Via` names the pseudonym more than `most` times.
    pub fn loops(&self, headers: &Fields, most: usize) -> bool {
        headers
            .get_all(header::VIA)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter(|member| member.split_ascii_whitespace().nth(1) == Some(self.pseudonym()))
            .count()
            > most
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hop_is_appended_and_counted() -> Result<(), &'static str> {
        let via = Via::new("edge").ok_or("a token")?;
        let mut headers = Fields::new();
        for (version, written) in [
            (Version::HTTP_10, "1.0 edge"),
            (Version::HTTP_11, "1.1 edge"),
            (Version::HTTP_2, "2 edge"),
        ] {
            via.append(&mut headers, version);
            let last = headers.get_all(header::VIA).iter().next_back();
            assert_eq!(last.unwrap(), written);
        }
        assert!(via.loops(&headers, 2));
        assert!(!via.loops(&headers, 3));
        let others = Fields::from_iter([(
            header::VIA,
            HeaderValue::from_static("1.1 other, 1.1 edge.example, 1.1 edge (edge)"),
        )]);
        assert!(via.loops(&others, 0));
        assert!(!via.loops(&others, 1));
        assert_eq!(Via::new("a b"), None);
        Ok(())
    }
}
