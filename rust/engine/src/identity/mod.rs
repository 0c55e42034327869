//! Keys and remembered tokens: the state that the verification of `edgerouter_core` needs.
//!
//! `jwks_source` keeps the keys of one URL fresh for all workers; `remembered` keeps one worker's verified tokens,
//! `passwords` the verified passwords of all. The core decides whether a token is valid. Data flows plan →
//! [`KeySources`] → keys for `verify`.

pub(crate) mod jwks_source;
mod passwords;
mod remembered;

use std::{ops::Deref, sync::Arc};

use edgerouter_core::{
    identity::{
        jwks::KeySet,
        jwt::{JwtPolicy, TokenError},
    },
    plan::Plan,
};

pub(crate) use jwks_source::JwksSource;
pub(crate) use passwords::{Busy, Passwords};
pub(crate) use remembered::Remembered;

/// The key sets that a plan's policies fetch, each once.
#[derive(Debug, Default)]
pub(crate) struct KeySources {
    sources: Vec<Arc<JwksSource>>,
}

/// Keys in use for one verification.
#[derive(Debug)]
pub(crate) enum Keys<'a> {
    Static(&'a KeySet),
    Fetched(arc_swap::Guard<Option<Arc<KeySet>>>, &'a JwksSource),
}

impl KeySources {
    /// Sources for the first plan.
    pub(crate) fn of(plan: &Plan) -> Self {
        Self::succeed(&Self::default(), plan)
    }

    /// Sources for the next plan: unchanged ones keep their keys, so a reload does not depend on issuers.
    pub(crate) fn succeed(previous: &Self, plan: &Plan) -> Self {
        let policies = plan.routes.iter().filter_map(|route| route.auth.as_ref());
        Self::for_policies(previous, policies)
    }

    fn for_policies<'p>(
        previous: &Self,
        policies: impl Iterator<Item = &'p Arc<JwtPolicy>>,
    ) -> Self {
        let mut sources: Vec<Arc<JwksSource>> = Vec::new();
        for policy in policies {
            if policy.static_keys().is_some() || sources.iter().any(|one| one.serves(policy)) {
                continue;
            }
            let kept = previous.sources.iter().find(|one| one.serves(policy));
            sources.extend(match kept {
                Some(kept) => Some(Arc::clone(kept)),
                None => JwksSource::new(Arc::clone(policy)).map(Arc::new),
            });
        }
        Self { sources }
    }

    /// The current keys of a policy. `NoKey` if an issuer has not answered yet, or not for too long.
    pub(crate) fn keys_of<'a>(&'a self, policy: &'a JwtPolicy) -> Result<Keys<'a>, TokenError> {
        if let Some(keys) = policy.static_keys() {
            return Ok(Keys::Static(keys));
        }
        let source = self.source(policy).ok_or(TokenError::NoKey)?;
        let keys = source.keys();
        if keys.is_none() {
            return Err(TokenError::NoKey);
        }
        Ok(Keys::Fetched(keys, source))
    }

    /// Requests a fetch, because a token names a key that the policy's set lacks: its issuer may have a new one.
    /// Returns at once; the policy's cooldown bounds the requests to the issuer.
    pub(crate) fn request_keys(&self, policy: &JwtPolicy) {
        if let Some(source) = self.source(policy) {
            source.request();
        }
    }

    /// Waits for the answer of a policy's issuer that may have the key that a token lacked: the first one, or the next.
    /// True if the token has to be verified again.
    pub(crate) async fn awaited_keys(&self, policy: &JwtPolicy, lacked: &TokenError) -> bool {
        match (self.source(policy), lacked) {
            (Some(source), TokenError::NoKey) => source.first_keys().await,
            (Some(source), _) => source.next_keys().await,
            (None, _) => false,
        }
    }

    /// Every source, each to be run by one task.
    pub(crate) fn sources(&self) -> impl Iterator<Item = Arc<JwksSource>> {
        self.sources.iter().map(Arc::clone)
    }

    fn source(&self, policy: &JwtPolicy) -> Option<&JwksSource> {
        self.sources
            .iter()
            .find(|one| one.serves(policy))
            .map(|one| &**one)
    }
}

impl Deref for Keys<'_> {
    type Target = KeySet;

    fn deref(&self) -> &KeySet {
        match self {
            Self::Static(keys) => keys,
            Self::Fetched(keys, source) => keys.as_deref().unwrap_or(source.none()),
        }
    }
}

#[cfg(test)]
mod tests;
