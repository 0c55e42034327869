//! Errors of the system in words: Rust adds their numbers, which say nothing more to a reader.

use std::{borrow::Cow, fmt::Display};

const BEGIN: &str = " (os error ";

/// The text without the number that Rust puts behind each error of the system, as in `(os error 2)`.
pub fn without_number(text: &str) -> Cow<'_, str> {
    let mut rest = text;
    let mut made = String::new();
    while let Some((before, after)) = rest.split_once(BEGIN) {
        made.push_str(before);
        match after.split_once(')') {
            Some((number, behind)) if number.bytes().all(|it| it.is_ascii_digit()) => rest = behind,
            _ => {
                made.push_str(BEGIN);
                rest = after;
            }
        }
    }
    if made.is_empty() {
        // Nothing was found, or the whole text is behind a number.
        return Cow::Borrowed(rest);
    }
    made.push_str(rest);
    Cow::Owned(made)
}

/// An error as its text says it, without the number.
pub fn in_words(error: &impl Display) -> String {
    without_number(&error.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_errors_are_left_out_and_nothing_else() {
        for (text, want) in [
            ("Connection refused (os error 111)", "Connection refused"),
            (
                "/a: No such file or directory (os error 2); give a file",
                "/a: No such file or directory; give a file",
            ),
            ("a (os error 1) b (os error 22)", "a b"),
            ("a (os error x) (os error 5) b", "a (os error x) b"),
            ("a (os error 5", "a (os error 5"),
            (" (os error 5)b", "b"),
            ("", ""),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_number(text), want, "{text}");
        }
        let system = std::io::Error::from_raw_os_error(13);
        assert_eq!(in_words(&system), "Permission denied");
    }
}
