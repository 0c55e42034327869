//! The parts of a request that matter to the cache: they decide which stored response may answer it, and what may be
//! stored of the response to it.
//!
//! It is made once, in phase 8. A hit borrows it from the request; a miss owns it, because its fetch may outlive the
//! client. The time is not a part of it: a request that waits is answered later than it came.

use std::borrow::Cow;

use http::Method;
use smallvec::SmallVec;

use super::{
    agreement::Sees,
    hooked::{origin_hooks, tag},
    key::{Key, KeyParts},
    levels::{Level, Selected},
    promised,
    storable::{Authorization, NotStored},
    vary::Reduced,
};
use crate::{
    http::{FieldName, FieldValue, Fields, cache_control::RequestDirectives, range},
    identity::jwt::Claims,
    path::Admitted,
    plan::{Plan, Route, Select},
};

/// A request as the cache sees it: its key, and the facts on which use and storing of a response depend.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The primary key (RFC 9111 §2); that of the selected variant after [`Self::selected`].
    pub key: Key,
    /// The method as the client sent it.
    pub method: Method,
    /// The header section as viewer hooks left it.
    pub request: Cow<'a, Fields>,
    /// Fields that viewer hooks changed: the key contains them.
    pub hooked: Cow<'a, [FieldName]>,
    /// Empty if the policy ignores them.
    pub directives: RequestDirectives,
    /// The credentials of the request, and who verified them (RFC 9111 §3.5).
    pub authorization: Authorization,
    /// Why nothing may be stored, whatever the response.
    pub forbidden: Option<NotStored>,
    /// The URL promises a static file, and the policy wants the promise kept.
    pub is_static: bool,
    /// As for [`super::vary::secondary`].
    pub reduced: Reduced,
}

impl<'a> Question<'a> {
    /// The question of a request after phase 7: `variants` as [`Admitted::variants`] names them, `hooked` are the
    /// fields that viewer hooks changed. `buffer` is what the key is written into.
    pub fn of(
        plan: &Plan,
        route: &Route,
        admitted: &'a Admitted,
        variants: &[(&str, &str)],
        hooked: &'a [FieldName],
        buffer: Vec<u8>,
    ) -> Self {
        let (target, request) = (&admitted.head.target, &admitted.head.headers);
        let policy = &route.cache;
        let mut key = Key::of(
            buffer,
            admitted.base(),
            target.path(),
            target.query(),
            policy,
        );
        let claims = admitted.claims.as_deref();
        if has_dimensions(route, variants, hooked, claims) {
            let sees = Sees { route, hooked };
            let hooks = origin_hooks(plan, route, admitted.host(), admitted.viewer_path.path());
            let names = policy.key_claims.iter();
            let values = names.filter_map(|name| Some((&**name, claims?.claim(name)?)));
            key.add(&KeyParts {
                headers: request,
                policy,
                variants,
                claims: &values.collect::<SmallVec<[_; 2]>>(),
                edge_set: &sees.identity(claims),
                hooked,
                tag: tag(route, &hooks).as_deref(),
            });
        }
        Self {
            key,
            method: admitted.head.method.clone(),
            request: Cow::Borrowed(request),
            hooked: Cow::Borrowed(hooked),
            directives: if policy.request_directives {
                RequestDirectives::parse(request)
            } else {
                RequestDirectives::default()
            },
            authorization: admitted.authorization(route),
            forbidden: None,
            is_static: policy.extension_guard && promised::is_static(admitted.viewer_path.path()),
            reduced: policy.reduced(),
        }
    }

    /// For a fetch that may outlive the request.
    pub fn owned(&self) -> Question<'static> {
        Question {
            key: self.key.plain(),
            method: self.method.clone(),
            request: Cow::Owned(self.request.clone().into_owned()),
            hooked: Cow::Owned(self.hooked.clone().into_owned()),
            directives: self.directives,
            authorization: self.authorization,
            forbidden: self.forbidden,
            is_static: self.is_static,
            reduced: self.reduced,
        }
    }

    /// The request's `Range`, not parsed yet.
    pub fn range(&self) -> Option<FieldValue<'_>> {
        range::of(&self.request)
    }

    /// Finds the stored response that the request selects; the key is then that of the response. `find` reads the entry
    /// under a key.
    pub fn descend<E: Level, Error>(
        &mut self,
        find: impl FnMut(&[u8]) -> Result<Option<E>, Error>,
    ) -> Result<Selected<E>, Error> {
        self.key.descend(&self.request, self.reduced, find)
    }

    /// Like `descend`, leaving the key as it is.
    pub fn selected<E: Level>(&self, find: impl FnMut(&[u8]) -> Option<E>) -> Selected<E> {
        (self.key.plain()).select(&self.request, self.reduced, find)
    }
}

/// True if anything but the URL may be part of the key.
fn has_dimensions(
    route: &Route,
    variants: &[(&str, &str)],
    hooked: &[FieldName],
    claims: Option<&Claims>,
) -> bool {
    let policy = &route.cache;
    !variants.is_empty()
        || !policy.key_headers.is_empty()
        || !policy.key_claims.is_empty()
        || policy.accept_encoding
        || route.key_tag.is_some()
        || !matches!(policy.key_cookies, None | Some(Select::None))
        || !hooked.is_empty()
        || claims.is_some()
        || !route.hooks.origin_request.is_empty()
        || !route.hooks.origin_response.is_empty()
}
