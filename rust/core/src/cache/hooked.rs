//! Responses that hooks took part in: which requests may share them.
//!
//! A `viewer_request` hook runs before the key, so the fields that it wrote are part of the key ([`Written`]). A hook
//! of the origin phases runs after the look-up: it must not make a stored response depend on something that the look-up
//! cannot see. So every field, cookie, parameter and claim that it read is noted ([`Reads`]), and [`Facts::apply`]
//! decides how the stored response is selected, as the origin's own `Vary` would select it (RFC 9111 §4.1), or that it
//! is not stored.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{storable::NotStored, tags, vary};
use crate::{
    http::{FieldName, Fields, KnownSet, header},
    identity::jwt::Claims,
    plan::{CachePolicy, CallableId, HeaderEdits, Plan, Route, Select},
};

/// Names that one request's hooks may read before everything counts as read.
const MOST_NAMES: usize = 64;

/// Parts of a request that were read: some by their names, or all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Everything was read, or more than 64 names; `names` is then incomplete.
    pub all: bool,
    /// In the order of the first read, each once; at most 64.
    pub names: SmallVec<[Box<str>; 2]>,
}

impl Names {
    /// Adds a name. Beyond 64 names everything counts as read.
    pub fn note(&mut self, name: &str) {
        if self.all || self.names.iter().any(|known| **known == *name) {
            return;
        }
        if self.names.len() >= MOST_NAMES {
            self.all = true;
            return;
        }
        self.names.push(name.into());
    }

    /// True if nothing was read.
    pub fn is_empty(&self) -> bool {
        !self.all && self.names.is_empty()
    }
}

/// The parts of a request that the hooks of one phase read and wrote.
#[derive(Debug, Clone, Default)]
pub struct Reads {
    /// In lower case.
    pub fields: Names,
    /// By name.
    pub cookies: Names,
    /// By decoded parameter name.
    pub query: Names,
    /// By name; `all`: the whole token, or its presence.
    pub claims: Names,
    /// The presence of a token.
    pub token: bool,
    /// The parameters of the route's pattern.
    pub params: bool,
    /// Something specific to one request: the client's address or location, the request's id.
    pub personal: bool,
    /// Fields that were written: reading them afterwards does not read the client's.
    pub written: SmallVec<[FieldName; 4]>,
    /// Every field was removed; the present ones were set afterwards.
    pub cleared: bool,
    /// Hashes of the tags that the callable gave to the response, at most [`tags::MOST_TAGS`] and one.
    pub tags: Vec<u64>,
}

impl Reads {
    /// Notes a read of a field by its name. A field that hooks of this phase wrote is no part of the request any more.
    pub fn field(&mut self, name: &str) {
        let own = self.cleared
            || self
                .written
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known.as_str()));
        if own {
            return;
        }
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            self.fields.note(&name.to_ascii_lowercase());
        } else {
            self.fields.note(name);
        }
    }

    /// Notes that every field was read, or their number.
    pub fn all_fields(&mut self) {
        if !self.cleared {
            self.fields.all = true;
        }
    }

    /// Notes a read of one cookie, unless hooks of this phase wrote `Cookie`.
    pub fn cookie(&mut self, name: &str) {
        if !self.owns_cookies() {
            self.cookies.note(name);
        }
    }

    /// Notes a read of the `Cookie` field as a whole.
    pub fn all_cookies(&mut self) {
        self.field(header::COOKIE.as_str());
    }

    fn owns_cookies(&self) -> bool {
        self.cleared || self.written.iter().any(|name| *name == header::COOKIE)
    }

    /// Notes that a field was set or removed: later reads of it are not reads of the request.
    pub fn wrote(&mut self, name: &FieldName) {
        if !self.written.contains(name) {
            self.written.push(name.clone());
        }
    }

    /// Gives the response a tag by which it can be purged.
    pub fn tag(&mut self, tag: &[u8]) {
        let hash = tags::hash(tag);
        if self.tags.len() <= tags::MOST_TAGS && !self.tags.contains(&hash) {
            self.tags.push(hash);
        }
    }

    /// Notes that every field was removed.
    pub fn clear(&mut self) {
        self.cleared = true;
    }

    /// The start for the next hook of the same phase, which sees the fields that this one wrote.
    pub fn next(&self) -> Self {
        Self {
            written: self.written.clone(),
            cleared: self.cleared,
            ..Self::default()
        }
    }
}

/// The fields that `viewer_request` hooks wrote, and whether one of these hooks failed open.
#[derive(Debug, Default)]
pub struct Written {
    /// Each once, with the hook that wrote it first.
    pub fields: SmallVec<[(CallableId, FieldName); 2]>,
    /// A hook removed every field, so that each counts as written.
    pub cleared: bool,
    /// The request continues without the changes that the failed hook would have made.
    pub failed_open: bool,
}

impl Written {
    /// Adds the fields that one hook wrote. `before` and `after`: the header sections that it received and left.
    pub fn by(&mut self, call: CallableId, reads: &Reads, before: &Fields, after: &Fields) {
        if reads.cleared {
            self.cleared = true;
            for name in before.keys().chain(after.keys()) {
                self.add(call, &name.owned());
            }
        }
        for name in &reads.written {
            self.add(call, name);
        }
    }

    fn add(&mut self, call: CallableId, name: &FieldName) {
        if self.fields.iter().all(|(_, known)| known != name) {
            self.fields.push((call, name.clone()));
        }
    }

    /// True if a hook set, changed or removed the field. `name` is in lower case.
    pub fn wrote(&self, name: &str) -> bool {
        self.cleared || self.fields.iter().any(|(_, known)| known == name)
    }

    /// The names, sorted, each once.
    pub fn names(&self) -> Vec<FieldName> {
        let mut names: Vec<FieldName> = self.fields.iter().map(|(_, name)| name.clone()).collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names
    }

    /// The reason, if any, why these hooks keep the response of this request from being stored.
    pub fn forbids(&self) -> Option<NotStored> {
        self.failed_open.then_some(NotStored::HookFailed)
    }
}

/// The names of the hooks of the origin phases that run for a request, phase by phase. `path`: as the viewer requested
/// it.
pub fn origin_hooks(plan: &Plan, route: &Route, host: &str, path: &str) -> Vec<String> {
    let phases = [
        ("origin_request", &route.hooks.origin_request),
        ("origin_response", &route.hooks.origin_response),
    ];
    let mut names = Vec::new();
    for (phase, hooks) in phases {
        for hook in hooks.iter().filter(|hook| hook.runs(host, path)) {
            let callable = plan.callable(hook.call);
            let name = callable.map_or("?", |callable| &*callable.name);
            names.push(format!("{phase} {name}"));
        }
    }
    names
}

/// The tag that the hooks of the origin phases add to a route's keys: another set of hooks makes another response, on a
/// route that shares the URL, after a rewrite, and after a reload.
pub fn tag<'r>(route: &'r Route, hooks: &[String]) -> Option<Cow<'r, str>> {
    if hooks.is_empty() {
        return route.key_tag.as_deref().map(Cow::Borrowed);
    }
    let own = route.key_tag.as_deref().unwrap_or_default();
    Some(format!("{own}\n{}\n{}", route.label, hooks.join(",")).into())
}

/// How hooks affect the storing of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookEffect {
    /// The response is selected by these besides the origin's `Vary`; cookies as [`vary::cookie`] names them.
    pub selects: SmallVec<[FieldName; 4]>,
    /// Why it may not be stored.
    pub forbids: Option<NotStored>,
    /// Hashes of the tags that callables gave it, beside those of its fields.
    pub tags: Vec<u64>,
}

impl HookEffect {
    /// Forbids storing; the first reason stays.
    pub fn forbid(&mut self, why: NotStored) {
        self.forbids.get_or_insert(why);
    }

    /// Adds fields that select among variants, each once.
    pub fn select(&mut self, names: impl IntoIterator<Item = FieldName>) {
        for name in names {
            if !self.selects.contains(&name) {
                self.selects.push(name);
            }
        }
    }

    /// Adds these names to the origin's selecting names, each once.
    pub fn join(&self, names: &mut SmallVec<[FieldName; 4]>) {
        for name in &self.selects {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
}

/// The facts about a request that its hooks' reads are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The route's policy for the key and for what is stored.
    pub policy: &'a CachePolicy,
    /// Parameters that the origin, and the hooks of its phases, receive.
    pub forward_query: &'a Select,
    /// The fields that `viewer_request` hooks wrote; `None` if no such hook ran.
    pub written: Option<&'a Written>,
    /// The request's fields from which variants are selected.
    pub viewer: &'a Fields,
    /// The fields that the hooks were shown.
    pub shown: &'a Fields,
    /// The route's own edits of what is sent.
    pub edits: &'a HeaderEdits,
    /// Names of the fields that carry a verified token's claims to the origin.
    pub identity: &'a [FieldName],
    /// Names of the fields that carry variants to the origin; variants are in the key.
    pub experiments: &'a [FieldName],
    /// True if the route also accepts requests without a token.
    pub anonymous: bool,
    /// True if the key's path determines the parameters of the route's pattern.
    pub params: bool,
    /// Claims of the verified token.
    pub claims: Option<&'a Claims>,
}

/// Fields of the message and of conditions, which the edge answers or sets itself: upstream they carry nothing of the
/// client's.
const OF_THE_EDGE: KnownSet = KnownSet::of(&[
    header::HOST,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
    header::CONTENT_LENGTH,
]);

/// True if a field names the source of a request: a client, or a proxy.
fn names_a_client(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "cf-ipcountry",
        "x-country-code",
        "traceparent",
        "tracestate",
    ];
    NAMES.contains(&name)
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-geo-")
        || name.starts_with("cloudfront-viewer-")
        || name == "x-edge-request-id"
}

impl Facts<'_> {
    /// Decides how the reads affect the stored response.
    pub fn apply(&self, reads: &Reads, effect: &mut HookEffect) {
        let query_keyed =
            if reads.query.all {
                self.policy.key_query.covers(self.forward_query)
            } else {
                reads.query.names.iter().all(|name| {
                    self.policy.key_query.has(&**name) || !self.forward_query.has(&**name)
                })
            };
        let claims_keyed = !reads.claims.all
            && reads
                .claims
                .names
                .iter()
                .all(|name| self.claim_is_keyed(name));
        let token_keyed = !reads.token || !self.anonymous || !self.policy.key_claims.is_empty();
        if reads.personal
            || reads.fields.all
            || !query_keyed
            || !claims_keyed
            || !token_keyed
            || (reads.params && !self.params)
        {
            effect.forbid(NotStored::Hook);
        }
        for name in &reads.fields.names {
            match self.field(name) {
                Ok(Some(name)) => effect.select([name]),
                Ok(None) => {}
                Err(why) => effect.forbid(why),
            }
        }
        if reads.cookies.all {
            effect.select([header::COOKIE.into()]);
        }
        for name in &reads.cookies.names {
            let keyed = self
                .policy
                .key_cookies
                .as_ref()
                .is_some_and(|select| select.has(latin_1(name)))
                || self.written.is_some_and(|written| written.wrote("cookie"));
            if !keyed {
                effect.select([vary::cookie(name)]);
            }
        }
    }

    fn claim_is_keyed(&self, name: &str) -> bool {
        // A key holds claims as text: a claim that is no text looks there like an absent one.
        self.policy.key_claims.iter().any(|known| **known == *name)
            && self
                .claims
                .is_none_or(|claims| claims.claim(name).is_some())
    }

    /// The name by which a field that was read selects; `None` if the key contains it, or if it is the same for all.
    fn field(&self, name: &str) -> Result<Option<FieldName>, NotStored> {
        let Ok(field) = FieldName::from_bytes(name.as_bytes()) else {
            // The field is always absent.
            return Ok(None);
        };
        let keyed = self.policy.key_headers.contains(&field)
            || self.written.is_some_and(|written| written.wrote(name))
            || (field == header::ACCEPT_ENCODING && self.policy.accept_encoding)
            || self.experiments.contains(&field)
            || self.edits.set.iter().any(|(known, _)| *known == field);
        if keyed || field.is_of(OF_THE_EDGE) {
            return Ok(None);
        }
        if self.identity.contains(&field) || names_a_client(name) {
            return Err(NotStored::Hook);
        }
        let same = self
            .viewer
            .get_all(&field)
            .iter()
            .eq(self.shown.get_all(&field).iter());
        // Cookies and codings as shown follow from the client's own; hidden ones are hidden for everybody.
        let follows = same
            || field == header::COOKIE
            || field == header::ACCEPT_ENCODING
            || field == header::ACCEPT_LANGUAGE
            || !self.shown.contains_key(&field);
        if follows {
            Ok(Some(field))
        } else {
            Err(NotStored::Hook)
        }
    }
}

/// The bytes of a name that Python decoded as Latin-1. No cookie has a character beyond that.
fn latin_1(name: &str) -> Vec<u8> {
    let bytes = name.chars().map(|c| u8::try_from(u32::from(c)));
    bytes.map(|byte| byte.unwrap_or(b'?')).collect()
}

#[cfg(test)]
mod tests;
