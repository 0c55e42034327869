//! Phases 10 to 12: the hooks around a request to the origins of a group, and the memory that it takes.

use edgerouter_core::{bounds::memory::Purpose, cache::hooked::HookEffect, http::Fields};

pub(crate) use super::origin_request::{OriginRequest, Received, ReceivedBody, Source, Unanswered};
use super::{attempts, foreign, hooks, variant};
use crate::{
    account::Hold,
    upstream::{FetchError, RequestBody},
};

/// Runs phases 10 to 12.
pub(crate) async fn fetch(
    request: &mut OriginRequest,
    body: RequestBody,
) -> Result<Box<Received>, Unanswered> {
    let mut hooked = HookEffect::default();
    if let Some(context) = request.hooks.clone()
        && !context.origin_request.is_empty()
        && let Some(answer) = hooks::origin_request(request, &context, &mut hooked)
            .await
            .map_err(Unanswered::Early)?
    {
        let now = request.worker.clock.unix_now();
        return Ok(Box::new(Received {
            status: answer.status,
            headers: answer.headers,
            body: ReceivedBody::Whole(answer.body),
            upgrade: None,
            requested_at: now,
            received_at: now,
            own: Fields::new(),
            hooked,
        }));
    }
    if let Source::Function = request.source {
        let mut received = hooks::made(request, &mut hooked)
            .await
            .map_err(|error| Unanswered::Failed(error.into()))?;
        received.hooked = hooked;
        return Ok(received);
    }
    let hold = draw(request)
        .await
        .map_err(|error| Unanswered::Failed(error.into()))?;
    let (image, original) = (request.foreign.clone(), request.original.clone());
    let mut received = match (image, original) {
        (_, Some(fetch)) => fetch(request.clone()).await?,
        (Some(image), None) => Box::pin(foreign::fetch(request, &image)).await?,
        (None, None) => {
            let received = attempts::run(request, body).await;
            received.map_err(Unanswered::Failed)?
        }
    };
    if let ReceivedBody::Upstream(body) = &mut received.body {
        body.keep(hold);
    }
    if let Some(image) = request.image.clone() {
        received = Box::pin(variant::made(request, &image, received)).await?;
    }
    hooked.tags.append(&mut received.hooked.tags);
    received.hooked = hooked;
    if let Some(context) = request.hooks.clone()
        && !context.origin_response.is_empty()
    {
        hooks::origin_response(request, &context, &mut received)
            .await
            .map_err(Unanswered::Early)?;
    }
    Ok(received)
}

/// Memory of a request at an origin beside the bytes of its response: its head, kept for another attempt, and the
/// buffers of the connection.
const AT_ORIGIN: u64 = 16 << 10;

/// Waits for that memory.
async fn draw(request: &OriginRequest) -> Result<Hold, FetchError> {
    let account = &request.worker.shared.account;
    let patience = request.live.plan.limits.http.body_timeout;
    let hold = account.open_drawn(Purpose::Heads, request.owner, AT_ORIGIN, patience);
    hold.await.map_err(|_| FetchError::NoMemory)
}
