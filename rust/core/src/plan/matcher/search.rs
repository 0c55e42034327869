//! Fast matching of patterns, and the division of a match among its wildcards.

use std::ops::Range;

use super::tokens::Token;

/// The length of the token's match at the start of `rest`, for tokens that have only one.
fn fixed(token: &Token, rest: &[u8]) -> Option<usize> {
    match token {
        Token::Literal(literal) => rest.starts_with(literal).then_some(literal.len()),
        Token::One => (!rest.is_empty()).then_some(1),
        Token::Any(_) | Token::Segment(_) => None,
    }
}

/// Literals, `?` and `*`. After a `*` the earliest place where the next piece fits is as good as any later one, so only
/// the last `*` is ever extended.
pub(super) fn glob(tokens: &[Token], text: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    loop {
        match tokens.get(token) {
            Some(Token::Any(_)) => {
                token += 1;
                if token == tokens.len() {
                    return true;
                }
                again = Some((token, at));
                continue;
            }
            Some(one) => {
                if let Some(length) = fixed(one, text.get(at..).unwrap_or_default()) {
                    token += 1;
                    at += length;
                    continue;
                }
            }
            None if at == text.len() => return true,
            None => {}
        }
        match &mut again {
            Some((back, from)) if *from < text.len() => {
                *from += 1;
                (token, at) = (*back, *from);
            }
            _ => return false,
        }
    }
}

/// Literals and `{name}`, then perhaps one `*`. Between two parameters there is a literal. If it contains a `/`, the
/// first parameter can end in one place only; if not, the second can begin at the first place where it fits. So only
/// the last parameter is ever extended.
pub(super) fn segments(tokens: &[Token], text: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        match tokens.get(token) {
            Some(Token::Any(_)) => return true,
            Some(Token::Segment(_)) if !matches!(rest.first(), None | Some(b'/')) => {
                token += 1;
                at += 1;
                again = Some((token, at));
                continue;
            }
            Some(one) => {
                if let Some(length) = fixed(one, rest) {
                    token += 1;
                    at += length;
                    continue;
                }
            }
            None if rest.is_empty() => return true,
            None => {}
        }
        match &mut again {
            Some((back, from)) if !matches!(text.get(*from), None | Some(b'/')) => {
                *from += 1;
                (token, at) = (*back, *from);
            }
            _ => return false,
        }
    }
}

/// `spans` for a pattern with a single token of variable length: it takes the bytes that the others leave.
fn around_one(tokens: &[Token], text: &[u8]) -> Option<Vec<Range<usize>>> {
    let length = |token: &Token| match token {
        Token::Literal(literal) => literal.len(),
        Token::One => 1,
        Token::Any(_) | Token::Segment(_) => 0,
    };
    let left = text.len().checked_sub(tokens.iter().map(length).sum())?;
    let mut spans = Vec::with_capacity(tokens.len());
    let mut at = 0;
    for token in tokens {
        let rest = text.get(at..)?;
        let end = at
            + match token {
                Token::Any(_) => left,
                Token::Segment(_) if left > 0 && !rest.get(..left)?.contains(&b'/') => left,
                Token::Segment(_) => return None,
                fixed_token => fixed(fixed_token, rest)?,
            };
        spans.push(at..end);
        at = end;
    }
    Some(spans)
}

/// The part of the text that each token takes; `None` when the text does not match.
pub(super) fn spans(tokens: &[Token], text: &[u8]) -> Option<Vec<Range<usize>>> {
    let is_wild = |token: &&Token| matches!(token, Token::Any(_) | Token::Segment(_));
    if tokens.iter().filter(is_wild).count() == 1 {
        return around_one(tokens, text);
    }
    // feasible[t][p]: the tokens from t on match the text from p on.
    let mut feasible = vec![vec![false; text.len() + 1]; tokens.len() + 1];
    if let Some(end) = feasible.last_mut().and_then(|row| row.last_mut()) {
        *end = true;
    }
    for (index, token) in tokens.iter().enumerate().rev() {
        let (rows, later) = feasible.split_at_mut(index + 1);
        let (Some(row), Some(next)) = (rows.last_mut(), later.first()) else {
            return None;
        };
        let mut reach = false;
        for at in (0..=text.len()).rev() {
            let fits = |at: usize| next.get(at).copied().unwrap_or(false);
            let now = match token {
                Token::Any(_) => {
                    reach |= fits(at);
                    reach
                }
                Token::Segment(_) => {
                    // reach: after one byte that is not a slash, some end of the run fits.
                    reach =
                        text.get(at).is_some_and(|byte| *byte != b'/') && (reach || fits(at + 1));
                    reach
                }
                fixed_token => fixed(fixed_token, text.get(at..).unwrap_or_default())
                    .is_some_and(|length| fits(at + length)),
            };
            if let Some(cell) = row.get_mut(at) {
                *cell = now;
            }
        }
    }
    if !*feasible.first()?.first()? {
        return None;
    }
    let mut spans = Vec::with_capacity(tokens.len());
    let mut at = 0;
    for (token, next) in tokens.iter().zip(feasible.iter().skip(1)) {
        let end = match token {
            Token::Any(_) => (at..=text.len())
                .rev()
                .find(|end| next.get(*end) == Some(&true))?,
            Token::Segment(_) => {
                let run = text
                    .get(at..)?
                    .iter()
                    .take_while(|byte| **byte != b'/')
                    .count();
                (at + 1..=at + run)
                    .rev()
                    .find(|end| next.get(*end) == Some(&true))?
            }
            fixed_token => at + fixed(fixed_token, text.get(at..)?)?,
        };
        spans.push(at..end);
        at = end;
    }
    Some(spans)
}
