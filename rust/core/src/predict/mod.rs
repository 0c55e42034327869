//! Prediction of a visitor's next page, learnt from the order in which visitors request pages.
//!
//! `model` counts which page follows which (a Markov chain of the first order), `budget` bounds the cost of prediction,
//! `ledger` measures its success. Visitors and pages are numbers: no identity is known here. Every structure has a
//! bound; times are Unix seconds given by the caller.

mod budget;
mod generations;
mod ledger;
mod model;

use crate::http::{Fields, Known, header};
use http::{Method, StatusCode};

pub use budget::MinuteBudget;
pub use generations::Generations;
pub use ledger::Ledger;
pub use model::{Likely, Model, ModelBounds};

const PURPOSES: [Known; 3] = [header::SEC_PURPOSE, header::PURPOSE, header::X_MOZ];

/// True if a request is a navigation: a page's resources, or a browser's own speculation, predict nothing about the
/// next page.
pub fn is_navigation(
    method: &Method,
    request: &Fields,
    status: StatusCode,
    response: &Fields,
) -> bool {
    if method != Method::GET || status != StatusCode::OK {
        return false;
    }
    let has = |headers: &Fields, name: Known, text: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.to_ascii_lowercase().contains(text))
    };
    if PURPOSES.iter().any(|name| has(request, *name, "prefetch")) {
        return false;
    }
    let wanted = match request.get(header::SEC_FETCH_MODE) {
        Some(mode) => {
            mode == "navigate"
                && request
                    .get(header::SEC_FETCH_DEST)
                    .is_none_or(|dest| dest == "document")
        }
        None => has(request, header::ACCEPT, "text/html"),
    };
    wanted
        && (has(response, header::CONTENT_TYPE, "text/html")
            || has(response, header::CONTENT_TYPE, "application/xhtml+xml"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::http::FieldName;

    fn fields(lines: &[(&'static str, &'static str)]) -> Fields {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    FieldName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn only_going_to_a_page_is_a_navigation() {
        let html = [("content-type", "text/html; charset=utf-8")];
        let browser = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        for (request, response, status, want) in [
            (vec![browser], html, 200, true),
            (vec![("accept", "*/*")], html, 200, false),
            (vec![], html, 200, false),
            (
                vec![
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                html,
                200,
                true,
            ),
            (
                vec![
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "iframe"),
                    browser,
                ],
                html,
                200,
                false,
            ),
            (vec![("sec-fetch-mode", "cors"), browser], html, 200, false),
            (
                vec![browser, ("sec-purpose", "prefetch;prerender")],
                html,
                200,
                false,
            ),
            (vec![browser, ("purpose", "prefetch")], html, 200, false),
            (vec![browser], html, 404, false),
            (
                vec![browser],
                [("content-type", "application/json")],
                200,
                false,
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            let (request, response) = (fields(&request), fields(&response));
            assert_eq!(
                is_navigation(&Method::GET, &request, status, &response),
                want,
                "{request:?} {status}"
            );
            assert!(!is_navigation(&Method::POST, &request, status, &response));
        }
    }
}
