//! Texts of clients in a line: escaped for its form, masked by its policy, and truncated.

use std::io::Write as _;

use super::policy::AccessLogPolicy;

/// Marks truncated text. No URL contains it unescaped, so a truncated text cannot be mistaken for a whole one.
const CUT: &[u8] = "…".as_bytes();
/// Replaces a value that is not shown.
const MASK: &[u8] = b"***";

/// How a form distinguishes text from its own delimiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    /// `\xHH`, as nginx does.
    Backslash,
    /// The same for a word without quotes: spaces are escaped, too.
    Word,
    /// RFC 8259 §7.
    Json,
}

/// The path and query of a URL; values that the policy does not show are masked.
pub(super) fn masked(
    out: &mut Vec<u8>,
    url: &[u8],
    policy: &AccessLogPolicy,
    most: usize,
    quoting: Quoting,
) {
    let Some(at) = url.iter().position(|&byte| byte == b'?') else {
        escape(out, url, most, quoting);
        return;
    };
    let (path, query) = url.split_at(at);
    let mut shown = path.to_vec();
    // Text beyond the bound is never written.
    let bound = query.get(..query.len().min(most)).unwrap_or(query);
    for (index, pair) in bound
        .get(1..)
        .unwrap_or_default()
        .split(|&byte| byte == b'&')
        .enumerate()
    {
        shown.push(if index == 0 { b'?' } else { b'&' });
        let name = pair.split(|&byte| byte == b'=').next().unwrap_or(pair);
        if name.len() == pair.len() || policy.shows(name) {
            shown.extend_from_slice(pair);
        } else {
            shown.extend_from_slice(name);
            shown.push(b'=');
            shown.extend_from_slice(MASK);
        }
    }
    if bound.len() < query.len() {
        shown.extend_from_slice(&[b'.'; 3]);
        shown.resize(shown.len().max(most + 1), b'.');
    }
    escape(out, &shown, most, quoting);
}

/// One in each byte of a word, and the highest bit of each.
const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// True if nothing in the text is escaped. Eight bytes at a time: most texts are addresses and names of browsers.
fn is_plain(text: &[u8], quoting: Quoting) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let found = words.iter().fold(0, |found, word| {
        found | escaped(u64::from_ne_bytes(*word), quoting)
    });
    found == 0
        && rest.iter().fold(true, |plain, &byte| {
            let word = byte == b' ' && quoting == Quoting::Word;
            plain & matches!(byte, b' '..=b'~') & !matches!(byte, b'"' | b'\\') & !word
        })
}

/// Not zero if a byte of the word is a control, a delimiter or not ASCII. A borrow or carry only reaches the next byte
/// from one that is such a byte itself.
fn escaped(word: u64, quoting: Quoting) -> u64 {
    let equal = |sign: u8| {
        let other = word ^ (ONES * u64::from(sign));
        other.wrapping_sub(ONES) & !other
    };
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let beyond = word | word.wrapping_add(ONES);
    let space = if quoting == Quoting::Word {
        equal(b' ')
    } else {
        0
    };
    (equal(b'"') | equal(b'\\') | control | beyond | space) & HIGH
}

/// Writes at most `most` bytes of `text`, escaped so that none is a delimiter of the form or a terminal's control code.
pub(super) fn escape(out: &mut Vec<u8>, text: &[u8], most: usize, quoting: Quoting) {
    // Nearly all text: nothing in it is escaped, and none of it is over the bound.
    if text.len() + 6 <= most && is_plain(text, quoting) {
        out.extend_from_slice(text);
        return;
    }
    let end = out.len() + most;
    if quoting == Quoting::Json {
        for character in String::from_utf8_lossy(text).chars() {
            if out.len() + 6 > end {
                out.extend_from_slice(CUT);
                return;
            }
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                // Control characters, including those of ISO 6429, and the separators that line-based JSON readers take
                // for an end.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        return;
    }
    for &byte in text {
        if out.len() + 4 > end {
            out.extend_from_slice(CUT);
            return;
        }
        match byte {
            b'"' | b'\\' => {
                let _ = write!(out, "\\x{byte:02X}");
            }
            b' ' if quoting == Quoting::Word => out.extend_from_slice(b"\\x20"),
            b' '..=b'~' => out.push(byte),
            _ => {
                let _ = write!(out, "\\x{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_plain_if_each_of_its_bytes_is() {
        for byte in 0..=u8::MAX {
            for (quoting, space) in [
                (Quoting::Json, true),
                (Quoting::Backslash, true),
                (Quoting::Word, false),
            ] {
                let plain = match byte {
                    b'"' | b'\\' => false,
                    b' ' => space,
                    b'!'..=b'~' => true,
                    _ => false,
                };
                for place in 0..19 {
                    let mut text = [b'~'; 19];
                    if let Some(there) = text.get_mut(place) {
                        *there = byte;
                    }
                    assert_eq!(is_plain(&text, quoting), plain, "{byte:#x} at {place}");
                }
            }
        }
    }
}
