//! Conditional requests on both sides (RFC 9110 §13, RFC 9111 §4.3), and invalidation (§4.4).

use http::{Method, StatusCode, Uri};
use smallvec::SmallVec;

use super::{key::Base, url::CacheUrl};
use crate::http::{
    Fields, Known, KnownSet,
    cache_control::ResponseDirectives,
    date,
    etag::{self, EntityTag},
    header,
};

/// The result of a request's conditions on a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// The conditions allow the response.
    Send,
    /// The client's copy is current: 304.
    NotModified,
    /// 412.
    Failed,
}

/// Fields that make a request conditional on the stored response (RFC 9110 §13.1).
const CONDITIONS: KnownSet = KnownSet::of(&[
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
]);

/// Evaluates conditions (RFC 9110 §13.2.2), for responses that a GET would get with 200; others ignore conditions
/// (§13.2.1).
pub fn precondition(
    method: &Method,
    request: &Fields,
    status: StatusCode,
    stored: &Fields,
) -> Precondition {
    if status != StatusCode::OK || !(method == Method::GET || method == Method::HEAD) {
        return Precondition::Send;
    }
    // Most requests have no condition: nothing is looked up for them.
    if request.has_none_of(CONDITIONS) {
        return Precondition::Send;
    }
    let tag = stored.get(header::ETAG);
    let modified = || {
        stored
            .get(header::LAST_MODIFIED)
            .and_then(|value| date::parse(value.as_bytes()))
    };
    // A date that stands twice is ignored (§13.1.3, §13.1.4).
    let condition = |name: Known| {
        request
            .sole(name)
            .and_then(|value| date::parse(value.as_bytes()))
    };
    match etag::if_match(request, tag) {
        Some(false) => return Precondition::Failed,
        Some(true) => {}
        None => {
            if let Some(unmodified) = condition(header::IF_UNMODIFIED_SINCE)
                && let Some(modified) = modified()
                && modified > unmodified
            {
                return Precondition::Failed;
            }
        }
    }
    match etag::if_none_match(request, tag) {
        Some(true) => Precondition::NotModified,
        Some(false) => Precondition::Send,
        None => {
            let sent = || {
                stored
                    .get(header::DATE)
                    .and_then(|value| date::parse(value.as_bytes()))
            };
            match condition(header::IF_MODIFIED_SINCE) {
                Some(since) if modified().or_else(sent).is_some_and(|at| at <= since) => {
                    Precondition::NotModified
                }
                _ => Precondition::Send,
            }
        }
    }
}

/// Adds the stored validators to a request (§4.3.1); false when there are none.
pub fn conditional_headers(stored: &Fields, into: &mut Fields) -> bool {
    let mut any = false;
    for (from, to) in [
        (header::ETAG, header::IF_NONE_MATCH),
        (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE),
    ] {
        if let Some(value) = stored.get(from) {
            into.insert(to, value);
            any = true;
        }
    }
    any
}

/// True if a request has conditions of its own.
pub fn is_conditional(request: &Fields) -> bool {
    !request.has_none_of(CONDITIONS)
}

/// True if the response has an `ETag` or a `Last-Modified` with which it can be validated (RFC 9110 §8.8).
pub fn has_validator(headers: &Fields) -> bool {
    headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED)
}

/// Fields of a 304 that do not replace the stored ones (§3.2): they describe the message, or how the stored bytes are
/// encoded.
const KEPT: KnownSet = KnownSet::of(&[
    header::CONTENT_LENGTH,
    header::CONTENT_DIGEST,
    header::CONTENT_ENCODING,
    header::CONTENT_MD5,
    header::CONTENT_RANGE,
    header::TRANSFER_ENCODING,
    header::VIA,
]);

const ENTITY_TAG: KnownSet = KnownSet::of(&[header::ETAG]);

/// True if a 304 is about this stored response (§4.3.4): if it has a validator, weak or strong, the stored response
/// must have the same one. The tag takes precedence over the date; a 304 without either is about the request's own
/// validators.
pub fn selects(stored: &Fields, from_304: &Fields) -> bool {
    if let Some(new) = from_304.get(header::ETAG) {
        let Some(known) = stored.get(header::ETAG) else {
            return false;
        };
        let parsed = (
            EntityTag::parse(known.as_bytes()),
            EntityTag::parse(new.as_bytes()),
        );
        return match parsed {
            // A tag that is weakly equal to the one sent confirms that the stored response is still valid.
            (Some(known), Some(new)) => known.weak_eq(&new),
            _ => known == new,
        };
    }
    match from_304.get(header::LAST_MODIFIED) {
        None => true,
        Some(new) => stored.get(header::LAST_MODIFIED).is_some_and(|known| {
            known == new
                || date::parse(known.as_bytes())
                    .is_some_and(|at| date::parse(new.as_bytes()) == Some(at))
        }),
    }
}

/// The effect of a 200 to HEAD on the stored GET response (RFC 9111 §4.3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadEffect {
    /// It is the same representation: its fields are updated.
    Update,
    /// It is another one: the stored response is outdated.
    Outdate,
    /// Undecided: without a validator in common an equal length proves nothing.
    Leave,
}

/// Compares a response to HEAD with the stored one (RFC 9111 §4.3.5).
pub fn head_effect(stored: &Fields, from_head: &Fields) -> HeadEffect {
    let mut effect = HeadEffect::Leave;
    for name in [header::ETAG, header::LAST_MODIFIED, header::CONTENT_LENGTH] {
        match (stored.get(name), from_head.get(name)) {
            (Some(stored), Some(new)) if stored != new => return HeadEffect::Outdate,
            (None, Some(_)) if name != header::CONTENT_LENGTH => return HeadEffect::Outdate,
            (Some(_), Some(_)) if name != header::CONTENT_LENGTH => effect = HeadEffect::Update,
            _ => {}
        }
    }
    effect
}

/// Updates stored fields from a 304 (§3.2, §4.3.4).
///
/// A weak tag stays weak. Some servers give a response and its compressed form one tag, weak for the compressed one, and
/// send the strong one with every 304 (nginx): it would claim that the two forms are the same bytes.
pub fn freshen(stored: &mut Fields, from_304: &Fields) {
    let is_weak = |fields: &Fields| {
        let tag = fields.get(header::ETAG)?;
        Some(EntityTag::parse(tag.as_bytes())?.weak)
    };
    let stays_weak = is_weak(stored) == Some(true) && is_weak(from_304) == Some(false);
    let replaced = || {
        from_304
            .iter()
            .filter(|(name, _)| !(name.is_of(KEPT) || stays_weak && name.is_of(ENTITY_TAG)))
    };
    for (name, _) in replaced() {
        stored.remove(name);
    }
    stored.extend(replaced());
}

/// Makes the header section of a stored 200 that of a 304 (RFC 9110 §15.4.5): removes fields that describe the content.
pub fn not_modified(headers: &mut Fields) {
    headers.remove_all(KnownSet::of(&[
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_DIGEST,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_MD5,
        header::CONTENT_RANGE,
    ]));
}

/// True if a response to this method invalidates stored ones (§4.4): the method is unsafe or unknown, and the response
/// no error. The safe ones are those of IANA's registry (RFC 9110 §16.1.1).
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    let safe = matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PRI" | "PROPFIND" | "QUERY" | "REPORT" | "SEARCH"
    );
    !safe && (status.is_success() || status.is_redirection())
}

/// Path and query of `Location` and `Content-Location` if they have the same scheme, host and port (§4.4).
pub fn invalidation_targets(
    base: Base<'_>,
    base_path: &str,
    response: &Fields,
) -> SmallVec<[(String, Option<String>); 2]> {
    [header::LOCATION, header::CONTENT_LOCATION]
        .iter()
        .filter_map(|name| response.get(name)?.to_str().ok())
        .filter_map(|reference| resolve(base, base_path, reference))
        .collect()
}

/// True if the response to a POST may also answer a GET of the same URL (RFC 9110 §9.3.3): `Content-Location` names
/// that URL, and its lifetime is explicit.
pub fn represents_target(
    base: Base<'_>,
    target: (&str, Option<&str>),
    status: StatusCode,
    response: &Fields,
    directives: &ResponseDirectives,
) -> bool {
    let explicit = directives.max_age.is_some()
        || directives.s_maxage.is_some()
        || (!directives.targeted && response.contains_key(header::EXPIRES));
    let Some(line) = response.sole(header::CONTENT_LOCATION) else {
        return false;
    };
    let Ok(reference) = line.to_str() else {
        return false;
    };
    let same = reference.trim().is_empty()
        || resolve(base, target.0, reference.trim())
            .is_some_and(|(path, query)| (path.as_str(), query.as_deref()) == target);
    status == StatusCode::OK && explicit && same
}

fn resolve(base: Base<'_>, base_path: &str, reference: &str) -> Option<(String, Option<String>)> {
    // A reference without a scheme has that of the base (RFC 3986 §5.2.2).
    let schemed = reference
        .starts_with("//")
        .then(|| format!("{}:{reference}", base.scheme.as_str()));
    let reference = schemed.as_deref().unwrap_or(reference);
    // A colon behind the first segment is part of a path or a query (RFC 3986 §4.2).
    let first = reference.split(['/', '?', '#']).next();
    let has_scheme = first.is_some_and(|first| first.contains(':'));
    let absolute = if reference.is_empty() || reference.starts_with(['?', '#']) {
        format!("{base_path}{reference}")
    } else if reference.starts_with('/') {
        reference.to_owned()
    } else if has_scheme {
        let uri: Uri = reference.parse().ok()?;
        let named = CacheUrl::parse(reference).ok()?;
        let same =
            (named.scheme, named.host.as_str(), named.port) == (base.scheme, base.host, base.port);
        if !same {
            return None;
        }
        uri.path_and_query()?.as_str().to_owned()
    } else {
        let folder = base_path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{reference}")
    };
    let absolute = absolute.split('#').next()?;
    let (path, query) = match absolute.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (absolute, None),
    };
    let path = crate::http::uri::normalise_path(path).ok()?.into_owned();
    Some((path, query))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::plan::Scheme;

    #[test]
    fn conditions_are_evaluated_in_the_order_of_rfc_9110_section_13_2_2() {
        let (old, new) = (
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Mon, 07 Nov 1994 08:49:37 GMT",
        );
        let stored = Fields::of_lines(&[("etag", "\"a\""), ("last-modified", old)]);
        for (request, want) in [
            (Fields::of_lines(&[]), Precondition::Send),
            (
                Fields::of_lines(&[("if-none-match", "\"a\""), ("if-modified-since", "x")]),
                Precondition::NotModified,
            ),
            (
                Fields::of_lines(&[("if-none-match", "\"b\""), ("if-modified-since", new)]),
                Precondition::Send,
            ),
            (
                Fields::of_lines(&[("if-modified-since", old)]),
                Precondition::NotModified,
            ),
            (
                Fields::of_lines(&[("if-match", "\"b\"")]),
                Precondition::Failed,
            ),
            (
                Fields::of_lines(&[("if-match", "\"a\"")]),
                Precondition::Send,
            ),
            (
                Fields::of_lines(&[("if-unmodified-since", "Sat, 05 Nov 1994 08:49:37 GMT")]),
                Precondition::Failed,
            ),
        ] {
            assert_eq!(
                precondition(&Method::GET, &request, StatusCode::OK, &stored),
                want,
                "{request:?}"
            );
        }
        let conditional = Fields::of_lines(&[("if-none-match", "*")]);
        assert_eq!(
            precondition(&Method::GET, &conditional, StatusCode::NOT_FOUND, &stored),
            Precondition::Send
        );
    }

    #[test]
    fn a_304_with_another_validator_is_about_another_response() {
        for (stored, new, want) in [
            (&[("etag", "\"a\"")][..], &[("etag", "\"a\"")][..], true),
            (&[("etag", "\"a\"")], &[("etag", "\"b\"")], false),
            (&[("etag", "\"a\"")], &[], true),
            (&[("etag", "W/\"a\"")], &[("etag", "W/\"b\"")], false),
            (&[("etag", "W/\"a\"")], &[("etag", "W/\"a\"")], true),
            (&[("etag", "\"a\"")], &[("etag", "W/\"a\"")], true),
            (&[("etag", "\"a\"")], &[("etag", "W/\"b\"")], false),
            (&[("etag", "W/\"a\"")], &[("etag", "\"a\"")], true),
            (&[("last-modified", "x")], &[("etag", "\"a\"")], false),
            (&[("last-modified", "x")], &[("etag", "W/\"a\"")], false),
            (&[("etag", "bare")], &[("etag", "other")], false),
            (&[("last-modified", "x")], &[], true),
            (&[("last-modified", "x")], &[("last-modified", "x")], true),
            (&[("last-modified", "x")], &[("last-modified", "y")], false),
            (
                &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
                &[("last-modified", "Sunday, 06-Nov-94 08:49:37 GMT")],
                true,
            ),
            (&[("etag", "\"a\"")], &[("last-modified", "y")], false),
            (&[("etag", "bare")], &[("etag", "bare")], true),
        ] {
            assert_eq!(
                selects(&Fields::of_lines(stored), &Fields::of_lines(new)),
                want,
                "{new:?}"
            );
        }
    }

    #[test]
    fn a_head_response_says_what_its_validators_say() {
        use HeadEffect::{Leave, Outdate, Update};
        for (stored, new, want) in [
            (&[("etag", "\"a\"")][..], &[("etag", "\"a\"")][..], Update),
            (&[("etag", "\"a\"")], &[("x-new", "1")], Leave),
            (&[("etag", "\"a\"")], &[("etag", "\"b\"")], Outdate),
            (&[], &[("etag", "\"b\"")], Outdate),
            (
                &[("content-length", "5")],
                &[("content-length", "5")],
                Leave,
            ),
            (
                &[("content-length", "5")],
                &[("content-length", "6")],
                Outdate,
            ),
        ] {
            assert_eq!(
                head_effect(&Fields::of_lines(stored), &Fields::of_lines(new)),
                want,
                "{new:?}"
            );
        }
    }

    #[test]
    fn a_post_speaks_for_its_url_only_where_it_says_so() {
        let fresh = ("cache-control", "max-age=60");
        for (fields, want) in [
            (&[fresh, ("content-location", "/a/b?q")][..], true),
            (&[fresh, ("content-location", "")], true),
            (&[fresh, ("content-location", "b?q")], true),
            (&[fresh, ("content-location", "http://h/a/b?q")], true),
            (&[("expires", "x"), ("content-location", "/a/b?q")], true),
            (&[fresh, ("content-location", "/a/b")], false),
            (&[fresh, ("content-location", "http://other/a/b?q")], false),
            (&[fresh], false),
            (&[("content-location", "/a/b?q")], false),
        ] {
            let fields = Fields::of_lines(fields);
            let directives = ResponseDirectives::parse(&fields, &[]);
            let target = ("/a/b", Some("q"));
            let base = Base {
                scheme: Scheme::Http,
                host: "h",
                port: None,
            };
            let judge = |status| represents_target(base, target, status, &fields, &directives);
            assert_eq!(judge(StatusCode::OK), want, "{fields:?}");
            assert!(!judge(StatusCode::CREATED));
        }
    }

    #[test]
    fn targets_of_other_hosts_are_left_alone() {
        let base = Base {
            scheme: Scheme::Http,
            host: "h",
            port: None,
        };
        let response =
            Fields::of_lines(&[("location", "http://h:80/a?b"), ("content-location", "c")]);
        let found = invalidation_targets(base, "/x/y", &response);
        assert_eq!(
            found.as_slice(),
            [
                ("/a".to_owned(), Some("b".to_owned())),
                ("/x/c".to_owned(), None)
            ]
        );
        // Another URL in a query is no scheme.
        let response = Fields::of_lines(&[("location", "c?next=http://evil/")]);
        assert_eq!(
            invalidation_targets(base, "/x/y", &response).as_slice(),
            [("/x/c".to_owned(), Some("next=http://evil/".to_owned()))]
        );
        // A reference without a scheme (RFC 3986 §5.2.2).
        let response = Fields::of_lines(&[("location", "//h/a?b")]);
        assert_eq!(
            invalidation_targets(base, "/x/y", &response).as_slice(),
            [("/a".to_owned(), Some("b".to_owned()))]
        );
        for other in [
            "http://evil/a",
            "https://h/a",
            "http://h:8080/a",
            "//evil/a",
            "//h:8080/a",
            "mailto:a@h",
            "h:80",
        ] {
            let response = Fields::of_lines(&[("location", other)]);
            assert!(
                invalidation_targets(base, "/", &response).is_empty(),
                "{other}"
            );
        }
    }
}
