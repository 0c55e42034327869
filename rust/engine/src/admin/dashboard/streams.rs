//! Server-sent events: the numbers and events of the edge, and requests as they are answered.
//!
//! A stream has a bounded queue. A reader that takes nothing for a while loses its stream, and a browser opens it
//! again.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgerouter_core::outcome::Outcome;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_local,
};

use super::super::{
    answer::{self, Answer, wrong},
    call::{Call, Later, Room},
};
use crate::{
    observed::{MOST_TAILS, TailFilter, TailReader},
    telemetry::log::recent,
};

/// Pages that are open at a time.
pub(crate) const MOST_LIVE: usize = 8;
/// Events that wait for a reader, and the time for which they do.
const QUEUE: usize = 4;
const PATIENCE: Duration = Duration::from_secs(10);
/// A stream ends after this time: the browser opens it again, with its login as it is then.
const LONGEST: Duration = Duration::from_secs(600);
/// Time between two looks at a tail.
const LOOK: Duration = Duration::from_millis(250);

/// One event of a stream.
pub(super) fn event(name: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

/// The events of log and timeline after a number.
pub(super) fn events_since(number: u64) -> Vec<Value> {
    let events = recent::since(number);
    let shown = events.iter().map(|event| {
        let fields = event.fields.iter();
        let fields = fields.map(|(name, value)| (name.to_string(), json!(value)));
        json!({
            "number": event.number,
            "id": event.id,
            "at": event.at,
            "level": event.level,
            "part": event.part,
            "message": event.message,
            "fields": fields.collect::<serde_json::Map<_, _>>(),
            "count": event.count,
        })
    });
    shown.collect()
}

/// A permit for a page; one for each of the streams that it opens.
pub(crate) fn permits() -> std::sync::Arc<Semaphore> {
    std::sync::Arc::new(Semaphore::new(MOST_LIVE))
}

fn too_many(most: usize) -> Answer {
    let message = format!("{most} streams are open already; close one");
    answer::error(StatusCode::SERVICE_UNAVAILABLE, None, &message)
}

async fn send(sender: &mpsc::Sender<Bytes>, event: Bytes) -> Result<(), ()> {
    sender.send_timeout(event, PATIENCE).await.map_err(|_| ())
}

/// `/v1/live`: the history, and then metrics, samples and events as they come.
pub(crate) fn live(room: Rc<Room>, call: Call) -> Later {
    Box::pin(async move {
        let after = match call.after() {
            Ok(after) => after,
            Err(refused) => return refused,
        };
        let Ok(permit) = std::sync::Arc::clone(&room.pages).try_acquire_owned() else {
            return too_many(MOST_LIVE);
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        spawn_local(async move {
            let _ = numbers(&room, &sender, permit, after).await;
        });
        answer::events(receiver)
    })
}

async fn numbers(
    room: &Room,
    sender: &mpsc::Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
    mut at: u64,
) -> Result<(), ()> {
    let until = Instant::now() + LONGEST;
    let mut metrics = room.pulse.subscribe();
    let mut number = 0;
    let first = event("metrics", &Value::String(room.shared.metrics(false)));
    send(sender, first).await?;
    while Instant::now() < until {
        let samples = room.pulse.since(at);
        if !samples.is_empty() {
            at = room.pulse.newest();
            send(sender, event("samples", &Value::Array(samples))).await?;
        }
        let events = events_since(number);
        if let Some(last) = events.last() {
            number = last.get("number").and_then(Value::as_u64).unwrap_or(number);
            send(sender, event("events", &Value::Array(events))).await?;
        }
        tokio::select! {
            changed = metrics.changed() => changed.map_err(|_| ())?,
            () = sender.closed() => return Err(()),
        }
        let text = metrics.borrow_and_update().clone();
        send(sender, text).await?;
    }
    Ok(())
}

/// `/v1/requests`: requests that meet a filter, a few times a second.
pub(crate) fn requests(room: Rc<Room>, call: Call) -> Later {
    Box::pin(async move {
        let filter = match filter(&call) {
            Ok(filter) => filter,
            Err(refused) => return refused,
        };
        let Some(reader) = room.shared.tails.open(filter, &room.shared.epoch) else {
            return too_many(MOST_TAILS);
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        spawn_local(async move {
            let _ = tail(&sender, reader).await;
        });
        answer::events(receiver)
    })
}

async fn tail(sender: &mpsc::Sender<Bytes>, mut reader: TailReader) -> Result<(), ()> {
    let until = Instant::now() + LONGEST;
    let mut looks = tokio::time::interval(LOOK);
    let mut silent = 0;
    // The reader knows that the stream is open.
    send(sender, Bytes::from_static(b": open\n\n")).await?;
    while Instant::now() < until {
        tokio::select! {
            _ = looks.tick() => {}
            () = sender.closed() => return Err(()),
        }
        let (lines, lost) = (reader.read(), reader.lost());
        if lines.is_empty() && lost == 0 {
            silent += 1;
            if silent % 40 == 0 {
                send(sender, Bytes::from_static(b": nothing\n\n")).await?;
            }
            continue;
        }
        let mut text = b"event: requests\ndata: {\"lost\":".to_vec();
        text.extend_from_slice(lost.to_string().as_bytes());
        text.extend_from_slice(b",\"requests\":[");
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            // A line of the access log in JSON has no line break but its last byte.
            text.extend_from_slice(line.trim_ascii_end());
        }
        text.extend_from_slice(b"]}\n\n");
        send(sender, Bytes::from(text)).await?;
    }
    Ok(())
}

fn filter(call: &Call) -> Result<TailFilter, Answer> {
    let given = |name: &str| call.query(name).filter(|text| !text.is_empty());
    let status = match given("status") {
        None => None,
        Some(text) => Some(statuses(&text).ok_or_else(|| {
            wrong(
                "status",
                "must be a status such as 404, or a class such as 5xx",
            )
        })?),
    };
    let slow = match given("slow") {
        None => 0,
        Some(text) => text
            .parse::<f64>()
            .ok()
            .filter(|seconds| (0.0..=3_600.0).contains(seconds))
            .map(|seconds| (seconds * 1e6) as u64)
            .ok_or_else(|| wrong("slow", "must be seconds from 0 to 3600"))?,
    };
    let cache = given("cache");
    let is_word = |word: &String| Outcome::ALL.iter().any(|known| known.as_str() == word);
    if !cache.as_ref().is_none_or(is_word) {
        let words = Outcome::ALL.map(Outcome::as_str).join(", ");
        return Err(wrong("cache", &format!("must be one of {words}")));
    }
    Ok(TailFilter {
        route: given("route"),
        host: given("host"),
        method: given("method"),
        path: given("path"),
        status,
        cache,
        reason: given("reason"),
        slow,
    })
}

fn statuses(text: &str) -> Option<(u16, u16)> {
    match text.strip_suffix("xx") {
        Some(class) => {
            let class: u16 = class.parse().ok()?;
            (1..=5)
                .contains(&class)
                .then(|| (class * 100, class * 100 + 99))
        }
        None => {
            let status: u16 = text.parse().ok()?;
            (100..=599).contains(&status).then_some((status, status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_or_a_class() {
        for (text, want) in [
            ("404", Some((404, 404))),
            ("5xx", Some((500, 599))),
            ("6xx", None),
            ("99", None),
            ("xx", None),
            ("4XX", None),
        ] {
            assert_eq!(statuses(text), want, "{text}");
        }
    }
}
