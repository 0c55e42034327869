//! The facts about a place, and their form in a field.

use std::{fmt, sync::Arc};

use http::HeaderValue;

use super::GeoNaming;
use crate::http::{FieldName, percent};

/// An ISO 3166-1 code of two letters, in upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

/// The members of the European Union, for files that do not say it.
const EUROPEAN_UNION: [&[u8; 2]; 27] = [
    b"AT", b"BE", b"BG", b"CY", b"CZ", b"DE", b"DK", b"EE", b"ES", b"FI", b"FR", b"GR", b"HR",
    b"HU", b"IE", b"IT", b"LT", b"LU", b"LV", b"MT", b"NL", b"PL", b"PT", b"RO", b"SE", b"SI",
    b"SK",
];

impl Country {
    /// Reads a code, in any case. `None` for everything else, such as Cloudflare's `XX` (unknown) and `T1` (Tor).
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text.trim_ascii() {
            [b'X' | b'x', b'X' | b'x'] => None,
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Some(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => None,
        }
    }

    /// All codes of two letters, most of which are no country's, in the order of [`Self::index`].
    pub fn codes() -> impl Iterator<Item = Self> {
        (b'A'..=b'Z').flat_map(|first| (b'A'..=b'Z').map(move |second| Self([first, second])))
    }

    /// Position among all codes, by which counters are found.
    pub fn index(self) -> usize {
        let [first, second] = self
            .0
            .map(|letter| usize::from(letter.saturating_sub(b'A')));
        first * 26 + second
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// True for a member of the European Union.
    pub fn in_european_union(self) -> bool {
        EUROPEAN_UNION.contains(&&self.0)
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All that is known about the place of an address.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Place {
    /// `None` if it is not known, as all others.
    pub country: Option<Country>,
    /// ISO 3166-2 code of the first subdivision, without the country.
    pub region: Option<Box<str>>,
    /// The English name.
    pub city: Option<Box<str>>,
    /// Degrees.
    pub latitude: Option<f64>,
    /// Degrees.
    pub longitude: Option<f64>,
    /// A name of the IANA time zone database.
    pub time_zone: Option<Box<str>>,
    /// The number of the autonomous system that announces the address.
    pub asn: Option<u32>,
    /// As the file says; `None`: it does not.
    pub in_union: Option<bool>,
}

impl Place {
    /// True if the country is a member of the European Union; `None` if the country is not known.
    pub fn european_union(&self) -> Option<bool> {
        let country = self.country?;
        Some(self.in_union.unwrap_or_else(|| country.in_european_union()))
    }

    /// The place with the country that a trusted proxy names. Facts of another country than that are dropped.
    pub fn named(self: Arc<Self>, country: Option<Country>) -> Arc<Self> {
        if country.is_none() || country == self.country {
            return self;
        }
        Arc::new(Self {
            country,
            asn: self.asn,
            ..Self::default()
        })
    }

    /// A fact as the value of a field; `None` if it is not known. Names are percent-encoded UTF-8.
    pub fn value(&self, fact: GeoFact) -> Option<HeaderValue> {
        let text = match fact {
            GeoFact::Country => return HeaderValue::from_str(self.country?.as_str()).ok(),
            GeoFact::Region => return encoded(self.region.as_deref()?),
            GeoFact::City => return encoded(self.city.as_deref()?),
            GeoFact::TimeZone => return encoded(self.time_zone.as_deref()?),
            GeoFact::Latitude => self.latitude?.to_string(),
            GeoFact::Longitude => self.longitude?.to_string(),
            GeoFact::Asn => self.asn?.to_string(),
            GeoFact::EuropeanUnion => u8::from(self.european_union()?).to_string(),
        };
        HeaderValue::from_str(&text).ok()
    }
}

/// Bytes that may stand in a field as they are; `%` and all others are percent-encoded (RFC 3986 §2.1).
fn encoded(text: &str) -> Option<HeaderValue> {
    let plain = |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && byte != b'%';
    if text.bytes().all(plain) {
        return HeaderValue::from_str(text.trim()).ok();
    }
    HeaderValue::from_str(&percent::encoded(text.trim().as_bytes(), plain)).ok()
}

/// A fact that a field, a key or a hook can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeoFact {
    /// ISO 3166-1 code.
    Country,
    /// ISO 3166-2 code without the country.
    Region,
    /// English name.
    City,
    /// Degrees.
    Latitude,
    /// Degrees.
    Longitude,
    /// IANA name.
    TimeZone,
    /// Number of the autonomous system.
    Asn,
    /// `1` or `0`.
    EuropeanUnion,
}

impl GeoFact {
    /// Each with its word in plans.
    pub const ALL: [(&'static str, Self); 8] = [
        ("country", Self::Country),
        ("region", Self::Region),
        ("city", Self::City),
        ("latitude", Self::Latitude),
        ("longitude", Self::Longitude),
        ("time_zone", Self::TimeZone),
        ("asn", Self::Asn),
        ("eu", Self::EuropeanUnion),
    ];

    /// The field in which an origin gets it. CloudFront has none for the European Union.
    pub fn field(self, naming: GeoNaming) -> FieldName {
        let (plain, cloudfront) = match self {
            Self::Country => ("x-geo-country", "cloudfront-viewer-country"),
            Self::Region => ("x-geo-region", "cloudfront-viewer-country-region"),
            Self::City => ("x-geo-city", "cloudfront-viewer-city"),
            Self::Latitude => ("x-geo-latitude", "cloudfront-viewer-latitude"),
            Self::Longitude => ("x-geo-longitude", "cloudfront-viewer-longitude"),
            Self::TimeZone => ("x-geo-time-zone", "cloudfront-viewer-time-zone"),
            Self::Asn => ("x-geo-asn", "cloudfront-viewer-asn"),
            Self::EuropeanUnion => ("x-geo-eu", "x-geo-eu"),
        };
        FieldName::from_static(match naming {
            GeoNaming::XGeo => plain,
            GeoNaming::CloudFront => cloudfront,
        })
    }
}

/// A set of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GeoFacts(u8);

impl GeoFacts {
    /// Adds one.
    pub fn add(&mut self, fact: GeoFact) {
        self.0 |= 1 << fact as u8;
    }

    /// True if it is in the set.
    pub fn has(self, fact: GeoFact) -> bool {
        self.0 & 1 << fact as u8 != 0
    }

    /// True without any.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_is_two_letters_and_not_the_unknown_one() {
        for (text, want) in [
            ("DE", Some("DE")),
            ("de", Some("DE")),
            (" fr ", Some("FR")),
            ("XX", None),
            ("T1", None),
            ("", None),
            ("DEU", None),
            ("ÄÖ", None),
        ] {
            let found = Country::parse(text.as_bytes());
            assert_eq!(found.as_ref().map(Country::as_str), want, "{text:?}");
        }
    }

    #[test]
    fn a_name_outside_ascii_is_percent_encoded_in_a_field() {
        for (city, want) in [
            ("Berlin", "Berlin"),
            ("São Paulo", "S%C3%A3o Paulo"),
            ("100%\r\nx: y", "100%25%0D%0Ax: y"),
            (" a ", "a"),
        ] {
            let place = Place {
                city: Some(city.into()),
                ..Place::default()
            };
            let value = place.value(GeoFact::City);
            assert_eq!(
                value.as_ref().map(HeaderValue::as_bytes),
                Some(want.as_bytes())
            );
        }
        for (_, fact) in GeoFact::ALL {
            assert_eq!(Place::default().value(fact), None, "{fact:?}");
        }
    }

    #[test]
    fn the_word_of_a_proxy_removes_what_belongs_to_another_country() {
        let country = |text: &str| Country::parse(text.as_bytes());
        let found = Arc::new(Place {
            country: country("DE"),
            city: Some("Berlin".into()),
            asn: Some(64_500),
            in_union: Some(true),
            ..Place::default()
        });
        assert_eq!(found.clone().named(None), found);
        assert_eq!(found.clone().named(country("DE")), found);
        let moved = found.named(country("CH"));
        assert_eq!(
            (moved.country, moved.city.as_deref()),
            (country("CH"), None)
        );
        assert_eq!(
            (moved.asn, moved.european_union()),
            (Some(64_500), Some(false))
        );
    }

    #[test]
    fn each_code_has_a_position_of_its_own() {
        for (index, code) in Country::codes().enumerate() {
            assert_eq!(
                (code.index(), Country::parse(code.as_str().as_bytes())),
                (index, (code.as_str() != "XX").then_some(code))
            );
        }
        assert_eq!(Country::codes().count(), 26 * 26);
    }

    #[test]
    fn membership_comes_from_the_file_or_from_the_list_of_countries() {
        for (code, in_union, want) in [
            ("DE", None, Some(true)),
            ("GB", None, Some(false)),
            ("GB", Some(true), Some(true)),
            ("", Some(true), None),
        ] {
            let place = Place {
                country: Country::parse(code.as_bytes()),
                in_union,
                ..Place::default()
            };
            assert_eq!(place.european_union(), want, "{code}");
        }
    }
}
