//! Decides whether a response may be stored (RFC 9111 §3).

use http::{Method, StatusCode};

use super::{freshness, promised, validate};
use crate::{
    http::{
        Fields,
        cache_control::{RequestDirectives, ResponseDirectives},
        header,
    },
    outcome::Detail,
    plan::{CachePolicy, SetCookiePolicy},
};

/// The request's credentials, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// The request has no credentials.
    None,
    /// `Authorization` is there, and the origin verifies it.
    Present,
    /// The edge verified a token. `shared`: responses do not depend on the client, or the key names it.
    Verified {
        /// True if the response may be stored for every client, or for those with the same key.
        shared: bool,
    },
}

impl Authorization {
    /// True if the response to a request with these credentials may be sent to others (§3.5).
    pub fn shares(self, directives: &ResponseDirectives) -> bool {
        match self {
            Self::None | Self::Verified { shared: true } => true,
            Self::Present | Self::Verified { shared: false } => {
                directives.public || directives.must_revalidate || directives.s_maxage.is_some()
            }
        }
    }
}

/// All that decides whether a response may be stored (RFC 9111 §3).
#[derive(Debug, Clone, Copy)]
pub struct StoreInput<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's `Cache-Control`; empty if the policy ignores it.
    pub request_directives: &'a RequestDirectives,
    /// The request's credentials (§3.5).
    pub authorization: Authorization,
    /// The response's final status.
    pub status: StatusCode,
    /// The response's header section, after the hooks.
    pub response: &'a Fields,
    /// The response's own `Cache-Control`, or the targeted field that replaces it (RFC 9213).
    pub directives: &'a ResponseDirectives,
    /// The route's policy.
    pub policy: &'a CachePolicy,
    /// The URL promises a static file, and the policy wants the promise kept.
    pub is_static: bool,
    /// Unix seconds.
    pub now: u64,
}

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// §3: only GET is understood here.
    Method,
    /// The policy does not cache.
    Disabled,
    /// §3: interim responses, and final ones that this cache does not understand.
    Status,
    /// Part of a representation (§3.3): not stored as a whole.
    Partial,
    /// §5.2.1.5.
    RequestNoStore,
    /// §5.2.2.5.
    NoStore,
    /// §5.2.2.7.
    Private,
    /// §3.5.
    Authorization,
    /// §4.1.
    VaryStar,
    /// §7.3: a personal response.
    SetCookie,
    /// A page or data under the name of a static file.
    Extension,
    /// Neither a lifetime nor a validator: it could never be reused.
    NotReusable,
    /// Its body is larger than the largest entry that the store takes.
    TooLarge,
    /// A hook made it depend on something that no later request could be compared with.
    Hook,
    /// A hook failed open: the response lacks the changes that the hook would have made.
    HookFailed,
}

impl From<NotStored> for Detail {
    fn from(why: NotStored) -> Self {
        match why {
            NotStored::Method => Self::Method,
            NotStored::Disabled => Self::Disabled,
            NotStored::Status => Self::Status,
            NotStored::Partial => Self::Partial,
            NotStored::RequestNoStore => Self::RequestNoStore,
            NotStored::NoStore => Self::NoStore,
            NotStored::Private => Self::Private,
            NotStored::Authorization => Self::Authorization,
            NotStored::VaryStar => Self::VaryStar,
            NotStored::SetCookie => Self::SetCookie,
            NotStored::Extension => Self::Extension,
            NotStored::NotReusable => Self::NotReusable,
            NotStored::TooLarge => Self::TooLarge,
            NotStored::Hook => Self::Hook,
            NotStored::HookFailed => Self::HookFailed,
        }
    }
}

impl NotStored {
    /// Spelling in log lines, metrics and `explain`.
    pub fn as_str(self) -> &'static str {
        Detail::from(self).as_str()
    }

    /// True if a stored response is outdated by the answer to its validation, which has this status and is not stored:
    /// a whole answer means that nothing stored fits (§4.3.3), unless only this request kept it from being stored, or
    /// it does not describe the resource.
    pub fn outdates(self, status: StatusCode) -> bool {
        let own = matches!(
            self,
            Self::RequestNoStore
                | Self::Authorization
                | Self::Method
                | Self::Disabled
                | Self::Hook
                | Self::HookFailed
        );
        let says = match status {
            StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED => false,
            StatusCode::NOT_FOUND | StatusCode::GONE => true,
            _ => status.is_success() || status.is_redirection(),
        };
        says && !own
    }

    /// True if the next response for the same URL will most likely not be stored either.
    pub fn lasts(self) -> bool {
        !matches!(
            self,
            Self::RequestNoStore | Self::Authorization | Self::HookFailed
        )
    }
}

/// Decides about a response to a request that went forward.
pub fn storable(input: &StoreInput<'_>) -> Result<(), NotStored> {
    let StoreInput {
        directives,
        policy,
        status,
        response,
        ..
    } = *input;
    if !policy.enabled {
        return Err(NotStored::Disabled);
    }
    if input.method != Method::GET {
        return Err(NotStored::Method);
    }
    // Content-Range means nothing on other statuses (RFC 9110 §14.4).
    if status == StatusCode::PARTIAL_CONTENT || status == StatusCode::RANGE_NOT_SATISFIABLE {
        return Err(NotStored::Partial);
    }
    if status.is_informational()
        || status == StatusCode::NOT_MODIFIED
        || (freshness::never_stored(status) && !policy.keeps(status))
    {
        return Err(NotStored::Status);
    }
    // must-understand lets a cache that knows the status ignore no-store (§5.2.2.3).
    let understood = directives.must_understand && freshness::understood(status);
    if directives.must_understand && !understood {
        return Err(NotStored::Status);
    }
    if directives.no_store && !understood {
        return Err(NotStored::NoStore);
    }
    if input.request_directives.no_store {
        return Err(NotStored::RequestNoStore);
    }
    if directives.private {
        return Err(NotStored::Private);
    }
    if !input.authorization.shares(directives) {
        return Err(NotStored::Authorization);
    }
    if super::vary::of(response) == super::vary::Vary::Star {
        return Err(NotStored::VaryStar);
    }
    let set_aside = directives
        .unshared_fields()
        .any(|name| *name == header::SET_COOKIE);
    if policy.set_cookie == SetCookiePolicy::Refuse
        && response.contains_key(header::SET_COOKIE)
        && !set_aside
    {
        return Err(NotStored::SetCookie);
    }
    if input.is_static && status.is_success() && promised::is_document(response) {
        return Err(NotStored::Extension);
    }
    let lifetime = freshness::lifetime(status, response, directives, policy, input.now);
    if !lifetime.may_store {
        return Err(NotStored::Status);
    }
    let usable_stale = directives
        .stale_while_revalidate
        .or(policy.stale_while_revalidate)
        .is_some_and(|s| s > 0)
        || directives
            .stale_if_error
            .or(policy.stale_if_error)
            .is_some_and(|s| s > 0)
        || policy.grace.max(policy.sick_grace).is_some_and(|s| s > 0);
    if (lifetime.seconds == 0 || directives.no_cache)
        && !validate::has_validator(response)
        && !usable_stale
    {
        return Err(NotStored::NotReusable);
    }
    Ok(())
}
