//! Freshness: how old a stored response is and how long it may be used (RFC 9111 §4.2).
//!
//! All times are whole seconds since the Unix epoch, given by the caller: nothing here reads a clock.

use http::StatusCode;

use crate::{
    http::{Fields, cache_control::ResponseDirectives, date, header, list},
    outcome::words,
    plan::CachePolicy,
};

/// How long a response stays fresh, and the rule that determined it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Seconds from the response's generation; under the policy's `ttl`, from its arrival. 0: stale from the start.
    pub seconds: u32,
    /// The rule that gave `seconds`.
    pub rule: LifetimeRule,
    /// §3: the status is cacheable by default, or the response explicitly allows storing it.
    pub may_store: bool,
}

words! {
    /// The rule that gave a lifetime. Its position is its number in stored responses, on disk too: new ones are added
    /// at the end.
    pub enum LifetimeRule {
        /// No rule applies: stale from the start.
        None = "no lifetime",
        /// The policy's `ttl`.
        Policy = "policy ttl",
        /// §5.2.2.10.
        SMaxage = "s-maxage (RFC 9111 §5.2.2.10)",
        /// §5.2.2.1.
        MaxAge = "max-age (RFC 9111 §5.2.2.1)",
        /// `Expires` less `Date` (§5.3).
        Expires = "Expires (RFC 9111 §5.3)",
        /// The policy's `negative_ttl` for this status.
        Negative = "policy negative_ttl",
        /// The policy's `default_ttl`.
        Default = "policy default_ttl",
        /// §4.2.2.
        Heuristic = "heuristic (RFC 9111 §4.2.2)",
    }
}

impl LifetimeRule {
    /// Number of the rule in stored responses.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The rule that [`Self::number`] gave this number; `None` for a number that no rule has.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Heuristically cacheable statuses (RFC 9110 §15.1, RFC 7725 §3) but 206, which is not stored whole.
pub fn heuristic_status(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 451 | 501
    )
}

/// Final statuses that no cache may store, whatever the response says (RFC 6585 §3 to §6): they are about the client,
/// not the resource.
pub fn never_stored(status: StatusCode) -> bool {
    matches!(status.as_u16(), 428 | 429 | 431 | 511)
}

/// Final statuses whose caching rules this cache knows (§5.2.2.3).
pub fn understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 201 | 202 | 203 | 204 | 300 | 301 | 302 | 303 | 307 | 308 | 400..=417 | 421 | 422 | 425 | 426 | 428 | 429 | 431 | 451 | 500..=511
    )
}

/// Upper bound of heuristic lifetimes: one week.
const MOST_HEURISTIC: u64 = 7 * 86_400;

/// The lifetime of a response for a shared cache (§4.2.1). The policy's bounds apply last, and never to a response that
/// may not be reused without validation.
pub fn lifetime(
    status: StatusCode,
    headers: &Fields,
    directives: &ResponseDirectives,
    policy: &CachePolicy,
    now: u64,
) -> Lifetime {
    let bound = |seconds: u32| {
        let most = policy.max_ttl.unwrap_or(u32::MAX);
        seconds.max(policy.min_ttl).min(most)
    };
    let explicit = |seconds, rule| Lifetime {
        seconds: bound(seconds),
        rule,
        may_store: true,
    };
    let negative = policy.negative_ttl.iter().find(|(of, _)| *of == status);
    if let Some(ttl) = policy.ttl {
        if let Some((_, seconds)) = negative {
            return explicit(*seconds, LifetimeRule::Negative);
        }
        // For server errors only the response's own directives count: an origin in trouble did not mean them to be
        // kept.
        if !status.is_server_error() {
            return Lifetime {
                seconds: ttl,
                rule: LifetimeRule::Policy,
                may_store: true,
            };
        }
    }
    if let Some(seconds) = directives.s_maxage {
        return explicit(seconds, LifetimeRule::SMaxage);
    }
    if let Some(seconds) = directives.max_age {
        return explicit(seconds, LifetimeRule::MaxAge);
    }
    if !directives.targeted && headers.contains_key(header::EXPIRES) {
        return explicit(expires(headers, now), LifetimeRule::Expires);
    }
    if let Some((_, seconds)) = negative {
        return explicit(*seconds, LifetimeRule::Negative);
    }
    let by_default = heuristic_status(status) || directives.public;
    if let Some(seconds) = policy.default_ttl
        && by_default
        && !status.is_client_error()
        && !status.is_server_error()
    {
        return Lifetime {
            seconds: bound(seconds),
            rule: LifetimeRule::Default,
            may_store: true,
        };
    }
    if policy.heuristics
        && by_default
        && let Some(seconds) = heuristic(headers, now)
    {
        return Lifetime {
            seconds: bound(seconds),
            rule: LifetimeRule::Heuristic,
            may_store: true,
        };
    }
    let floor = if by_default {
        policy.min_ttl.min(policy.max_ttl.unwrap_or(u32::MAX))
    } else {
        0
    };
    Lifetime {
        seconds: floor,
        rule: LifetimeRule::None,
        may_store: by_default,
    }
}

/// §5.3: an invalid or repeated date means already expired.
fn expires(headers: &Fields, now: u64) -> u32 {
    let mut lines = headers.get_all(header::EXPIRES).iter();
    let (Some(first), rest) = (lines.next(), lines.next()) else {
        return 0;
    };
    if rest.is_some_and(|rest| rest != first) {
        return 0;
    }
    let Some(expires) = date::parse(first.as_bytes()) else {
        return 0;
    };
    let sent = sent(headers).unwrap_or(now);
    u32::try_from(expires.saturating_sub(sent)).unwrap_or(u32::MAX)
}

/// A tenth of the time since the last change.
fn heuristic(headers: &Fields, now: u64) -> Option<u32> {
    let modified = date::parse(headers.get(header::LAST_MODIFIED)?.as_bytes())?;
    let age = sent(headers).unwrap_or(now).checked_sub(modified)?;
    u32::try_from((age / 10).min(MOST_HEURISTIC)).ok()
}

fn sent(headers: &Fields) -> Option<u64> {
    date::parse(headers.get(header::DATE)?.as_bytes())
}

/// The age of a response when it arrived (§4.2.3).
pub fn initial_age(headers: &Fields, request_time: u64, response_time: u64) -> u32 {
    let apparent = sent(headers).map_or(0, |sent| response_time.saturating_sub(sent));
    let delay = response_time.saturating_sub(request_time);
    let corrected = age_value(headers).saturating_add(delay);
    u32::try_from(apparent.max(corrected)).unwrap_or(u32::MAX)
}

/// The first member of the first `Age` line; anything but digits is ignored (§5.1).
fn age_value(headers: &Fields) -> u64 {
    let first = headers
        .get(header::AGE)
        .and_then(|line| list(line.as_bytes()).next());
    match first {
        Some(text) if text.iter().all(u8::is_ascii_digit) => text
            .iter()
            .fold(0u64, |n, digit| {
                n.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
            })
            .min(1 << 31),
        _ => 0,
    }
}

/// Seconds by which the clocks of workers differ, or a clock is corrected in passing.
const CORRECTED: u64 = 2;

/// All time values that later requests need of a stored response. Computed once, on arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Seconds: [`Self::age`] is compared with it.
    pub lifetime: u32,
    /// The rule that determined the lifetime.
    pub rule: LifetimeRule,
    /// Age in seconds on arrival (§4.2.3, `corrected_initial_age`).
    pub initial_age: u32,
    /// Arrival or last validation, in Unix seconds.
    pub stored_at: u64,
    /// Seconds after expiry in which it is sent stale while a refresh is under way (RFC 5861 §3); 0: none.
    pub stale_while_revalidate: u32,
    /// Seconds after expiry in which it replaces an error of the origin (RFC 5861 §4); 0: none.
    pub stale_if_error: u32,
    /// Never sent stale (§5.2.2.2, §5.2.2.8; s-maxage implies it, §5.2.2.10).
    pub must_revalidate: bool,
    /// Never sent without validation (§5.2.2.4).
    pub always_validate: bool,
    /// While it is fresh, a reload does not revalidate it (RFC 8246 §2).
    pub immutable: bool,
    /// The response does not forbid its stale use while no origin can be reached (§4.2.4).
    pub when_disconnected: bool,
}

impl Freshness {
    /// Seconds since the origin generated it. Of a response from a time that is ahead the clock was set back, and
    /// nobody knows how old it is: it counts as old as it is ahead, or it would stay fresh until that time has come.
    pub fn age(&self, now: u64) -> u64 {
        let ahead = self.stored_at.saturating_sub(now);
        let resident = if ahead > CORRECTED {
            ahead
        } else {
            now.saturating_sub(self.stored_at)
        };
        u64::from(self.initial_age).saturating_add(resident)
    }

    /// True while the age is below the lifetime (§4.2). `now`: Unix seconds.
    pub fn fresh(&self, now: u64) -> bool {
        self.age(now) < u64::from(self.lifetime)
    }

    /// True if the response can ever serve a second request: there is a time in which it may be used without
    /// validation.
    pub fn shares(&self) -> bool {
        !self.always_validate && (self.lifetime > 0 || self.stale_while_revalidate > 0)
    }

    /// Remaining seconds of freshness; negative once it is stale.
    pub fn ttl(&self, now: u64) -> i64 {
        i64::from(self.lifetime).saturating_sub(i64::try_from(self.age(now)).unwrap_or(i64::MAX))
    }

    /// The same, stale from `at` on if it would have been fresh for longer.
    pub fn softened(self, at: u64) -> Self {
        let resident = at.saturating_sub(self.stored_at);
        let age = u64::from(self.initial_age).saturating_add(resident);
        Self {
            lifetime: self.lifetime.min(u32::try_from(age).unwrap_or(u32::MAX)),
            ..self
        }
    }

    /// Seconds for which it has been stale.
    pub fn staleness(&self, now: u64) -> u64 {
        self.age(now).saturating_sub(u64::from(self.lifetime))
    }
}

/// Computes the times of a response on its arrival. `request_time` and `response_time` are Unix seconds (§4.2.3).
pub fn freshness(
    status: StatusCode,
    headers: &Fields,
    directives: &ResponseDirectives,
    policy: &CachePolicy,
    request_time: u64,
    response_time: u64,
) -> Freshness {
    let lifetime = lifetime(status, headers, directives, policy, response_time);
    // s-maxage implies proxy-revalidate (§5.2.2.10), unless the same response names a window for stale use (RFC 5861):
    // then the origin wants stale use.
    let window = directives.stale_while_revalidate.is_some() || directives.stale_if_error.is_some();
    let must_revalidate = directives.must_revalidate
        || directives.proxy_revalidate
        || (directives.s_maxage.is_some() && !window);
    let stale = |own: Option<u32>, policy: Option<u32>| own.or(policy).unwrap_or(0);
    Freshness {
        lifetime: lifetime.seconds,
        rule: lifetime.rule,
        // A lifetime from the policy counts from the arrival of the response.
        initial_age: match lifetime.rule {
            LifetimeRule::Policy => 0,
            _ => initial_age(headers, request_time, response_time),
        },
        stored_at: response_time,
        stale_while_revalidate: stale(
            directives.stale_while_revalidate,
            policy.stale_while_revalidate,
        ),
        stale_if_error: stale(directives.stale_if_error, policy.stale_if_error),
        must_revalidate,
        always_validate: directives.no_cache,
        immutable: directives.immutable,
        when_disconnected: !must_revalidate && when_disconnected(status, lifetime, directives),
    }
}

/// True if a response may be sent stale while no origin can be reached, if no window was given (§4.2.4): no directive
/// forbids it, the origin's own stale-if-error (0 included) does not contradict, and its lifetime was given explicitly.
/// A response without an explicit lifetime was revalidated for each visitor and may be one visitor's page.
fn when_disconnected(
    status: StatusCode,
    lifetime: Lifetime,
    directives: &ResponseDirectives,
) -> bool {
    let given =
        directives.no_cache || directives.s_maxage.is_some() || directives.stale_if_error.is_some();
    let rule = lifetime.rule;
    !given
        && match status.as_u16() {
            200..=399 => lifetime.seconds > 0 || rule != LifetimeRule::None,
            // An error is kept only if its lifetime was meant for errors.
            404 | 410 => matches!(
                rule,
                LifetimeRule::MaxAge | LifetimeRule::Expires | LifetimeRule::Negative
            ),
            _ => false,
        }
}
