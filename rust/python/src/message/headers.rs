//! Header fields as Python sees them: a view on the section of a request or response. A field is copied when it is
//! read, and no lock is held while Python runs.

use edgerouter_core::{
    cache::hooked::Reads,
    http::{FieldName, FieldValue, Fields, Named, Value},
};
use http::HeaderValue;
use pyo3::{
    exceptions::{PyKeyError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple},
};

use super::{request::Request, response::Response};
use crate::errors;

/// Header fields: a mutable mapping whose names do not depend on case.
#[pyclass(frozen, mapping, module = "edgerouter")]
#[derive(Debug)]
pub(crate) struct Headers {
    owner: HeadersOwner,
}

#[derive(Debug)]
enum HeadersOwner {
    Request(Py<Request>),
    Response(Py<Response>),
}

pub(crate) fn name_of(name: &str) -> PyResult<FieldName> {
    FieldName::from_bytes(name.as_bytes()).map_err(|_| {
        PyValueError::new_err(format!(
            "headers: {name:?} is no field name: it has letters, digits and marks such as - without spaces"
        ))
    })
}

/// Text outside ASCII is taken for Latin-1, as HTTP always has (RFC 9110 §5.5). Blanks around a value are no part of it:
/// a message of HTTP/2 that has some is malformed (RFC 9113 §8.2.1).
pub(crate) fn value_of(name: &str, value: &str) -> PyResult<HeaderValue> {
    let value = value.trim_matches([' ', '\t']);
    let made = if value.is_ascii() {
        HeaderValue::from_str(value).ok()
    } else {
        let latin: Option<Vec<u8>> = value
            .chars()
            .map(|c| u8::try_from(u32::from(c)).ok())
            .collect();
        latin.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok())
    };
    made.ok_or_else(|| {
        PyValueError::new_err(format!(
            "headers: the value of {name} may not hold line ends, other control characters or characters beyond \
             Latin-1: percent-encode them, as by urllib.parse.quote"
        ))
    })
}

fn text_of(value: FieldValue<'_>) -> String {
    latin_1(value.as_bytes())
}

/// Bytes of a field as text (RFC 9110 §5.5).
pub(crate) fn latin_1(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => text.to_owned(),
        _ => bytes.iter().copied().map(char::from).collect(),
    }
}

/// Puts the fields that Python gives for a header section into `map`. The first of a name replaces what was there, the
/// next ones stand beside it.
pub(crate) fn fill(map: &mut Fields, given: &Bound<'_, PyAny>) -> PyResult<()> {
    let items = if given.hasattr("items")? {
        given.call_method0("items")?
    } else {
        given.clone()
    };
    let mut given = Fields::new();
    let no_fields = |found: &Bound<'_, PyAny>| {
        let message = format!(
            "headers: must be a mapping of names to texts, or pairs of both, not {}",
            kind_of(found)
        );
        PyTypeError::new_err(message)
    };
    if items.is_instance_of::<PyString>() {
        return Err(no_fields(&items));
    }
    for item in items.try_iter().map_err(|_| no_fields(&items))? {
        let item = item?;
        let Ok((name, value)) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() else {
            return Err(no_fields(&item));
        };
        let (name, value) = line_of(&name, &value)?;
        append(&mut given, name, value)?;
    }
    replace(map, &given)
}

/// The lines of the fields that Python gives for a header section, by the rule of all of them.
#[pyfunction]
pub(crate) fn field_lines(given: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    let mut fields = Fields::new();
    fill(&mut fields, given)?;
    let lines = fields.iter();
    Ok(lines
        .map(|(name, value)| (name.lower().into_owned(), text_of(value)))
        .collect())
}

/// A field as Python gives it; `TypeError` and `ValueError` have its name and the remedy. No value is shown, as it may
/// be a credential.
fn line_of(
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<(FieldName, HeaderValue)> {
    let Ok(name) = name.cast::<PyString>() else {
        let remedy = remedy(name, "name");
        let message = format!(
            "headers: a name must be a str, not {}{remedy}",
            kind_of(name)
        );
        return Err(PyTypeError::new_err(message));
    };
    let name = name.to_str()?;
    let key = name_of(name)?;
    let Ok(value) = value.cast::<PyString>() else {
        let message = format!(
            "headers: the value of {name} must be a str, not {}{}",
            kind_of(value),
            remedy(value, "value")
        );
        return Err(PyTypeError::new_err(message));
    };
    Ok((key, value_of(name, value.to_str()?)?))
}

/// The text of a name or value of another type, as the end of a message.
fn remedy(given: &Bound<'_, PyAny>, what: &str) -> String {
    if given.is_none() {
        return ": leave the field out".to_owned();
    }
    if given.is_instance_of::<PyBytes>() {
        return format!(": write {what}.decode(\"latin-1\")");
    }
    if given.is_instance_of::<PyInt>() || given.is_instance_of::<PyFloat>() {
        return format!(": write str({what})");
    }
    if given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>() {
        return ": give pairs, with a pair for each line of the field".to_owned();
    }
    String::new()
}

/// The name of a value's type.
fn kind_of(value: &Bound<'_, PyAny>) -> String {
    let name = value.get_type().name();
    name.map_or_else(|_| "this".to_owned(), |name| name.to_string())
}

/// Fields that one header section may have.
const MOST_FIELDS: usize = 10_000;

fn too_many() -> PyErr {
    PyValueError::new_err(format!("a head has at most {MOST_FIELDS} fields"))
}

pub(super) fn append(map: &mut Fields, name: impl Named, value: impl Value) -> PyResult<()> {
    if map.len() >= MOST_FIELDS {
        return Err(too_many());
    }
    map.append(name, value);
    Ok(())
}

fn insert(map: &mut Fields, name: FieldName, value: HeaderValue) -> PyResult<()> {
    if map.len() >= MOST_FIELDS && !map.contains_key(&name) {
        return Err(too_many());
    }
    map.insert(name, value);
    Ok(())
}

/// Puts fields in the place of those with the same names.
fn replace(map: &mut Fields, given: &Fields) -> PyResult<()> {
    for name in given.keys() {
        map.remove(name);
    }
    for (name, value) in given {
        append(map, name, value)?;
    }
    Ok(())
}

impl Headers {
    pub(crate) fn of_request(request: Py<Request>) -> Self {
        Self {
            owner: HeadersOwner::Request(request),
        }
    }

    pub(crate) fn of_response(response: Py<Response>) -> Self {
        Self {
            owner: HeadersOwner::Response(response),
        }
    }

    /// `note` records the fields that this reads or writes.
    fn edit<R>(
        &self,
        note: impl FnOnce(&mut Reads),
        edit: impl FnOnce(&mut Fields) -> R,
    ) -> PyResult<R> {
        match &self.owner {
            HeadersOwner::Request(request) => request.get().edit(|parts| {
                parts.note(note);
                edit(&mut parts.head.headers)
            }),
            HeadersOwner::Response(response) => response.get().edit(|parts| {
                if let Some(wrote) = &mut parts.wrote {
                    note(wrote);
                }
                edit(&mut parts.headers)
            }),
        }
    }

    fn first(&self, name: &str) -> PyResult<Option<String>> {
        self.edit(|reads| reads.field(name), |map| map.get(name).map(text_of))
    }
}

/// Notes a field that is read and written at once.
fn take(reads: &mut Reads, name: &str) {
    reads.field(name);
    if let Ok(name) = FieldName::from_bytes(name.as_bytes()) {
        reads.wrote(&name);
    }
}

#[pymethods]
impl Headers {
    fn __getitem__(&self, py: Python<'_>, name: &str) -> PyResult<String> {
        self.first(name)?.ok_or_else(|| match self.owner {
            // The client's mistake, unless the callable says otherwise.
            HeadersOwner::Request(_) => errors::missing(py, name, "field"),
            HeadersOwner::Response(_) => PyKeyError::new_err(name.to_owned()),
        })
    }

    fn __setitem__(&self, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (name, value) = line_of(name, value)?;
        self.edit(
            |reads| reads.wrote(&name),
            |map| insert(map, name.clone(), value),
        )?
    }

    fn __delitem__(&self, name: &str) -> PyResult<()> {
        self.edit(|reads| take(reads, name), |map| map.remove(name))?
            .then_some(())
            .ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> PyResult<bool> {
        match name.cast::<PyString>() {
            Ok(name) => {
                let name = name.to_str()?;
                self.edit(|reads| reads.field(name), |map| map.contains_key(name))
            }
            Err(_) => Ok(false),
        }
    }

    fn __len__(&self) -> PyResult<usize> {
        self.edit(Reads::all_fields, |map| map.names().count())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.keys()?.into_pyobject(py)?.try_iter()?.into_any())
    }

    fn __repr__(&self) -> String {
        // Values may be credentials: names only.
        self.keys().map_or_else(
            |_| "<Headers of a request that is over>".to_owned(),
            |names| format!("<Headers {}>", names.join(", ")),
        )
    }

    /// Names, each once, in lower case.
    fn keys(&self) -> PyResult<Vec<String>> {
        self.edit(Reads::all_fields, |map| {
            map.names().map(|name| name.lower().into_owned()).collect()
        })
    }

    /// The first value of each name.
    fn values(&self) -> PyResult<Vec<String>> {
        self.edit(Reads::all_fields, |map| {
            map.names()
                .filter_map(|name| map.get(name))
                .map(text_of)
                .collect()
        })
    }

    /// Name and value of every field, repeated ones repeated.
    fn items(&self) -> PyResult<Vec<(String, String)>> {
        self.edit(Reads::all_fields, |map| {
            map.iter()
                .map(|(name, value)| (name.lower().into_owned(), text_of(value)))
                .collect()
        })
    }

    /// The first value of that name, or the default.
    #[pyo3(signature = (name, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(match self.first(name)? {
            Some(value) => Some(PyString::new(py, &value).into_any()),
            None => default,
        })
    }

    /// Every value of that name.
    fn get_all(&self, name: &str) -> PyResult<Vec<String>> {
        self.edit(
            |reads| reads.field(name),
            |map| map.get_all(name).iter().map(text_of).collect(),
        )
    }

    /// Adds a field beside those of the same name.
    fn add(&self, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (name, value) = line_of(name, value)?;
        self.edit(
            |reads| {
                // The values beside it are the client's own.
                reads.field(name.as_str());
                reads.wrote(&name);
            },
            |map| append(map, name.clone(), value),
        )?
    }

    /// Sets every field of a mapping or of pairs; repeated names in pairs stand beside one another.
    fn update(&self, fields: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut given = Fields::new();
        fill(&mut given, fields)?;
        let wrote = |reads: &mut Reads| given.names().for_each(|name| reads.wrote(&name.owned()));
        self.edit(wrote, |map| replace(map, &given))?
    }

    /// The first value of that name; the default is set, and returned, when there is none.
    fn setdefault(&self, name: &Bound<'_, PyAny>, default: &Bound<'_, PyAny>) -> PyResult<String> {
        let (key, value) = line_of(name, default)?;
        self.edit(
            |reads| take(reads, key.as_str()),
            |map| {
                if !map.contains_key(&key) {
                    insert(map, key.clone(), value)?;
                }
                Ok(map.get(&key).map(text_of).unwrap_or_default())
            },
        )?
    }

    /// Removes every field of that name and returns the first value, or the default.
    #[pyo3(signature = (name, default=None))]
    fn pop<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(
            match self.edit(|reads| take(reads, name), |map| map.take(name))? {
                Some(value) => Some(PyString::new(py, &latin_1(value.as_bytes())).into_any()),
                None => default,
            },
        )
    }

    /// Removes every field of that name, if there is one, and does not say whether there was.
    fn discard(&self, name: &str) -> PyResult<()> {
        let name = name_of(name)?;
        self.edit(|reads| reads.wrote(&name), |map| map.remove(&name))
            .map(drop)
    }

    /// Removes every field.
    fn clear(&self) -> PyResult<()> {
        self.edit(Reads::clear, Fields::clear)
    }
}
