//! CloudFront's calls about invalidations, for clients such as an unmodified boto3. The distribution is the edge's
//! name.

use std::{
    rc::Rc,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use edgerouter_core::{
    cloudfront::{
        invalidation::{self, ApiError, Invalidation},
        sigv4::{self, Signed},
    },
    http::{FieldName, header},
};
use http::StatusCode;

use super::{
    answer::{self, Answer},
    call::{Call, Later, MOST_BODY, Room},
};
use crate::{
    purge::{self, Denied, Purge},
    worker::Shared,
};

pub(super) const LIST: &str = "/2020-05-31/distribution/{distribution}/invalidation";
pub(super) const ONE: &str = "/2020-05-31/distribution/{distribution}/invalidation/{id}";

/// Largest number of invalidations on one page, and the default.
const MOST_ITEMS: usize = 100;

pub(super) fn create(room: Rc<Room>, call: Call) -> Later {
    Box::pin(async move {
        if let Err(error) = admit(&room, &call) {
            return wrong(&error);
        }
        let shared = Arc::clone(&room.shared);
        room.aside(move || respond(|| ordered(&shared, &call)))
            .await
    })
}

fn ordered(shared: &Shared, call: &Call) -> Result<Answer, ApiError> {
    let order = invalidation::read_batch(&call.body)?;
    let live = shared.live.load_full();
    let (purge, _new) = shared
        .cache
        .purges
        .order(order, &live.plan)
        .map_err(refused)?;
    let created = xml(StatusCode::CREATED, described(&purge).to_xml());
    let location = format!("{}/{}", call.path, purge.id);
    Ok(answer::with(created, header::LOCATION, &location))
}

pub(super) fn get(room: &Room, call: &Call) -> Answer {
    respond(|| {
        admit(room, call)?;
        let purge = room.shared.cache.purges.find(call.parameter("id"));
        let purge = purge.ok_or_else(|| {
            let message = "The specified invalidation does not exist.";
            ApiError::new("NoSuchInvalidation", 404, message)
        })?;
        Ok(xml(StatusCode::OK, described(&purge).to_xml()))
    })
}

pub(super) fn list(room: &Room, call: &Call) -> Answer {
    respond(|| {
        admit(room, call)?;
        let most = match call.query("MaxItems").filter(|most| !most.is_empty()) {
            None => MOST_ITEMS,
            Some(most) => most
                .parse::<usize>()
                .ok()
                .filter(|most| *most > 0)
                .map(|most| most.min(MOST_ITEMS))
                .ok_or_else(|| {
                    let message = format!("MaxItems: {most:?}: must be a whole number above 0");
                    ApiError::new("InvalidArgument", 400, message)
                })?,
        };
        let all = room.shared.cache.purges.list();
        let marker = call.query("Marker").unwrap_or_default();
        // The last id of the previous page, as CloudFront's. Ids grow, so it may be forgotten by now.
        let from = match &*marker {
            "" => 0,
            marker if purge::is_id(marker) => all.partition_point(|purge| &*purge.id >= marker),
            _ => {
                let message = "Marker: is not the NextMarker of a list";
                return Err(ApiError::new("InvalidArgument", 400, message));
            }
        };
        let rest = all.get(from..).unwrap_or_default();
        let page: Vec<Invalidation<'_>> = rest.iter().take(most).map(|p| described(p)).collect();
        let next = page
            .last()
            .filter(|_| rest.len() > most)
            .map(|last| last.id);
        let body = invalidation::list_xml(&page, &marker, next, most);
        Ok(xml(StatusCode::OK, body))
    })
}

/// The response to a body that could not be read.
pub(super) fn unread(status: StatusCode) -> Answer {
    let error = match status {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
            "BatchTooLarge",
            413,
            format!("The invalidation batch is larger than {MOST_BODY} bytes."),
        ),
        _ => ApiError::new(
            "InvalidArgument",
            400,
            "The body broke off or came too slowly.",
        ),
    };
    wrong(&error)
}

/// Checks the signature, then the distribution: an unsigned caller learns no names.
fn admit(room: &Room, call: &Call) -> Result<(), ApiError> {
    let denied = |message: &str| Err(ApiError::new("AccessDenied", 403, message));
    let (guard, credentials) = (&room.guard, &room.guard.credentials);
    if credentials.keys.is_empty() {
        if !guard.is_loopback() || credentials.token.is_some() {
            return denied(
                "No access keys are configured: this works on loopback addresses without a token only.",
            );
        }
        // Any key is accepted, but a form of a web page cannot sign.
        if let Err(error) = sigv4::is_signed(&call.headers) {
            return denied(&error.to_string());
        }
    } else {
        let signed = Signed {
            method: &call.method,
            path: &call.path,
            query: &call.query,
            headers: &call.headers,
            body: &call.body,
        };
        let secret_of = |wanted: &str| {
            let found = credentials.keys.iter().find(|(key, _)| key == wanted);
            found.map(|(_, secret)| secret.as_str())
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        if let Err(error) = sigv4::verify(&signed, secret_of, now) {
            return denied(&error.to_string());
        }
    }
    if call.parameter("distribution") != &*room.shared.live.load().plan.name {
        return Err(ApiError::new(
            "NoSuchDistribution",
            404,
            "The specified distribution does not exist; it is the edge's name.",
        ));
    }
    Ok(())
}

fn refused(refused: Denied) -> ApiError {
    match refused {
        Denied::TooMany { .. } => {
            ApiError::new("TooManyInvalidationsInProgress", 400, refused.to_string())
        }
        Denied::ReferenceTaken(..) => ApiError::new(
            "InvalidArgument",
            400,
            "This caller reference was given to another batch of this distribution before.",
        ),
        Denied::Mistake(mistake) => mistake.into(),
    }
}

fn described(purge: &Purge) -> Invalidation<'_> {
    Invalidation {
        id: &purge.id,
        status: purge.status(),
        created: purge.created,
        paths: &purge.given,
        reference: purge.reference.as_deref().unwrap_or(&purge.id),
    }
}

fn respond(work: impl FnOnce() -> Result<Answer, ApiError>) -> Answer {
    work().unwrap_or_else(|error| wrong(&error))
}

fn wrong(error: &ApiError) -> Answer {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
    let id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    answer::with(xml(status, error.to_xml(&id)), REQUEST_ID, &id)
}

const REQUEST_ID: FieldName = FieldName::from_static("x-amzn-requestid");

fn xml(status: StatusCode, body: String) -> Answer {
    answer::of(status, "text/xml", body)
}
