//! Dictionaries (RFC 9651 §3.2) and lists of names, read by the algorithms of §4.2: a text is one in each of its parts,
//! or it is none.

/// A dictionary member's value, as far as a field of the edge uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bare<'a> {
    /// `?1`, or a key alone (RFC 9651 §3.2).
    True,
    /// `?0`.
    False,
    /// The digits, with a `-` if there is one.
    Integer(&'a [u8]),
    /// The text between the quotes, with its escapes.
    String(&'a [u8]),
    /// Any other type: no field that the edge reads has members of it.
    Other,
}

/// The members of a dictionary: each key once.
pub type Dictionary<'a> = Vec<(&'a [u8], Bare<'a>)>;

/// With more members than this, keys that stand several times are found by sorting.
const FEW: usize = 16;

/// Reads the lines of a field as one dictionary. Of several members of one key the last counts. `None`: it is not a
/// dictionary, and then the whole field is ignored (RFC 9213 §2.1, RFC 9218 §4). A value that is split among lines
/// makes it none, as RFC 9651 §4.2 allows.
pub fn dictionary<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Dictionary<'a>> {
    let mut members = Vec::new();
    for line in lines {
        Reader(line).dictionary(&mut members)?;
    }
    if members.len() > FEW {
        members.reverse();
        members.sort_by_key(|(key, _)| *key);
        members.dedup_by_key(|(key, _)| *key);
    }
    Some(members)
}

/// True for a line with a list of names and their parameters, as `Cache-Status` is (RFC 9211 §2): each member is a
/// string or a token.
pub fn is_list_of_names(line: &[u8]) -> bool {
    Reader(line).list_of_names().is_some()
}

/// The rest of a line. Each function reads one thing of the grammar; `None`: it is not there.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn dictionary(&mut self, members: &mut Dictionary<'a>) -> Option<()> {
        self.skip(|byte| byte == b' ');
        while !self.0.is_empty() {
            let key = self.key()?;
            let value = match self.take(b'=') {
                true if self.0.first() == Some(&b'(') => self.inner_list()?,
                true => self.bare_item()?,
                false => Bare::True,
            };
            self.parameters()?;
            if members.len() < FEW {
                members.retain(|(known, _)| *known != key);
            }
            members.push((key, value));
            self.skip(is_space);
            if self.0.is_empty() {
                break;
            }
            self.require(b',')?;
            self.skip(is_space);
            // A comma at the end is refused (§4.2.2).
            self.0.first()?;
        }
        Some(())
    }

    fn list_of_names(&mut self) -> Option<()> {
        self.skip(|byte| byte == b' ');
        loop {
            match *self.0.first()? {
                b'"' | b'*' | b'a'..=b'z' | b'A'..=b'Z' => self.bare_item()?,
                _ => return None,
            };
            self.parameters()?;
            self.skip(is_space);
            if self.0.is_empty() {
                return Some(());
            }
            self.require(b',')?;
            self.skip(is_space);
        }
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let first = *self.0.first()?;
        (first.is_ascii_lowercase() || first == b'*').then(|| {
            self.skip(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
            })
        })
    }

    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.skip(|byte| byte == b' ');
            self.key()?;
            if self.take(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn inner_list(&mut self) -> Option<Bare<'a>> {
        self.require(b'(')?;
        loop {
            self.skip(|byte| byte == b' ');
            if self.take(b')') {
                return Some(Bare::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.0.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn bare_item(&mut self) -> Option<Bare<'a>> {
        match *self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'?' => self.boolean(),
            b':' => self.byte_sequence(),
            b'@' => self.date(),
            b'%' => self.display_string(),
            first if first.is_ascii_alphabetic() || first == b'*' => {
                self.skip(|byte| crate::http::is_token_byte(byte) || b":/".contains(&byte));
                Some(Bare::Other)
            }
            _ => None,
        }
    }

    /// Up to 15 digits, or up to 12 with a point and up to 3 after it (§4.2.4).
    fn number(&mut self) -> Option<Bare<'a>> {
        let text = self.0;
        let sign = usize::from(self.take(b'-'));
        let digits = self.skip(|byte| byte.is_ascii_digit()).len();
        if self.take(b'.') {
            let fraction = self.skip(|byte| byte.is_ascii_digit()).len();
            return (matches!(digits, 1..=12) && matches!(fraction, 1..=3)).then_some(Bare::Other);
        }
        let number = text.get(..sign + digits)?;
        matches!(digits, 1..=15).then_some(Bare::Integer(number))
    }

    fn string(&mut self) -> Option<Bare<'a>> {
        self.require(b'"')?;
        let text = self.0;
        loop {
            match self.next()? {
                b'"' => {
                    let length = text.len() - self.0.len() - 1;
                    return text.get(..length).map(Bare::String);
                }
                b'\\' => match self.next()? {
                    b'"' | b'\\' => {}
                    _ => return None,
                },
                b' '..=b'~' => {}
                _ => return None,
            }
        }
    }

    fn boolean(&mut self) -> Option<Bare<'a>> {
        self.require(b'?')?;
        match self.next()? {
            b'1' => Some(Bare::True),
            b'0' => Some(Bare::False),
            _ => None,
        }
    }

    /// Base64 between colons. Its padding may be left out (§4.2.7).
    fn byte_sequence(&mut self) -> Option<Bare<'a>> {
        self.require(b':')?;
        let data = self.skip(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
        let padding = self.skip(|byte| byte == b'=').len();
        self.require(b':')?;
        let missing = match data.len() % 4 {
            0 => 0,
            2 => 2,
            3 => 1,
            _ => return None,
        };
        (padding == 0 || padding == missing).then_some(Bare::Other)
    }

    /// An integer after `@` (§4.2.9).
    fn date(&mut self) -> Option<Bare<'a>> {
        self.require(b'@')?;
        match self.number()? {
            Bare::Integer(_) => Some(Bare::Other),
            _ => None,
        }
    }

    /// UTF-8 whose bytes outside printable ASCII are `%` and two lower-case digits (§4.2.10).
    fn display_string(&mut self) -> Option<Bare<'a>> {
        self.require(b'%')?;
        self.require(b'"')?;
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => break,
                b'%' => {
                    let (high, low) = (self.hex_digit()?, self.hex_digit()?);
                    text.push(high << 4 | low);
                }
                byte @ b' '..=b'~' => text.push(byte),
                _ => return None,
            }
        }
        std::str::from_utf8(&text).is_ok().then_some(Bare::Other)
    }

    fn hex_digit(&mut self) -> Option<u8> {
        match self.next()? {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }

    /// Passes over the bytes that `is` accepts, and returns them.
    fn skip(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !is(*byte));
        let (passed, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        passed
    }

    fn take(&mut self, wanted: u8) -> bool {
        let rest = self.0.strip_prefix(&[wanted]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn require(&mut self, wanted: u8) -> Option<()> {
        self.take(wanted).then_some(())
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Option<Dictionary<'_>> {
        dictionary([text])
    }

    #[test]
    fn a_list_of_names_is_one_of_strings_and_tokens_with_parameters() {
        for (line, want) in [
            ("edge; hit; ttl=5", true),
            ("\"a, b\"; fwd=miss;stored;key=\"x;y\" , *c", true),
            ("a;n=-1.5;s=:YWI=:;at=@1700000000;t=?1;u=x/y:z", true),
            ("", false),
            ("a,", false),
            (",a", false),
            ("a,,b", false),
            ("a b", false),
            ("a; hit; ttl=", false),
            ("a; Hit", false),
            ("a; \"hit\"", false),
            ("a; key=\"open", false),
            ("a; key=(b c)", false),
            ("(a b)", false),
            ("5; hit", false),
            ("HIT from cache", false),
            ("<cache>", false),
            ("a; key=\"\u{e9}\"", false),
        ] {
            assert_eq!(is_list_of_names(line.as_bytes()), want, "{line}");
        }
    }

    #[test]
    fn values_of_every_type_are_read() {
        for (value, want) in [
            (&b"?1"[..], Bare::True),
            (b"?0", Bare::False),
            (b"0", Bare::Integer(b"0")),
            (b"-0042", Bare::Integer(b"-0042")),
            (b"999999999999999", Bare::Integer(b"999999999999999")),
            (b"999999999999.123", Bare::Other),
            (b"-1.5", Bare::Other),
            (br#""x, \" \\ ;a=b""#, Bare::String(br#"x, \" \\ ;a=b"#)),
            (br#""""#, Bare::String(b"")),
            (b"*tok/en:1", Bare::Other),
            (b"::", Bare::Other),
            (b":aGk=:", Bare::Other),
            (b":aGk:", Bare::Other),
            (b"@1659578233", Bare::Other),
            (b"@-1", Bare::Other),
            (br#"%"50%25 f%c3%bcr %22x%22""#, Bare::Other),
            (b"()", Bare::Other),
            (br#"(a  "b)" 1;x=?0;y )"#, Bare::Other),
        ] {
            for after in [&b""[..], b";p", b"; p=1;q=\"x\"", b" ,\tb=1", b"   "] {
                let text = [b"k=", value, after].concat();
                let members = read(&text).unwrap_or_default();
                assert!(members.contains(&(b"k", want)), "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn whatever_is_in_part_no_dictionary_is_none() {
        for bad in [
            &b"a=60,"[..],
            b", a",
            b"a,,b",
            b"A=60",
            b"1=1",
            b"=1",
            b"a=",
            b"a= 1",
            b"a =1",
            b"a b",
            b"a=60 b",
            b"\ta",
            b"a=1000000000000000",
            b"a=-",
            b"a=--1",
            b"a=1-2",
            b"a=+1",
            b"a=.5",
            b"a=1.",
            b"a=1.2.3",
            b"a=1..2",
            b"a=1.2345",
            b"a=1234567890123.0",
            b"a=\"x",
            b"a=\"x\\",
            b"a=\"\\x\"",
            b"a=\"\t\"",
            b"a=\"\xc3\xbc\"",
            b"a=?2",
            b"a=?",
            b"a=?10",
            b"a=:aGk",
            b"a=:a:",
            b"a=:aGk==:",
            b"a=:=aGk:",
            b"a=:a_k=:",
            b"a=@",
            b"a=@1.5",
            b"a=%x",
            b"a=%\"x",
            b"a=%\"%C3%BC\"",
            b"a=%\"%c3\"",
            b"a=%\"%4\"",
            b"a=(",
            b"a=(1",
            b"a=(1,2)",
            b"a=(1\t2)",
            b"a=(\"x\"\"y\")",
            b"a=((1))",
            b"a=();",
            b"a;=1",
            b"a;\tb",
            b"a;B",
            b"a; b=()",
            b"a{",
        ] {
            assert_eq!(read(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn the_last_member_of_a_key_counts_on_any_line() {
        assert_eq!(dictionary([]), Some(Vec::new()));
        assert_eq!(dictionary([&b""[..], b"  "]), Some(Vec::new()));
        let lines = [&b"a=1, b, a=2"[..], b"b=?0"];
        let want = vec![(&b"a"[..], Bare::Integer(b"2")), (b"b", Bare::False)];
        assert_eq!(dictionary(lines), Some(want));
        assert_eq!(dictionary([&b"a=1"[..], b"?"]), None);
        let many: String = (0..500).map(|n| format!("k{}={n}, ", n % 100)).collect();
        let members = read(many.trim_end_matches(", ").as_bytes()).unwrap_or_default();
        assert_eq!(members.len(), 100);
        for n in 0..100 {
            let (key, value) = (format!("k{n}"), format!("{}", n + 400));
            assert!(members.contains(&(key.as_bytes(), Bare::Integer(value.as_bytes()))));
        }
    }
}
