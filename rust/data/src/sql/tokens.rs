//! The tokens of SQL, as far as parameters, the ends of statements and their verbs need them.

/// Rules of quotes, comments and names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    MySql,
    Sqlite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// White space or a comment.
    Space,
    /// A name without quotes, or a keyword.
    Word,
    /// A parameter, with its number if it has one.
    Parameter(Option<usize>),
    /// A question mark that is an operator or a part of one: `??`.
    Question,
    Semicolon,
    Open,
    Close,
    Other,
}

/// Tokens in their order; together they are the whole text.
pub(super) struct Tokens<'a> {
    dialect: Dialect,
    rest: &'a str,
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// The length of a run at the start.
fn run(text: &str, of: impl Fn(u8) -> bool) -> usize {
    text.bytes()
        .position(|byte| !of(byte))
        .unwrap_or(text.len())
}

/// The length up to the end of `mark`, or of all.
fn past(text: &str, mark: &str) -> usize {
    text.find(mark).map_or(text.len(), |at| at + mark.len())
}

/// The length of a quoted text. A quote within is doubled, or behind a backslash where that escapes.
fn quoted(text: &str, quote: u8, backslash: bool) -> usize {
    let mut bytes = text.bytes().enumerate().skip(1).peekable();
    while let Some((at, byte)) = bytes.next() {
        if byte == b'\\' && backslash {
            bytes.next();
        } else if byte == quote && bytes.next_if(|&(_, next)| next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// The length of a comment with comments within.
fn nested(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(rest) = text.get(at..) {
        if rest.starts_with("/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if rest.starts_with("*/") {
            (at, depth) = (at + 2, depth.saturating_sub(1));
            if depth == 0 {
                return at;
            }
        } else {
            match rest.chars().next() {
                Some(letter) => at += letter.len_utf8(),
                None => break,
            }
        }
    }
    text.len()
}

impl Tokens<'_> {
    fn number(&self, from: usize) -> (usize, Option<usize>) {
        let digits = self.rest.get(from..).unwrap_or_default();
        let digits = digits
            .get(..run(digits, |byte| byte.is_ascii_digit()))
            .unwrap_or_default();
        // A number that is too large for the type is too large for a parameter.
        let number = (!digits.is_empty()).then(|| digits.parse().unwrap_or(usize::MAX));
        (from + digits.len(), number)
    }

    fn shared(&self, first: u8, second: u8) -> Option<(usize, Kind)> {
        Some(match first {
            b';' => (1, Kind::Semicolon),
            b'(' => (1, Kind::Open),
            b')' => (1, Kind::Close),
            byte if byte.is_ascii_whitespace() => (
                run(self.rest, |byte| byte.is_ascii_whitespace()),
                Kind::Space,
            ),
            b'?' if second == b'?' && self.dialect == Dialect::Postgres => (2, Kind::Question),
            b'?' => {
                let (length, number) = self.number(1);
                (length, Kind::Parameter(number))
            }
            b'0'..=b'9' => (run(self.rest, |byte| byte.is_ascii_digit()), Kind::Other),
            _ => return None,
        })
    }

    fn postgres(&self, first: u8, second: u8) -> (usize, Kind) {
        let text = self.rest;
        match first {
            b'-' if second == b'-' => (past(text, "\n"), Kind::Space),
            b'/' if second == b'*' => (nested(text), Kind::Space),
            b'\'' | b'"' => (quoted(text, first, false), Kind::Other),
            b'e' | b'E' if second == b'\'' => {
                let after = text.get(1..).unwrap_or_default();
                (1 + quoted(after, b'\'', true), Kind::Other)
            }
            b'$' if second.is_ascii_digit() => {
                let (length, number) = self.number(1);
                (length, Kind::Parameter(number))
            }
            b'$' => {
                let name = text.get(1..).unwrap_or_default();
                let end = 1 + run(name, |byte| is_name(byte) && byte != b'$');
                match text.as_bytes().get(end) {
                    Some(b'$') => {
                        let (tag, content) = text.split_at(end + 1);
                        (tag.len() + past(content, tag), Kind::Other)
                    }
                    _ => (1, Kind::Other),
                }
            }
            byte if is_name(byte) => (run(text, is_name), Kind::Word),
            _ => (1, Kind::Other),
        }
    }

    fn sqlite(&self, first: u8, second: u8) -> (usize, Kind) {
        let text = self.rest;
        match first {
            b'-' if second == b'-' => (past(text, "\n"), Kind::Space),
            b'/' if second == b'*' => {
                let comment = text.get(2..).unwrap_or_default();
                (2 + past(comment, "*/"), Kind::Space)
            }
            b'\'' | b'"' | b'`' => (quoted(text, first, false), Kind::Other),
            b'[' => (past(text, "]"), Kind::Other),
            byte if is_name(byte) => (run(text, is_name), Kind::Word),
            _ => (1, Kind::Other),
        }
    }

    fn mysql(&self, first: u8, second: u8) -> (usize, Kind) {
        let text = self.rest;
        let third = text.as_bytes().get(2);
        match first {
            b'#' => (past(text, "\n"), Kind::Space),
            b'-' if second == b'-' && third.is_none_or(|&it| it <= b' ') => {
                (past(text, "\n"), Kind::Space)
            }
            // The server runs what is in it.
            b'/' if text.starts_with("/*!") => (3, Kind::Other),
            b'/' if text.starts_with("/*M!") => (4, Kind::Other),
            b'/' if second == b'*' => (
                2 + past(text.get(2..).unwrap_or_default(), "*/"),
                Kind::Space,
            ),
            b'\'' | b'"' => (quoted(text, first, true), Kind::Other),
            b'`' => (quoted(text, first, false), Kind::Other),
            byte if is_name(byte) => (run(text, is_name), Kind::Word),
            _ => (1, Kind::Other),
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (Kind, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let first = *self.rest.as_bytes().first()?;
        let second = self.rest.as_bytes().get(1).copied().unwrap_or_default();
        let (length, kind) = self
            .shared(first, second)
            .unwrap_or_else(|| match self.dialect {
                Dialect::Postgres => self.postgres(first, second),
                Dialect::MySql => self.mysql(first, second),
                Dialect::Sqlite => self.sqlite(first, second),
            });
        // Every token ends between characters: what ends one is of ASCII. In doubt it is all that is left.
        let (token, rest) = self
            .rest
            .split_at_checked(length)
            .unwrap_or((self.rest, ""));
        self.rest = rest;
        Some((kind, token))
    }
}

pub(super) fn tokens(dialect: Dialect, text: &str) -> Tokens<'_> {
    Tokens {
        dialect,
        rest: text,
    }
}
