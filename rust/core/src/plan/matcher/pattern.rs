//! Path patterns in CloudFront's sense, with named parameters.
//!
//! | token         | matches                                                            |
//! |---------------|--------------------------------------------------------------------|
//! | `*`           | any run of bytes, also none, also across `/`                       |
//! | `?`           | exactly one byte of the path as it is on the wire, also `/`        |
//! | `{name}`      | a non-empty run of bytes without `/`                               |
//! | `{name:path}` | any run of bytes, also none, also across `/`                       |
//! | all else      | itself, case-sensitive                                             |
//!
//! Paths are compared in the normal form that admission gives them (RFC 3986 §6.2.2), so a pattern's own literals are
//! brought into the same form: what may not stand in a path is percent-encoded, `%7e` becomes `~`, `%c3` becomes `%C3`.
//! `?` counts one byte, so it takes three of them to match `%C3`.

use std::{fmt, sync::Arc};

use super::{
    automaton::{Automaton, Class, Element},
    tokens::{LONGEST, PatternError, Token, Tokens, dots, foreign, parse_tokens},
};
use crate::http::percent;

/// The matching strategy of a pattern, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    /// No wildcard at all.
    Exact,
    /// A literal, then one `*`.
    Prefix,
    /// Literals, `?` and `*`.
    Glob,
    /// Literals and `{name}`, at most one `*` and that at the end.
    Segments,
    /// Everything else.
    Automaton,
}

/// A compiled path pattern.
#[derive(Debug, Clone)]
pub struct PathPattern {
    source: Arc<str>,
    tokens: Box<[Token]>,
    strategy: Strategy,
    wildcards: u32,
    pub(super) automaton: Automaton,
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.tokens == other.tokens
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl PathPattern {
    /// Reads a path pattern.
    pub fn parse(source: &str) -> Result<Self, PatternError> {
        if !source.starts_with('/') {
            return Err(PatternError::NoSlash);
        }
        if source.len() > LONGEST {
            return Err(PatternError::TooLong(source.len()));
        }
        if let Some(segment) = source.split('/').find(|segment| dots(segment)) {
            return Err(PatternError::DotSegment(segment.to_owned()));
        }
        if let Some(error) = source.split('/').find_map(foreign) {
            return Err(error);
        }
        Self::of(source, parse_tokens(source)?)
    }

    /// A pattern for values that are not paths: `*` and `?` only, nothing is normalised.
    pub fn glob(source: &str) -> Result<Self, PatternError> {
        if source.len() > LONGEST {
            return Err(PatternError::TooLong(source.len()));
        }
        let mut tokens = Tokens::default();
        for byte in source.bytes() {
            match byte {
                b'*' => tokens.any(None),
                b'?' => tokens.one(),
                byte => tokens.literal.push(byte),
            }
        }
        Self::of(source, tokens.done())
    }

    fn of(source: &str, tokens: Box<[Token]>) -> Result<Self, PatternError> {
        let elements = elements(&tokens);
        // The automaton has a state for each; encoding makes three of one byte.
        if elements.len() > LONGEST {
            return Err(PatternError::TooLongEncoded(elements.len()));
        }
        let strategy = strategy(&tokens);
        // A wildcard for any length weighs more than one for one segment, and that more than one for one byte.
        let wildcards: usize = tokens
            .iter()
            .map(|token| match token {
                Token::Literal(_) => 0,
                Token::Any(_) => 1 << 20,
                Token::Segment(_) => 1 << 10,
                _ => 1,
            })
            .sum();
        Ok(Self {
            source: source.into(),
            strategy,
            wildcards: u32::try_from(wildcards).unwrap_or(u32::MAX),
            automaton: Automaton::new(elements),
            tokens,
        })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// True if the pattern has no wildcard and no parameter.
    pub fn is_exact(&self) -> bool {
        self.strategy == Strategy::Exact
    }

    /// True if every path matches.
    pub fn is_everything(&self) -> bool {
        self.strategy == Strategy::Prefix && self.literal_prefix() == b"/"
    }

    /// The bytes with which every match begins.
    pub fn literal_prefix(&self) -> &[u8] {
        match self.tokens.first() {
            Some(Token::Literal(literal)) => literal,
            _ => b"",
        }
    }

    /// The text after the last `/` of the literal prefix when the pattern is that prefix and one `*`.
    pub fn prefix_tail(&self) -> Option<&[u8]> {
        let prefix = self.literal_prefix();
        (self.strategy == Strategy::Prefix)
            .then(|| prefix.rsplit(|byte| *byte == b'/').next().unwrap_or(prefix))
    }

    /// True if a match stays one whatever is appended to it.
    pub fn is_open_ended(&self) -> bool {
        matches!(self.tokens.last(), Some(Token::Any(_)))
    }

    /// Weight of the wildcards: those for any length weigh most, then parameters, then `?`.
    pub fn wildcards(&self) -> u32 {
        self.wildcards
    }

    /// The names of the parameters, from left to right.
    pub fn parameters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tokens.iter().filter_map(|token| match token {
            Token::Segment(name) | Token::Any(Some(name)) => Some(name),
            _ => None,
        })
    }

    /// True if the path matches. Time is linear in the path for a given pattern; nothing is allocated.
    pub fn matches(&self, path: &str) -> bool {
        let path = path.as_bytes();
        match self.strategy {
            Strategy::Exact => path == self.literal_prefix(),
            Strategy::Prefix => path.starts_with(self.literal_prefix()),
            Strategy::Glob => super::search::glob(&self.tokens, path),
            Strategy::Segments => super::search::segments(&self.tokens, path),
            Strategy::Automaton => self.automaton.matches(path),
        }
    }

    /// The parameters of a path that matches, percent-decoded; bytes that are not UTF-8 become U+FFFD.
    ///
    /// If several divisions are possible, wildcards take as much as they can, the leftmost first.
    pub fn captures(&self, path: &str) -> Option<Vec<(Arc<str>, String)>> {
        let decoded = |value: &str| {
            String::from_utf8(percent::decoded(value.as_bytes()))
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        };
        self.found(path, |name, value| (Arc::clone(name), decoded(value)))
    }

    /// As [`Self::captures`], as the path has them.
    pub fn raw_captures<'t>(&self, path: &'t str) -> Option<Vec<(&str, &'t str)>> {
        self.found(path, |name, value| (&**name, value))
    }

    fn found<'p, 't, T>(
        &'p self,
        path: &'t str,
        pair: impl Fn(&'p Arc<str>, &'t str) -> T,
    ) -> Option<Vec<T>> {
        let spans = super::search::spans(&self.tokens, path.as_bytes())?;
        let mut found = Vec::new();
        for (token, span) in self.tokens.iter().zip(spans) {
            if let Token::Segment(name) | Token::Any(Some(name)) = token {
                found.push(pair(name, path.get(span).unwrap_or_default()));
            }
        }
        Some(found)
    }

    /// True if some path matches both.
    pub fn intersects(&self, other: &Self) -> bool {
        self.automaton.intersects(&other.automaton)
    }

    /// True if every path that matches `other` certainly matches this one too. May be false for a pair that does.
    pub fn covers(&self, other: &Self) -> bool {
        self.automaton.covers(&other.automaton)
    }
}

fn strategy(tokens: &[Token]) -> Strategy {
    let has_segment = tokens
        .iter()
        .any(|token| matches!(token, Token::Segment(_)));
    let has_one = tokens.contains(&Token::One);
    match tokens {
        [] | [Token::Literal(_)] => Strategy::Exact,
        [Token::Literal(_), Token::Any(_)] => Strategy::Prefix,
        _ if !has_segment => Strategy::Glob,
        [head @ .., _] if !has_one && !head.iter().any(|token| matches!(token, Token::Any(_))) => {
            Strategy::Segments
        }
        _ => Strategy::Automaton,
    }
}

fn elements(tokens: &[Token]) -> Vec<Element> {
    let mut elements = Vec::new();
    for token in tokens {
        match token {
            Token::Literal(literal) => {
                elements.extend(literal.iter().map(|byte| Element::one(Class::Byte(*byte))))
            }
            Token::One => elements.push(Element::one(Class::Any)),
            Token::Any(_) => elements.push(Element::many(Class::Any)),
            Token::Segment(_) => elements.extend([
                Element::one(Class::NotSlash),
                Element::many(Class::NotSlash),
            ]),
        }
    }
    elements
}
