//! The report on costs that `edgerouter cost watch` keeps in a file: the edge itself knows no prices.

use std::{fs::File, io::Read as _, path::Path, rc::Rc};

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
    let mut bytes = Vec::new();
    let whole = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    let message = match whole {
        Err(error) => format!(
            "the report cannot be read: {error}; is edgerouter cost watch --report running?"
        ),
        Ok(length) if length as u64 > MOST_BYTES => {
            format!("the report has more than {MOST_BYTES} bytes")
        }
        Ok(_) => match serde_json::from_slice::<Value>(&bytes) {
            Ok(report) if report.is_object() => return answer::json(StatusCode::OK, &report),
            _ => "the file is no report of edgerouter cost watch".to_owned(),
        },
    };
    answer::error(StatusCode::SERVICE_UNAVAILABLE, None, &message)
}
