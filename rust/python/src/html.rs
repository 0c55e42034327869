//! Edits of HTML while it streams, by the crate `lol_html`: it keeps no more of a document than the tag that it reads
//! and the names of the elements that are open.

use std::{borrow::Cow, sync::Arc};

use lol_html::{
    AsciiCompatibleEncoding, MemorySettings, OutputSink, Selector,
    errors::RewritingError,
    html_content::ContentType,
    send::{ElementContentHandlers, HtmlRewriter as Rewriter, Settings},
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyLookupError, PyOverflowError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyString},
};

use crate::runner::call_outlived;

/// An element as a handler that may move between threads sees it.
type Element<'r, 't> = lol_html::send::Element<'r, 't>;

/// Memory for one document: its open elements, and the tag that is read.
const MOST_MEMORY: usize = 1 << 20;
/// Bytes that one piece of a document, which has no more than some KiB, may become.
const MOST_EDITED: usize = 8 << 20;

/// The edits of the elements of a selector: the selector, operations with their content and whether that is HTML, and
/// attributes: a value, a function of the value, or `None` to remove it.
type Edit<'py> = (
    String,
    Vec<(String, String, bool)>,
    Vec<(String, Bound<'py, PyAny>)>,
);

/// Takes the bytes that have been edited.
struct Edited(Arc<Mutex<Vec<u8>>>);

impl OutputSink for Edited {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        self.0.lock().extend_from_slice(chunk);
    }
}

/// Edits one document.
#[pyclass(frozen, module = "edgerouter._core")]
pub(crate) struct HtmlRewriter {
    /// `None` after its end, and after an error.
    rewriter: Mutex<Option<Rewriter<'static, Edited>>>,
    edited: Arc<Mutex<Vec<u8>>>,
}

/// An operation on an element.
#[derive(Clone, Copy)]
enum Operation {
    Before,
    After,
    Prepend,
    Append,
    Inner,
    Replace,
    Remove,
    Unwrap,
}

impl Operation {
    fn of(word: &str) -> PyResult<Self> {
        Ok(match word {
            "before" => Self::Before,
            "after" => Self::After,
            "prepend" => Self::Prepend,
            "append" => Self::Append,
            "inner" => Self::Inner,
            "replace" => Self::Replace,
            "remove" => Self::Remove,
            "unwrap" => Self::Unwrap,
            _ => return Err(PyValueError::new_err(format!("{word:?} is no operation"))),
        })
    }

    fn apply(self, element: &mut Element<'_, '_>, content: &str, kind: ContentType) {
        match self {
            Self::Before => element.before(content, kind),
            Self::After => element.after(content, kind),
            Self::Prepend => element.prepend(content, kind),
            Self::Append => element.append(content, kind),
            Self::Inner => element.set_inner_content(content, kind),
            Self::Replace => element.replace(content, kind),
            Self::Remove => element.remove(),
            Self::Unwrap => element.remove_and_keep_content(),
        }
    }
}

/// The new value of an attribute, as it stands in a page.
enum Value {
    Is(String),
    Removed,
    /// A function of the old one gives it.
    Of(Py<PyAny>),
}

impl Value {
    fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            Ok(Self::Removed)
        } else if let Ok(text) = value.cast::<PyString>() {
            Ok(Self::Is(text.to_str()?.to_owned()))
        } else if value.is_callable() {
            Ok(Self::Of(value.clone().unbind()))
        } else {
            Err(PyTypeError::new_err(
                "the value of an attribute must be text, None or a function",
            ))
        }
    }

    fn apply(&self, element: &mut Element<'_, '_>, name: &str) -> PyResult<()> {
        let new = match self {
            Self::Is(value) => Some(Cow::Borrowed(value)),
            Self::Removed => None,
            Self::Of(function) => Python::attach(|py| {
                let new = call_outlived(function.bind(py), (element.get_attribute(name),))?;
                new.extract::<Option<String>>()
                    .map(|new| new.map(Cow::Owned))
            })?,
        };
        match new {
            Some(value) => element.set_attribute(name, &value).map_err(|error| {
                PyValueError::new_err(format!("the attribute name {name:?}: {error}"))
            }),
            None => {
                element.remove_attribute(name);
                Ok(())
            }
        }
    }
}

fn selector_of(text: &str) -> PyResult<Selector> {
    text.parse()
        .map_err(|error| PyValueError::new_err(format!("the selector {text:?}: {error}")))
}

fn handlers(
    (_, operations, attributes): &Edit<'_>,
    edited: &Arc<Mutex<Vec<u8>>>,
) -> PyResult<ElementContentHandlers<'static>> {
    let mut known = Vec::with_capacity(operations.len());
    for (word, content, html) in operations {
        let kind = if *html {
            ContentType::Html
        } else {
            ContentType::Text
        };
        known.push((Operation::of(word)?, content.clone(), kind));
    }
    let mut values = Vec::with_capacity(attributes.len());
    for (name, value) in attributes {
        values.push((name.clone(), Value::from(value)?));
    }
    let edited = Arc::clone(edited);
    Ok(
        ElementContentHandlers::default().element(move |element: &mut Element<'_, '_>| {
            if edited.lock().len() > MOST_EDITED {
                let message = format!("some KiB of the page became more than {MOST_EDITED} bytes");
                return Err(PyOverflowError::new_err(message).into());
            }
            for (name, value) in &values {
                value.apply(element, name)?;
            }
            for (operation, content, kind) in &known {
                operation.apply(element, content, *kind);
            }
            Ok(())
        }),
    )
}

/// The exception of a handler as it was raised.
fn raised(error: RewritingError) -> PyErr {
    match error {
        RewritingError::ContentHandlerError(error) => match error.downcast::<PyErr>() {
            Ok(error) => *error,
            Err(error) => PyValueError::new_err(error.to_string()),
        },
        error => PyValueError::new_err(format!("the page cannot be edited: {error}")),
    }
}

#[pymethods]
impl HtmlRewriter {
    /// `charset`: of the document; `None`: UTF-8, unless its head names another. `ValueError` for edits that cannot be
    /// read, `LookupError` for a charset that is unknown or has no ASCII.
    #[new]
    fn new(edits: Vec<Edit<'_>>, charset: Option<&str>) -> PyResult<Self> {
        let encoding =
            encoding_rs::Encoding::for_label_no_replacement(charset.unwrap_or("utf-8").as_bytes())
                .and_then(AsciiCompatibleEncoding::new)
                .ok_or_else(|| {
                    let shown: String = charset.unwrap_or_default().chars().take(40).collect();
                    PyLookupError::new_err(format!(
                        "HTML in the charset {shown:?} cannot be edited"
                    ))
                })?;
        let memory = MemorySettings::new().with_max_allowed_memory_usage(MOST_MEMORY);
        let edited = Arc::<Mutex<Vec<u8>>>::default();
        // A page whose meaning depends on errors of its author is still to be sent.
        let mut settings = Settings::new_send()
            .with_encoding(encoding)
            .with_adjust_charset_on_meta_tag(charset.is_none())
            .with_memory_settings(memory)
            .with_strict(false);
        for edit in &edits {
            let selector = Cow::Owned(selector_of(&edit.0)?);
            settings =
                settings.append_element_content_handler((selector, handlers(edit, &edited)?));
        }
        let rewriter = Rewriter::new(settings, Edited(Arc::clone(&edited)));
        Ok(Self {
            rewriter: Mutex::new(Some(rewriter)),
            edited,
        })
    }

    /// Takes a piece of the document; the bytes that have been edited by now.
    fn feed<'py>(&self, py: Python<'py>, piece: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        // Taken out: a function of an attribute may let other threads run.
        let taken = self.rewriter.lock().take();
        if let Some(mut rewriter) = taken {
            rewriter.write(piece).map_err(raised)?;
            *self.rewriter.lock() = Some(rewriter);
        }
        Ok(self.take(py))
    }

    /// The end of the document; the rest of the edited bytes.
    fn end<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let taken = self.rewriter.lock().take();
        if let Some(rewriter) = taken {
            rewriter.end().map_err(raised)?;
        }
        Ok(self.take(py))
    }
}

impl HtmlRewriter {
    fn take<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let edited = std::mem::take(&mut *self.edited.lock());
        PyBytes::new(py, &edited)
    }
}

/// Raises `ValueError` or `TypeError` for an edit that cannot be made: its selector, or the name of an attribute.
#[pyfunction]
pub(crate) fn check_edit(edit: Edit<'_>) -> PyResult<()> {
    selector_of(&edit.0)?;
    handlers(&edit, &Arc::default())?;
    for (name, _) in &edit.2 {
        let forbidden = |found: char| {
            matches!(
                found,
                ' ' | '\n' | '\r' | '\t' | '\x0C' | '/' | '>' | '=' | '"' | '\'' | '<'
            ) || found.is_control()
        };
        if name.is_empty() || name.contains(forbidden) {
            return Err(PyValueError::new_err(format!(
                "{name:?} is no name of an attribute"
            )));
        }
    }
    Ok(())
}
