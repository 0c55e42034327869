//! Early hints of functions (RFC 8297): a 103 ahead of their response, as an origin may send it.

use std::rc::Rc;

use edgerouter_core::{http::Fields, plan::Route};
use http::StatusCode;

use crate::{request::origin_request::InterimReceiver, worker::Worker};

/// Sends early hints to the client of a request. They are dropped where there is none, as with a refresh behind a stale
/// response.
pub(super) fn hints_to<'r>(
    client: Option<&'r InterimReceiver>,
    worker: &'r Rc<Worker>,
    route: &'r Route,
) -> impl Fn(&Fields) + use<'r> {
    move |fields| match client {
        Some(client) => {
            client.send(worker, Some(route), StatusCode::EARLY_HINTS, fields.clone());
        }
        None => worker.metrics.interim(false),
    }
}
