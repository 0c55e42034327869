//! Lines of the access log: the text that each form writes about a request, escaped, masked and bounded.
//!
//! Clients choose most of the text. None of it may end a line, forge a field or control a terminal, and no secret may
//! be written: query values are masked by the policy, and cookies and `Authorization` have no field here.

mod digits;

use std::{io::Write as _, net::IpAddr, sync::Arc};

use digits::{decimal, hex, octet, seconds, two};

use crate::{
    http::date::{MONTHS, civil},
    request_record::RequestRecord,
    select::Select,
};

/// Bytes of a line, including its end.
pub const LINE: usize = 8 << 10;
/// Bytes of the URL and of each other text of the client, as written. Together with the rest they stay below `LINE`.
const TARGET: usize = 4 << 10;
const TEXT: usize = 384;
/// Marks truncated text. No URL contains it unescaped, so a truncated text cannot be mistaken for a whole one.
const CUT: &[u8] = "…".as_bytes();
/// Replaces a value that is not shown.
const MASK: &[u8] = b"***";

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Apache's and nginx's combined form, and after it `name=value` pairs.
    Combined,
    /// One object per line.
    Json,
    /// For a person: short, optionally with colours.
    Short {
        /// ANSI colours by the class of the status.
        colours: bool,
    },
}

/// The fields that an access log writes about requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogPolicy {
    /// Query parameters whose values are shown.
    pub query: Select,
    /// True if the `sub` of a verified token is shown.
    pub user: bool,
}

/// Parameters that usually carry secrets.
const SECRETS: [&str; 20] = [
    "access_token",
    "api_key",
    "apikey",
    "auth",
    "authorization",
    "client_secret",
    "code",
    "id_token",
    "jwt",
    "key",
    "passwd",
    "password",
    "refresh_token",
    "secret",
    "session",
    "sig",
    "signature",
    "token",
    "x-amz-security-token",
    "x-amz-signature",
];

impl Default for AccessLogPolicy {
    fn default() -> Self {
        Self {
            query: Select::Except(SECRETS.map(Arc::from).to_vec()),
            user: false,
        }
    }
}

/// A line whose end is known when the response has been sent.
#[derive(Debug)]
pub struct UnfinishedLine {
    line: Vec<u8>,
    /// Position at which the count of bytes is inserted.
    bytes_at: usize,
    form: Form,
}

/// Writes everything but bytes and duration.
pub fn begin(entry: &RequestRecord<'_>, policy: &AccessLogPolicy, form: Form) -> UnfinishedLine {
    let mut line = Vec::with_capacity(384);
    let bytes_at = match form {
        Form::Combined => combined(&mut line, entry, policy),
        Form::Json => json(&mut line, entry, policy),
        Form::Short { colours } => short(&mut line, entry, policy, colours),
    };
    UnfinishedLine {
        line,
        bytes_at,
        form,
    }
}

impl UnfinishedLine {
    /// The line: `bytes` of content were sent, `micros` after the request was read.
    pub fn end(mut self, bytes: u64, micros: u64) -> Vec<u8> {
        let at = self.bytes_at.min(self.line.len());
        match self.form {
            Form::Combined => {
                put(&mut self.line, " time=");
                seconds(&mut self.line, micros);
                self.line.push(b'\n');
                self.line.splice(at..at, bytes.to_string().into_bytes());
            }
            Form::Json => {
                put(&mut self.line, ",\"bytes\":");
                decimal(&mut self.line, bytes);
                put(&mut self.line, ",\"seconds\":");
                seconds(&mut self.line, micros);
                put(&mut self.line, "}\n");
            }
            Form::Short { .. } => {
                let shown = format!("{bytes} B {:.1} ms", micros as f64 / 1e3);
                self.line.splice(at..at, shown.into_bytes());
                self.line.push(b'\n');
            }
        }
        self.line
    }
}

fn combined(out: &mut Vec<u8>, entry: &RequestRecord<'_>, policy: &AccessLogPolicy) -> usize {
    address(out, entry.client);
    put(out, " - ");
    match entry.user {
        // A space would make two fields of it.
        Some(user) if policy.user => escape(out, user.as_bytes(), TEXT, Quoting::Word),
        _ => out.push(b'-'),
    }
    put(out, " [");
    clf(out, entry.at / 1_000);
    put(out, "] \"");
    escape(out, entry.method.as_bytes(), 32, Quoting::Backslash);
    out.push(b' ');
    target(out, entry.target, policy, Quoting::Backslash);
    out.push(b' ');
    put(out, entry.version);
    put(out, "\" ");
    decimal(out, u64::from(entry.status));
    out.push(b' ');
    let bytes_at = out.len();
    out.extend_from_slice(b" \"");
    match entry.referer {
        Some(referer) => masked(out, referer, policy, TEXT, Quoting::Backslash),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" \"");
    escape(out, entry.agent.unwrap_or(b"-"), TEXT, Quoting::Backslash);
    out.push(b'"');
    fields(entry, |name, value, kind| {
        put(out, " ");
        put(out, name);
        put(out, "=\"");
        kind.write(out, value, Quoting::Backslash);
        put(out, "\"");
    });
    put(out, " id=");
    hex(out, entry.id);
    put(out, " head=");
    seconds(out, entry.head);
    bytes_at
}

/// The author of a text.
#[derive(Debug, Clone, Copy)]
enum Text {
    /// The edge, of letters and signs that no form escapes.
    Own,
    Anyone,
}

impl Text {
    fn write(self, out: &mut Vec<u8>, text: &str, quoting: Quoting) {
        match self {
            Self::Own => put(out, text),
            Self::Anyone => escape(out, text.as_bytes(), TEXT, quoting),
        }
    }
}

/// Gives the text fields beside those of the combined form; empty ones are left out.
fn fields(entry: &RequestRecord<'_>, mut write: impl FnMut(&str, &str, Text)) {
    let mut field = |name, value: &str, text| {
        if !value.is_empty() {
            write(name, value, text);
        }
    };
    field("host", entry.host, Text::Anyone);
    field("cache", entry.outcome.as_str(), Text::Own);
    field("reason", entry.reason().unwrap_or(""), Text::Own);
    field("route", entry.label, Text::Anyone);
    field("origin", entry.origin.unwrap_or(""), Text::Anyone);
    if !entry.variants.is_empty() {
        field("variant", &entry.variant(), Text::Anyone);
    }
    if let Some(id) = entry.trace {
        field("trace", &format!("{id:032x}"), Text::Own);
    }
    if let Some(tls) = entry.tls {
        field("tls", tls.version, Text::Own);
        field("cipher", tls.cipher, Text::Own);
        field("sni", tls.server_name.unwrap_or(""), Text::Anyone);
        field("resumed", if tls.resumed { "yes" } else { "" }, Text::Own);
    }
}

fn json(out: &mut Vec<u8>, entry: &RequestRecord<'_>, policy: &AccessLogPolicy) -> usize {
    put(out, "{\"time\":\"");
    iso(out, entry.at);
    put(out, "\",\"client\":\"");
    address(out, entry.client);
    put(out, "\",\"method\":\"");
    escape(out, entry.method.as_bytes(), 32, Quoting::Json);
    put(out, "\",\"scheme\":\"");
    put(out, entry.scheme);
    put(out, "\",\"url\":\"");
    target(out, entry.target, policy, Quoting::Json);
    put(out, "\",\"protocol\":\"");
    put(out, entry.version);
    put(out, "\",\"status\":");
    decimal(out, u64::from(entry.status));
    if let Some(referer) = entry.referer {
        out.extend_from_slice(b",\"referer\":\"");
        masked(out, referer, policy, TEXT, Quoting::Json);
        out.push(b'"');
    }
    if let Some(agent) = entry.agent {
        out.extend_from_slice(b",\"user_agent\":\"");
        escape(out, agent, TEXT, Quoting::Json);
        out.push(b'"');
    }
    if let Some(user) = entry.user.filter(|_| policy.user) {
        out.extend_from_slice(b",\"user\":\"");
        escape(out, user.as_bytes(), TEXT, Quoting::Json);
        out.push(b'"');
    }
    fields(entry, |name, value, kind| {
        put(out, ",\"");
        put(out, name);
        put(out, "\":\"");
        kind.write(out, value, Quoting::Json);
        put(out, "\"");
    });
    put(out, ",\"id\":\"");
    hex(out, entry.id);
    put(out, "\",\"head_seconds\":");
    seconds(out, entry.head);
    out.len()
}

fn short(
    out: &mut Vec<u8>,
    entry: &RequestRecord<'_>,
    policy: &AccessLogPolicy,
    colours: bool,
) -> usize {
    let day = entry.at / 1_000 % 86_400;
    let (start, end) = match (colours, entry.status) {
        (false, _) => ("", ""),
        (true, ..300) => ("\x1b[32m", "\x1b[0m"),
        (true, 300..400) => ("\x1b[36m", "\x1b[0m"),
        (true, 400..500) => ("\x1b[33m", "\x1b[0m"),
        (true, _) => ("\x1b[31m", "\x1b[0m"),
    };
    let _ = write!(
        out,
        "{:02}:{:02}:{:02} {start}{}{end} ",
        day / 3_600,
        day / 60 % 60,
        day % 60,
        entry.status
    );
    escape(out, entry.method.as_bytes(), 32, Quoting::Backslash);
    out.push(b' ');
    target(out, entry.target, policy, Quoting::Backslash);
    let _ = write!(out, "  {}", entry.outcome.as_str());
    if let Some(reason) = entry.reason() {
        let _ = write!(out, " ({reason})");
    }
    out.push(b' ');
    let bytes_at = out.len();
    if let Some(origin) = entry.origin {
        let _ = write!(out, " from {origin}");
    }
    if !entry.variants.is_empty() {
        let _ = write!(out, " {}", entry.variant());
    }
    bytes_at
}

/// How a form distinguishes text from its own delimiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// `\xHH`, as nginx does.
    Backslash,
    /// The same for a word without quotes: spaces are escaped, too.
    Word,
    /// RFC 8259 §7.
    Json,
}

/// The URL's path and query; values that the policy does not show are masked.
fn target(out: &mut Vec<u8>, target: &str, policy: &AccessLogPolicy, quoting: Quoting) {
    masked(out, target.as_bytes(), policy, TARGET, quoting);
}

fn masked(out: &mut Vec<u8>, url: &[u8], policy: &AccessLogPolicy, most: usize, quoting: Quoting) {
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
        if name.len() == pair.len() || shows(&policy.query, name) {
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

/// True if the value of a parameter may be written. Names are compared decoded and in lower case: most applications
/// read `%74oken` as `token`.
fn shows(query: &Select, name: &[u8]) -> bool {
    let decoded = percent_decoded(name);
    query.has(String::from_utf8_lossy(&decoded).to_lowercase())
}

fn percent_decoded(name: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| {
        byte.and_then(|&byte| char::from(byte).to_digit(16))
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match (first, digit(after.first()), digit(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => out.push(first),
        }
    }
    out
}

/// Bits for the bytes that are written as they are in no form, and not in [`Quoting::Word`].
const ESCAPED: [u8; 256] = {
    let mut escaped = [3; 256];
    let mut byte = b' ' as usize;
    while byte <= b'~' as usize {
        escaped[byte] = match byte as u8 {
            b'"' | b'\\' => 3,
            b' ' => 2,
            _ => 0,
        };
        byte += 1;
    }
    escaped
};

/// True if nothing in the text is escaped.
fn is_plain(text: &[u8], quoting: Quoting) -> bool {
    let escaped = |&byte: &u8| ESCAPED.get(usize::from(byte)).copied().unwrap_or(3);
    let found = text.iter().fold(0, |found, byte| found | escaped(byte));
    found & if quoting == Quoting::Word { 3 } else { 1 } == 0
}

/// Writes at most `most` bytes of `text`, escaped so that none is a delimiter of the form or a terminal's control code.
fn escape(out: &mut Vec<u8>, text: &[u8], most: usize, quoting: Quoting) {
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

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        let _ = write!(out, "{address}");
        return;
    };
    for part in address.octets() {
        octet(out, part, b'.');
    }
    out.pop();
}

/// Hours, minutes and seconds of a day, as `HH:MM:SS`.
fn clock(second: u64) -> [u8; 8] {
    let [h, i] = two(second / 3_600);
    let [m, n] = two(second / 60 % 60);
    let [s, t] = two(second % 60);
    [h, i, b':', m, n, b':', s, t]
}

/// Unix milliseconds in the form of RFC 3339, in UTC.
fn iso(out: &mut Vec<u8>, at: u64) {
    let (second, millis) = (at / 1_000, at % 1_000);
    let (year, month, day) = civil(second / 86_400);
    let ([y, e], [a, r]) = (two(year / 100), two(year));
    let ([m, n], [d, f]) = (two(month), two(day));
    out.extend_from_slice(&[y, e, a, r, b'-', m, n, b'-', d, f, b'T']);
    out.extend_from_slice(&clock(second % 86_400));
    let [t, u] = two(millis / 10);
    out.extend_from_slice(&[b'.', t, u, b'0' + (millis % 10) as u8, b'Z']);
}

/// Unix seconds in Apache's form, in UTC.
fn clf(out: &mut Vec<u8>, at: u64) {
    let (year, month, day) = civil(at / 86_400);
    out.extend_from_slice(&two(day));
    out.push(b'/');
    put(out, MONTHS.get(month as usize - 1).unwrap_or(&"Jan"));
    out.push(b'/');
    out.extend_from_slice(&two(year / 100));
    out.extend_from_slice(&two(year));
    out.push(b':');
    out.extend_from_slice(&clock(at % 86_400));
    put(out, " +0000");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::IpAddr;

    use super::*;
    use crate::{outcome::Outcome, request_record::TlsRecord};

    fn entry(target: &str) -> RequestRecord<'_> {
        RequestRecord {
            at: 1_795_710_474_123,
            client: IpAddr::from([192, 0, 2, 7]),
            user: Some("ada l"),
            scheme: "https",
            host: "example.com",
            method: "GET",
            target,
            version: "HTTP/1.1",
            status: 200,
            referer: Some(b"https://example.com/?token=s&a=b"),
            agent: Some(b"say \"hi\"\r\n\x1b[2J \xc3\xa9"),
            outcome: Outcome::Miss,
            hit: false,
            stored: false,
            detail: None,
            forward: None,
            refusal: None,
            bytes: None,
            route: None,
            label: "/*",
            origin: Some("first"),
            variants: &[("home", "control")],
            id: 26,
            trace: None,
            head: 1_500,
            tls: None,
        }
    }

    fn secured(server_name: &str) -> Option<TlsRecord<'_>> {
        Some(TlsRecord {
            version: "TLSv1.2",
            cipher: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            server_name: Some(server_name),
            resumed: true,
        })
    }

    fn line(entry: &RequestRecord<'_>, policy: &AccessLogPolicy, form: Form) -> String {
        String::from_utf8(begin(entry, policy, form).end(512, 2_000_001)).unwrap()
    }

    #[test]
    fn a_line_names_the_trace_of_its_request() {
        let traced = RequestRecord {
            trace: Some(0xab),
            ..entry("/")
        };
        let policy = AccessLogPolicy::default();
        let id = format!("{:032x}", 0xab);
        let combined = line(&traced, &policy, Form::Combined);
        assert!(
            combined.contains(&format!(" trace=\"{id}\" ")),
            "{combined}"
        );
        let json = line(&traced, &policy, Form::Json);
        assert!(json.contains(&format!(",\"trace\":\"{id}\",")), "{json}");
        assert!(!line(&entry("/"), &policy, Form::Combined).contains("trace="));
    }

    #[test]
    fn a_combined_line_is_what_other_tools_read_with_our_fields_after_it() {
        assert_eq!(
            line(
                &entry("/a?b=c"),
                &AccessLogPolicy::default(),
                Form::Combined
            ),
            concat!(
                "192.0.2.7 - - [26/Nov/2026:16:27:54 +0000] \"GET /a?b=c HTTP/1.1\" 200 512 ",
                "\"https://example.com/?token=***&a=b\" \"say \\x22hi\\x22\\x0D\\x0A\\x1B[2J \\xC3\\xA9\" ",
                "host=\"example.com\" cache=\"miss\" route=\"/*\" origin=\"first\" variant=\"home:control\" ",
                "id=000000000000001a head=0.001500 time=2.000001\n"
            )
        );
    }

    #[test]
    fn a_json_line_is_an_object_whatever_the_client_sent() {
        let policy = AccessLogPolicy {
            user: true,
            ..AccessLogPolicy::default()
        };
        let line = line(&entry("/a?b=c"), &policy, Form::Json);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(!line.trim_end().chars().any(char::is_control));
        for (field, want) in [
            ("time", "2026-11-26T16:27:54.123Z"),
            ("client", "192.0.2.7"),
            ("url", "/a?b=c"),
            ("user", "ada l"),
            ("user_agent", "say \"hi\"\r\n\x1b[2J é"),
            ("origin", "first"),
            ("id", "000000000000001a"),
        ] {
            assert_eq!(read[field], want, "{field}");
        }
        assert_eq!(
            (&read["bytes"], &read["status"]),
            (&512.into(), &200.into())
        );
    }

    #[test]
    fn the_tls_of_a_connection_is_in_both_forms() {
        let mut entry = entry("/");
        entry.tls = secured("example.com");
        let policy = AccessLogPolicy::default();
        let read: serde_json::Value =
            serde_json::from_str(&line(&entry, &policy, Form::Json)).unwrap();
        for (field, want) in [
            ("tls", "TLSv1.2"),
            ("cipher", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
            ("sni", "example.com"),
            ("resumed", "yes"),
        ] {
            assert_eq!(read[field], want, "{field}");
        }
        let combined = line(&entry, &policy, Form::Combined);
        assert!(combined.contains(" tls=\"TLSv1.2\" cipher=\"TLS_ECDHE"));
        assert!(combined.contains(" sni=\"example.com\" resumed=\"yes\" id="));
    }

    #[test]
    fn secrets_in_queries_are_masked_however_they_are_spelt() {
        let policy = AccessLogPolicy::default();
        let only = AccessLogPolicy {
            query: Select::Only(vec![Arc::from("page")]),
            user: false,
        };
        for (policy, given, want) in [
            (&policy, "/a?token=x", "/a?token=***"),
            (&policy, "/a?b=1&TOKEN=x&c", "/a?b=1&TOKEN=***&c"),
            (&policy, "/a?%74oken=x=y", "/a?%74oken=***"),
            (&policy, "/a?token", "/a?token"),
            (&policy, "/token=x", "/token=x"),
            (&only, "/a?page=1&q=x&=y", "/a?page=1&q=***&=***"),
        ] {
            let line = line(&entry(given), policy, Form::Short { colours: false });
            assert!(line.contains(&format!("GET {want}  miss")), "{line}");
        }
    }

    #[test]
    fn no_line_is_longer_than_its_bound() {
        let long = format!("/{}", "\"".repeat(64 << 10));
        let query = format!("/?a={}", "b".repeat(64 << 10));
        let bytes = vec![0x1b; 64 << 10];
        let text = "é\u{9b}".repeat(20_000);
        for target in [&long, &query] {
            let mut entry = entry(target);
            entry.referer = Some(&bytes);
            entry.agent = Some(&bytes);
            (entry.host, entry.label) = (&text, &text);
            let variants = [(&*text, &*text)];
            entry.variants = &variants;
            entry.user = Some(&text);
            entry.tls = secured(&text);
            for form in [Form::Combined, Form::Json] {
                let policy = AccessLogPolicy {
                    user: true,
                    ..AccessLogPolicy::default()
                };
                let line = line(&entry, &policy, form);
                assert!(line.len() <= LINE, "{form:?}: {}", line.len());
                assert!(line.contains('…') && line.matches('\n').count() == 1);
            }
        }
    }
}
