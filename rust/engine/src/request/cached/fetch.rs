//! Phases 10 to 13 as the client sees them: its request leads a flight, follows one, or goes alone.

use std::{
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use edgerouter_core::{
    cache::{
        decide::{self, Outage},
        tags, validate, vary,
    },
    http::{header, range::Range, structured::Forward},
    outcome::Detail,
    plan::{Route, Target},
};
use http::{Method, StatusCode};
use tokio::{
    sync::{oneshot, watch},
    task::spawn_local,
};

use super::{
    flight::fly,
    keep::head_effects,
    meeting::join,
    missing::{CacheFetch, Miss, Missing, time_limit},
    outcome::FetchOutcome,
    send::{Served, as_requested, part_of, read_along, stored, straight, with_aside},
    slices::{
        coverage::{Begin, Coverage, at_hand},
        fill::{Fetched, first},
    },
    stand_in::{failed, stands},
};
use crate::{
    body::EdgeResponse,
    connection::Stream,
    request::{
        Exchange,
        answer::{self, Early},
        origin::{self, OriginRequest, Unanswered},
    },
    store::{
        Entry, FlightState, Join, Object,
        flight::{Lead, Reuse},
    },
    telemetry::Outcome,
    upstream::{FetchError, RequestBody, Wanted},
};

/// How often a request that has waited for `coalesce_timeout` tries to lead.
const RETRY: Duration = Duration::from_secs(1);

/// Phases 10 to 13 for a request that may use the cache.
pub(crate) async fn fetch(
    exchange: &mut Exchange,
    route: &Route,
    missing: Box<Missing>,
    body: RequestBody,
) -> Result<EdgeResponse, Early> {
    exchange.note.forward = Some(missing.why);
    exchange.note.detail = Some(missing.detail);
    exchange.note.outcome = Outcome::Miss;
    let mut miss = Miss {
        exchange,
        route,
        missing,
    };
    miss.answer(body).await
}

impl Miss<'_> {
    async fn answer(&mut self, body: RequestBody) -> Result<EdgeResponse, Early> {
        if let Some((entry, lacking)) = self.missing.held.take()
            && let Some(object) = entry.object()
        {
            match self.fill(&entry, object, lacking).await? {
                Filled::Answer(response) => return Ok(response),
                Filled::Changed => {
                    // It is out of the store: the response that there is now comes as for any first request.
                    self.exchange.note.forward = Some(Forward::UriMiss);
                    self.exchange.note.detail = Some(Detail::Changed);
                    // From the member that has the parts, too, in case its validators are its own.
                    self.exchange.in_parts = true;
                }
                Filled::Refused => {
                    // The origin may send this client whatever else it has.
                    self.exchange.note.detail = Some(Detail::SliceRefused);
                    self.missing.collapse = false;
                }
            }
        }
        if let Some(answer) = self.spared() {
            return Ok(answer);
        }
        if self.missing.collapse
            && let Some(answer) = self.share().await?
        {
            return Ok(answer);
        }
        if let Some(answer) = self.spared() {
            return Ok(answer);
        }
        self.alone(body).await
    }

    /// Leads a flight or follows one; `None` where the request has to go alone.
    async fn share(&mut self) -> Result<Option<EdgeResponse>, Early> {
        let began = Instant::now();
        let live = Rc::clone(&self.exchange.live);
        let patience = live.plan.limits.cache.coalesce_timeout;
        let (limit, group) = time_limit(self.exchange, self.route);
        let end = began + limit;
        let mut until = (began + patience).min(end);
        let mut took_over = None;
        let mut waited = false;
        loop {
            let (flight, url) = (&self.missing.flight, self.missing.question.key.url());
            if self.exchange.chain.holds(flight) {
                let why = "A function waits for this very response already.";
                return Err(answer::looped(why).into());
            }
            let joined = match took_over.take() {
                Some(lead) => Join::Lead(lead),
                None => join(self.exchange, self.route, flight, url),
            };
            match joined {
                Join::Lead(lead) => {
                    // Another worker's flight may have ended between the look-up and now.
                    return match self.arrived_meanwhile() {
                        Some(response) => Ok(Some(response)),
                        None => self.lead(lead).await,
                    };
                }
                Join::Follow(state, since) => match self.follow(state, since, until).await? {
                    Followed::Answer(response) => return Ok(Some(response)),
                    Followed::Lead => {}
                    Followed::Split(flight) => self.missing.flight = flight,
                    Followed::Alone => return Ok(None),
                    // No time to wait is given: each request goes for itself.
                    Followed::Late if patience.is_zero() => return Ok(None),
                    Followed::Late => {
                        if Instant::now() >= end {
                            let error = FetchError::Deadline(group, limit);
                            return Ok(Some(self.on_failure(&error.into())));
                        }
                        self.exchange.note.collapsed = true;
                        if let Some(stale) = self.stand_in(Outage::Error) {
                            return Ok(Some(stale));
                        }
                        self.exchange.note.collapsed = false;
                        let cache = &self.exchange.worker.shared.cache;
                        took_over = cache.take_over(&self.missing.flight);
                        until = (Instant::now() + RETRY).min(end);
                    }
                },
                // Another request for this key has led within the second, and brought nothing. If no stored response
                // may be used, this one waits for the next turn once, so that a failure is known soon.
                Join::Wait(wait) => {
                    if let Some(stale) = self.stand_in(Outage::Disconnected) {
                        return Ok(Some(stale));
                    }
                    if waited {
                        return Ok(Some(self.unhealthy()));
                    }
                    waited = true;
                    let turn = (Instant::now() + wait).min(end);
                    tokio::time::sleep_until(turn.into()).await;
                    self.exchange.now = self.exchange.worker.clock.unix_now();
                }
            }
            if took_over.is_none()
                && let Some(response) = self.arrived_meanwhile()
            {
                return Ok(Some(response));
            }
        }
    }

    /// Has the first bytes of a stored response fetched before its head is sent.
    async fn fill(
        &mut self,
        entry: &Arc<Entry>,
        object: Object,
        lacking: Range,
    ) -> Result<Filled, Early> {
        let fetched = first(self.exchange, self.route, entry, &object, lacking).await?;
        let exchange = &mut *self.exchange;
        exchange.now = exchange.worker.clock.unix_now();
        let (served, begin) = match fetched {
            Fetched::Own(begin, status) => {
                exchange.note.forward_status = Some(status);
                exchange.note.stored = true;
                (Served::Filled, begin)
            }
            Fetched::Shared(begin) => (Served::Joined, begin),
            Fetched::Changed => return Ok(Filled::Changed),
            Fetched::Refused => return Ok(Filled::Refused),
            Fetched::Failed(error) => return Ok(Filled::Answer(failed(exchange, &error))),
        };
        let response = stored(exchange, self.route, entry, object, served, begin);
        Ok(Filled::Answer(response))
    }

    /// Starts a flight and takes its response; `None` when the request has to be made alone.
    async fn lead(&mut self, lead: Lead) -> Result<Option<EdgeResponse>, Early> {
        let mut request = self.exchange.origin_request(self.route, true)?;
        if let Some(context) = &mut request.hooks
            && let Some(context) = Rc::get_mut(context)
        {
            context.hold(&self.missing.flight);
        }
        self.fly(request, self.fetch(), Some(lead)).await
    }

    /// Starts a flight. Without a `lead` no request can follow it.
    async fn fly(
        &mut self,
        mut request: OriginRequest,
        fetch: CacheFetch,
        lead: Option<Lead>,
    ) -> Result<Option<EdgeResponse>, Early> {
        let (sender, leader) = oneshot::channel();
        let judged_by_origin = lead.is_some() && fetch.slice.is_some() && self.is_conditional();
        let waits = Rc::new(Waits(Rc::clone(&self.exchange.stream)));
        let (own, followed) = (Rc::downgrade(&waits), lead.as_ref().map(Lead::followed));
        request.wanted = Some(Wanted::new(move || {
            followed.as_ref().is_some_and(|followed| followed()) || still(&own)
        }));
        let worker = Rc::clone(&self.exchange.worker);
        spawn_local(fly(worker, request, fetch, lead, Some(sender)));
        match self.patiently(Instant::now(), leader).await {
            None => Ok(Some(self.unhealthy())),
            Some(Ok(FetchOutcome::NotSliceable(why, came))) => {
                let note = &mut self.exchange.note;
                note.detail = Some(why);
                note.forward_status = came.as_ref().map(|(received, _)| received.status);
                // A request for more than the part that arrived holds is made by itself.
                Ok(came.and_then(|(received, part)| part_of(self.exchange, received, &part)))
            }
            // Conditions come before ranges (RFC 9110 §13.2.2), and a 416 to the edge's own range has no validators.
            Some(Ok(FetchOutcome::Own(received, _)))
                if judged_by_origin && received.status == StatusCode::RANGE_NOT_SATISFIABLE =>
            {
                Ok(None)
            }
            Some(Ok(outcome)) => self.arrive(outcome).await.map(Some),
            Some(Err(_)) => Err(answer::origin_failed(false).into()),
        }
    }

    fn is_conditional(&self) -> bool {
        let request = &self.exchange.head.headers;
        validate::is_conditional(request) || request.contains_key(header::IF_RANGE)
    }

    async fn follow(
        &mut self,
        mut state: watch::Receiver<FlightState>,
        since: Instant,
        until: Instant,
    ) -> Result<Followed, Early> {
        let reported = tokio::time::timeout_at(
            until.into(),
            state.wait_for(|state| !matches!(state, FlightState::Waiting)),
        );
        let state = match self.patiently(since, reported).await {
            None => {
                self.exchange.note.collapsed = true;
                return Ok(Followed::Answer(self.unhealthy()));
            }
            Some(Err(_)) => return Ok(Followed::Late),
            Some(Ok(Ok(state))) => state.clone(),
            // The sender is gone without a result: the same as lost.
            Some(Ok(Err(_))) => FlightState::Lost,
        };
        self.exchange.now = self.exchange.worker.clock.unix_now();
        match state {
            FlightState::Arriving(arriving) => {
                let question = &self.missing.question;
                let mut secondary = Vec::new();
                let (request, reduced) = (&question.request, question.reduced);
                vary::secondary(&mut secondary, &arriving.vary, request, reduced);
                if *secondary != *arriving.secondary {
                    return Ok(Followed::Split(self.split(&arriving.vary, &secondary)));
                }
                if self.may_share(&arriving.freshness)
                    && let Some(reader) = arriving.body.reader()
                {
                    self.exchange.note.collapsed = true;
                    self.exchange.note.outcome = Outcome::Coalesced;
                    let response = read_along(self.exchange, &arriving, reader);
                    return Ok(Followed::Answer(response));
                }
                Ok(Followed::Alone)
            }
            FlightState::Stored(entry, reuse) => {
                let Some(object) = entry.object() else {
                    return Ok(Followed::Alone);
                };
                let freshness = &object.freshness;
                let served = match reuse {
                    Reuse::Revalidated | Reuse::RevalidatedUnstored | Reuse::Cut(_)
                        if self.may_share(freshness) =>
                    {
                        Served::Collapsed
                    }
                    Reuse::StaleOnError(_, failure, status) => {
                        let request = &self.missing.question.directives;
                        let (policy, now) = (&self.route.cache, self.exchange.now);
                        let allowed = decide::on_error(freshness, request, policy, failure, now);
                        let Some(allowance) = allowed else {
                            return Ok(Followed::Alone);
                        };
                        self.exchange.note.forward_status = status;
                        Served::StaleOnError(allowance)
                    }
                    _ => return Ok(Followed::Alone),
                };
                if !self.suits(&entry) {
                    return Ok(Followed::Alone);
                }
                self.exchange.note.collapsed = true;
                let (exchange, route) = (&mut *self.exchange, self.route);
                let response = stored(exchange, route, &entry, object, served, Begin::Anywhere);
                Ok(Followed::Answer(response))
            }
            FlightState::Failed(error) => {
                self.exchange.note.collapsed = true;
                Ok(Followed::Answer(self.on_failure(&error)))
            }
            FlightState::Lost => Ok(Followed::Lead),
            FlightState::Waiting | FlightState::Released => Ok(Followed::Alone),
        }
    }

    /// Without company: the response is streamed to this client, and stored on the side when it may be.
    async fn alone(&mut self, body: RequestBody) -> Result<EdgeResponse, Early> {
        let fetch = self.fetch();
        let (exchange, route) = (&mut *self.exchange, self.route);
        // If responses are not stored anyway, it is better that the origin evaluates the client's own conditions.
        let conditional = self.missing.unshared && validate::is_conditional(&exchange.head.headers);
        // A function makes the whole response, too.
        let hooked = matches!(route.target, Target::Function(_))
            || exchange.runs_any(&route.hooks.origin_response);
        let whole = exchange.head.method == Method::GET
            && !exchange.has_body
            // A part of a stale response that is stored whole is cut from the response that the validation brings.
            && (hooked
                || ((fetch.question.range().is_none() || fetch.stale.is_some())
                    && !conditional));
        let mut request = exchange.origin_request(route, whole || hooked)?;
        if whole {
            let answer = self.fly(request, fetch, None).await?;
            return answer.ok_or_else(|| answer::origin_failed(false).into());
        }
        request.wanted = Some(exchange.wanted());
        match origin::fetch(&mut request, body).await {
            Ok(mut received) => {
                exchange.note.forward_status = Some(received.status);
                tags::take(&mut received.headers, &route.cache);
                if exchange.head.method == Method::HEAD {
                    head_effects(&exchange.worker, route, &fetch, &received);
                }
                fetch.spare(&exchange.worker, &received);
                if decide::is_error(received.status)
                    && let Some(stale) = self.stand_in(Outage::Error)
                {
                    return Ok(stale);
                }
                Ok(if hooked {
                    as_requested(self.exchange, *received)
                } else {
                    straight(*received)
                })
            }
            Err(Unanswered::Early(early)) => Err(early),
            Err(Unanswered::Failed(error)) => Ok(self.on_failure(&error)),
        }
    }

    /// The leader's view of the outcome of its flight.
    async fn arrive(&mut self, outcome: FetchOutcome) -> Result<EdgeResponse, Early> {
        let note = &mut self.exchange.note;
        match outcome {
            FetchOutcome::Own(received, why) => {
                note.forward_status = Some(received.status);
                note.stored = false;
                note.detail = Some(why.into());
                Ok(as_requested(self.exchange, received))
            }
            FetchOutcome::Arriving(_, None, _) => Err(answer::origin_failed(false).into()),
            FetchOutcome::Arriving(arriving, Some(reader), aside) => {
                note.forward_status = Some(arriving.status);
                note.stored = true;
                let response = read_along(self.exchange, &arriving, reader);
                Ok(with_aside(response, arriving.status, aside))
            }
            FetchOutcome::Stored(entry, reuse, reader, aside) => {
                let Some(object) = entry.object() else {
                    return Err(answer::origin_failed(false).into());
                };
                note.stored = matches!(reuse, Reuse::Revalidated | Reuse::Cut(_));
                let (served, status) = match reuse {
                    Reuse::Revalidated | Reuse::RevalidatedUnstored | Reuse::RevalidatedForOne => {
                        (Served::Revalidated, Some(StatusCode::NOT_MODIFIED))
                    }
                    Reuse::Cut(status) => (Served::Cut, Some(status)),
                    Reuse::StaleOnError(allowance, _, status) => {
                        (Served::StaleOnError(allowance), status)
                    }
                };
                note.forward_status = status;
                let (cache, question) =
                    (&self.exchange.worker.shared.cache, &self.missing.question);
                let coverage = match served {
                    Served::Cut => Coverage::Whole(reader.map_or(Begin::Anywhere, Begin::Run)),
                    _ => at_hand(cache, question, &entry),
                };
                let begin = match (served, coverage) {
                    (Served::StaleOnError(allowance), coverage) => stands(coverage, allowance),
                    (_, Coverage::Lacking(lacking)) => {
                        let status = object.status;
                        let filled = self.fill(&entry, object, lacking).await?;
                        return Ok(match filled {
                            Filled::Answer(response) => with_aside(response, status, aside),
                            Filled::Changed | Filled::Refused => answer::origin_failed(false),
                        });
                    }
                    (_, Coverage::Whole(begin) | Coverage::Coming(begin)) => Some(begin),
                    (_, Coverage::Partly(begin)) => Some(begin),
                };
                let Some(begin) = begin else {
                    self.exchange.note.outcome = Outcome::Error;
                    return Ok(answer::origin_failed(false));
                };
                let status = object.status;
                let response = stored(self.exchange, self.route, &entry, object, served, begin);
                Ok(with_aside(response, status, aside))
            }
            FetchOutcome::NotSliceable(..) => Err(answer::origin_failed(false).into()),
            FetchOutcome::Failed(Unanswered::Early(early)) => Err(early),
            FetchOutcome::Failed(Unanswered::Failed(error)) => Ok(failed(self.exchange, &error)),
        }
    }
}

/// Kept while a client waits for its own flight.
struct Waits(Rc<Stream>);

fn still(waits: &Weak<Waits>) -> bool {
    waits.upgrade().is_some_and(|waits| waits.0.is_wanted())
}

/// The outcome of following a flight.
enum Followed {
    Answer(EdgeResponse),
    /// No request leads any more: this one may.
    Lead,
    /// The response is for requests that differ from this one in what `Vary` names: those that agree with it meet here.
    Split(Vec<u8>),
    /// The response is for no other request.
    Alone,
    /// The time to wait is over.
    Late,
}

/// The outcome for a stored response that lacked its first bytes.
enum Filled {
    Answer(EdgeResponse),
    Changed,
    Refused,
}
