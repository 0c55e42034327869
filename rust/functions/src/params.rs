//! The parameters of a path, as callables see them.

use std::sync::Arc;

use edgerouter_core::{http::PathAndQuery, plan::PathPattern};

/// The parameters of the route's pattern. They are worked out when a callable reads them, which most do once or never.
#[derive(Debug, Clone)]
pub enum PathParams {
    /// Of this path.
    Of(Arc<PathPattern>, PathAndQuery),
    /// Of a request that has no route here.
    Given(Vec<(Arc<str>, String)>),
}

impl Default for PathParams {
    fn default() -> Self {
        Self::Given(Vec::new())
    }
}

impl PathParams {
    /// Names and values, percent-decoded.
    pub fn decoded(&self) -> Vec<(Arc<str>, String)> {
        match self {
            Self::Of(pattern, path) => pattern.captures(path.path()).unwrap_or_default(),
            Self::Given(params) => params.clone(),
        }
    }
}
