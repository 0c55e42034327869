//! `traceparent` and `tracestate` (W3C Trace Context, level 2).

use std::fmt;

use crate::http::Fields;

/// The name of the field with the ids.
pub const TRACEPARENT: &str = "traceparent";
/// The name of the field with data of tracing systems.
pub const TRACESTATE: &str = "tracestate";
/// Members and bytes of `tracestate` that are passed on (§3.3.1.1 and §3.3.1.5).
const MEMBERS: usize = 32;
const BYTES: usize = 512;

/// The position of a request in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The id of the trace; not zero.
    pub trace: u128,
    /// The id of the span that the request continues; not zero.
    pub span: u64,
    /// The sender keeps the trace.
    pub sampled: bool,
}

impl TraceContext {
    /// From a request that has one valid field `traceparent`.
    pub fn of(request: &Fields) -> Option<Self> {
        Self::parse(request.sole(TRACEPARENT)?.as_bytes())
    }

    /// From a value (§3.2). Of later versions the known part is read; a version of `ff` is invalid.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(55)?;
        let dashes = [2, 35, 52].map(|at| known.get(at) == Some(&b'-'));
        if dashes != [true; 3] {
            return None;
        }
        let version = hex(known.get(..2)?)?;
        let is_over = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let trace = hex(known.get(3..35)?)?;
        let span = u64::try_from(hex(known.get(36..52)?)?).ok()?;
        let flags = hex(known.get(53..55)?)?;
        (is_over && trace != 0 && span != 0).then_some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }
}

/// The value of `traceparent`. Ids of the edge are random, which a flag says.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = 2 | u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

/// The lines of `tracestate` as one value, if they are few and short enough to be passed on.
pub fn state(request: &Fields) -> Option<String> {
    let mut state = String::new();
    for line in request.get_all(TRACESTATE).iter() {
        let line = line.to_str().ok()?;
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(line);
        if state.len() > BYTES {
            return None;
        }
    }
    let members = state.split(',').filter(|one| !one.trim().is_empty());
    let count = members.clone().count();
    let is_valid = |member: &str| {
        member
            .trim()
            .split_once('=')
            .is_some_and(|(key, _)| !key.is_empty())
    };
    (count > 0 && count <= MEMBERS && members.clone().all(is_valid)).then_some(state)
}

/// Digits in lower case only.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_traceparent_is_read_as_the_recommendation_says() {
        for (value, sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-00"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-03"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-more"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01more"), None),
            (format!("00-{TRACE}-{SPAN}-01-more"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (format!("00-{TRACE}-{SPAN}-+1"), None),
            (format!("00_{TRACE}-{SPAN}-01"), None),
            (format!(" 00-{TRACE}-{SPAN}-01"), None),
            (String::new(), None),
        ] {
            let read = TraceContext::parse(value.as_bytes());
            assert_eq!(read.map(|read| read.sampled), sampled, "{value}");
            if let Some(read) = read {
                let ids = (
                    u128::from_str_radix(TRACE, 16).unwrap(),
                    u64::from_str_radix(SPAN, 16).unwrap(),
                );
                assert_eq!((read.trace, read.span), ids, "{value}");
                let written = read.to_string();
                assert_eq!(TraceContext::parse(written.as_bytes()), Some(read));
            }
        }
    }

    fn request(name: &'static str, values: &[&str]) -> Fields {
        let values = values.iter();
        values
            .map(|value| (name, HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn two_fields_traceparent_are_none() {
        let value = format!("00-{TRACE}-{SPAN}-01");
        assert!(TraceContext::of(&request(TRACEPARENT, &[&value])).is_some());
        assert!(TraceContext::of(&request(TRACEPARENT, &[&value, &value])).is_none());
    }

    #[test]
    fn a_tracestate_is_passed_on_unless_it_is_long_or_has_no_keys() {
        let many = vec!["a=1"; 33].join(",");
        let long = format!("a={}", "b".repeat(600));
        for (values, want) in [
            (&["a=1,b=2"][..], Some("a=1,b=2")),
            (&["a=1", "b=2"], Some("a=1,b=2")),
            (&["a"], None),
            (&["=1"], None),
            (&[""], None),
            (&[], None),
            (&[&many], None),
            (&[&long], None),
        ] {
            let read = state(&request(TRACESTATE, values));
            assert_eq!(read.as_deref(), want, "{values:?}");
        }
    }
}
