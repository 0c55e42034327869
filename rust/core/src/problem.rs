//! Problems: mistakes in a plan, each with its place.

use std::fmt;

/// One problem of a plan: its place, the value found, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, as in `routes[2].cache.ttl`; empty for the plan as a whole.
    pub path: String,
    /// The offending value, shortened; `None` if there is none or it is secret.
    pub value: Option<String>,
    /// The requirement, and the remedy if it is not obvious.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        if let Some(value) = &self.value {
            write!(f, "{value}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// A problem inside a nested policy, reported by the room that compiles it.
///
/// The path is relative to the policy (`keys.pem`, `variants[1]`); empty for the policy as a whole. The value is `None`
/// if there is none to show or it is secret.
pub type SubProblem = (String, Option<String>, String);
