//! The fields of a list one after the other: all of them, or those of one name.

use super::{FieldValue, Fields, Line, Named, WireName};

/// The values of one name.
#[derive(Debug, Clone)]
pub struct Values<'a, N> {
    pub(super) fields: &'a Fields,
    pub(super) lines: std::slice::Iter<'a, Line>,
    pub(super) name: N,
}

impl<N: Named> Values<'_, N> {
    /// In their order.
    #[inline]
    pub fn iter(self) -> Self {
        self
    }
}

impl<'a, N: Named> Iterator for Values<'a, N> {
    type Item = FieldValue<'a>;

    #[inline]
    fn next(&mut self) -> Option<FieldValue<'a>> {
        let Self {
            fields,
            lines,
            name,
        } = self;
        let line = lines.find(|line| fields.name(line) == *name)?;
        Some(fields.value(line))
    }
}

impl<N: Named> DoubleEndedIterator for Values<'_, N> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let Self {
            fields,
            lines,
            name,
        } = self;
        let line = lines.rfind(|line| fields.name(line) == *name)?;
        Some(fields.value(line))
    }
}

/// The fields of a list.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    pub(super) fields: &'a Fields,
    pub(super) lines: std::slice::Iter<'a, Line>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (WireName<'a>, FieldValue<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        Some((self.fields.name(line), self.fields.value(line)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.lines.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Fields {
    type Item = (WireName<'a>, FieldValue<'a>);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
