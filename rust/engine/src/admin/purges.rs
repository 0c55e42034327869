//! Purges: order, list, follow.

use http::StatusCode;

use super::{
    answer::{self, Answer},
    endpoints::{Call, Room},
};
use crate::purge::{Refused, orders};

pub fn order(room: &Room, call: &Call) -> Answer {
    let order = match call.json() {
        Ok(order) => order,
        Err(refused) => return refused,
    };
    match orders::place(&room.shared, &order) {
        Ok(placed) => {
            let status = match placed.get("new").and_then(serde_json::Value::as_bool) {
                Some(true) => StatusCode::CREATED,
                _ => StatusCode::OK,
            };
            answer::json(status, &placed)
        }
        Err(refused) => {
            let (status, field, message) = match refused {
                Refused::Mistake(mistake) => {
                    (StatusCode::BAD_REQUEST, mistake.field, mistake.message)
                }
                Refused::ReferenceTaken(..) => (
                    StatusCode::CONFLICT,
                    "reference".to_owned(),
                    refused.to_string(),
                ),
                Refused::TooMany(_) => (
                    StatusCode::TOO_MANY_REQUESTS,
                    "urls".to_owned(),
                    refused.to_string(),
                ),
            };
            answer::error(status, Some(&field), &message)
        }
    }
}

pub fn list(room: &Room, _call: &Call) -> Answer {
    answer::json(StatusCode::OK, &orders::list(&room.shared))
}

pub fn one(room: &Room, call: &Call) -> Answer {
    match room.shared.purges.find(call.parameter("id")) {
        Some(purge) => answer::json(StatusCode::OK, &purge.to_json()),
        None => answer::error(
            StatusCode::NOT_FOUND,
            Some("id"),
            "no purge of this id is remembered; GET /v1/purges lists those that are",
        ),
    }
}
