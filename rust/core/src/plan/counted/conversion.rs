//! `EXPERIMENT.conversion`: the request that counts as a conversion, such as `POST /checkout*`.

use http::{Method, StatusCode};

use crate::plan::matcher::PathPattern;

/// The goal that a request of [`Conversion`] reaches; others have the names that callables give them.
pub const REQUEST: &str = "request";

/// A request that counts as a conversion if its response is not an error.
#[derive(Debug)]
pub struct Conversion {
    /// `None`: any.
    method: Option<Method>,
    path: PathPattern,
}

impl Conversion {
    /// Reads a path with wildcards, or a method and a path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (method, path) = match text.split_once(' ') {
            Some((method, path)) => (Some(method), path.trim_start()),
            None => (None, text),
        };
        let known = |method: &str| {
            let is_word = method.bytes().all(|byte| byte.is_ascii_uppercase());
            Method::from_bytes(method.as_bytes())
                .ok()
                .filter(|_| is_word)
        };
        let method = method
            .map(|method| {
                known(method).ok_or("must be a path with *, or METHOD PATH such as POST /checkout")
            })
            .transpose()?;
        let path = PathPattern::parse(path).map_err(|error| error.to_string())?;
        Ok(Self { method, path })
    }

    pub(super) fn path(&self) -> &PathPattern {
        &self.path
    }

    /// True if the request converts. `path`: normalised, as the client requested it.
    pub fn takes(&self, method: &str, path: &str, status: StatusCode) -> bool {
        status.as_u16() < 400
            && self.method.as_ref().is_none_or(|wanted| *wanted == *method)
            && self.path.matches(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_converts_by_method_path_and_status() {
        for (text, method, path, status, want) in [
            ("/thanks", Method::GET, "/thanks", 200, true),
            ("/thanks", Method::POST, "/thanks", 302, true),
            ("/thanks", Method::GET, "/thanks/", 200, false),
            ("/thanks", Method::GET, "/thanks", 404, false),
            ("POST /checkout*", Method::POST, "/checkout/7", 303, true),
            ("POST /checkout*", Method::GET, "/checkout/7", 200, false),
            ("POST /checkout*", Method::POST, "/checkout", 500, false),
        ] {
            let conversion = Conversion::parse(text).map(|read| {
                let status = StatusCode::from_u16(status).unwrap_or_default();
                read.takes(method.as_str(), path, status)
            });
            assert_eq!(conversion, Ok(want), "{text}: {method} {path} {status}");
        }
    }

    #[test]
    fn others_are_refused() {
        for text in [
            "",
            "checkout",
            "POST",
            "post /a",
            "POST checkout",
            "GET POST /a",
            " /a",
        ] {
            assert!(Conversion::parse(text).is_err(), "{text}");
        }
    }
}
