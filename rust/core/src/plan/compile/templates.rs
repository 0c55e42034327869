//! Texts with `{name}` in them: a redirect's location, a rewrite's path.

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TemplatePart<'t> {
    Text(&'t str),
    Parameter(&'t str),
}

/// Splits a template into its pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Template<'t>(pub &'t str);

impl<'t> Template<'t> {
    /// The pieces from left to right; an unmatched brace is text.
    pub(crate) fn pieces(self) -> impl Iterator<Item = TemplatePart<'t>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            if let Some(inside) = rest.strip_prefix('{')
                && let Some((name, after)) = inside.split_once('}')
            {
                rest = after;
                return Some(TemplatePart::Parameter(name));
            }
            let end = rest
                .char_indices()
                .skip(1)
                .find(|(_, c)| *c == '{')
                .map_or(rest.len(), |(at, _)| at);
            let (text, after) = rest.split_at(end);
            rest = after;
            Some(TemplatePart::Text(text))
        })
    }

    pub(crate) fn parameters(self) -> impl Iterator<Item = &'t str> {
        self.pieces().filter_map(|piece| match piece {
            TemplatePart::Parameter(name) => Some(name),
            TemplatePart::Text(_) => None,
        })
    }

    /// True if every brace is matched.
    pub(crate) fn is_balanced(self) -> bool {
        self.pieces().all(|piece| match piece {
            TemplatePart::Text(text) => !text.contains(['{', '}']),
            TemplatePart::Parameter(name) => !name.contains('{'),
        })
    }
}
