//! Endpoints of deploys. Files are loaded by Python, to which orders go; a roll-back and a list need no Python.

use std::{rc::Rc, time::Duration};

use edgerouter_core::{
    http::FieldName,
    trial::{Share, TrialThresholds},
};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    answer::{self, Answer, wrong},
    call::{Call, Later, Room},
};
use crate::deploys::{NoDeploy, NotTaken};

/// Time for an order: as long as a connection may wait for its last answer, and less.
const PATIENCE: Duration = Duration::from_secs(80);

/// The members of an order for a deploy.
const MEMBERS: [&str; 6] = [
    "file",
    "percent",
    "cookie",
    "min_responses",
    "max_errors",
    "max_latency",
];

pub(super) fn list(room: &Room, _: &Call) -> Answer {
    answer::json(StatusCode::OK, &room.shared.deploys.shown())
}

pub(super) fn deploy(room: Rc<Room>, call: Call) -> Later {
    Box::pin(async move {
        let order = match named(&call, &MEMBERS).and_then(|given| checked(&given)) {
            Ok(order) => order,
            Err(refused) => return refused,
        };
        let author = call.author();
        placed(
            &room,
            json!({"do": "deploy", "author": author, "order": order}),
        )
        .await
    })
}

pub(super) fn promote(room: Rc<Room>, call: Call) -> Later {
    Box::pin(async move {
        match id(&call) {
            Ok(id) => placed(&room, json!({"do": "promote", "id": id})).await,
            Err(refused) => refused,
        }
    })
}

pub(super) fn roll_back(room: &Room, call: &Call) -> Answer {
    let reason = format!("ordered by {}", call.author());
    let ended = id(call).and_then(|id| room.shared.roll_back(id, &reason).map_err(none));
    ended.map_or_else(|refused| refused, |()| list(room, call))
}

pub(super) fn share(room: &Room, call: &Call) -> Answer {
    let shared = &room.shared;
    let set = named(call, &["id", "percent"]).and_then(|given| {
        let percent = given.get("percent").and_then(Value::as_f64);
        let set = shared
            .deploys
            .share(id_of(&given)?, percent.unwrap_or(0.0))
            .map_err(none)?;
        set.map_err(|()| no_percent())
    });
    match set {
        Err(refused) => refused,
        Ok(()) => {
            shared.next_epoch();
            list(room, call)
        }
    }
}

fn no_percent() -> Answer {
    wrong("percent", "must be a number from 0.01 to 100")
}

fn none(why: NoDeploy) -> Answer {
    answer::error(StatusCode::CONFLICT, Some("id"), &why.to_string())
}

/// The id of a deploy, if the body has one, and nothing else.
fn id(call: &Call) -> Result<Option<u64>, Answer> {
    id_of(&named(call, &["id"])?)
}

fn id_of(given: &Map<String, Value>) -> Result<Option<u64>, Answer> {
    match given.get("id") {
        None | Some(Value::Null) => Ok(None),
        Some(id) => {
            (id.as_u64().map(Some)).ok_or_else(|| wrong("id", "must be the number of a deploy"))
        }
    }
}

/// The members of the body, all of which are known; none without a body.
fn named(call: &Call, known: &[&str]) -> Result<Map<String, Value>, Answer> {
    if call.body.is_empty() {
        return Ok(Map::new());
    }
    let Value::Object(given) = call.json()? else {
        return Err(wrong("body", "must be a JSON object"));
    };
    if let Some(unknown) = given.keys().find(|name| !known.contains(&name.as_str())) {
        let message = format!("is unknown; there are {}", known.join(", "));
        return Err(wrong(unknown, &message));
    }
    Ok(given)
}

/// The order with every member, each of which is valid; the file is for Python.
fn checked(given: &Map<String, Value>) -> Result<Value, Answer> {
    if !given.get("file").is_some_and(Value::is_string) {
        return Err(wrong(
            "file",
            "must be the path of a file below the folder for deploys",
        ));
    }
    let percent = given.get("percent").and_then(Value::as_f64);
    if percent.is_none_or(|percent| Share::new("", percent, None).is_none()) {
        return Err(no_percent());
    }
    let cookie = given.get("cookie").filter(|cookie| !cookie.is_null());
    // Both are tokens (RFC 6265 §4.1.1, RFC 9110 §5.1).
    let is_name = |name: &str| FieldName::from_bytes(name.as_bytes()).is_ok();
    if cookie.is_some_and(|cookie| !cookie.as_str().is_some_and(is_name)) {
        return Err(wrong("cookie", "must be the name of a cookie"));
    }
    let thresholds = thresholds(given)?;
    Ok(json!({
        "file": given.get("file"),
        "percent": percent,
        "cookie": cookie,
        "min_responses": thresholds.min_responses,
        "max_errors": thresholds.max_errors,
        "max_latency": thresholds.max_latency.map(|micros| micros as f64 / 1e6),
    }))
}

/// The thresholds of an order.
fn thresholds(given: &Map<String, Value>) -> Result<TrialThresholds, Answer> {
    let present = |name: &str| given.get(name).filter(|value| !value.is_null());
    let responses = present("min_responses").map_or(Some(50), Value::as_u64);
    let Some(min_responses) = responses.filter(|count| (1..=1_000_000).contains(count)) else {
        return Err(wrong(
            "min_responses",
            "must be a whole number from 1 to 1000000",
        ));
    };
    let errors = present("max_errors").map_or(Some(5.0), Value::as_f64);
    let Some(max_errors) = errors.filter(|percent| (0.0..=100.0).contains(percent)) else {
        return Err(wrong("max_errors", "must be a percentage from 0 to 100"));
    };
    let max_latency = match present("max_latency") {
        None => None,
        Some(seconds) => match seconds
            .as_f64()
            .filter(|s| (0.000_001..=3_600.0).contains(s))
        {
            Some(seconds) => Some((seconds * 1e6) as u64),
            None => return Err(wrong("max_latency", "must be seconds, up to 3600")),
        },
    };
    Ok(TrialThresholds {
        min_responses,
        max_errors,
        max_latency,
    })
}

/// Has Python carry out an order.
async fn placed(room: &Room, order: Value) -> Answer {
    let waiting = match room.shared.deploys.orders.place(order.to_string()) {
        Ok(waiting) => waiting,
        Err(NotTaken::Off) => {
            let message = "this edge takes no deploys: start it with --deploy-folder";
            return answer::error(StatusCode::CONFLICT, None, message);
        }
        Err(NotTaken::Busy) => {
            let message = "other orders are carried out; try again later";
            return answer::error(StatusCode::TOO_MANY_REQUESTS, None, message);
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(Ok((status, body))) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            answer::of(status, "application/json", body)
        }
        Ok(Err(_)) => {
            let message = "the order was not carried out: the edge stops";
            answer::error(StatusCode::SERVICE_UNAVAILABLE, None, message)
        }
        Err(_) => {
            let message = "the order takes longer; see the list of deploys";
            answer::error(StatusCode::GATEWAY_TIMEOUT, None, message)
        }
    }
}
