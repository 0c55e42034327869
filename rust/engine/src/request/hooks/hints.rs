//! Early hints of functions (RFC 8297): a 103 ahead of their response, as an origin may send it.

use std::rc::Rc;

use edgerouter_core::{http::Fields, plan::Route};
use http::StatusCode;

use crate::{request::origin_request::InterimReceiver, worker::Worker};

/// Sends early hints to the client of a request, without the fields that its route removes from responses. They are
/// dropped where there is none, as with a refresh behind a stale response.
pub(super) fn hints_to<'r>(
    client: Option<&'r InterimReceiver>,
    worker: &'r Rc<Worker>,
    route: &'r Route,
) -> impl Fn(&Fields) + use<'r> {
    move |fields| {
        let sent = client.is_some_and(|client| {
            let mut fields = fields.clone();
            for name in &route.response_headers.remove {
                fields.remove(name);
            }
            let status = StatusCode::EARLY_HINTS;
            !fields.is_empty() && client.stream.send_interim(client.ticket, status, &fields)
        });
        worker.metrics.interim(sent);
    }
}
