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

/// A URL as a message shows it: quoted and shortened. `None`: it has a user in it, and with that perhaps a password.
pub fn shown_url(url: &str) -> Option<String> {
    // A path alone has no user, and may have a `@` of its own.
    let is_path = url.starts_with('/') && !url.starts_with("//");
    (is_path || !url.contains('@')).then(|| quoted(url))
}

/// A text as a message shows it: quoted and shortened.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{:?}…", text.get(..cut).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// A problem inside a nested policy, reported by the room that compiles it.
///
/// The path is relative to the policy (`keys.pem`, `variants[1]`); empty for the policy as a whole. The value is `None`
/// if there is none to show or it is secret.
pub type SubProblem = (String, Option<String>, String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_unless_it_has_a_user() {
        for (url, want) in [
            ("http://a.example/b", Some("\"http://a.example/b\"")),
            ("/@someone/page", Some("\"/@someone/page\"")),
            ("https://user:password@a.example/", None),
            ("ftp://user:pass/word@a.example/", None),
            ("user:password@a.example", None),
            ("//user:password@a.example", None),
        ] {
            assert_eq!(shown_url(url).as_deref(), want, "{url}");
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let shown = quoted(&"é".repeat(300));
        assert_eq!(shown, format!("\"{}\"…", "é".repeat(200)));
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
    }
}
