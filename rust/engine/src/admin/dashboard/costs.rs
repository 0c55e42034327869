//! The report on costs that `edgerouter cost watch` keeps in a file: the edge itself knows no prices.

use std::{io, path::Path, rc::Rc};

use edgerouter_telemetry::{regular, system_error::in_words};
use http::StatusCode;
use serde_json::Value;

use super::super::{
    answer::{self, Answer},
    call::{Call, Later, Room},
};

/// Bytes of the largest report.
const MOST_BYTES: u64 = 1 << 20;

pub(crate) fn report(room: Rc<Room>, _call: Call) -> Later {
    Box::pin(async move {
        let Some(path) = room.cost_report.clone() else {
            let message = "there is no report; start the edge with --cost-report FILE, and edgerouter cost watch with --report FILE";
            return answer::error(StatusCode::NOT_FOUND, None, message);
        };
        room.aside(move || read(&path)).await
    })
}

fn read(path: &Path) -> Answer {
    let message = match regular::read(path, MOST_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            format!("the report has more than {MOST_BYTES} bytes")
        }
        Err(error) => format!(
            "the report cannot be read: {}; is edgerouter cost watch --report running?",
            in_words(&error)
        ),
        Ok(bytes) => match serde_json::from_slice::<Value>(&bytes) {
            Ok(report) if report.is_object() => return answer::json(StatusCode::OK, &report),
            _ => "the file is no report of edgerouter cost watch".to_owned(),
        },
    };
    answer::error(StatusCode::SERVICE_UNAVAILABLE, None, &message)
}
