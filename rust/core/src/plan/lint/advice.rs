//! A piece of advice, and the advice about one route while it is collected.

use serde::Serialize;

use crate::plan::Route;

/// The importance of an advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LintLevel {
    /// Probably a mistake, or a risk to correctness or privacy.
    Warning,
    /// Possible, and perhaps intended.
    Info,
}

/// A piece of advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// The route's place in the declaration, as in `routes[2]`.
    pub path: String,
    /// The route's label.
    pub route: String,
    /// How much the advice matters.
    pub level: LintLevel,
    /// A word for the rule, to search for.
    pub rule: &'static str,
    /// The observation and its consequence, for a person.
    pub message: String,
    /// The change that makes the advice go away.
    pub remedy: &'static str,
}

impl Lint {
    /// True if it is the same advice, about whichever route.
    pub(super) fn says(&self, other: &Self) -> bool {
        self.rule == other.rule && self.message == other.message
    }
}

/// Collects the advice about one route.
pub(super) struct Advice<'a> {
    pub(super) route: &'a Route,
    pub(super) found: &'a mut Vec<Lint>,
}

impl Advice<'_> {
    pub(super) fn warn(
        &mut self,
        rule: &'static str,
        message: impl Into<String>,
        remedy: &'static str,
    ) {
        self.say(LintLevel::Warning, rule, message.into(), remedy);
    }

    pub(super) fn note(
        &mut self,
        rule: &'static str,
        message: impl Into<String>,
        remedy: &'static str,
    ) {
        self.say(LintLevel::Info, rule, message.into(), remedy);
    }

    fn say(&mut self, level: LintLevel, rule: &'static str, message: String, remedy: &'static str) {
        self.found.push(Lint {
            path: format!("routes[{}]", self.route.id.0),
            route: self.route.label.to_string(),
            level,
            rule,
            message,
            remedy,
        });
    }
}
