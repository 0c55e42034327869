//! The parameters of a query that name a variant of an image.

use std::{borrow::Cow, fmt};

use crate::http::uri;

/// Why a request for an image is refused. The text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {value:?}: {must}")]
pub struct ImageRefusal {
    /// The parameter.
    pub name: &'static str,
    /// Its value, as far as it is shown.
    pub value: String,
    /// The rule, and the remedy.
    pub must: String,
}

/// Characters of a value that a refusal shows.
const SHOWN: usize = 100;

impl ImageRefusal {
    pub(super) fn new(name: &'static str, value: &str, must: impl fmt::Display) -> Self {
        Self {
            name,
            value: value.chars().take(SHOWN).collect(),
            must: must.to_string(),
        }
    }
}

/// The parameters of one request, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters<'q> {
    /// `url`: the image, where the path does not name it.
    pub url: Option<Cow<'q, str>>,
    /// `w`: columns.
    pub width: Option<Cow<'q, str>>,
    /// `h`: rows.
    pub height: Option<Cow<'q, str>>,
    /// `f`: the format.
    pub format: Option<Cow<'q, str>>,
    /// `q`: the quality.
    pub quality: Option<Cow<'q, str>>,
    /// `fit`: how the image fits the box of both sizes.
    pub fit: Option<Cow<'q, str>>,
    /// `crop`: the part that is kept of an image that covers its box.
    pub crop: Option<Cow<'q, str>>,
    /// `dpr`: pixels of the device for each of the page.
    pub dpr: Option<Cow<'q, str>>,
}

impl<'q> Parameters<'q> {
    /// Reads the query, and gives the rest of it. `has_url`: true if `url` is one of the parameters.
    pub fn read(
        query: Option<&'q str>,
        has_url: bool,
    ) -> Result<(Self, Option<String>), ImageRefusal> {
        let mut read = Self::default();
        let mut rest = String::new();
        for part in query.unwrap_or_default().split('&') {
            let Some((name, value)) = uri::query_pairs(part).next() else {
                continue;
            };
            let name = uri::decode(name);
            let (name, place) = match &*name {
                "url" if has_url => ("url", &mut read.url),
                "w" => ("w", &mut read.width),
                "h" => ("h", &mut read.height),
                "f" => ("f", &mut read.format),
                "q" => ("q", &mut read.quality),
                "fit" => ("fit", &mut read.fit),
                "crop" => ("crop", &mut read.crop),
                "dpr" => ("dpr", &mut read.dpr),
                _ => {
                    if !rest.is_empty() {
                        rest.push('&');
                    }
                    rest.push_str(part);
                    continue;
                }
            };
            let value = uri::decode(value);
            if place.is_some() {
                return Err(ImageRefusal::new(name, &value, "must be given once"));
            }
            *place = Some(value);
        }
        Ok((read, (!rest.is_empty()).then_some(rest)))
    }

    /// True if one of them names a variant.
    pub fn names_variant(&self) -> bool {
        let named = [
            &self.width,
            &self.height,
            &self.format,
            &self.quality,
            &self.fit,
            &self.crop,
            &self.dpr,
        ];
        named.iter().any(|parameter| parameter.is_some())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn parameters_are_taken_out_of_the_query() {
        let query = "v=2&url=%2Fa%20b.jpg%3Fx%3D1&w=320&f=auto&w2=1&%71=75";
        let (read, rest) = Parameters::read(Some(query), true).unwrap();
        assert_eq!(read.url.as_deref(), Some("/a b.jpg?x=1"));
        assert_eq!(read.width.as_deref(), Some("320"));
        assert_eq!(read.quality.as_deref(), Some("75"));
        assert_eq!(rest.as_deref(), Some("v=2&w2=1"));
        let (read, rest) = Parameters::read(Some("url=/a"), false).unwrap();
        assert!(!read.names_variant());
        assert_eq!(rest.as_deref(), Some("url=/a"));
        assert_eq!(Parameters::read(None, true).unwrap(), Default::default());
    }

    #[test]
    fn a_parameter_is_given_once() {
        let refused = Parameters::read(Some("w=1&w=2"), true).unwrap_err();
        assert_eq!(refused.to_string(), "w: \"2\": must be given once");
    }
}
