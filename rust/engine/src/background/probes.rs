//! Active probes: a GET of the origin's health path at intervals. An origin without a health check is tried once, by a
//! connection, so that the log names it if it is down at the start.

use std::{rc::Rc, sync::Arc};

use edgerouter_core::{
    forward,
    http::{Fields, PathAndQuery, header},
    plan::{HealthCheck, Origin},
};
use http::{HeaderValue, StatusCode};
use tokio::task::JoinSet;

use crate::{
    live::Live,
    upstream::{HealthBoard, Upstreams},
};

/// Probes every origin of a plan until it is dropped.
pub(super) async fn run(upstreams: Rc<Upstreams>, live: Arc<Live>, board: Arc<HealthBoard>) {
    let mut probes = JoinSet::new();
    for index in 0..live.plan.origins.len() {
        let (upstreams, live, board) =
            (Rc::clone(&upstreams), Arc::clone(&live), Arc::clone(&board));
        probes.spawn_local(async move {
            let Some(origin) = live.plan.origins.get(index) else {
                return;
            };
            match &origin.health {
                None => {
                    if let Err(why) = upstreams.reach(origin).await {
                        tracing::warn!(origin = %origin.name, %why, "origin is down; requests to it fail until it is up");
                        board.note_failure(origin);
                    }
                }
                Some(health) => keep_probing(&upstreams, origin, health, &board).await,
            }
        });
    }
    while probes.join_next().await.is_some() {}
}

async fn keep_probing(
    upstreams: &Upstreams,
    origin: &Origin,
    health: &HealthCheck,
    board: &HealthBoard,
) {
    let mut ticks = tokio::time::interval(health.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_good = true;
    loop {
        ticks.tick().await;
        let outcome =
            tokio::time::timeout(health.timeout, probe(upstreams, origin, &health.path)).await;
        let answered = matches!(outcome, Ok(Ok(_)));
        let (good, why) = match outcome {
            Ok(Ok(status)) if health.status.is_empty() => {
                (status.is_success(), format!("it answered {status}"))
            }
            Ok(Ok(status)) => (
                health.status.contains(&status),
                format!("it answered {status}"),
            ),
            Ok(Err(why)) => (false, why),
            Err(_) => (false, format!("no answer within {:?}", health.timeout)),
        };
        if was_good && !good {
            let after = health.unhealthy_after;
            tracing::warn!(
                origin = %origin.name, path = %health.path, %why,
                "a health probe failed; an origin is unhealthy after {after} in a row"
            );
        }
        was_good = good;
        board.probed(origin, good, answered);
    }
}

async fn probe(upstreams: &Upstreams, origin: &Origin, path: &str) -> Result<StatusCode, String> {
    let mut headers = Fields::new();
    forward::address(&mut headers, origin, &origin.authority);
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static("edgerouter-health"),
    );
    let path = format!("{}{path}", origin.path_prefix);
    let path_and_query = PathAndQuery::try_from(path).map_err(|error| error.to_string())?;
    let response = upstreams
        .fetch_internal(origin, &path_and_query, &headers)
        .await
        .map_err(|error| error.to_string())?;
    Ok(response.status)
}
