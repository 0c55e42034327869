//! CloudFront's standard logs: columns between tabs, named by a comment at the start of each file.

use std::borrow::Cow;

use super::{LogLine, address, number, present, scheme, time};

/// The columns that are read, by their positions.
const NAMES: [&str; 15] = [
    "date",
    "time",
    "sc-bytes",
    "c-ip",
    "cs-method",
    "cs(Host)",
    "cs-uri-stem",
    "sc-status",
    "cs(Referer)",
    "cs(User-Agent)",
    "cs-uri-query",
    "x-host-header",
    "cs-protocol",
    "sc-content-type",
    "sc-content-len",
];

/// Their positions in a log without the comment.
const USUAL: [usize; 15] = [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16, 29, 30];

/// Columns beyond this number are not read.
const MOST: usize = 64;

/// The position of each of [`NAMES`].
#[derive(Debug)]
pub(super) struct Columns([usize; 15]);

impl Default for Columns {
    fn default() -> Self {
        Self(USUAL)
    }
}

impl Columns {
    /// Of the comment `#Fields:`.
    pub(super) fn named(names: &[u8]) -> Self {
        let mut places = [usize::MAX; 15];
        let words = names.split(u8::is_ascii_whitespace);
        for (at, name) in words.filter(|name| !name.is_empty()).take(MOST).enumerate() {
            let known = NAMES.iter().position(|known| known.as_bytes() == name);
            if let Some(place) = known.and_then(|known| places.get_mut(known)) {
                *place = at;
            }
        }
        Self(places)
    }

    pub(super) fn parse<'a>(&self, line: &'a [u8]) -> Option<LogLine<'a>> {
        let mut columns: [&[u8]; MOST] = [b""; MOST];
        let mut count = 0;
        for (place, column) in columns.iter_mut().zip(line.split(|byte| *byte == b'\t')) {
            *place = column;
            count += 1;
        }
        if count < 8 {
            return None;
        }
        let [
            date,
            clock,
            bytes,
            client,
            method,
            host,
            path,
            status,
            referer,
            agent,
            query,
            viewer_host,
            protocol,
            kind,
            length,
        ] = self
            .0
            .map(|at| present(columns.get(at).copied().unwrap_or_default()));
        let target = if query.is_empty() {
            Cow::Borrowed(path)
        } else {
            Cow::Owned([path, b"?", query].concat())
        };
        Some(LogLine {
            at: time::date_and_time(date, clock)?,
            client: address(client),
            method: Cow::Borrowed(method),
            target,
            host: Cow::Borrowed(if viewer_host.is_empty() {
                host
            } else {
                viewer_host
            }),
            scheme: scheme(protocol),
            status: u16::try_from(number(status)?).ok()?,
            bytes: number(length).or_else(|| number(bytes)).unwrap_or(0),
            referer: Cow::Borrowed(referer),
            agent: Cow::Borrowed(agent),
            content_type: Cow::Borrowed(kind),
            ..LogLine::default()
        })
    }
}
