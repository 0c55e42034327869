//! Endpoints of purges: order, list, follow.

use std::{rc::Rc, sync::Arc};

use http::StatusCode;
use serde_json::Value;

use super::{
    answer::{self, Answer},
    call::{Call, Later, Room},
};
use crate::{
    purge::{Denied, orders},
    worker::Shared,
};

/// The largest `limit` of a list, which has all purges that are remembered without one.
const MOST_LISTED: usize = 1_000_000;

pub(super) fn order(room: Rc<Room>, call: Call) -> Later {
    Box::pin(async move {
        let order = match call.json() {
            Ok(order) => order,
            Err(refused) => return refused,
        };
        let shared = Arc::clone(&room.shared);
        if order.get("dry_run") == Some(&Value::Bool(true)) {
            // One walk at a time: several would not be faster, and other work needs the threads.
            let _turn = room.walks.acquire().await;
            room.aside(move || placed(place(&shared, &order))).await
        } else {
            room.aside(move || placed(place(&shared, &order))).await
        }
    })
}

fn place(shared: &Shared, order: &Value) -> Result<Value, Denied> {
    let live = shared.live.load_full();
    shared.cache.purge(&live.plan, order)
}

fn placed(placed: Result<Value, Denied>) -> Answer {
    match placed {
        Ok(placed) => {
            let status = match placed.get("new").and_then(Value::as_bool) {
                Some(true) => StatusCode::CREATED,
                _ => StatusCode::OK,
            };
            answer::json(status, &placed)
        }
        Err(refused) => {
            let text = refused.to_string();
            let (status, field, message) = match refused {
                Denied::Mistake(mistake) => {
                    (StatusCode::BAD_REQUEST, mistake.field, mistake.message)
                }
                Denied::ReferenceTaken(..) => (StatusCode::CONFLICT, "reference".to_owned(), text),
                Denied::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "urls".to_owned(), text),
            };
            answer::error(status, Some(&field), &message)
        }
    }
}

pub(super) fn list(room: Rc<Room>, call: Call) -> Later {
    Box::pin(async move {
        let most = match call.limit(MOST_LISTED) {
            Ok(limit) => limit.unwrap_or(usize::MAX),
            Err(refused) => return refused,
        };
        let shared = Arc::clone(&room.shared);
        room.aside(move || answer::json(StatusCode::OK, &orders::list(&shared.cache.purges, most)))
            .await
    })
}

pub(super) fn one(room: &Room, call: &Call) -> Answer {
    match room.shared.cache.purges.find(call.parameter("id")) {
        Some(purge) => answer::json(StatusCode::OK, &purge.to_json()),
        None => answer::error(
            StatusCode::NOT_FOUND,
            Some("id"),
            "no purge of this id is remembered; GET /v1/purges lists those that are",
        ),
    }
}
