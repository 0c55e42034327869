//! The table of the admin listener's endpoints: one line each.
//!
//! To add one, write a function that takes the room and the call and gives a response, and name it in [`ENDPOINTS`].
//! Guarding, bounds on the body, methods and unknown paths are handled before it is called.

use std::{borrow::Cow, rc::Rc, time::Duration};

use bytes::Bytes;
use edgerouter_core::http::{
    Fields, header,
    uri::{decode, query_pairs},
};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use smallvec::SmallVec;

use super::{
    answer::{self, Answer},
    cache,
    call::{Call, Later, MOST_BODY, Parameters, Peer, Room},
    dashboard::{self, costs, login, sessions, streams},
    deploys,
    guard::{self, Role, same},
    invalidations, probes, purges,
};

/// Time within which a request body must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The callers that an endpoint admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// All clients that can connect.
    Open,
    /// Callers with the token, if one is set.
    Token,
    /// Callers with the token, which must be set, and the user of the edge on the unix socket: never everybody on this
    /// machine, as code is run.
    Proven,
    /// Callers that sign with a key; the endpoint checks the signature and answers in its own format.
    Signed,
}

/// How an endpoint answers.
#[derive(Clone, Copy)]
enum EndpointHandler {
    Now(fn(&Room, &Call) -> Answer),
    /// For calls that take long, so that others are served meanwhile.
    Later(fn(Rc<Room>, Call) -> Later),
}

struct Endpoint {
    method: Method,
    path: &'static str,
    access: Access,
    query: Query,
    work: EndpointHandler,
}

/// The query parameters that an endpoint takes.
#[derive(Debug, Clone, Copy)]
enum Query {
    /// Any: probes and scrapers append their own, and CloudFront's calls have parameters of theirs.
    Any,
    /// These, each once unless its name ends in `*`, which is not part of it.
    These(&'static [&'static str]),
}

impl Endpoint {
    const fn any_query(mut self) -> Self {
        self.query = Query::Any;
        self
    }

    const fn query(mut self, known: &'static [&'static str]) -> Self {
        self.query = Query::These(known);
        self
    }

    /// Refuses a parameter that would be ignored, and one that may mean either of two values.
    fn check_query(&self, query: &str) -> Result<(), Answer> {
        let Query::These(known) = self.query else {
            return Ok(());
        };
        let mut given: Vec<Cow<'_, str>> = Vec::new();
        for (name, _) in query_pairs(query) {
            let name = decode(name);
            let is_repeatable = |known: &&&str| known.strip_suffix('*') == Some(&*name);
            if known.contains(&&*name) {
                if given.contains(&name) {
                    return Err(answer::wrong(&name, "must be given once"));
                }
                given.push(name);
            } else if !known.iter().any(|known| is_repeatable(&known)) {
                let message = match known {
                    [] => "is unknown: this endpoint takes no parameters".to_owned(),
                    _ => format!(
                        "is unknown here; known are {}",
                        known.join(", ").replace('*', "")
                    ),
                };
                return Err(answer::wrong(&name, &message));
            }
        }
        Ok(())
    }
}

const fn get(path: &'static str, access: Access, work: fn(&Room, &Call) -> Answer) -> Endpoint {
    Endpoint {
        method: Method::GET,
        path,
        access,
        query: Query::These(&[]),
        work: EndpointHandler::Now(work),
    }
}

/// An endpoint whose calls take long.
const fn later(
    method: Method,
    path: &'static str,
    access: Access,
    work: fn(Rc<Room>, Call) -> Later,
) -> Endpoint {
    Endpoint {
        method,
        path,
        access,
        query: Query::These(&[]),
        work: EndpointHandler::Later(work),
    }
}

const fn slow_get(path: &'static str, work: fn(Rc<Room>, Call) -> Later) -> Endpoint {
    later(Method::GET, path, Access::Token, work)
}

const fn post(path: &'static str, access: Access, work: fn(Rc<Room>, Call) -> Later) -> Endpoint {
    later(Method::POST, path, access, work)
}

/// A change that is made at once, by callers that have proven who they are.
const fn now(path: &'static str, work: fn(&Room, &Call) -> Answer) -> Endpoint {
    Endpoint {
        method: Method::POST,
        path,
        access: Access::Proven,
        query: Query::These(&[]),
        work: EndpointHandler::Now(work),
    }
}

const ENDPOINTS: &[Endpoint] = &[
    get("/", Access::Token, probes::index).any_query(),
    get("/healthz", Access::Open, probes::health).any_query(),
    get("/readyz", Access::Open, probes::readiness).any_query(),
    get("/metrics", Access::Token, probes::metrics).any_query(),
    get(invalidations::LIST, Access::Signed, invalidations::list).any_query(),
    post(invalidations::LIST, Access::Signed, invalidations::create).any_query(),
    get(invalidations::ONE, Access::Signed, invalidations::get).any_query(),
    slow_get("/v1/purges", purges::list).query(&["limit"]),
    get("/v1/purges/{id}", Access::Token, purges::one),
    post("/v1/purges", Access::Token, purges::order),
    slow_get("/v1/cache/stats", cache::stats),
    slow_get("/v1/cache/entries", cache::entries)
        .query(&["host", "prefix", "tag", "limit", "cursor"]),
    slow_get("/v1/cache/entry", cache::entry).query(&["url", "header*", "client"]),
    slow_get("/v1/live", streams::live).query(&["after"]),
    slow_get("/v1/requests", streams::requests).query(&[
        "route", "host", "method", "path", "status", "cache", "reason", "slow",
    ]),
    get("/v1/events", Access::Token, dashboard::events).query(&["after"]),
    get("/v1/plan", Access::Token, dashboard::plan),
    slow_get("/v1/costs", costs::report),
    get("/v1/experiments", Access::Token, dashboard::experiments),
    get("/v1/deploys", Access::Proven, deploys::list),
    post("/v1/deploys", Access::Proven, deploys::deploy),
    post("/v1/deploys/promote", Access::Proven, deploys::promote),
    now("/v1/deploys/rollback", deploys::roll_back),
    now("/v1/deploys/percent", deploys::share),
    get("/dashboard", Access::Open, dashboard::page).any_query(),
    get("/dashboard/session", Access::Open, login::session),
    post("/dashboard/login", Access::Open, login::login),
    post("/dashboard/logout", Access::Open, login::logout),
    get("/dashboard/{file}", Access::Open, dashboard::asset).any_query(),
];

impl Room {
    /// The paths of all endpoints, each once.
    pub(super) fn paths(&self) -> Vec<&'static str> {
        let mut paths = Vec::with_capacity(ENDPOINTS.len());
        for Endpoint { path, .. } in ENDPOINTS {
            if !paths.contains(path) {
                paths.push(*path);
            }
        }
        paths
    }
}

/// Answers one request.
pub(super) async fn answer(room: Rc<Room>, peer: Peer, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let headers = Fields::from(&head.headers);
    if let Err(refused) = room.guard.admit(&headers) {
        return refused;
    }
    let (path, by_page) = match head.uri.path().strip_prefix(dashboard::API) {
        Some(path) if path.starts_with('/') => (path, true),
        _ => (head.uri.path(), false),
    };
    let (endpoint, parameters) = match found(&head.method, path, by_page) {
        Ok(found) => found,
        Err(refused) => return refused,
    };
    if let Err(refused) = permit(&room, endpoint, &peer, &headers, by_page) {
        return refused;
    }
    let query = head.uri.query().unwrap_or_default();
    if let Err(refused) = endpoint.check_query(query) {
        return refused;
    }
    let body = match whole(body).await {
        Ok(body) => body,
        Err(refused) if endpoint.access == Access::Signed => {
            return invalidations::unread(refused.status());
        }
        Err(refused) => return refused,
    };
    let call = Call {
        path: path.to_owned(),
        query: query.to_owned(),
        method: head.method,
        headers,
        body,
        parameters,
        peer,
    };
    match endpoint.work {
        EndpointHandler::Now(work) => work(&room, &call),
        EndpointHandler::Later(work) => work(room, call).await,
    }
}

/// The endpoint for a method and a path, with the values of its parameters. The page has those that take a token.
fn found(
    method: &Method,
    path: &str,
    by_page: bool,
) -> Result<(&'static Endpoint, Parameters), Answer> {
    let wanted = match *method {
        Method::HEAD => &Method::GET,
        _ => method,
    };
    let mut allowed: Vec<&str> = Vec::new();
    for endpoint in ENDPOINTS {
        if by_page && endpoint.access != Access::Token {
            continue;
        }
        let Some(parameters) = captured(endpoint.path, path) else {
            continue;
        };
        if endpoint.method == *wanted {
            return Ok((endpoint, parameters));
        }
        allowed.push(endpoint.method.as_str());
        if endpoint.method == Method::GET {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() {
        let message = "there is no such endpoint; GET / lists them";
        return Err(answer::error(StatusCode::NOT_FOUND, Some("path"), message));
    }
    let allowed = allowed.join(", ");
    let message = format!("must be one of {allowed}");
    let refused = answer::error(StatusCode::METHOD_NOT_ALLOWED, Some("method"), &message);
    Err(answer::with(refused, header::ALLOW, &allowed))
}

/// Refuses who may not have an endpoint, and a change that another page's form could cause.
fn permit(
    room: &Room,
    endpoint: &Endpoint,
    peer: &Peer,
    headers: &Fields,
    by_page: bool,
) -> Result<(), Answer> {
    let changes = endpoint.method != Method::GET;
    if matches!(endpoint.access, Access::Token | Access::Proven) {
        let role = match peer {
            Peer::User(_) if !by_page => Role::Admin,
            _ if by_page => by_cookie(room, headers, &endpoint.method)?,
            _ if endpoint.access == Access::Proven => room.guard.check_set_token(headers)?,
            _ => room.guard.check_token(headers)?,
        };
        if role == Role::Reader && changes {
            let message = "this token may read, and change nothing";
            let refused = answer::error(StatusCode::FORBIDDEN, Some("Authorization"), message);
            return Err(refused);
        }
    }
    if changes && endpoint.access != Access::Signed {
        guard::check_no_form(headers)?;
    }
    Ok(())
}

/// The role of a page's login. A change has to carry the secret that only the page knows: a browser sends the cookie by
/// itself with each request, even one that another page caused.
fn by_cookie(room: &Room, headers: &Fields, method: &Method) -> Result<Role, Answer> {
    if !room.guard.needs_token() {
        return Ok(Role::Admin);
    }
    let Some(session) = room.sessions.find(&login::cookie_name(room), headers) else {
        let message = "log in at /dashboard";
        return Err(answer::error(
            StatusCode::UNAUTHORIZED,
            Some("Cookie"),
            message,
        ));
    };
    let is_known = || {
        let given = headers.get(sessions::CSRF);
        given.is_some_and(|given| same(given.as_bytes(), session.csrf.as_bytes()))
    };
    if *method != Method::GET && !is_known() {
        let message = "must be the secret of this login";
        return Err(answer::error(
            StatusCode::FORBIDDEN,
            Some("X-CSRF-Token"),
            message,
        ));
    }
    Ok(session.role)
}

/// The body, within the bounds on its size and time.
async fn whole(body: Incoming) -> Result<Bytes, Answer> {
    let refused = |status, message: &str| answer::error(status, Some("body"), message);
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MOST_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("must be at most {MOST_BODY} bytes"),
        )),
        Ok(Err(_)) => Err(refused(StatusCode::BAD_REQUEST, "broke off")),
        Err(_) => Err(refused(
            StatusCode::REQUEST_TIMEOUT,
            &format!("must come within {} seconds", BODY_TIMEOUT.as_secs()),
        )),
    }
}

/// The parameters of a path of the form `pattern`, in which `{name}` is one whole segment.
fn captured(pattern: &'static str, path: &str) -> Option<Parameters> {
    let mut parameters = SmallVec::new();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(parameters),
            (Some(wanted), Some(given)) => {
                match wanted
                    .strip_prefix('{')
                    .and_then(|rest| rest.strip_suffix('}'))
                {
                    Some(name) if !given.is_empty() => {
                        let plain = given.replace('+', "%2B");
                        let value = edgerouter_core::http::uri::decode(&plain).into_owned();
                        parameters.push((name, value));
                    }
                    None if wanted == given => {}
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_one_whole_segment() {
        for (pattern, path, want) in [
            ("/v1/purges", "/v1/purges", Some("")),
            ("/v1/purges/{id}", "/v1/purges/I1", Some("I1")),
            ("/v1/purges/{id}", "/v1/purges/a%20b+c", Some("a b+c")),
            ("/v1/purges/{id}", "/v1/purges/", None),
            ("/v1/purges/{id}", "/v1/purges", None),
            ("/v1/purges/{id}", "/v1/purges/a/b", None),
            ("/v1/purges", "/v1/purges/", None),
        ] {
            let got = captured(pattern, path)
                .map(|found| found.first().map_or(String::new(), |(_, v)| v.clone()));
            assert_eq!(got.as_deref(), want, "{pattern} {path}");
        }
    }
}
