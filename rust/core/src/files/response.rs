//! The head of a file's response, and the answer to a request's conditions and range.

use http::{HeaderValue, Method, StatusCode};

use super::path::last_name;
use crate::{
    cache::validate::{self, Precondition},
    finish::{self, Partial},
    http::{
        Fields, accept,
        coding::ContentCoding,
        date, header, media_type,
        range::{self, RangeRequest},
    },
    plan::FileFolder,
};

/// The facts about an opened file that its response depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// In bytes.
    pub length: u64,
    /// Time of the last change of its content: seconds since 1970, and the nanoseconds in them.
    pub modified: (u64, u32),
    /// The same of its inode, which a copy cannot set.
    pub changed: (u64, u32),
}

/// Before this (2 January 1980) a time is one that a build sets in every file: 0, 1, or the beginning of the times that
/// ZIP knows. It does not tell two versions of a file apart.
const NO_TIME: u64 = 315_619_200;
/// A file that changed within this many seconds may change again with the same time.
const SETTLED: u64 = 2;
/// A year: longer is not trusted (RFC 9111 §4.2.1).
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const PRIVATE: HeaderValue = HeaderValue::from_static("private");
const PRIVATE_IMMUTABLE: HeaderValue =
    HeaderValue::from_static("private, max-age=31536000, immutable");

impl FileFacts {
    /// The time that validators are made of.
    fn version(&self) -> (u64, u32) {
        if self.modified.0 < NO_TIME {
            self.changed
        } else {
            self.modified
        }
    }

    /// True if the head of a response with the file is the same at all later times.
    pub fn is_settled(&self, now: u64) -> bool {
        self.version().0.saturating_add(SETTLED) <= now
    }

    /// True if this may be a coding of the other file: it is not older.
    pub fn follows(&self, plain: &Self) -> bool {
        self.modified >= plain.modified
    }
}

/// The codings in which a file may be sent, of those that a client accepts, in their order.
pub fn codings<'a>(
    folder: &'a FileFolder,
    names: &'a [u8],
    accepted: &'a [ContentCoding],
) -> impl Iterator<Item = ContentCoding> + 'a {
    // Such a file has no other form: every client gets it.
    let gzipped = media_type::is_gzipped(last_name(names)).then_some(ContentCoding::Identity);
    let may_have = move |coding: ContentCoding| {
        coding == ContentCoding::Identity || may_have_codings(folder, names)
    };
    let codings = accepted.iter().copied();
    let codings = codings.filter(move |coding| gzipped.is_none() && may_have(*coding));
    gzipped.into_iter().chain(codings)
}

/// True if files in other codings are looked for beside this one.
fn may_have_codings(folder: &FileFolder, names: &[u8]) -> bool {
    let name = last_name(names);
    folder.precompressed
        && media_type::shrinks(media_type::of_file(name).as_bytes())
        && !media_type::is_gzipped(name)
}

/// The head of a 200 with the file at `names` in a coding. `now`: Unix seconds.
pub fn head(
    folder: &FileFolder,
    names: &[u8],
    facts: &FileFacts,
    coding: ContentCoding,
    now: u64,
) -> Fields {
    let name = last_name(names);
    let mut headers = Fields::with_capacity(8);
    let kind = media_type::of_file(name);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(facts.length));
    let own = media_type::is_gzipped(name).then_some(ContentCoding::Gzip);
    if let Some(value) = own.unwrap_or(coding).field() {
        headers.insert(header::CONTENT_ENCODING, value);
    }
    headers.insert(header::ETAG, tag(facts, coding, now));
    // A time in the future says nothing that a client could use (RFC 9110 §8.8.2.1).
    let (modified, _) = facts.version();
    headers.insert(header::LAST_MODIFIED, date::format(modified.min(now)));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if may_have_codings(folder, names) {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if never_changes(folder, names) {
        headers.insert(header::CACHE_CONTROL, IMMUTABLE);
    }
    headers
}

/// Keeps a file of a guarded route out of shared caches between the edge and the client, which do not know the guard:
/// `public` would let them answer requests without a token (RFC 9111 §3.5), and a file without `Cache-Control` may be
/// stored by its age where the token is a cookie.
pub fn keep_private(headers: &mut Fields) {
    let value = if headers.contains_key(header::CACHE_CONTROL) {
        PRIVATE_IMMUTABLE
    } else {
        PRIVATE
    };
    headers.insert(header::CACHE_CONTROL, value);
}

/// True for a file that keeps its content as long as it has its name, by `immutable` of its folder.
pub fn never_changes(folder: &FileFolder, names: &[u8]) -> bool {
    let text = || std::str::from_utf8(last_name(names)).unwrap_or_default();
    let immutable = folder.immutable.as_ref();
    immutable.is_some_and(|names| names.matches(text()))
}

/// Time and length of the file, and its coding: each is another representation (RFC 9110 §8.8.3.3). Weak as long as
/// the file may change without another time (§8.8.1).
fn tag(facts: &FileFacts, coding: ContentCoding, now: u64) -> HeaderValue {
    let (seconds, nanos) = facts.version();
    let weak = if facts.is_settled(now) { "" } else { "W/" };
    let (dash, coding) = match coding {
        ContentCoding::Identity => ("", ""),
        other => ("-", other.as_str()),
    };
    let text = format!(
        "{weak}\"{seconds:x}.{nanos:x}-{:x}{dash}{coding}\"",
        facts.length
    );
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("W/\"\""))
}

/// The form in which a file is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileAnswer {
    /// 200 with the whole file.
    Whole,
    /// 206.
    Part(Partial),
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable,
}

impl FileAnswer {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Whole => StatusCode::OK,
            Self::Part(_) => StatusCode::PARTIAL_CONTENT,
            Self::NotModified => StatusCode::NOT_MODIFIED,
            Self::Failed => StatusCode::PRECONDITION_FAILED,
            Self::Unsatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        }
    }
}

/// The answer to the conditions and the range of a request for a file of `length` bytes (RFC 9110 §13.2.2, §14.2), and
/// its head in place of that of a 200. `random`: an unpredictable number.
pub fn answer(
    method: &Method,
    request: &Fields,
    headers: &mut Fields,
    length: u64,
    random: impl FnOnce() -> u128,
) -> FileAnswer {
    match validate::precondition(method, request, StatusCode::OK, headers) {
        Precondition::Send => {}
        Precondition::NotModified => {
            validate::not_modified(headers);
            return FileAnswer::NotModified;
        }
        Precondition::Failed => {
            finish::condition_failed(headers);
            return FileAnswer::Failed;
        }
    }
    // A range is for GET only (RFC 9110 §14.2).
    let range =
        range::of(request).filter(|_| *method == Method::GET && range::if_range(request, headers));
    match range.map_or(RangeRequest::None, |range| range::parse(range, length)) {
        RangeRequest::None => FileAnswer::Whole,
        RangeRequest::Unsatisfiable => {
            *headers = finish::unsatisfiable(length);
            FileAnswer::Unsatisfiable
        }
        RangeRequest::Satisfiable(ranges) => finish::partial(headers, &ranges, length, random())
            .map_or(FileAnswer::Whole, FileAnswer::Part),
    }
}

/// True if a path without a file may be answered with the fall-back: the request is a navigation to a page, and not for
/// a script or an image of it, which would be answered with HTML.
pub fn wants_page(method: &Method, request: &Fields) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && accept::names(request, "text/html")
}

/// The `Location` of a folder whose path lacks its final `/`: links in its page are relative to it.
pub fn folder_location(path: &str, query: Option<&str>) -> Option<HeaderValue> {
    // A second `/` would make the first name a host.
    if !path.starts_with('/') || path.starts_with("//") {
        return None;
    }
    let mark = if query.is_some() { "?" } else { "" };
    HeaderValue::from_str(&format!("{path}/{mark}{}", query.unwrap_or_default())).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;
    use crate::{http::coding, plan::PathPattern};

    const NOW: u64 = 1_800_000_000;

    fn folder(immutable: Option<&str>) -> FileFolder {
        FileFolder {
            root: Path::new("/srv").into(),
            prefix: "/".into(),
            index: None,
            fallback: None,
            precompressed: true,
            listing: false,
            immutable: immutable.map(|glob| PathPattern::glob(glob).unwrap()),
        }
    }

    fn facts(seconds: u64) -> FileFacts {
        FileFacts {
            length: 1_000,
            modified: (seconds, 5),
            changed: (NOW - 50, 7),
        }
    }

    fn request(fields: &[(&'static str, &'static str)]) -> Fields {
        let fields = fields.iter();
        fields
            .map(|&(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_head_has_type_length_validators_and_coding() {
        let head = head(
            &folder(None),
            b"a/app.js",
            &facts(NOW - 100),
            ContentCoding::Brotli,
            NOW,
        );
        for (name, value) in [
            ("content-type", "text/javascript; charset=utf-8"),
            ("content-length", "1000"),
            ("content-encoding", "br"),
            ("etag", "\"6b49d19c.5-3e8-br\""),
            ("last-modified", "Fri, 15 Jan 2027 07:58:20 GMT"),
            ("accept-ranges", "bytes"),
            ("vary", "accept-encoding"),
        ] {
            assert_eq!(head.get(name).unwrap(), value, "{name}");
        }
        assert!(!head.contains_key("cache-control"));
    }

    #[test]
    fn a_tag_is_weak_while_the_file_may_change_within_its_time_and_takes_the_inode_where_a_build_set_the_time()
     {
        for (modified, want) in [
            (NOW - 2, "\"6b49d1fe.5-3e8\""),
            (NOW - 1, "W/\"6b49d1ff.5-3e8\""),
            (NOW + 60, "W/\"6b49d23c.5-3e8\""),
            (0, "\"6b49d1ce.7-3e8\""),
            (1, "\"6b49d1ce.7-3e8\""),
        ] {
            let tag = tag(&facts(modified), ContentCoding::Identity, NOW);
            assert_eq!(tag, want, "{modified}");
        }
    }

    #[test]
    fn a_time_in_the_future_is_not_sent() {
        let (folder, facts) = (folder(None), facts(NOW + 60));
        let head = head(&folder, b"a.png", &facts, ContentCoding::Identity, NOW);
        let sent = head.get(header::LAST_MODIFIED).unwrap();
        assert_eq!(date::parse(sent.as_bytes()), Some(NOW));
        assert!(!head.contains_key(header::VARY));
    }

    #[test]
    fn names_that_match_are_immutable() {
        for (name, immutable) in [
            (&b"app.3f2a9c1b.js"[..], true),
            (b"a/b/app.3f2a9c1b.js", true),
            (b"app.js", false),
            (b"3f2a9c1b/app.js", false),
        ] {
            let folder = folder(Some("*.????????.*"));
            let head = head(&folder, name, &facts(1), ContentCoding::Identity, NOW);
            assert_eq!(head.contains_key(header::CACHE_CONTROL), immutable);
        }
    }

    #[test]
    fn only_types_that_shrink_have_codings() {
        let takes = request(&[("accept-encoding", "gzip;q=0.5, br, identity;q=0.1")]);
        let takes = coding::accepted(&takes);
        use ContentCoding::{Brotli, Gzip, Identity};
        for (name, want) in [
            (&b"a.js"[..], &[Brotli, Gzip, Identity][..]),
            (b"a.png", &[Identity]),
            (b"a.svgz", &[Identity]),
        ] {
            let found: Vec<_> = codings(&folder(None), name, &takes).collect();
            assert_eq!(found, want);
        }
        let plain = FileFolder {
            precompressed: false,
            ..folder(None)
        };
        assert!(codings(&plain, b"a.js", &takes).eq([Identity]));
        let none = coding::accepted(&request(&[("accept-encoding", "identity;q=0")]));
        assert_eq!(codings(&plain, b"a.js", &none).count(), 0);
    }

    #[test]
    fn conditions_come_before_ranges() {
        let tag = "\"6b49d19c.5-3e8\"";
        let other = "\"x\"";
        for (method, fields, status) in [
            (Method::GET, &[][..], 200),
            (Method::GET, &[("if-none-match", tag)], 304),
            (Method::HEAD, &[("if-none-match", tag)], 304),
            (
                Method::GET,
                &[("if-none-match", tag), ("range", "bytes=0-1")],
                304,
            ),
            (Method::GET, &[("if-match", other)], 412),
            (Method::GET, &[("range", "bytes=0-1")], 206),
            (Method::GET, &[("range", "bytes=0-1, 5-6")], 206),
            (Method::GET, &[("range", "bytes=1000-")], 416),
            (Method::GET, &[("range", "lines=1-2")], 200),
            (Method::HEAD, &[("range", "bytes=0-1")], 200),
            (
                Method::GET,
                &[("range", "bytes=0-1"), ("if-range", tag)],
                206,
            ),
            (
                Method::GET,
                &[("range", "bytes=0-1"), ("if-range", other)],
                200,
            ),
        ] {
            let (folder, facts) = (folder(None), facts(NOW - 100));
            let mut head = head(&folder, b"a.js", &facts, ContentCoding::Identity, NOW);
            let answer = answer(&method, &request(fields), &mut head, facts.length, || 7);
            assert_eq!(answer.status(), status, "{method} {fields:?}");
        }
    }

    #[test]
    fn a_coding_older_than_its_file_is_not_one_of_it() {
        assert!(facts(NOW).follows(&facts(NOW)));
        assert!(facts(NOW + 1).follows(&facts(NOW)));
        assert!(!facts(NOW - 1).follows(&facts(NOW)));
    }

    #[test]
    fn the_page_of_a_site_is_for_navigations() {
        for (method, accept, want) in [
            (Method::GET, "text/html,application/xhtml+xml", true),
            (Method::HEAD, "Text/HTML", true),
            (Method::GET, "image/avif, text/html;q=0.5", true),
            (Method::GET, "*/*", false),
            (Method::GET, "text/html;q=0, */*", false),
            (Method::GET, "application/text/html", false),
            (Method::GET, "image/avif", false),
            (Method::POST, "text/html", false),
        ] {
            assert_eq!(wants_page(&method, &request(&[("accept", accept)])), want);
        }
        assert!(!wants_page(&Method::GET, &Fields::new()));
    }

    #[test]
    fn the_location_of_a_folder_stays_on_its_host() {
        for (path, query, want) in [
            ("/docs", None, Some("/docs/")),
            ("/docs", Some("a=1"), Some("/docs/?a=1")),
            ("/d%20s", None, Some("/d%20s/")),
            ("//evil.example", None, None),
            ("docs", None, None),
        ] {
            let location = folder_location(path, query);
            assert_eq!(location.as_ref().map(|v| v.to_str().unwrap()), want);
        }
    }
}
