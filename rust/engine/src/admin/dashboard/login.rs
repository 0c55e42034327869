//! The endpoints of logins.

use std::{rc::Rc, time::Instant};

use edgerouter_core::http::header;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    super::{
        answer::{self, Answer},
        call::{Call, Later, Room},
        guard::Role,
    },
    sessions::{AGAIN, LIFE},
};

/// Cookies do not know ports, so another edge on this machine has another name.
pub(crate) fn cookie_name(room: &Room) -> String {
    let port = room.guard.address.map_or(0, |address| address.port());
    format!("edgerouter-admin-{port}")
}

fn described(role: Option<Role>, csrf: Option<&str>, needs_token: bool) -> Value {
    json!({"role": role.map(Role::as_str), "csrf": csrf, "login": needs_token})
}

/// The role of the caller, and the secret that its changes have to carry.
pub(crate) fn session(room: &Room, call: &Call) -> Answer {
    if !room.guard.needs_token() {
        return answer::json(StatusCode::OK, &described(Some(Role::Admin), None, false));
    }
    let found = room.sessions.find(&cookie_name(room), &call.headers);
    let (role, csrf) = match &found {
        Some(session) => (Some(session.role), Some(&*session.csrf)),
        None => (None, None),
    };
    answer::json(StatusCode::OK, &described(role, csrf, true))
}

/// `{"token": …}` for a cookie.
pub(crate) fn login(room: Rc<Room>, call: Call) -> Later {
    Box::pin(async move {
        let refused = |status, message: &str| answer::error(status, Some("token"), message);
        let given = match call.json() {
            Ok(given) => given,
            Err(refused) => return refused,
        };
        let Some(token) = given.get("token").and_then(Value::as_str) else {
            return refused(StatusCode::BAD_REQUEST, "must be a text");
        };
        let now = Instant::now();
        if !room.sessions.wrong.borrow_mut().allows(now) {
            let message = "too many wrong tokens; wait some seconds";
            let late = refused(StatusCode::TOO_MANY_REQUESTS, message);
            return answer::with(late, header::RETRY_AFTER, &AGAIN.as_secs().to_string());
        }
        let Some(role) = room.guard.role_of(token.trim().as_bytes()) else {
            room.sessions.wrong.borrow_mut().note(now);
            return refused(StatusCode::FORBIDDEN, "is not a token of this listener");
        };
        let Some(session) = room.sessions.open(role) else {
            let message = "the system gives no random numbers";
            return answer::error(StatusCode::INTERNAL_SERVER_ERROR, None, message);
        };
        let open = answer::json(
            StatusCode::OK,
            &described(Some(role), Some(&session.csrf), true),
        );
        let cookie = format!(
            "{}={}; Path=/dashboard; HttpOnly; SameSite=Strict; Max-Age={}",
            cookie_name(&room),
            session.id,
            LIFE.as_secs()
        );
        answer::with(open, header::SET_COOKIE, &cookie)
    })
}

/// Ends a login.
pub(crate) fn logout(room: Rc<Room>, call: Call) -> Later {
    Box::pin(async move {
        let name = cookie_name(&room);
        if let Some(session) = room.sessions.find(&name, &call.headers) {
            room.sessions.close(&session.id);
        }
        let needs_token = room.guard.needs_token();
        let done = answer::json(StatusCode::OK, &described(None, None, needs_token));
        let cookie = format!("{name}=; Path=/dashboard; HttpOnly; SameSite=Strict; Max-Age=0");
        answer::with(done, header::SET_COOKIE, &cookie)
    })
}
