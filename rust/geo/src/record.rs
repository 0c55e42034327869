//! A record of a file, as far as it is used: the layout of MaxMind's databases of cities, countries and networks.

use edgerouter_core::geo::{Country, Place};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Record<'a> {
    #[serde(borrow)]
    country: CountryRecord<'a>,
    #[serde(borrow)]
    subdivisions: First<'a>,
    #[serde(borrow)]
    city: CityRecord<'a>,
    #[serde(borrow)]
    location: Location<'a>,
    autonomous_system_number: Number,
    traits: Traits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CountryRecord<'a> {
    iso_code: Option<&'a str>,
    is_in_european_union: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CityRecord<'a> {
    #[serde(borrow)]
    names: Names<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Names<'a> {
    en: Option<&'a str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Location<'a> {
    latitude: Number,
    longitude: Number,
    time_zone: Option<&'a str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Traits {
    autonomous_system_number: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subdivision<'a> {
    iso_code: Option<&'a str>,
}

/// A number of any of the types that a writer may have chosen; `None` if it is absent, or something else.
#[derive(Debug, Default, Clone, Copy)]
struct Number(Option<f64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Number;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Number, E> {
                Ok(Number(Some(number).filter(|number| number.is_finite())))
            }

            fn visit_f32<E: serde::de::Error>(self, number: f32) -> Result<Number, E> {
                self.visit_f64(f64::from(number))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Number, E> {
                // A number of these facts is exact far beyond its range.
                self.visit_f64(number as f64)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Number, E> {
                self.visit_f64(number as f64)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Number {
    fn asn(self) -> Option<u32> {
        let number = self
            .0
            .filter(|number| (0.0..=f64::from(u32::MAX)).contains(number))?;
        Some(number as u32)
    }

    fn degrees(self, most: f64) -> Option<f64> {
        self.0.filter(|degrees| degrees.abs() <= most)
    }
}

/// The first member of a list.
#[derive(Debug, Default)]
struct First<'a>(Option<Subdivision<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for First<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = First<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of subdivisions")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Self::Value, A::Error> {
                let first = list.next_element()?;
                while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

/// The longest name that is taken from a file.
const LONGEST: usize = 256;

fn text(text: Option<&str>) -> Option<Box<str>> {
    text.filter(|text| !text.is_empty() && text.len() <= LONGEST)
        .map(Into::into)
}

impl Record<'_> {
    /// Adds the facts that the place lacks.
    pub(crate) fn add_to(&self, place: &mut Place) {
        let asn = self
            .autonomous_system_number
            .asn()
            .or(self.traits.autonomous_system_number.asn());
        place.asn = place.asn.or(asn);
        let code = self
            .country
            .iso_code
            .and_then(|code| Country::parse(code.as_bytes()));
        // Facts of two files about different countries do not make one place.
        if code.is_some() && place.country.is_some() && code != place.country {
            return;
        }
        if place.country.is_none() {
            place.country = code;
            place.in_union = self.country.is_in_european_union;
        }
        let subdivision = self.subdivisions.0.as_ref();
        place.region = place.region.take().or_else(|| text(subdivision?.iso_code));
        place.city = place.city.take().or_else(|| text(self.city.names.en));
        if place.latitude.is_none() || place.longitude.is_none() {
            place.latitude = self.location.latitude.degrees(90.0);
            place.longitude = self.location.longitude.degrees(180.0);
        }
        place.time_zone = place
            .time_zone
            .take()
            .or_else(|| text(self.location.time_zone));
    }
}
