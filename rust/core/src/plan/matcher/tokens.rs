//! The tokens of a path pattern, read from its text, and what is wrong with a text that is none.

use std::sync::Arc;

use crate::http::percent;

/// A pattern may have this many bytes, as written and percent-encoded.
pub(crate) const LONGEST: usize = 1_024;

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No `/` at the start, which every path has (RFC 9112 §3.2.1).
    #[error("must start with \"/\"; to match every path write \"/*\"")]
    NoSlash,
    /// Its length in bytes.
    #[error("is {0} bytes long; a pattern may have {LONGEST}")]
    TooLong(usize),
    /// Its length in bytes once percent-encoded.
    #[error(
        "is {0} bytes long once it is percent-encoded, as paths are on the wire; a pattern may have {LONGEST}"
    )]
    TooLongEncoded(usize),
    /// Byte position of a `{` without `}`.
    #[error("\"{{\" at byte {0} has no \"}}\"; a literal brace is written %7B")]
    Unclosed(usize),
    /// Byte position of a `}` without `{`.
    #[error("\"}}\" at byte {0} has no \"{{\"; a literal brace is written %7D")]
    Unopened(usize),
    /// The text between braces that is not a parameter.
    #[error(
        "{{{0}}} is not a parameter: write {{name}} for one segment or {{name:path}} for the rest, names being letters, digits and \"_\""
    )]
    BadParameter(String),
    /// The name of a parameter that is used more than once.
    #[error("the parameter {{{0}}} stands twice")]
    Twice(String),
    /// The names of two parameters with nothing between them.
    #[error(
        "two parameters touch: put a literal between {{{0}}} and {{{1}}}, or it is not clear where one ends"
    )]
    Touching(String, String),
    /// Byte position of a `%` without two hexadecimal digits (RFC 3986 §2.1).
    #[error("\"%\" at byte {0} must be followed by two hexadecimal digits")]
    BadEscape(usize),
    /// A `#`: clients do not send fragments (RFC 9110 §4.2.5).
    #[error("\"#\" never reaches a server; leave the fragment out")]
    Fragment,
    /// Byte position of a control character.
    #[error("a control character at byte {0} can't stand in a path")]
    Control(usize),
    /// The `.` or `..` segment, which is removed before matching (RFC 3986 §5.2.4).
    #[error(
        "the segment {0:?} is removed from every path before it is matched, so the pattern would never match"
    )]
    DotSegment(String),
    /// A parameter in the spelling of another router, and the spelling to use.
    #[error("{0:?} is how other routers write a parameter, and would only match itself: write {1}")]
    ForeignParameter(String, String),
    /// The segment that is probably meant as a regular expression.
    #[error(
        "{0:?} is a regular expression, and would only match itself: * stands for any text, {{name}} for one segment"
    )]
    Expression(String),
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Literal(Box<[u8]>),
    /// `?`
    One,
    /// `*`, `{name:path}`
    Any(Option<Arc<str>>),
    /// `{name}`
    Segment(Arc<str>),
}

/// Collects tokens; neighbouring literals become one.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    done: Vec<Token>,
    pub(super) literal: Vec<u8>,
}

impl Tokens {
    fn flush(&mut self) {
        if !self.literal.is_empty() {
            self.done.push(Token::Literal(
                std::mem::take(&mut self.literal).into_boxed_slice(),
            ));
        }
    }

    pub(super) fn one(&mut self) {
        self.flush();
        self.done.push(Token::One);
    }

    /// Two `*` in a row are one.
    pub(super) fn any(&mut self, name: Option<Arc<str>>) {
        self.flush();
        if name.is_none() && matches!(self.done.last(), Some(Token::Any(_))) {
            return;
        }
        self.done.push(Token::Any(name));
    }

    pub(super) fn done(mut self) -> Box<[Token]> {
        self.flush();
        self.done.into_boxed_slice()
    }
}

/// Recognises other frameworks' syntax for parameters, which would match only literally here. A literal of the same
/// look can be written percent-encoded.
pub(super) fn foreign(segment: &str) -> Option<PatternError> {
    let named = |name: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let parameter = |name: &str| format!("{{{}}}", name.replace(|c| !plain(c), "_"));
        (name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')).then(|| parameter(name))
    };
    // Express, Sinatra, Rails: `:id`, `:id?`, `:id(\d+)`.
    if let Some(rest) = segment.strip_prefix(':') {
        let name = rest.split(['(', '?', '*', '+', '.', '-']).next()?;
        return named(name)
            .map(|written| PatternError::ForeignParameter(segment.to_owned(), written));
    }
    // Flask: `<id>`, `<int:id>`, `<path:rest>`.
    if let Some((_, rest)) = segment.split_once('<')
        && let Some((inside, _)) = rest.split_once('>')
    {
        let (kind, name) = inside.split_once(':').unwrap_or(("", inside));
        return named(name).map(|written| {
            let written = match kind {
                "path" => format!("{}:path}}", written.trim_end_matches('}')),
                _ => written,
            };
            PatternError::ForeignParameter(segment.to_owned(), written)
        });
    }
    // Next.js, SvelteKit: `[id]`, `[...rest]`, `[[id]]`. Templates: `${id}`.
    let bracketed = (segment.strip_prefix('[')).and_then(|rest| rest.strip_suffix(']'));
    if let Some(inside) = bracketed.map(|inside| inside.trim_matches(['[', ']'])) {
        let (kind, name) = match inside.strip_prefix("...") {
            Some(name) => (":path", name),
            None => ("", inside),
        };
        if name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return named(name).map(|written| {
                let written = format!("{}{kind}}}", written.trim_end_matches('}'));
                PatternError::ForeignParameter(segment.to_owned(), written)
            });
        }
    }
    if let Some(rest) = segment.strip_prefix("${") {
        let inside = rest.trim_end_matches('}');
        return named(inside)
            .map(|written| PatternError::ForeignParameter(segment.to_owned(), written));
    }
    let expressions = [
        "(.", "(?", "([", "(\\", "[^", "[a-z", "[A-Z", "[0-9", "\\d", "\\w", ".*", ".+",
    ];
    let is_expression = segment.starts_with('^')
        || segment.ends_with('$')
        || expressions.iter().any(|part| {
            // `/file.*` is a name with any suffix; only at the very beginning a dot and a star have another meaning.
            match *part {
                ".*" => segment == ".*",
                part => segment.contains(part),
            }
        });
    is_expression.then(|| PatternError::Expression(segment.to_owned()))
}

pub(super) fn parse_tokens(source: &str) -> Result<Box<[Token]>, PatternError> {
    let bytes = source.as_bytes();
    let mut tokens = Tokens::default();
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'*' => tokens.any(None),
            b'?' => tokens.one(),
            b'{' => {
                let rest = source.get(at + 1..).unwrap_or_default();
                let (inside, _) = rest.split_once('}').ok_or(PatternError::Unclosed(at))?;
                let (name, kind) = inside
                    .split_once(':')
                    .map_or((inside, None), |(name, kind)| (name, Some(kind)));
                if !is_name(name) || !matches!(kind, None | Some("path")) {
                    return Err(PatternError::BadParameter(inside.to_owned()));
                }
                if names.iter().any(|known| &**known == name) {
                    return Err(PatternError::Twice(name.to_owned()));
                }
                tokens.flush();
                if let Some(Token::Segment(before) | Token::Any(Some(before))) = tokens.done.last()
                {
                    return Err(PatternError::Touching(before.to_string(), name.to_owned()));
                }
                let name: Arc<str> = name.into();
                names.push(Arc::clone(&name));
                tokens.done.push(if kind.is_some() {
                    Token::Any(Some(name))
                } else {
                    Token::Segment(name)
                });
                at += inside.len() + 1;
            }
            b'}' => return Err(PatternError::Unopened(at)),
            b'#' => return Err(PatternError::Fragment),
            b'%' => {
                let code = bytes.get(at + 1..).and_then(percent::escaped);
                let (code, _) = code.ok_or(PatternError::BadEscape(at))?;
                normal(code, true, &mut tokens.literal);
                at += 2;
            }
            0..=0x1f | 0x7f => return Err(PatternError::Control(at)),
            byte => normal(byte, false, &mut tokens.literal),
        }
        at += 1;
    }
    Ok(tokens.done())
}

/// Appends a byte in the form that it has in a normalised path.
fn normal(byte: u8, escaped: bool, out: &mut Vec<u8>) {
    let forbidden = !byte.is_ascii_graphic() || matches!(byte, b'"' | b'<' | b'>' | b'`');
    if forbidden || (escaped && !percent::is_unreserved(byte)) {
        percent::escape(byte, out);
    } else {
        out.push(byte);
    }
}

pub(super) fn dots(segment: &str) -> bool {
    matches!(
        segment.to_ascii_lowercase().replace("%2e", ".").as_str(),
        "." | ".."
    )
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
