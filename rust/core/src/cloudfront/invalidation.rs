//! The bodies of the calls about invalidations: the batch in the request, the responses and errors.

use super::xml::{self, XmlElement};
use crate::{
    cache::purge::{Mistake, Order, order},
    http::date::Iso,
};

const NAMESPACE: &str = "http://cloudfront.amazonaws.com/doc/2020-05-31/";

/// An error as the API names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// `Code` in the XML, such as `InvalidArgument`.
    pub code: &'static str,
    /// Status of the HTTP response.
    pub status: u16,
    /// `Message` in the XML: English, for a person.
    pub message: String,
}

impl ApiError {
    /// An error with CloudFront's name for it and its HTTP status.
    pub fn new(code: &'static str, status: u16, message: impl Into<String>) -> Self {
        Self {
            code,
            status,
            message: message.into(),
        }
    }

    /// The body of the response: an `ErrorResponse` in CloudFront's namespace.
    pub fn to_xml(&self, request_id: &str) -> String {
        let mut out = document("ErrorResponse");
        out.push_str("<Error><Type>Sender</Type>");
        xml::leaf(&mut out, "Code", self.code);
        xml::leaf(&mut out, "Message", &self.message);
        out.push_str("</Error>");
        xml::leaf(&mut out, "RequestId", request_id);
        out.push_str("</ErrorResponse>");
        out
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidArgument", 400, message)
}

/// An `InvalidationBatch` as an order.
pub fn read_batch(body: &[u8]) -> Result<Order, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| malformed("it is not UTF-8"))?;
    if text.trim().is_empty() {
        let message = "This operation requires a body. Ensure that the body is present.";
        return Err(ApiError::new("MissingBody", 400, message));
    }
    let batch = xml::read(text).map_err(|error| malformed(&error.to_string()))?;
    if batch.name != "InvalidationBatch" {
        return Err(malformed("its root element must be InvalidationBatch"));
    }
    let paths = batch
        .child("Paths")
        .ok_or_else(|| invalid("InvalidationBatch.Paths: is missing"))?;
    let given: Vec<&str> = paths
        .child("Items")
        .map(|items| {
            let named = items.children.iter().filter(|item| item.name == "Path");
            named.map(|item| item.text.trim()).collect()
        })
        .unwrap_or_default();
    let quantity = paths.child("Quantity").map(|quantity| quantity.text.trim());
    let quantity: usize = quantity
        .and_then(|quantity| quantity.parse().ok())
        .ok_or_else(|| invalid("InvalidationBatch.Paths.Quantity: must be a whole number"))?;
    if quantity != given.len() {
        let message = format!(
            "The value of Quantity and the size of Items do not match: {quantity} and {}.",
            given.len()
        );
        return Err(ApiError::new("InconsistentQuantities", 400, message));
    }
    if given.is_empty() {
        return Err(invalid(
            "InvalidationBatch.Paths: must hold at least one path",
        ));
    }
    let mut scopes = Vec::with_capacity(given.len());
    for (index, path) in given.iter().enumerate() {
        let wrong = |message: &str| {
            invalid(format!(
                "Your request contains one or more invalid invalidation paths. Items[{index}]: {path:?}: {message}"
            ))
        };
        if !path.starts_with('/') {
            return Err(wrong("must start with /"));
        }
        scopes.push(order::path(path).map_err(|message| wrong(&message))?);
    }
    Ok(Order {
        scopes,
        reference: Some(reference(&batch)?),
        given: given.into_iter().map(str::to_owned).collect(),
        ..Order::default()
    })
}

fn reference(batch: &XmlElement) -> Result<String, ApiError> {
    let reference = batch
        .child("CallerReference")
        .map(|reference| reference.text.clone())
        .unwrap_or_default();
    match order::reference_problem(&reference) {
        None => Ok(reference),
        Some(message) => Err(invalid(format!("CallerReference: {message}"))),
    }
}

fn malformed(message: &str) -> ApiError {
    ApiError::new(
        "MalformedXML",
        400,
        format!("The body is not the XML of this call: {message}."),
    )
}

impl From<Mistake> for ApiError {
    fn from(mistake: Mistake) -> Self {
        invalid(mistake.to_string())
    }
}

/// An invalidation as the responses describe it.
#[derive(Debug, Clone)]
pub struct Invalidation<'a> {
    /// The id of the purge.
    pub id: &'a str,
    /// `InProgress` or `Completed`.
    pub status: &'a str,
    /// Unix milliseconds.
    pub created: u64,
    /// As the caller spelled them, `*` at the end included.
    pub paths: &'a [String],
    /// The `CallerReference`, which makes a repeated call the same invalidation.
    pub reference: &'a str,
}

impl Invalidation<'_> {
    /// The body of the response: an `Invalidation` in CloudFront's namespace.
    pub fn to_xml(&self) -> String {
        let mut out = document("Invalidation");
        xml::leaf(&mut out, "Id", self.id);
        xml::leaf(&mut out, "Status", self.status);
        xml::leaf(&mut out, "CreateTime", &Iso(self.created).to_string());
        out.push_str("<InvalidationBatch><Paths>");
        xml::leaf(&mut out, "Quantity", &self.paths.len().to_string());
        out.push_str("<Items>");
        for path in self.paths {
            xml::leaf(&mut out, "Path", path);
        }
        out.push_str("</Items></Paths>");
        xml::leaf(&mut out, "CallerReference", self.reference);
        out.push_str("</InvalidationBatch></Invalidation>");
        out
    }
}

/// One page of a list, newest first. `next`: the marker of the page that follows.
pub fn list_xml(
    page: &[Invalidation<'_>],
    marker: &str,
    next: Option<&str>,
    most: usize,
) -> String {
    let mut out = document("InvalidationList");
    xml::leaf(&mut out, "Marker", marker);
    if let Some(next) = next {
        xml::leaf(&mut out, "NextMarker", next);
    }
    xml::leaf(&mut out, "MaxItems", &most.to_string());
    xml::leaf(
        &mut out,
        "IsTruncated",
        if next.is_some() { "true" } else { "false" },
    );
    xml::leaf(&mut out, "Quantity", &page.len().to_string());
    if !page.is_empty() {
        out.push_str("<Items>");
        for one in page {
            out.push_str("<InvalidationSummary>");
            xml::leaf(&mut out, "Id", one.id);
            xml::leaf(&mut out, "CreateTime", &Iso(one.created).to_string());
            xml::leaf(&mut out, "Status", one.status);
            out.push_str("</InvalidationSummary>");
        }
        out.push_str("</Items>");
    }
    out.push_str("</InvalidationList>");
    out
}

fn document(root: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"{NAMESPACE}\">")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cache::purge::Scope;

    fn batch(quantity: &str, paths: &[&str], reference: &str) -> String {
        let items: String = paths
            .iter()
            .map(|path| format!("<Path>{path}</Path>"))
            .collect();
        format!(
            "<InvalidationBatch xmlns=\"{NAMESPACE}\"><Paths><Quantity>{quantity}</Quantity><Items>{items}</Items></Paths>\
             <CallerReference>{reference}</CallerReference></InvalidationBatch>"
        )
    }

    #[test]
    fn a_batch_is_an_order() {
        let order = read_batch(batch("2", &["/a?x=1&amp;y=2", "/b/*"], "r").as_bytes()).unwrap();
        assert_eq!(order.reference.as_deref(), Some("r"));
        assert_eq!(order.given, ["/a?x=1&y=2", "/b/*"]);
        assert!(matches!(
            &*order.scopes,
            [Scope::Url { .. }, Scope::Path { .. }]
        ));
    }

    #[test]
    fn what_is_wrong_has_the_apis_name() {
        for (body, code) in [
            (String::new(), "MissingBody"),
            ("<a".to_owned(), "MalformedXML"),
            ("<a/>".to_owned(), "MalformedXML"),
            ("<InvalidationBatch/>".to_owned(), "InvalidArgument"),
            (batch("2", &["/a"], "r"), "InconsistentQuantities"),
            (batch("0", &[], "r"), "InvalidArgument"),
            (batch("x", &["/a"], "r"), "InvalidArgument"),
            (batch("1", &["a"], "r"), "InvalidArgument"),
            (batch("1", &["/%zz"], "r"), "InvalidArgument"),
            (batch("1", &["/a"], ""), "InvalidArgument"),
        ] {
            assert_eq!(
                read_batch(body.as_bytes()).unwrap_err().code,
                code,
                "{body}"
            );
        }
    }
}
