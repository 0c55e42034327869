//! The place of a client as Python sees it: looked up when the first fact is read.

use std::sync::Arc;

use edgerouter_core::geo::{GeoFact, Place};
use edgerouter_functions::{ClientPlace, Notes};
use pyo3::prelude::*;

/// The place of a client, as far as it is known.
#[pyclass(frozen, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Geo {
    pub(super) place: Option<Arc<ClientPlace>>,
    pub(super) notes: Option<Arc<Notes>>,
}

impl Geo {
    /// Reads a fact. Where what is stored depends on it, the response is the client's own, unless the key has the fact.
    fn read<T>(&self, fact: GeoFact, read: impl FnOnce(&Place) -> Option<T>) -> Option<T> {
        let place = self.place.as_deref();
        let settled = place.is_some_and(|place| place.settled.has(fact));
        if let Some(notes) = self.notes.as_ref().filter(|_| !settled) {
            notes.lock().personal = true;
        }
        read(place?.get())
    }
}

#[pymethods]
impl Geo {
    /// ISO 3166-1 code, as "DE".
    #[getter]
    fn country(&self) -> Option<String> {
        self.read(GeoFact::Country, |place| {
            place.country.map(|country| country.to_string())
        })
    }

    /// ISO 3166-2 code of the subdivision, without the country.
    #[getter]
    fn region(&self) -> Option<String> {
        self.read(GeoFact::Region, |place| {
            place.region.as_deref().map(str::to_owned)
        })
    }

    /// Its English name.
    #[getter]
    fn city(&self) -> Option<String> {
        self.read(GeoFact::City, |place| {
            place.city.as_deref().map(str::to_owned)
        })
    }

    /// Degrees.
    #[getter]
    fn latitude(&self) -> Option<f64> {
        self.read(GeoFact::Latitude, |place| place.latitude)
    }

    /// Degrees.
    #[getter]
    fn longitude(&self) -> Option<f64> {
        self.read(GeoFact::Longitude, |place| place.longitude)
    }

    /// A name of the IANA time zone database, as "Europe/Berlin".
    #[getter]
    fn time_zone(&self) -> Option<String> {
        self.read(GeoFact::TimeZone, |place| {
            place.time_zone.as_deref().map(str::to_owned)
        })
    }

    /// The number of the autonomous system that announces the address.
    #[getter]
    fn asn(&self) -> Option<u32> {
        self.read(GeoFact::Asn, |place| place.asn)
    }

    /// True if the country is a member of the European Union; `None` where the country is not known.
    #[getter]
    fn eu(&self) -> Option<bool> {
        self.read(GeoFact::EuropeanUnion, Place::european_union)
    }

    fn __repr__(&self) -> String {
        let country = self.country();
        format!("<Geo {}>", country.as_deref().unwrap_or("unknown"))
    }
}
