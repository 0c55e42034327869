//! `SERVICE_WORKER`, `PREFETCH` and `PREDICT`: responses that are fetched before a visitor requests them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    PrefetchSpec, RouteSpec,
    headers::header_map,
    reader::{Fields, Problems},
    route,
};
use crate::{
    plan::{Predict, Scheme},
    service_worker::ServiceWorker,
};

/// Bound on the paths that a service worker precaches: each is a request of every visitor.
const MOST_PRECACHED: usize = 1_000;

pub(super) fn service_worker(
    value: &Value,
    path: String,
    problems: &Problems,
) -> Option<ServiceWorker> {
    let mut fields = Fields::open(value, path, problems)?;
    let own = fields.required_text("path")?.to_owned();
    let host = fields.text("host").map(str::to_owned);
    let scope = fields.text("scope").unwrap_or("/").to_owned();
    let paths = |fields: &mut Fields<'_>, name| {
        let texts = fields.texts(name);
        let mut read = Vec::with_capacity(texts.len());
        for (place, text) in texts {
            if is_local(text) {
                read.push(text.to_owned());
            } else {
                problems.add(place, Some(format!("{text:?}")), LOCAL);
            }
        }
        read
    };
    let precache = paths(&mut fields, "precache");
    let api = paths(&mut fields, "api");
    let offline = fields.text("offline").map(str::to_owned);
    for (name, text) in [
        ("path", Some(&own)),
        ("scope", Some(&scope)),
        ("offline", offline.as_ref()),
    ] {
        if let Some(text) = text.filter(|text| !is_local(text)) {
            problems.add(fields.at(name), Some(format!("{text:?}")), LOCAL);
        }
    }
    if own.contains(['*', '?', '{', '}']) {
        problems.add(
            fields.at("path"),
            Some(format!("{own:?}")),
            "must be one path, without wildcards, parameters and query",
        );
    }
    if precache.len() > MOST_PRECACHED {
        problems.add(
            fields.at("precache"),
            Some(precache.len().to_string()),
            format!(
                "must have at most {MOST_PRECACHED} paths: every visitor's browser fetches all"
            ),
        );
    }
    let authorized = fields.flag("authorized", false);
    let entries = fields.whole("entries", 100, 0, 10_000);
    fields.end();
    Some(ServiceWorker {
        path: own,
        host,
        scope,
        precache,
        offline,
        api,
        authorized,
        entries,
    })
}

const LOCAL: &str = "must be a path of this site: it starts with one \"/\" and has no spaces";

fn is_local(text: &str) -> bool {
    text.starts_with('/')
        && !text.starts_with("//")
        && !text.contains(['#', '\\'])
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The route that serves the script of a worker to a site with these routes.
pub(super) fn route(
    worker: &ServiceWorker,
    name: &str,
    routes: &[RouteSpec],
    problems: &Problems,
) -> Option<RouteSpec> {
    // `Debug` of the routes contains no secrets.
    let (script, version) = worker.script(name, &format!("{routes:?}"));
    let fields: serde_json::Map<String, Value> = worker
        .fields(&version)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let route = json!({
        "pattern": worker.path,
        "host": worker.host,
        "methods": ["GET", "HEAD"],
        "respond": {"status": 200, "headers": fields, "body": script},
    });
    route::route(&route, format!("routes[{}]", routes.len()), name, problems)
}

/// Least interval between rounds of a prefetch list.
const LEAST_EVERY: Duration = Duration::from_millis(100);

pub(super) fn prefetch(value: &Value, path: String, problems: &Problems) -> Option<PrefetchSpec> {
    let mut fields = Fields::open(value, path, problems)?;
    let urls = fields
        .texts("urls")
        .into_iter()
        .map(|(path, url)| (path, url.to_owned()))
        .collect();
    let every = fields.maybe_timeout("every");
    if let Some(every) = every.filter(|every| *every < LEAST_EVERY) {
        problems.add(
            fields.at("every"),
            Some(every.as_secs_f64().to_string()),
            "must be ≥ 0.1 seconds",
        );
    }
    let on_start = fields.flag("on_start", true);
    let host = fields.text("host").map(str::to_owned);
    let schemes = [("http", Scheme::Http), ("https", Scheme::Https)];
    let scheme = fields.choice("scheme", &schemes, Scheme::Https);
    let headers = header_map(&mut fields, "headers");
    fields.end();
    Some(PrefetchSpec {
        urls,
        every,
        on_start,
        host,
        scheme,
        headers,
    })
}

pub(super) fn predict(value: &Value, path: String, problems: &Problems) -> Option<Predict> {
    let mut fields = Fields::open(value, path, problems)?;
    let confidence = fields.number("confidence", 0.5, 0.0, 1.0);
    let support = fields.whole("support", 3, 1, 1_000);
    let pages = fields.whole("pages", 2, 1, 10);
    let requests = fields.whole("requests_per_minute", 60, 0, 1_000_000);
    let bytes_per_minute = fields.whole("bytes_per_minute", 10 << 20, 0, 1 << 50);
    let sample = fields.number("sample", 1.0, 0.0, 1.0);
    fields.end();
    Some(Predict {
        confidence,
        support: u32::try_from(support).ok()?,
        pages: usize::try_from(pages).ok()?,
        requests_per_minute: u32::try_from(requests).ok()?,
        bytes_per_minute,
        sample,
    })
}
