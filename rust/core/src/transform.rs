//! Transforms of content by hooks of the response phases: the responses whose content may be transformed.
//!
//! A client's `Cache-Control: no-transform` (RFC 9111 §5.2.1.6) is not read: it would have the untransformed content
//! stored for all clients, and the hook is the site's own, not that of a proxy between the site and the client.

use http::{HeaderValue, Method, StatusCode};

use crate::{
    compression::no_transform,
    finish,
    http::{Fields, header},
    outcome::words,
};

words! {
    /// Why the content of a response passes a transform as it is.
    pub enum Untransformed {
        /// HEAD: the head is that of the transformed content.
        Head = "head",
        /// 204, 205 and 304 have no content.
        NoContent = "no-content",
        /// A part alone has no beginning that a transform could start with.
        Part = "part",
        /// The response has `no-transform` (RFC 9111 §5.2.2.6).
        NoTransform = "no-transform",
        /// It came in a coding although none was requested.
        Coded = "coded",
    }
}

/// Decides whether the content of a response may be transformed.
pub fn may(method: &Method, status: StatusCode, response: &Fields) -> Result<(), Untransformed> {
    if !finish::may_have_content(status) {
        return Err(Untransformed::NoContent);
    }
    if status == StatusCode::PARTIAL_CONTENT || status == StatusCode::RANGE_NOT_SATISFIABLE {
        return Err(Untransformed::Part);
    }
    if no_transform(response) {
        return Err(Untransformed::NoTransform);
    }
    let mut codings = response.get_all(header::CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Untransformed::Coded);
    }
    if *method == Method::HEAD {
        return Err(Untransformed::Head);
    }
    Ok(())
}

/// Fits a request to a route whose content a hook transforms: for the whole content, without a coding. The validators
/// that the client has are those of other content.
pub fn requested(method: &Method, request: &mut Fields) {
    request.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    unconditional(method, request);
}

/// Removes the fields of a request to which a part or a 304 would answer. Preconditions of writes stay.
pub fn unconditional(method: &Method, request: &mut Fields) {
    without_range(request);
    if matches!(*method, Method::GET | Method::HEAD) {
        request.remove(header::IF_NONE_MATCH);
        request.remove(header::IF_MODIFIED_SINCE);
    }
}

/// Has a request answered by the whole.
pub fn without_range(request: &mut Fields) {
    request.remove(header::RANGE);
    request.remove(header::IF_RANGE);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whole_content_without_a_coding_may_be_transformed() {
        const PLAIN: &[(&str, &str)] = &[("content-type", "text/html")];
        const FORBIDDEN: &[(&str, &str)] = &[("cache-control", "public, No-Transform")];
        const IDENTITY: &[(&str, &str)] = &[("content-encoding", "Identity")];
        const CODED: &[(&str, &str)] =
            &[("content-encoding", "identity"), ("content-encoding", "br")];
        for (method, status, lines, want) in [
            (Method::GET, 200, PLAIN, Ok(())),
            (Method::POST, 404, PLAIN, Ok(())),
            (Method::GET, 200, IDENTITY, Ok(())),
            (Method::GET, 204, PLAIN, Err(Untransformed::NoContent)),
            (Method::GET, 304, PLAIN, Err(Untransformed::NoContent)),
            (Method::GET, 206, PLAIN, Err(Untransformed::Part)),
            (Method::GET, 416, PLAIN, Err(Untransformed::Part)),
            (Method::GET, 200, FORBIDDEN, Err(Untransformed::NoTransform)),
            (Method::GET, 200, CODED, Err(Untransformed::Coded)),
            (Method::HEAD, 200, PLAIN, Err(Untransformed::Head)),
            // The head is that of the content as it is sent to GET.
            (Method::HEAD, 200, CODED, Err(Untransformed::Coded)),
        ] {
            let mut fields = Fields::new();
            for (name, value) in lines {
                fields.append(*name, http::HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                may(&method, status, &fields),
                want,
                "{method} {status} {lines:?}"
            );
        }
    }
}
