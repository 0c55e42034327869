//! The plan in service.

use std::sync::Arc;

use edgerouter_core::plan::Plan;

use crate::{
    data::Bindings, functions::Functions, identity::KeySources, listen::tls::TlsListeners,
};

/// A plan in service with the runner of its callables and the holder of its keys: swapped as one.
#[derive(Debug)]
pub(crate) struct Live {
    pub plan: Plan,
    pub functions: Arc<dyn Functions>,
    /// Data that functions find on their context.
    pub bindings: Arc<Bindings>,
    pub version: u64,
    pub keys: KeySources,
    pub tls: TlsListeners,
    /// Bound on client connections: the plan's, as far as the process has descriptors for them.
    pub connections: usize,
}

/// A worker's own handle on the plan: cloning it touches no memory that other cores write.
#[derive(Debug)]
pub(crate) struct LocalLive {
    pub(crate) live: Arc<Live>,
    pub(crate) epoch: u64,
}

impl std::ops::Deref for LocalLive {
    type Target = Live;
    fn deref(&self) -> &Live {
        &self.live
    }
}
