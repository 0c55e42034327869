//! Content codings (RFC 9110 §8.4.1) and the choice among them (§12.5.3).

use http::HeaderValue;
use smallvec::SmallVec;

use super::{Fields, header, list, weight::weighted};

/// A content coding that the edge can make or serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentCoding {
    /// RFC 7932.
    Brotli,
    /// RFC 8878, with a window of at most 8 MiB (RFC 9659).
    Zstd,
    /// RFC 1952.
    Gzip,
    /// No coding.
    Identity,
}

impl ContentCoding {
    /// All of them; of two that a client likes equally well the first one is taken.
    pub const ALL: [Self; 4] = [Self::Brotli, Self::Zstd, Self::Gzip, Self::Identity];

    /// Its name in `Content-Encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
        }
    }

    /// Its value of `Content-Encoding`; `None` if there is no coding, and no field.
    pub fn field(self) -> Option<HeaderValue> {
        (self != Self::Identity).then(|| HeaderValue::from_static(self.as_str()))
    }

    /// The extension of a file in this coding.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
            Self::Identity => "",
        }
    }

    /// The coding with this name (RFC 9110 §8.4.1.3: `x-gzip` is `gzip`).
    fn of(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL
            .into_iter()
            .find(|coding| coding.as_str().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// True if the content of a response is coded.
pub fn is_coded(response: &Fields) -> bool {
    let lines = response.get_all(header::CONTENT_ENCODING).iter();
    lines
        .flat_map(|line| list(line.as_bytes()))
        .any(|member| !member.eq_ignore_ascii_case(b"identity"))
}

/// The codings that a request accepts, the one that it likes best first.
///
/// Without `Accept-Encoding`, or with an empty one, it is the identity alone: a client that takes codings says so.
/// The identity is accepted unless the field excludes it, and comes last unless the field gives it a weight.
pub fn accepted(request: &Fields) -> SmallVec<[ContentCoding; 4]> {
    let mut weights = [None; ContentCoding::ALL.len()];
    let mut any = None;
    for line in request.get_all(header::ACCEPT_ENCODING) {
        for member in list(line.as_bytes()) {
            let Some((name, weight)) = weighted(member) else {
                continue;
            };
            if name == b"*" {
                any = Some(weight);
            } else if let Some(coding) = ContentCoding::of(name)
                && let Some(known) = weights.get_mut(coding as usize)
            {
                *known = Some(weight);
            }
        }
    }
    // In thousandths; one of its own for the identity that is not named, below every weight that a client can give.
    let mut found: SmallVec<[(u16, ContentCoding); 4]> = ContentCoding::ALL
        .into_iter()
        .zip(weights)
        .filter_map(|(coding, weight)| {
            let weight = match (coding, weight, any) {
                (_, Some(weight), _) => weight.saturating_mul(2),
                (ContentCoding::Identity, None, Some(0)) => 0,
                (ContentCoding::Identity, None, _) => 1,
                (_, None, any) => any.unwrap_or_default().saturating_mul(2),
            };
            (weight > 0).then_some((weight, coding))
        })
        .collect();
    found.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    found.into_iter().map(|(_, coding)| coding).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(lines: &[&str]) -> String {
        let mut request = Fields::new();
        for line in lines {
            request.append(
                header::ACCEPT_ENCODING,
                HeaderValue::from_str(line).unwrap(),
            );
        }
        let names: Vec<_> = accepted(&request)
            .into_iter()
            .map(ContentCoding::as_str)
            .collect();
        names.join(" ")
    }

    #[test]
    fn codings_are_chosen_as_rfc_9110_section_12_5_3_says() {
        for (lines, want) in [
            (&[][..], "identity"),
            (&[""], "identity"),
            (&["gzip, deflate, br, zstd"], "br zstd gzip identity"),
            (&["compress, gzip"], "gzip identity"),
            (&["*"], "br zstd gzip identity"),
            (&["compress;q=0.5, gzip;q=1.0"], "gzip identity"),
            (&["gzip;q=1.0, identity; q=0.5, *;q=0"], "gzip identity"),
            (&["identity;q=0, gzip"], "gzip"),
            (&["*;q=0"], ""),
            (&["identity;q=0"], ""),
            (&["*;q=0, identity"], "identity"),
            (&["br;q=0.2, gzip;q=0.8"], "gzip br identity"),
            (&["gzip;q=0.5, identity"], "identity gzip"),
            (&["gzip;q=0.001"], "gzip identity"),
            (&["br;q=0", "*"], "zstd gzip identity"),
            (&["GZIP", "X-Gzip;q=0"], "identity"),
            (&["gzip;q=2, br;q=x"], "identity"),
            (&["gzip;q=1.0000, br;q=, zstd;q=0.5;x=1"], "identity"),
            (&["gzip;q=0, *"], "br zstd identity"),
            (&["gzip ; Q=0.9 , br;q=0.9"], "br gzip identity"),
        ] {
            assert_eq!(names(lines), want, "{lines:?}");
        }
    }

    #[test]
    fn only_a_coding_has_a_field_and_an_extension() {
        for coding in ContentCoding::ALL {
            let coded = coding != ContentCoding::Identity;
            assert_eq!(coding.field().is_some(), coded);
            assert_eq!(coding.extension().is_empty(), !coded);
        }
    }
}
