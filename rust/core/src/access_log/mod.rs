//! Lines of the access log: the text that each form writes about a request, escaped, masked and bounded.
//!
//! Clients choose most of the text. None of it may end a line, forge a field or control a terminal, and no secret may
//! be written: query values are masked by the policy, and cookies and `Authorization` have no field here.
//!
//! Here are the forms; `escape` has texts of clients, `policy` the values that may be written.

mod digits;
mod escape;
mod policy;
mod time;

use std::{io::Write as _, net::IpAddr};

pub use self::policy::AccessLogPolicy;
use self::{
    digits::{decimal, hex, octet, seconds},
    escape::{Quoting, escape, masked},
    time::{clf, iso},
};
use crate::request_record::RequestRecord;

/// Bytes of a line, including its end.
pub const LINE: usize = 8 << 10;
/// Bytes of the URL and of each other text of the client, as written. Together with the rest they stay below `LINE`.
const METHOD: usize = 32;
const TARGET: usize = 4 << 10;
const TEXT: usize = 384;

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
    method(out, entry, Quoting::Backslash);
    out.push(b' ');
    target(out, entry, policy, Quoting::Backslash);
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
    fields(out, entry, Quoting::Backslash);
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

/// The name of a field with all that stands before its value.
struct FieldName {
    json: &'static str,
    pair: &'static str,
}

/// A name in both forms, put together by the compiler: it is written in one piece.
macro_rules! named {
    ($name:literal) => {
        FieldName {
            json: concat!(",\"", $name, "\":\""),
            pair: concat!(" ", $name, "=\""),
        }
    };
}

/// Writes the text fields beside those of the combined form; empty ones are left out.
#[inline]
fn fields(out: &mut Vec<u8>, entry: &RequestRecord<'_>, quoting: Quoting) {
    let mut field = |name: &FieldName, value: &str, text: Text| {
        if value.is_empty() {
            return;
        }
        put(
            out,
            if quoting == Quoting::Json {
                name.json
            } else {
                name.pair
            },
        );
        text.write(out, value, quoting);
        out.push(b'"');
    };
    field(&named!("host"), entry.host, Text::Anyone);
    field(&named!("cache"), entry.outcome.as_str(), Text::Own);
    field(&named!("reason"), entry.reason().unwrap_or(""), Text::Own);
    field(&named!("route"), entry.label, Text::Anyone);
    field(&named!("origin"), entry.origin.unwrap_or(""), Text::Anyone);
    if !entry.variants.is_empty() {
        field(&named!("variant"), &entry.variant(), Text::Anyone);
    }
    if let Some(id) = entry.trace {
        field(&named!("trace"), &format!("{id:032x}"), Text::Own);
    }
    if let Some(tls) = entry.tls {
        field(&named!("tls"), tls.version, Text::Own);
        field(&named!("cipher"), tls.cipher, Text::Own);
        field(&named!("sni"), tls.server_name.unwrap_or(""), Text::Anyone);
        field(
            &named!("resumed"),
            if tls.resumed { "yes" } else { "" },
            Text::Own,
        );
    }
}

fn json(out: &mut Vec<u8>, entry: &RequestRecord<'_>, policy: &AccessLogPolicy) -> usize {
    put(out, "{\"time\":\"");
    iso(out, entry.at);
    put(out, "\",\"client\":\"");
    address(out, entry.client);
    put(out, "\",\"method\":\"");
    method(out, entry, Quoting::Json);
    put(out, "\",\"scheme\":\"");
    put(out, entry.scheme);
    put(out, "\",\"url\":\"");
    target(out, entry, policy, Quoting::Json);
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
    fields(out, entry, Quoting::Json);
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
    method(out, entry, Quoting::Backslash);
    out.push(b' ');
    target(out, entry, policy, Quoting::Backslash);
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

#[inline]
fn method(out: &mut Vec<u8>, entry: &RequestRecord<'_>, quoting: Quoting) {
    escape(out, entry.method.as_bytes(), METHOD, quoting);
}

/// Path and query as the policy shows them.
#[inline]
fn target(
    out: &mut Vec<u8>,
    entry: &RequestRecord<'_>,
    policy: &AccessLogPolicy,
    quoting: Quoting,
) {
    masked(out, entry.target.as_bytes(), policy, TARGET, quoting);
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

#[cfg(test)]
mod tests;
