//! Predicts what an edge would do with the traffic of an access log.
//!
//! `reader` turns files into lines, and `line` a line into a request with the size of its response. `site` decides by
//! `edgerouter_core::path` how the plan would treat the request, `assumed` gives the response the fields that the log
//! lacks, and `tier` answers it from a memory tier of `edgerouter_store`, whose entries (`weighed`) are charged for
//! bodies that they do not have. `run` leads each line through these, and `counts` has the result. Nothing here has a
//! rule of HTTP or of eviction: those are the ones that serve. No socket is opened, no clock is read, and no callable
//! is called.

mod assumed;
mod counts;
mod line;
mod reader;
mod run;
mod site;
mod tier;
mod weighed;

pub use assumed::{Assumed, Assumption};
pub use counts::{Counts, Prediction, TierPrediction, Unlike};
pub use line::Format;
pub use run::{Progress, ReplayError, ReplayOrder, run};
