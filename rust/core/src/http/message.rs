//! Messages (RFC 9110 §6), of any version of HTTP.

use http::{Extensions, HeaderValue, Method, StatusCode, Version};

use super::{fields::Fields, path_and_query::PathAndQuery};
use crate::boxed;

/// The head of a request.
#[derive(Debug, Clone, Default)]
pub struct RequestParts {
    /// RFC 9110 §9.
    pub method: Method,
    /// Path and query of the target, or `*`.
    pub target: PathAndQuery,
    /// Of a target of absolute form.
    pub authority: Option<TargetAuthority>,
    /// Of the connection that it came on.
    pub version: Version,
    /// Its fields.
    pub headers: Fields,
}

/// The authority in a target of absolute form (RFC 9112 §3.2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetAuthority {
    /// Host and port.
    pub value: HeaderValue,
    /// The scheme before it is `https`, not `http`.
    pub is_https: bool,
}

/// A response with its content. It is passed on from room to room, so all of it is behind one pointer.
#[derive(Debug)]
pub struct Response<B>(Box<Parts<B>>);

#[derive(Debug)]
struct Parts<B> {
    status: StatusCode,
    headers: Fields,
    extensions: Extensions,
    body: B,
}

impl<B> Response<B> {
    /// A response with these parts.
    #[inline]
    pub fn new(status: StatusCode, headers: Fields, body: B) -> Self {
        Self(boxed!(Parts {
            status,
            headers,
            extensions: Extensions::new(),
            body,
        }))
    }

    /// RFC 9110 §15.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The same, to be changed.
    pub fn status_mut(&mut self) -> &mut StatusCode {
        &mut self.0.status
    }

    /// Its fields.
    pub fn headers(&self) -> &Fields {
        &self.0.headers
    }

    /// The same, to be changed.
    pub fn headers_mut(&mut self) -> &mut Fields {
        &mut self.0.headers
    }

    /// Its content.
    pub fn body(&self) -> &B {
        &self.0.body
    }

    /// The same, to be changed.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.0.body
    }

    /// Only its content.
    pub fn into_body(self) -> B {
        self.0.body
    }

    /// Notes of the edge about it.
    pub fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    /// The same, to be changed.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.0.extensions
    }

    /// The response with other content.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Response<C> {
        let Parts {
            status,
            headers,
            extensions,
            body,
        } = *self.0;
        Response(boxed!(Parts {
            status,
            headers,
            extensions,
            body: change(body),
        }))
    }
}
