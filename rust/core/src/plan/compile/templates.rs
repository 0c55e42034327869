//! Texts with `{name}` in them: a redirect's location, a rewrite's path.

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    Text(&'t str),
    Parameter(&'t str),
}

/// Splits a template into its pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Template<'t>(pub &'t str);

impl<'t> Template<'t> {
    /// The pieces from left to right; an unmatched brace is text.
    pub(crate) fn pieces(self) -> impl Iterator<Item = Piece<'t>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            if let Some(inside) = rest.strip_prefix('{')
                && let Some((name, after)) = inside.split_once('}')
            {
                rest = after;
                return Some(Piece::Parameter(name));
            }
            let end = rest
                .char_indices()
                .skip(1)
                .find(|(_, c)| *c == '{')
                .map_or(rest.len(), |(at, _)| at);
            let (text, after) = rest.split_at(end);
            rest = after;
            Some(Piece::Text(text))
        })
    }

    pub(crate) fn parameters(self) -> impl Iterator<Item = &'t str> {
        self.pieces().filter_map(|piece| match piece {
            Piece::Parameter(name) => Some(name),
            Piece::Text(_) => None,
        })
    }

    /// True if every brace is matched.
    pub(crate) fn is_balanced(self) -> bool {
        self.pieces().all(|piece| match piece {
            Piece::Text(text) => !text.contains(['{', '}']),
            Piece::Parameter(name) => !name.contains('{'),
        })
    }
}
