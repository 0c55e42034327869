//! Phases 2 to 6, acted on: the look-ups that their decisions need, and the response to an answer that ends them.

use std::{net::IpAddr, sync::Arc, time::Instant};

use edgerouter_core::{
    bounds::clients::Client,
    experiment::{Experiment, Reading},
    geo::{Country, Place, PlaceSource as _},
    guard::{
        basic::{self, BasicPolicy, BasicRefusal, Credentials},
        rate::{RateDecision, RateKey, RateLimit},
    },
    identity::jwt::{self, Claims, JwtPolicy, TokenError},
    outcome::{PasswordResult, TokenResult},
    path::{Admitted, LookUps, PathDecision, PathEnd},
    plan::Route,
};

use super::{
    answer::{self, Early},
    exchange::Exchange,
};
use crate::{functions::fetch::FetchChain, identity::Busy, live::LocalLive, worker::Worker};

/// Look-ups of one worker, at `now` (Unix seconds).
struct Worked<'a> {
    worker: &'a Worker,
    /// The requests around this one.
    chain: &'a FetchChain,
    live: &'a LocalLive,
    now: u64,
    /// The same time as an instant.
    started: Instant,
}

impl<'a> Worked<'a> {
    /// The look-ups of an exchange, beside its request, which the decisions write to.
    fn of(exchange: &'a mut Exchange, live: &'a LocalLive) -> (&'a mut Admitted, Self) {
        let worked = Self {
            worker: &exchange.worker,
            chain: &exchange.chain,
            live,
            now: exchange.now,
            started: exchange.started,
        };
        (&mut exchange.request, worked)
    }
}

impl LookUps for Worked<'_> {
    /// From memory where the token was verified before, by its signature otherwise.
    fn token(
        &mut self,
        policy: &Arc<JwtPolicy>,
        token: &[u8],
    ) -> Result<Option<Arc<Claims>>, TokenError> {
        let mut remembered = self.worker.remembered.borrow_mut();
        let keys = self.live.keys.keys_of(policy)?;
        if let Some(claims) = remembered.get(policy, &keys, token, self.now) {
            self.worker.metrics.jwt(Ok(TokenResult::Remembered));
            return Ok(Some(claims));
        }
        let verified = jwt::verify(policy, &keys, token, self.now);
        if let Err(error) = &verified
            && policy.may_be_rotated(error)
        {
            self.live.keys.request_keys(policy);
        }
        let claims = Arc::new(verified?);
        self.worker.metrics.jwt(Ok(TokenResult::Verified));
        remembered.put(policy, &keys, token, Arc::clone(&claims));
        Ok(Some(claims))
    }

    fn outer_claims(&mut self, policy: &JwtPolicy) -> Option<Arc<Claims>> {
        self.chain.verified(policy.fingerprint())
    }

    fn rate(&mut self, limit: &RateLimit, key: RateKey<'_>) -> RateDecision {
        let now = self.worker.clock.unix_nanos(self.started);
        let keys = self.live.plan.limits.http.rate_keys;
        let decision = self.worker.shared.rates.decide(limit, key, now, keys);
        self.live.metrics.rate(limit, &decision);
        decision
    }

    fn take_back(&mut self, limit: &RateLimit, passed: RateDecision) -> RateDecision {
        let now = self.worker.clock.unix_nanos(self.started);
        self.worker.shared.rates.give_back(limit, passed, now)
    }

    fn password(&mut self, policy: &Arc<BasicPolicy>, credentials: &Credentials) -> Option<bool> {
        let known = self
            .worker
            .shared
            .passwords
            .knows(policy, credentials, self.now);
        known.then_some(true)
    }

    fn place(&mut self, address: IpAddr) -> Arc<Place> {
        let files = self.live.geo.as_ref();
        files.map_or_else(Arc::default, |files| files.find(address))
    }

    fn reading(&mut self, experiment: &Experiment) -> Option<Arc<Reading>> {
        self.live.readings.get(experiment).cloned()
    }

    fn now(&self) -> u64 {
        self.now
    }

    #[inline]
    fn decided(&mut self, decision: PathDecision<'_>) {
        match decision {
            PathDecision::Signed => self.worker.metrics.signed(Ok(())),
            PathDecision::Password(_) => self.worker.metrics.password(Ok(PasswordResult::Accepted)),
            _ => {}
        }
    }

    fn chance(&mut self) -> u64 {
        self.worker.random()
    }
}

/// Phases 3 to 6.
pub(super) fn decide<'l>(
    exchange: &mut Exchange,
    live: &'l LocalLive,
) -> Result<&'l Route, PathEnd> {
    let (request, mut look_ups) = Worked::of(exchange, live);
    request.decide(&live.plan, &mut look_ups)
}

/// The route of a request whose password is verified first. Each client may fail a few times a minute.
pub(super) async fn verified<'l>(
    exchange: &mut Exchange,
    live: &'l LocalLive,
) -> Result<&'l Route, Early> {
    let shared = Arc::clone(&exchange.worker.shared);
    let route = exchange.route.and_then(|id| live.plan.route(id));
    let policy = route.and_then(|route| route.guard.as_ref()?.basic.clone());
    let credentials = basic::credentials(&exchange.head.headers);
    let (Some(policy), Ok(credentials)) = (policy, credentials) else {
        return Err(exchange.end(PathEnd::Password));
    };
    let refused = |why| PathEnd::Basic(why, policy.challenge.clone());
    let key = RateKey::Client(Client::of(exchange.client.address));
    let failures = &shared.passwords.failures;
    let now = exchange.worker.clock.unix_nanos(exchange.started);
    let keys = live.plan.limits.http.rate_keys;
    let counted = shared.rates.decide(failures, key, now, keys);
    if let Err(seconds) = counted.result {
        return Err(exchange.end(PathEnd::RateLimited(seconds)));
    }
    let verified = shared
        .passwords
        .verify(Arc::clone(&policy), credentials.clone())
        .await;
    if verified != Ok(false) {
        shared.rates.give_back(failures, counted, now);
    }
    match verified {
        Ok(true) => shared
            .passwords
            .remember(&policy, &credentials, exchange.now),
        Ok(false) => return Err(exchange.end(refused(BasicRefusal::Wrong))),
        Err(Busy) => return Err(exchange.end(refused(BasicRefusal::Busy))),
    }
    exchange
        .worker
        .metrics
        .password(Ok(PasswordResult::Verified));
    identified_again(exchange, live)
}

/// The route of a request whose token came before the first keys of its issuer, as after a start, or before the edge
/// has its key, as after a rotation: it waits for these. Only so many wait at a time, and `end` is the answer to the
/// others.
pub(super) async fn with_awaited_keys<'l>(
    exchange: &mut Exchange,
    live: &'l LocalLive,
    end: PathEnd,
) -> Result<&'l Route, Early> {
    let route = exchange.route.and_then(|id| live.plan.route(id));
    let most = live.plan.limits.http.delayed_requests;
    let waiting = exchange.worker.shared.rates.wait(most);
    let (Some(policy), Some(waiting)) = (route.and_then(|route| route.auth.as_ref()), waiting)
    else {
        return Err(exchange.end(end));
    };
    let there = match &end {
        PathEnd::Unauthorized(Some(lacked), ..) => live.keys.awaited_keys(policy, lacked).await,
        _ => false,
    };
    drop(waiting);
    if !there {
        return Err(exchange.end(end));
    }
    identified_again(exchange, live)
}

fn identified_again<'l>(exchange: &mut Exchange, live: &'l LocalLive) -> Result<&'l Route, Early> {
    let (request, mut look_ups) = Worked::of(exchange, live);
    let decided = request.identify_again(&live.plan, &mut look_ups);
    decided.map_err(|end| exchange.end(end))
}

/// Waits until it is the request's turn under its rate limits. Only so many wait at a time; the others are refused.
pub(super) async fn wait_for_turn(exchange: &mut Exchange, live: &LocalLive) -> Result<(), Early> {
    let most = live.plan.limits.http.delayed_requests;
    let Some(waiting) = exchange.worker.shared.rates.wait(most) else {
        let (request, mut look_ups) = Worked::of(exchange, live);
        request.take_back(&mut look_ups);
        return Err(exchange.end(PathEnd::RateLimited(1)));
    };
    tokio::time::sleep(exchange.turn_in()).await;
    drop(waiting);
    Ok(())
}

impl Exchange {
    /// The client's country, which is looked up unless something has read it before.
    #[cold]
    pub(super) fn country(&self) -> Option<Country> {
        if let Some(place) = self.place() {
            return place.country;
        }
        let named = self.named_country(&self.live.plan);
        named.or_else(|| self.live.geo.as_ref()?.find(self.client.address).country)
    }

    /// The response for an answer that ends the request, noted for phase 16.
    pub(super) fn end(&mut self, end: PathEnd) -> Early {
        (self.note.outcome, self.note.detail) = end.noted();
        answer::ended(&self.worker, end)
    }
}
