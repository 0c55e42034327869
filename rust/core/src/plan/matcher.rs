//! Selects the route of a request (phase 3).
//!
//! The order among routes is fixed at compilation (docs/design.md §3): priority, then host-specific before any-host (a
//! name before a wildcard), an exact path before a pattern, the longer literal prefix first, fewer wildcards first,
//! then declaration order. Each pair of route and host gets its rank in that order; a look-up finds the smallest rank
//! that matches. Per host there is a hash map of exact paths and a radix tree of literal prefixes, so the cost of a
//! request grows with the routes that share its prefix, not with the number of routes.

mod automaton;
pub(crate) mod host;
pub(crate) mod pattern;
mod search;
#[cfg(test)]
mod tests;
mod tokens;
mod trie;

use std::cmp::Reverse;

use crate::{
    geo::Country,
    http::{Fields, PathAndQuery},
};
use foldhash::fast::RandomState;
use http::Method;
use smallvec::SmallVec;

pub use host::{HostError, HostPattern};
pub use pattern::PathPattern;
pub use tokens::PatternError;

use self::{
    host::{hosts_cover, hosts_intersect},
    trie::Trie,
};
use super::{Condition, Route, RouteId, Subject, Test};

type Map<V> = hashbrown::HashMap<Box<str>, V, RandomState>;

/// The parts of a request that routing depends on.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// Lower case, without port.
    pub host: &'a str,
    /// Normalised (RFC 3986 §6.2.2).
    pub path: &'a str,
    /// Read by conditions only.
    pub query: ProbeQuery<'a>,
    /// Case matters (RFC 9110 §9.1); HEAD matches routes for GET.
    pub method: &'a Method,
    /// The fields that [`Condition`]s test, cookies included.
    pub headers: &'a Fields,
    /// The place of the client; `None`: no condition of the plan depends on it.
    pub place: Option<&'a dyn Located>,
}

/// The place of a client, looked up when a condition tests it.
pub trait Located: std::fmt::Debug {
    /// `None`: it is not known.
    fn country(&self) -> Option<Country>;
}

/// The query of a request, without `?` and not decoded.
#[derive(Debug, Clone, Copy)]
pub enum ProbeQuery<'a> {
    /// The query of a target.
    Of(&'a PathAndQuery),
    /// By itself; `None` if the URL has none.
    Text(Option<&'a str>),
}

impl<'a> ProbeQuery<'a> {
    /// The query; `None` if the URL has none.
    pub fn get(self) -> Option<&'a str> {
        match self {
            Self::Of(target) => target.query(),
            Self::Text(text) => text,
        }
    }
}

/// A route under one of its hosts.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    rank: u32,
    route: RouteId,
}

/// The routes of one host pattern.
#[derive(Debug, Default)]
struct HostTable {
    exact: Map<SmallVec<[Ranked; 1]>>,
    trie: Trie,
    /// The best rank in this table.
    best: u32,
}

/// Finds routes.
#[derive(Debug)]
pub struct Router {
    exact: Map<HostTable>,
    below: Map<HostTable>,
    any: HostTable,
    order: Vec<RouteId>,
}

/// Why a route whose host and path match does or does not take the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchResult {
    /// The route takes the request, unless one before it does.
    Matches,
    /// The route does not accept the method.
    Method,
    /// This condition of the route does not hold.
    Condition(usize),
}

impl Router {
    /// Sorts and indexes the routes of a plan, whose positions are their [`RouteId`]s.
    pub fn build(routes: &[Route]) -> Self {
        let mut pairs: Vec<(&HostPattern, &Route)> = routes
            .iter()
            .flat_map(|route| hosts_of(route).iter().map(move |host| (host, route)))
            .collect();
        pairs.sort_by_key(|(host, route)| {
            (
                Reverse(route.priority),
                Reverse(host.specificity()),
                !route.path.is_exact(),
                Reverse(route.path.literal_prefix().len()),
                route.path.wildcards(),
                route.id,
            )
        });
        let mut router = Self {
            exact: Map::default(),
            below: Map::default(),
            any: HostTable {
                best: u32::MAX,
                ..HostTable::default()
            },
            order: Vec::with_capacity(routes.len()),
        };
        let mut seen = vec![false; routes.len()];
        for (rank, (host, route)) in pairs.into_iter().enumerate() {
            let entry = Ranked {
                rank: u32::try_from(rank).unwrap_or(u32::MAX),
                route: route.id,
            };
            let new = || HostTable {
                best: entry.rank,
                ..HostTable::default()
            };
            let table = match host {
                HostPattern::Exact(name) => {
                    router.exact.entry((&**name).into()).or_insert_with(new)
                }
                HostPattern::Below(suffix) => {
                    router.below.entry((&**suffix).into()).or_insert_with(new)
                }
                HostPattern::Any => &mut router.any,
            };
            table.insert(&route.path, entry);
            if let Some(seen @ false) = seen.get_mut(route.id.0 as usize) {
                *seen = true;
                router.order.push(route.id);
            }
        }
        for table in router
            .exact
            .values_mut()
            .chain(router.below.values_mut())
            .chain([&mut router.any])
        {
            table.trie.finish();
        }
        router
    }

    /// The tables for a host, the most specific first.
    fn tables(&self, host: &str, mut visit: impl FnMut(&HostTable)) {
        let host = host.strip_suffix('.').unwrap_or(host);
        if let Some(table) = self.exact.get(host) {
            visit(table);
        }
        if !self.below.is_empty() {
            let mut rest = host;
            // The name itself is not below itself: its first label is removed before the first look-up.
            while let Some(dot) = rest
                .get(1..)
                .and_then(|tail| memchr::memchr(b'.', tail.as_bytes()))
            {
                rest = rest.get(dot + 1..).unwrap_or_default();
                if let Some(table) = self.below.get(rest) {
                    visit(table);
                }
            }
        }
        visit(&self.any);
    }

    /// The route that takes the request.
    pub fn find(&self, routes: &[Route], probe: &Probe<'_>) -> Option<RouteId> {
        let mut found: Option<Ranked> = None;
        let takes = |entry: &Ranked, exact: bool| {
            routes.get(entry.route.0 as usize).is_some_and(|route| {
                (exact || route.path.matches(probe.path))
                    && match_route(route, probe) == MatchResult::Matches
            })
        };
        self.tables(probe.host, |table| {
            table.find(probe.path, &takes, &mut found)
        });
        found.map(|entry| entry.route)
    }

    /// Every route whose host and path match, in the order of precedence, with its result for the request. The first
    /// [`MatchResult::Matches`] is the route that [`Self::find`] returns.
    pub fn candidates(&self, routes: &[Route], probe: &Probe<'_>) -> Vec<(RouteId, MatchResult)> {
        let mut entries: Vec<Ranked> = Vec::new();
        self.tables(probe.host, |table| table.collect(probe.path, &mut entries));
        entries.sort_by_key(|entry| entry.rank);
        let mut found: Vec<(RouteId, MatchResult)> = Vec::new();
        for entry in entries {
            if let Some(route) = routes.get(entry.route.0 as usize)
                && route.path.matches(probe.path)
                && !found.iter().any(|(known, _)| *known == entry.route)
            {
                found.push((entry.route, match_route(route, probe)));
            }
        }
        found
    }

    /// The methods that the URL accepts, if the request's is not among them (RFC 9110 §15.5.6); empty when no route has
    /// the URL at all.
    pub fn allowed_methods(&self, routes: &[Route], probe: &Probe<'_>) -> Vec<Method> {
        let mut methods: Vec<Method> = Vec::new();
        for (id, result) in self.candidates(routes, probe) {
            if result != MatchResult::Method {
                continue;
            }
            for method in routes
                .get(id.0 as usize)
                .into_iter()
                .flat_map(|route| &route.methods)
            {
                let head = (*method == Method::GET).then_some(&Method::HEAD);
                for method in [Some(method), head].into_iter().flatten() {
                    if !methods.contains(method) {
                        methods.push(method.clone());
                    }
                }
            }
        }
        methods
    }

    /// The routes in the order of precedence; one with several hosts is at its best position.
    pub fn order(&self) -> &[RouteId] {
        &self.order
    }

    /// Routes that no request can ever take, each with the route that takes them all instead.
    pub fn unreachable(&self, routes: &[Route]) -> Vec<(RouteId, RouteId)> {
        let mut found = Vec::new();
        for route in routes {
            let mut shadow = None;
            let everywhere = hosts_of(route).iter().all(|host| {
                let by = self.shadow(routes, route, host);
                shadow = shadow.or(by);
                by.is_some()
            });
            if let (true, Some(shadow)) = (everywhere, shadow) {
                found.push((route.id, shadow));
            }
        }
        found
    }

    /// The route that takes all of `route` under one of its hosts.
    fn shadow(&self, routes: &[Route], route: &Route, host: &HostPattern) -> Option<RouteId> {
        let mut nearby: Vec<Ranked> = Vec::new();
        let prefix = route.path.literal_prefix();
        let own = match host {
            HostPattern::Exact(name) => {
                self.tables(name, |table| table.nearby(prefix, &mut nearby));
                self.exact.get(&**name)
            }
            HostPattern::Below(suffix) => {
                // A name below the suffix represents all of them; tables for such names are more specific, not wider.
                self.tables(&format!("x{suffix}"), |table| {
                    table.nearby(prefix, &mut nearby)
                });
                self.below.get(&**suffix)
            }
            HostPattern::Any => {
                self.any.nearby(prefix, &mut nearby);
                Some(&self.any)
            }
        };
        let mut mine = Vec::new();
        own?.nearby(prefix, &mut mine);
        let rank = mine
            .iter()
            .filter(|entry| entry.route == route.id)
            .map(|entry| entry.rank)
            .min()?;
        nearby.sort_by_key(|entry| entry.rank);
        nearby
            .iter()
            .take_while(|entry| entry.rank < rank)
            .filter_map(|entry| routes.get(entry.route.0 as usize))
            .find(|other| {
                other.id != route.id && takes_all(other, route, std::slice::from_ref(host))
            })
            .map(|other| other.id)
    }
}

impl HostTable {
    fn insert(&mut self, path: &PathPattern, entry: Ranked) {
        let prefix = path.literal_prefix();
        match std::str::from_utf8(prefix) {
            Ok(literal) if path.is_exact() => {
                self.exact.entry(literal.into()).or_default().push(entry)
            }
            _ => self.trie.insert(prefix, entry),
        }
        self.best = self.best.min(entry.rank);
    }

    fn find(&self, path: &str, fits: &impl Fn(&Ranked, bool) -> bool, best: &mut Option<Ranked>) {
        let better = |rank: u32, best: &Option<Ranked>| best.is_none_or(|best| rank < best.rank);
        if !better(self.best, best) {
            return;
        }
        if let Some(entries) = self.exact.get(path) {
            // In the order of rank, because they were inserted in it.
            let first = entries
                .iter()
                .take_while(|entry| better(entry.rank, best))
                .find(|entry| fits(entry, true));
            if let Some(entry) = first {
                *best = Some(*entry);
            }
        }
        self.trie.visit(path.as_bytes(), |entries, least| {
            if !better(least, best) {
                return false;
            }
            let first = entries
                .iter()
                .take_while(|entry| better(entry.rank, best))
                .find(|entry| fits(entry, false));
            if let Some(entry) = first {
                *best = Some(*entry);
            }
            true
        });
    }

    /// Collects all entries whose literal prefix begins the path.
    fn collect(&self, path: &str, into: &mut Vec<Ranked>) {
        into.extend(self.exact.get(path).into_iter().flatten());
        self.trie.visit(path.as_bytes(), |entries, _| {
            into.extend(entries);
            true
        });
    }

    /// Collects all entries that could cover a pattern with this literal prefix.
    fn nearby(&self, prefix: &[u8], into: &mut Vec<Ranked>) {
        if let Ok(path) = std::str::from_utf8(prefix) {
            self.collect(path, into);
        }
    }
}

/// The result of a route whose host and path match.
fn match_route(route: &Route, probe: &Probe<'_>) -> MatchResult {
    if !takes_method(&route.methods, probe.method) {
        return MatchResult::Method;
    }
    match route
        .when
        .iter()
        .position(|condition| !holds(condition, probe))
    {
        Some(failed) => MatchResult::Condition(failed),
        None => MatchResult::Matches,
    }
}

/// GET implies HEAD (RFC 9110 §9.3.2).
fn takes_method(methods: &[Method], method: &Method) -> bool {
    methods.is_empty()
        || methods.contains(method)
        || (*method == Method::HEAD && methods.contains(&Method::GET))
}

/// True if a route would match every request of another one under these hosts, were the other one not there.
pub fn takes_all(outer: &Route, route: &Route, hosts: &[HostPattern]) -> bool {
    outer.when.is_empty()
        && methods_cover(&outer.methods, &route.methods)
        && hosts_cover(&outer.hosts, hosts)
        && outer.path.covers(&route.path)
}

fn methods_cover(left: &[Method], right: &[Method]) -> bool {
    left.is_empty() || (!right.is_empty() && right.iter().all(|method| takes_method(left, method)))
}

fn holds(condition: &Condition, probe: &Probe<'_>) -> bool {
    match &condition.subject {
        Subject::Header(name) => {
            let mut values = probe.headers.get_all(name).iter();
            match &condition.test {
                Test::Present(wanted) => values.next().is_some() == *wanted,
                test => values.any(|value| {
                    std::str::from_utf8(value.as_bytes()).is_ok_and(|value| passes(test, value))
                }),
            }
        }
        Subject::Cookie(name) => match (
            &condition.test,
            crate::http::cookie::get(probe.headers, name),
        ) {
            // A value that is not UTF-8 is present, and equal to no text.
            (Test::Present(wanted), value) => value.is_some() == *wanted,
            (test, value) => meets(
                test,
                value.and_then(|value| std::str::from_utf8(value).ok()),
            ),
        },
        Subject::Query(name) => {
            let value = probe
                .query
                .get()
                .and_then(|query| crate::http::uri::get_query(query, name));
            meets(&condition.test, value.as_deref())
        }
        Subject::Country => {
            let country = probe.place.and_then(Located::country);
            match &condition.test {
                Test::Country(countries) => {
                    country.is_some_and(|country| countries.contains(&country))
                }
                test => meets(test, country.as_ref().map(Country::as_str)),
            }
        }
    }
}

fn meets(test: &Test, value: Option<&str>) -> bool {
    match test {
        Test::Present(wanted) => value.is_some() == *wanted,
        test => value.is_some_and(|value| passes(test, value)),
    }
}

fn passes(test: &Test, value: &str) -> bool {
    match test {
        Test::Present(wanted) => *wanted,
        Test::Equals(wanted) => &**wanted == value,
        Test::Matches(pattern) => pattern.matches(value),
        // Tested as such above.
        Test::Country(_) => false,
    }
}

/// The hosts of a route; an empty list is every host.
pub fn hosts_of(route: &Route) -> &[HostPattern] {
    const ANY: &[HostPattern] = &[HostPattern::Any];
    if route.hosts.is_empty() {
        ANY
    } else {
        &route.hosts
    }
}

/// How specific the route is about a host: larger is more.
pub fn specificity(route: &Route, host: &str) -> usize {
    hosts_of(route)
        .iter()
        .filter(|own| own.matches(host))
        .map(HostPattern::specificity)
        .max()
        .unwrap_or(0)
}

/// True if some request could meet both routes' hosts.
pub fn share_a_host(left: &Route, right: &Route) -> bool {
    hosts_intersect(&left.hosts, &right.hosts)
}
