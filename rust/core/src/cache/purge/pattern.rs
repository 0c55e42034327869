//! Path patterns of purges: `*` stands for any characters, `/` included; everything else for itself.

use memchr::memmem;

/// Bound on wildcards: more express nothing that fewer could not, and each costs time at a look-up.
pub(crate) const MOST_WILDCARDS: usize = 16;

/// A path with wildcards: each `*` matches any number of bytes, `/` included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The text between the wildcards; the first begins the path, the last ends it.
    pieces: Vec<Box<[u8]>>,
    /// The pattern names queries itself. One that does not matches paths with any query.
    with_query: bool,
}

impl Pattern {
    /// Splits a text at its wildcards. A `?` in it makes the pattern match queries too.
    pub fn new(text: &str) -> Self {
        Self {
            pieces: text
                .split('*')
                .map(|piece| piece.as_bytes().into())
                .collect(),
            with_query: text.contains('?'),
        }
    }

    /// True if it is `/*`, which matches everything.
    pub fn is_everything(&self) -> bool {
        matches!(&*self.pieces, [first, rest @ ..] if **first == *b"/" && !rest.is_empty() && rest.iter().all(|p| p.is_empty()))
    }

    /// `query`: without `?`.
    pub fn matches(&self, path: &str, query: Option<&str>) -> bool {
        if !self.with_query {
            return self.fits(path.as_bytes());
        }
        match query {
            None => self.fits(path.as_bytes()),
            Some(query) => self.fits(format!("{path}?{query}").as_bytes()),
        }
    }

    fn fits(&self, text: &[u8]) -> bool {
        let Some((first, rest)) = self.pieces.split_first() else {
            return false;
        };
        let Some(mut text) = text.strip_prefix(&**first) else {
            return false;
        };
        let Some((last, between)) = rest.split_last() else {
            return text.is_empty();
        };
        for piece in between {
            // The first place is as good as any: the text after a wildcard may follow anywhere.
            let Some(at) = memmem::find(text, piece) else {
                return false;
            };
            text = text.get(at + piece.len()..).unwrap_or_default();
        }
        text.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, path, query, want) in [
            ("/*", "/", None, true),
            ("/*", "/a/b", Some("c=d"), true),
            ("/images/*", "/images/", None, true),
            ("/images/*", "/images/a/b.png", None, true),
            ("/images/*", "/images", None, false),
            ("/images/a*", "/images/a.png", Some("x=1"), true),
            ("/static/css/*.css", "/static/css/a.css", None, true),
            ("/static/css/*.css", "/static/css/deep/a.css", None, true),
            ("/static/css/*.css", "/static/css/a.css", Some("v=1"), true),
            ("/static/css/*.css", "/static/css/a.css.map", None, false),
            ("/static/css/*.css", "/static/css/.css", None, true),
            ("/static/css/*.css", "/static/css.css", None, false),
            ("/a*a", "/a", None, false),
            ("/a*a", "/aa", None, true),
            ("/*/b/*/b", "/x/b/b", None, false),
            ("/*/b/*/b", "/x/b//b", None, true),
            ("/**", "/x", None, true),
            ("/a?x=*", "/a", Some("x=1"), true),
            ("/a?x=*", "/a", None, false),
            ("/a?x=*", "/a", Some("y=1"), false),
            ("/a*?x=*", "/abc", Some("x=1"), true),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(path, query),
                want,
                "{pattern} {path} {query:?}"
            );
        }
        for (pattern, want) in [
            ("/*", true),
            ("/**", true),
            ("/", false),
            ("/a*", false),
            ("*", false),
        ] {
            assert_eq!(Pattern::new(pattern).is_everything(), want, "{pattern}");
        }
    }
}
