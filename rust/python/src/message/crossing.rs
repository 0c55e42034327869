//! A request as plain values, for a process that has no edge: it goes there as a message and is made anew.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use edgerouter_core::{
    geo::{Country, Place},
    http::Fields,
    plan::Scheme,
};
use edgerouter_functions::{
    AssignedVariant, ClientPlace, PathParams, RequestHead, fetch::FetchChain,
};
use http::Method;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyDict};

use super::{
    headers::{self, latin_1},
    request::Request,
    spelling::{scheme_of, version_of, version_text},
};

/// All parts of a request but its content and the certificate of its client. A stored response would depend on all of
/// them.
#[pyfunction]
pub(crate) fn dismantle<'py>(
    py: Python<'py>,
    request: &Bound<'py, Request>,
) -> PyResult<Bound<'py, PyDict>> {
    let (head, streamed) = request.get().edit(|parts| {
        parts.note(|reads| {
            reads.all_fields();
            reads.personal = true;
        });
        (parts.head.clone(), parts.rest.is_some())
    })?;
    let params = head.params.decoded();
    let fields: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.owned().as_str().to_owned(), latin_1(value.as_bytes())))
        .collect();
    let variants: Vec<(&str, &str, Option<&str>)> = (head.variants.iter())
        .map(|one| (&*one.experiment, &*one.variant, one.payload.as_deref()))
        .collect();
    let parts = PyDict::new(py);
    parts.set_item("method", head.method.as_str())?;
    parts.set_item("version", version_text(head.version))?;
    parts.set_item("scheme", scheme_of(head.scheme))?;
    parts.set_item("host", &*head.host)?;
    parts.set_item("port", head.port)?;
    parts.set_item("path", &head.path)?;
    parts.set_item("query", head.query.as_deref())?;
    parts.set_item("headers", fields)?;
    parts.set_item("client", head.client.to_string())?;
    let params: Vec<(&str, &str)> = (params.iter())
        .map(|(name, value)| (&**name, value.as_str()))
        .collect();
    parts.set_item("params", params)?;
    parts.set_item("claims", head.claims.as_deref())?;
    parts.set_item("variants", variants)?;
    parts.set_item(
        "place",
        head.place.as_ref().map(|place| facts_of(place.get())),
    )?;
    parts.set_item("id", head.id)?;
    parts.set_item("streamed", streamed)?;
    Ok(parts)
}

/// Country, region, city, latitude, longitude, time zone, number of the network, member of the European Union.
type Facts = (
    Option<String>,
    Option<String>,
    Option<String>,
    Option<f64>,
    Option<f64>,
    Option<String>,
    Option<u32>,
    Option<bool>,
);

fn facts_of(place: &Place) -> Facts {
    let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
    (
        place.country.map(|country| country.to_string()),
        text(&place.region),
        text(&place.city),
        place.latitude,
        place.longitude,
        text(&place.time_zone),
        place.asn,
        place.in_union,
    )
}

fn place_of(
    (country, region, city, latitude, longitude, time_zone, asn, in_union): Facts,
) -> Place {
    Place {
        country: country.and_then(|code| Country::parse(code.as_bytes())),
        region: region.map(Into::into),
        city: city.map(Into::into),
        latitude,
        longitude,
        time_zone: time_zone.map(Into::into),
        asn,
        in_union,
    }
}

/// The request of such parts. `source` makes the iterators over a body that is streamed.
#[pyfunction]
#[pyo3(signature = (parts, body, source=None))]
pub(crate) fn assemble(
    parts: &Bound<'_, PyDict>,
    body: Vec<u8>,
    source: Option<Py<PyAny>>,
) -> PyResult<Request> {
    let given = |name: &str| {
        parts
            .get_item(name)?
            .ok_or_else(|| PyValueError::new_err(format!("a request without {name}")))
    };
    let pairs = |name: &str| given(name)?.extract::<Vec<(String, String)>>();
    let mut fields = Fields::new();
    for (name, value) in pairs("headers")? {
        fields.append(headers::name_of(&name)?, headers::value_of(&name, &value)?);
    }
    let method: String = given("method")?.extract()?;
    let client: String = given("client")?.extract()?;
    let wrong = |what: &str| PyValueError::new_err(format!("{what} of a request cannot be read"));
    let client = client.parse::<IpAddr>().map_err(|_| wrong("the client"))?;
    let claims: Option<String> = given("claims")?.extract()?;
    let place: Option<Facts> = given("place")?.extract()?;
    let head = RequestHead {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| wrong("the method"))?,
        version: version_of(&given("version")?.extract::<String>()?),
        scheme: match given("scheme")?.extract::<String>()?.as_str() {
            "https" => Scheme::Https,
            _ => Scheme::Http,
        },
        host: given("host")?.extract::<String>()?.into(),
        port: given("port")?.extract()?,
        path: given("path")?.extract()?,
        query: given("query")?.extract()?,
        headers: fields,
        client,
        params: PathParams::Given(
            (pairs("params")?.into_iter())
                .map(|(name, value)| (name.into(), value))
                .collect(),
        ),
        claims: claims.map(Arc::from),
        certificate: None,
        place: place.map(|facts| Arc::new(ClientPlace::known(place_of(facts), client))),
        variants: (given("variants")?.extract::<Vec<(String, String, Option<String>)>>()?)
            .into_iter()
            .map(|(experiment, variant, payload)| AssignedVariant {
                experiment: experiment.into(),
                variant: variant.into(),
                payload: payload.map(Arc::from),
            })
            .collect(),
        id: given("id")?.extract()?,
        trace: None,
        chain: FetchChain::default(),
        conversions: None,
        notes: None,
    };
    Ok(Request::new(Box::new(head), Bytes::from(body), None).with_source(source))
}
