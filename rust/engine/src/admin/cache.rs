//! The content of the store: `/v1/cache/stats`, `/v1/cache/entries`, `/v1/cache/entry`.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use edgerouter_core::{
    explain::ExplainRequest,
    geo::PlaceSource,
    http::uri::{decode, query_pairs},
};
use http::StatusCode;
use serde_json::json;

use super::{
    answer::{self, Answer, wrong},
    call::{Call, Later, Room},
};
use crate::inspect::{self, Cursor, Filter};

const LIMIT: usize = 100;
const MOST: usize = 1_000;

pub(super) fn stats(room: Rc<Room>, _call: Call) -> Later {
    Box::pin(async move {
        answer::json(
            StatusCode::OK,
            &inspect::stats(&room.shared.cache, room.shared.unix_now()).await,
        )
    })
}

pub(super) fn entries(room: Rc<Room>, call: Call) -> Later {
    Box::pin(async move {
        match listed(&call) {
            Err(refused) => refused,
            Ok((filter, limit, cursor)) => {
                let now = room.shared.unix_now();
                let (entries, rest) =
                    inspect::list(&room.shared.cache, &filter, limit, cursor, now).await;
                let next = rest.map(|cursor| cursor.to_string());
                answer::json(StatusCode::OK, &json!({"entries": entries, "next": next}))
            }
        }
    })
}

fn listed(call: &Call) -> Result<(Filter, usize, Cursor), Answer> {
    let prefix = call.query("prefix");
    if prefix
        .as_ref()
        .is_some_and(|prefix| !prefix.starts_with('/'))
    {
        return Err(wrong("prefix", "is of a path, so it must start with /"));
    }
    let limit = call.limit(MOST)?.unwrap_or(LIMIT);
    let cursor = match call.query("cursor") {
        None => Cursor::default(),
        Some(text) => text
            .parse()
            .map_err(|()| wrong("cursor", "must be the \"next\" of an answer"))?,
    };
    let filter = Filter {
        host: call.choice("host")?.map(|host| host.to_ascii_lowercase()),
        prefix,
        tag: call.choice("tag")?,
        key: None,
    };
    Ok((filter, limit, cursor))
}

pub(super) fn entry(room: Rc<Room>, call: Call) -> Later {
    Box::pin(async move {
        match explained(&call) {
            Err(refused) => refused,
            Ok(mut request) => {
                let live = room.shared.live.load_full();
                request.places = live.geo.clone().map(|files| files as Arc<dyn PlaceSource>);
                request.readings = live.readings.current();
                let now = room.shared.unix_now();
                let found = inspect::find(&room.shared.cache, &live.plan, &request, now).await;
                answer::json(StatusCode::OK, &found)
            }
        }
    })
}

fn explained(call: &Call) -> Result<ExplainRequest, Answer> {
    let url = call.query("url").ok_or_else(|| {
        wrong(
            "url",
            "is missing: the URL to look for, as in ?url=https://www.example.com/a",
        )
    })?;
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(wrong(
            "url",
            "must be absolute, as in https://www.example.com/a",
        ));
    }
    let client = match call.query("client") {
        None => IpAddr::from([127, 0, 0, 1]),
        Some(text) => text
            .parse()
            .map_err(|_| wrong("client", &format!("{text:?} is no IP address")))?,
    };
    let lines: Vec<String> = query_pairs(&call.query)
        .filter(|(name, _)| *name == "header")
        .map(|(_, value)| decode(value).into_owned())
        .collect();
    Ok(ExplainRequest {
        method: "GET".to_owned(),
        url,
        headers: inspect::fields(&lines).map_err(|message| wrong("header", &message))?,
        client,
        scheme: None,
        places: None,
        readings: Default::default(),
        response: None,
    })
}
