//! The hooks of the origin phases that run for a request, and the parts of it that they see.

use std::{rc::Rc, sync::Arc};

use edgerouter_core::{
    cache::hooked::{Facts, HookEffect, Reads, Written},
    http::{FieldName, Fields},
    identity::jwt::Claims,
    plan::{CallableId, Route},
};

use crate::functions::RequestHead;

/// The origin phases of a request with hooks; it outlives the client with the fetch.
#[derive(Debug)]
pub(crate) struct HookContext {
    pub origin_request: Vec<Due>,
    pub origin_response: Vec<Due>,
    /// The function in the place of the origin.
    pub function: Option<Due>,
    /// The fields that `viewer_request` hooks wrote.
    pub(super) written: Option<Rc<Written>>,
    /// The claims as a key sees them.
    pub(super) verified: Option<Arc<Claims>>,
    /// The path in the key determines the parameters of the route's pattern.
    pub(super) params_keyed: bool,
    /// The values that hooks read matter to the stored response.
    pub(super) observed: bool,
    pub(super) request: RequestHead,
}

/// A hook that runs for a request.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(super) call: CallableId,
    pub(super) varies: Option<Arc<[FieldName]>>,
    /// It is declared to transform content.
    pub(super) transforms: bool,
}

impl HookContext {
    /// The function leads the flight of this key: a request of its own for the same response would wait for itself.
    pub(crate) fn hold(&mut self, flight: &[u8]) {
        if self.function.is_some() {
            self.request.chain = self.request.chain.holding(flight);
        }
    }

    /// Checks the values that a hook read, or takes its declaration instead.
    pub(super) fn apply(
        &self,
        route: Option<&Route>,
        due: &Due,
        reads: &Reads,
        shown: &Fields,
        effect: &mut HookEffect,
    ) {
        effect.tags.extend_from_slice(&reads.tags);
        if !self.observed {
            return;
        }
        if let Some(names) = &due.varies {
            effect.select(names.iter().cloned());
            return;
        }
        let Some(route) = route else { return };
        let identity = route.auth.iter().flat_map(|auth| auth.forward_names());
        let experiments = route.experiments.iter();
        Facts {
            policy: &route.cache,
            forward_query: &route.forward.query,
            edits: &route.request_headers,
            written: self.written.as_deref(),
            viewer: &self.request.headers,
            shown,
            identity: &identity.cloned().collect::<Vec<_>>(),
            experiments: &experiments
                .map(|experiment| experiment.header.clone())
                .collect::<Vec<_>>(),
            anonymous: route.auth.as_ref().is_none_or(|policy| policy.optional),
            params: self.params_keyed,
            claims: self.verified.as_deref(),
        }
        .apply(reads, effect);
    }
}
