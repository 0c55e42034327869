//! A choice among the names of query parameters, cookies or fields.

use std::sync::Arc;

/// A choice among names. Header names are lower case; query and cookie names are case-sensitive, and one that ends in
/// `*` represents every name that begins so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Select {
    #[default]
    /// Every name.
    All,
    /// No name.
    None,
    /// These names.
    Only(Vec<Arc<str>>),
    /// Every name but these.
    Except(Vec<Arc<str>>),
}

impl Select {
    /// True if `name` is chosen.
    pub fn has(&self, name: impl AsRef<[u8]>) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(names) => any(names, name.as_ref()),
            Self::Except(names) => !any(names, name.as_ref()),
        }
    }

    /// True if every name that `other` chooses is chosen.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) | (_, Self::None) => true,
            (Self::None, _) | (Self::Only(_), Self::All) => false,
            (Self::Only(names), Self::Only(others)) => {
                others.iter().all(|other| any(names, other.as_bytes()))
            }
            // Infinitely many names remain, of which a list has only some.
            (Self::Only(names), Self::Except(_)) => names.iter().any(|name| &**name == "*"),
            (Self::Except(left_out), Self::All) => left_out.is_empty(),
            (Self::Except(left_out), Self::Only(others)) => !left_out
                .iter()
                .any(|name| others.iter().any(|other| overlap(name, other))),
            (Self::Except(left_out), Self::Except(not_sent)) => {
                left_out.iter().all(|name| any(not_sent, name.as_bytes()))
            }
        }
    }

    /// The choice extended by these names.
    pub fn with(&self, names: &[Arc<str>]) -> Self {
        if names.is_empty() {
            return self.clone();
        }
        match self {
            Self::All => Self::All,
            Self::None => Self::Only(names.to_vec()),
            Self::Only(own) => Self::Only(own.iter().chain(names).cloned().collect()),
            Self::Except(left_out) => {
                let rest = left_out.iter().filter(|name| !any(names, name.as_bytes()));
                Self::Except(rest.cloned().collect())
            }
        }
    }
}

/// True if one of `names` is `name`, or begins it and ends in `*`. A `name` that ends in `*` represents all names that
/// begin so.
pub(crate) fn any(names: &[Arc<str>], name: &[u8]) -> bool {
    names.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => known.as_bytes() == name,
    })
}

/// True if both match some common name.
fn overlap(one: &str, other: &str) -> bool {
    match (one.strip_suffix('*'), other.strip_suffix('*')) {
        (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
        (Some(start), None) => other.starts_with(start),
        (None, Some(start)) => one.starts_with(start),
        (None, None) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(names: &[&str]) -> Select {
        Select::Only(names.iter().map(|name| (*name).into()).collect())
    }

    fn except(names: &[&str]) -> Select {
        Select::Except(names.iter().map(|name| (*name).into()).collect())
    }

    #[test]
    fn a_star_at_the_end_stands_for_any_rest() {
        let utm = except(&["utm_*", "gclid"]);
        for (name, has) in [
            ("utm_source", false),
            ("utm_", false),
            ("utm", true),
            ("gclid", false),
            ("gclid2", true),
        ] {
            assert_eq!(utm.has(name), has, "{name}");
        }
        assert!(only(&["a*"]).has(b"a\xff"));
    }

    #[test]
    fn what_is_sent_is_held_against_what_is_keyed() {
        for (key, sent, want) in [
            (Select::All, except(&["a"]), true),
            (Select::None, Select::None, true),
            (Select::None, only(&["a"]), false),
            (only(&["a", "b"]), only(&["b"]), true),
            (only(&["a*"]), only(&["ab", "ac*"]), true),
            (only(&["ab*"]), only(&["a*"]), false),
            (only(&["a"]), only(&["a*"]), false),
            (only(&["a"]), Select::All, false),
            (except(&["ab"]), only(&["a*"]), false),
            (except(&["a*"]), only(&["b"]), true),
            (except(&["a*"]), only(&["ab"]), false),
            (except(&["ab"]), except(&["a*"]), true),
            (except(&["a*"]), except(&["ab"]), false),
            (except(&["a"]), Select::All, false),
        ] {
            assert_eq!(key.covers(&sent), want, "{key:?} {sent:?}");
        }
    }

    #[test]
    fn names_are_added_to_a_choice() {
        assert_eq!(Select::None.with(&["a".into()]), only(&["a"]));
        assert_eq!(only(&["a"]).with(&["b*".into()]), only(&["a", "b*"]));
        assert_eq!(except(&["a", "bc"]).with(&["b*".into()]), except(&["a"]));
    }
}
