//! Content that passes a hook of the response phases and is transformed on its way.

use edgerouter_core::{
    http::Fields,
    plan::{CallableId, Route},
    transform::{self, Untransformed},
};
use http::{Method, StatusCode};
use tokio::task::spawn_local;

use super::{context::Due, feed::feed};
use crate::{
    account::Hold,
    body::{EdgeBody, PipedBody},
    functions::{
        Transform,
        pipe::{ROOM, pipe},
    },
    live::LocalLive,
    request::exchange::Exchange,
};

/// Bytes of memory that a transform holds: the pieces on both sides of it.
pub(super) const OF_A_TRANSFORM: u64 = 2 * ROOM as u64;

/// A part of one response is of no use beside a part of another with other bytes; and neither the part nor the 304 that
/// a client's validators lead to passes a transform.
pub(crate) fn without_range(exchange: &mut Exchange, route: &Route) {
    let transforms = exchange.transforms(route);
    let head = &mut exchange.request.head;
    if transforms {
        transform::unconditional(&head.method, &mut head.headers);
    } else if route.nonce.is_some() {
        transform::without_range(&mut head.headers);
    }
}

impl Due {
    /// Decides, for a hook that is declared to transform, whether a response may be transformed.
    pub(super) fn may_transform(
        &self,
        method: &Method,
        status: StatusCode,
        headers: &Fields,
    ) -> Option<Result<(), Untransformed>> {
        self.transforms
            .then(|| transform::may(method, status, headers))
    }
}

/// A response whose content differs from the content that came.
pub(super) enum Begun {
    Transform(Transform),
    /// To HEAD.
    Head,
}

/// Counts a transform that a hook wants, and warns of content that passes as it is and was not to.
pub(super) fn begun(
    live: &LocalLive,
    call: CallableId,
    wanted: Result<Transform, Untransformed>,
) -> Option<Begun> {
    live.metrics.transform(call, wanted.as_ref().err().copied());
    match wanted {
        Ok(transform) => Some(Begun::Transform(transform)),
        Err(Untransformed::Head) => Some(Begun::Head),
        Err(why) => {
            if matches!(why, Untransformed::Coded | Untransformed::Part) {
                let callable = live.plan.callable(call);
                tracing::warn!(
                    callable = callable.map_or("?", |callable| &*callable.name),
                    why = why.as_str(),
                    "content passes a transform as it is: the origin was asked for the whole without a coding, and sent another"
                );
            }
            None
        }
    }
}

impl Begun {
    /// The content in the place of the other. `hold`: the memory for the pieces that wait.
    pub(super) fn of(self, body: EdgeBody, hold: Hold) -> PipedBody {
        match self {
            Self::Transform(Transform { source, pieces }) => {
                spawn_local(feed(body, source, u64::MAX, None, None));
                PipedBody::new(pieces, hold)
            }
            Self::Head => {
                let (writer, pieces) = pipe();
                writer.finish();
                PipedBody::new(pieces, hold)
            }
        }
    }
}
