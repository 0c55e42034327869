//! Weights in the fields of content negotiation (RFC 9110 §12.4.2), and the members of lists that have one.
//!
//! A weight that is not in its form says nothing: the member that has it is left out, as a member that is no name would
//! be. It is neither the weight 1 nor the weight 0, which another receiver could take it for.

use super::parts;

/// The largest weight, and that of a member without one.
pub(super) const WHOLE: u16 = 1_000;

/// A name with an optional weight and nothing else, as in `Accept-Encoding` and `Accept-Language`. `None`: the weight
/// is invalid.
pub(super) fn weighted(member: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = parts(member, b';');
    let name = parts.next()?;
    let weight = parts.next().map_or(Some(WHOLE), thousandths)?;
    parts.next().is_none().then_some((name, weight))
}

/// A member of `Accept`: a media type with parameters, among which the weight may stand at any place (RFC 9110
/// §12.5.1).
#[derive(Debug, Clone, Copy)]
pub(super) struct MediaRange<'a> {
    /// As it is written.
    pub(super) name: &'a [u8],
    /// In thousandths.
    pub(super) weight: u16,
    member: &'a [u8],
}

impl<'a> MediaRange<'a> {
    /// `None`: a weight is invalid, or is given twice.
    pub(super) fn of(member: &'a [u8]) -> Option<Self> {
        let mut range = Self {
            name: parts(member, b';').next()?,
            weight: WHOLE,
            member,
        };
        let mut weights = range.parameters().filter(|parameter| is_weight(parameter));
        if let Some(weight) = weights.next() {
            range.weight = thousandths(weight)?;
        }
        weights.next().is_none().then_some(range)
    }

    /// All parameters, the weight included.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        parts(self.member, b';').skip(1)
    }
}

fn is_weight(parameter: &[u8]) -> bool {
    let name = parameter.split(|&byte| byte == b'=').next();
    name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"q"))
}

/// `q=` and a weight of 0 to 1 with up to three digits, in thousandths.
fn thousandths(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_first_chunk::<2>()?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, fraction) = match value {
        [whole] | [whole, b'.'] => (*whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return None,
    };
    let mut weight = match whole {
        b'0' => 0,
        b'1' => WHOLE,
        _ => return None,
    };
    let mut unit = 100;
    for digit in fraction {
        if !digit.is_ascii_digit() {
            return None;
        }
        weight += u16::from(digit - b'0') * unit;
        unit /= 10;
    }
    (weight <= WHOLE).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters that are weights, and their values; `None`: not in the form of RFC 9110 §12.4.2.
    const WEIGHTS: [(&str, Option<u16>); 18] = [
        ("q=1", Some(1_000)),
        ("q=1.", Some(1_000)),
        ("q=1.000", Some(1_000)),
        ("Q=0.5", Some(500)),
        ("q=0.001", Some(1)),
        ("q=0.", Some(0)),
        ("q=0", Some(0)),
        ("q=1.0000", None),
        ("q=0.0001", None),
        ("q=1.001", None),
        ("q=2", None),
        ("q=-1", None),
        ("q=.5", None),
        ("q=.", None),
        ("q=", None),
        ("q", None),
        ("q = 0.5", None),
        ("q=\"0.5\"", None),
    ];

    #[test]
    fn a_weight_has_the_form_of_rfc_9110_section_12_4_2() {
        for (text, want) in WEIGHTS {
            let member = format!("br ; {text}");
            let found = weighted(member.as_bytes());
            assert_eq!(found, want.map(|weight| (&b"br"[..], weight)), "{member}");
            for member in [format!("a/b;c=d;{text}"), format!("a/b; {text} ;c=\";\"")] {
                let range = MediaRange::of(member.as_bytes());
                let found = range.map(|range| (range.name, range.weight));
                assert_eq!(found, want.map(|weight| (&b"a/b"[..], weight)), "{member}");
            }
        }
    }

    #[test]
    fn a_member_without_a_weight_has_the_whole_and_one_with_two_says_nothing() {
        assert_eq!(weighted(b"br"), Some((&b"br"[..], WHOLE)));
        assert_eq!(weighted(b"br;q=0.5;x=1"), None);
        assert_eq!(weighted(b"br;x=1"), None);
        let weight = |member| MediaRange::of(member).map(|range: MediaRange<'_>| range.weight);
        assert_eq!(weight(b"a/b"), Some(WHOLE));
        assert_eq!(weight(b"a/b;c=\";q=0\""), Some(WHOLE));
        assert_eq!(weight(b"a/b;q=0;q=1"), None);
    }
}
