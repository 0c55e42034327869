//! Files of a folder, in the place of phases 8 to 13: the core decides which file and which fields, threads read it.

use std::sync::Arc;

use bytes::Bytes;
use edgerouter_core::{
    bounds::memory::Purpose,
    cache::validate,
    compression,
    files::{FileAnswer, listing, path, response},
    finish::Partial,
    http::{
        Fields,
        coding::{self, ContentCoding},
        header,
        range::Range,
    },
    outcome::Detail,
    plan::{FileFolder, Route},
};
use http::{HeaderValue, Method, StatusCode};

use super::{
    answer::{self, Early},
    exchange::Exchange,
};
use crate::{
    account::Hold,
    body::{EdgeBody, EdgeResponse},
    files::{FileBody, FilePart, FileTrouble, Found, FoundFile, Search},
    telemetry::Outcome,
};

/// A file of up to this length is read when it is opened, and needs no descriptor after that.
const FIRST: u64 = 64 << 10;
const LEAST_FIRST: u64 = 4 << 10;

/// The response to a request for a file of the folder.
pub(crate) async fn file(
    exchange: &mut Exchange,
    route: &Route,
    folder: &Arc<FileFolder>,
) -> Result<EdgeResponse, Early> {
    exchange.note.outcome = Outcome::File;
    exchange.note.detail = Some(Detail::File);
    let head = &exchange.head;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(not_allowed(exchange));
    }
    let Ok(path) = path::locate(folder, head.target.path()) else {
        return Ok(absent(exchange));
    };
    // A part of the file, or none of it, is wanted by the others.
    let whole = head.method == Method::GET
        && !head.headers.contains_key(header::RANGE)
        && !validate::is_conditional(&head.headers);
    let mut search = Search {
        folder: Arc::clone(folder),
        path,
        accepted: accepted(route, &head.headers),
        takes_fallback: response::wants_page(&head.method, &head.headers),
        first: if whole { FIRST as usize } else { 0 },
        now: exchange.now,
    };
    let files = Arc::clone(&exchange.worker.shared.files);
    let kept = &exchange.worker.kept_files;
    let (found, hold) = match files.find_kept(&search, kept) {
        Some(found) => (Ok(found), None),
        None => {
            let size = if whole { (LEAST_FIRST, FIRST) } else { (0, 0) };
            let account = &exchange.worker.shared.account;
            let (kind, owner) = (Purpose::ReadAhead, exchange.owner(route));
            let hold = account.open_buffer(kind, owner, size, files.timeout());
            let Ok((hold, first)) = hold.await else {
                return Err(overloaded(exchange, Detail::NoMemory));
            };
            search.first = usize::try_from(first).unwrap_or_default();
            let found = files.find(search, kept).await;
            // The connection counts the bytes of the beginning.
            hold.keep(0);
            (found, Some(hold))
        }
    };
    match found {
        Ok(Found::File(found)) => Ok(opened(exchange, route, found, hold)),
        Ok(Found::Folder) => Ok(folder_without_slash(exchange)),
        Ok(Found::Names {
            mut names,
            complete,
        }) => {
            let path = exchange.head.target.path();
            let has_parent = path.len() > folder.prefix.len();
            let page = listing::page(path, &mut names, has_parent, complete);
            Ok(list(exchange, page))
        }
        Ok(Found::Absent) => Ok(absent(exchange)),
        Ok(Found::Refused) => {
            exchange.note.detail = Some(Detail::FileRefused);
            let message = "The edge may not read this file.";
            Ok(answer::text(StatusCode::FORBIDDEN, message))
        }
        Ok(Found::NotAcceptable) => Ok(not_acceptable()),
        Err(trouble) => Err(troubled(exchange, trouble)),
    }
}

/// The codings in which the file may be found, the best first. A route that compresses makes a coding of the plain
/// file.
fn accepted(route: &Route, request: &Fields) -> Vec<ContentCoding> {
    if route.own_bytes {
        return vec![ContentCoding::Identity];
    }
    let mut accepted = coding::accepted(request).into_vec();
    if route.compress && !accepted.is_empty() && !accepted.contains(&ContentCoding::Identity) {
        accepted.push(ContentCoding::Identity);
    }
    accepted
}

fn not_allowed(exchange: &mut Exchange) -> EdgeResponse {
    exchange.note.detail = Some(Detail::MethodNotAllowed);
    let message = "Files can be read with GET and HEAD.";
    let response = answer::text(StatusCode::METHOD_NOT_ALLOWED, message);
    answer::with(
        response,
        header::ALLOW,
        HeaderValue::from_static("GET, HEAD"),
    )
}

fn absent(exchange: &mut Exchange) -> EdgeResponse {
    exchange.note.detail = Some(Detail::FileAbsent);
    answer::text(StatusCode::NOT_FOUND, "There is no such file.")
}

/// RFC 9110 §15.5.7.
fn not_acceptable() -> EdgeResponse {
    let message =
        "The file is not available in a coding that the request accepts (Accept-Encoding).";
    let response = answer::text(StatusCode::NOT_ACCEPTABLE, message);
    answer::with(
        response,
        header::VARY,
        HeaderValue::from_static("accept-encoding"),
    )
}

fn folder_without_slash(exchange: &mut Exchange) -> EdgeResponse {
    let target = &exchange.head.target;
    match response::folder_location(target.path(), target.query()) {
        Some(location) => answer::redirect(StatusCode::PERMANENT_REDIRECT, location),
        None => absent(exchange),
    }
}

fn list(exchange: &Exchange, page: String) -> EdgeResponse {
    let mut headers = Fields::with_capacity(4);
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, html);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(page.len()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let body = if exchange.head.method == Method::HEAD {
        EdgeBody::empty()
    } else {
        EdgeBody::made(Bytes::from(page))
    };
    answer::of(StatusCode::OK, headers, body)
}

/// The answer to a request for a file that is there, by its conditions and range.
/// `hold`: `None` if no memory was needed so far.
fn opened(
    exchange: &Exchange,
    route: &Route,
    mut found: FoundFile,
    hold: Option<Hold>,
) -> EdgeResponse {
    let mut headers = std::mem::take(&mut found.head);
    if route.refuses() {
        response::keep_private(&mut headers);
    }
    let request = &exchange.head;
    let random = || exchange.worker.shared.unguessable();
    let length = found.facts.length;
    // A 304 no longer has the fields that say whether a 200 would be compressed.
    let is_conditional = route.compress && validate::is_conditional(&request.headers);
    let compressed = is_conditional
        .then(|| compression::decide(&request.headers, StatusCode::OK, &headers, Some(length)));
    let answer = response::answer(
        &request.method,
        &request.headers,
        &mut headers,
        length,
        random,
    );
    let status = answer.status();
    if let (StatusCode::NOT_MODIFIED, Some(compressed)) = (status, compressed) {
        // The tag and `Vary` of the 200 (RFC 9110 §15.4.5).
        compression::apply(compressed, &mut headers);
        headers.remove(header::CONTENT_ENCODING);
    }
    if request.method == Method::HEAD {
        return answer::of(status, headers, EdgeBody::empty());
    }
    let parts = match answer {
        FileAnswer::Whole => whole(&found),
        FileAnswer::Part(Partial::Single(range)) => vec![part(&range)],
        FileAnswer::Part(Partial::Multi { parts, end, .. }) => parts
            .into_iter()
            .flat_map(|(head, range)| [FilePart::Bytes(head), part(&range)])
            .chain([FilePart::Bytes(end)])
            .collect(),
        FileAnswer::NotModified | FileAnswer::Failed | FileAnswer::Unsatisfiable => Vec::new(),
    };
    let body = match (found.rest, parts.as_slice()) {
        (_, []) => EdgeBody::empty(),
        (None, _) => EdgeBody::made(found.start),
        (Some(file), _) => {
            let shared = &exchange.worker.shared;
            let files = &shared.files;
            let open = || (shared.account).open_uncut(Purpose::ReadAhead, exchange.owner(route));
            let hold = hold.unwrap_or_else(open);
            EdgeBody::file(FileBody::new(files, file, parts, hold))
        }
    };
    answer::of(status, headers, body)
}

fn whole(found: &FoundFile) -> Vec<FilePart> {
    let offset = found.start.len() as u64;
    let rest = FilePart::Range {
        offset,
        length: found.facts.length - offset,
    };
    match offset {
        0 => vec![rest],
        _ => vec![FilePart::Bytes(found.start.clone()), rest],
    }
}

fn part(range: &Range) -> FilePart {
    FilePart::Range {
        offset: range.first,
        length: range.last - range.first + 1,
    }
}

fn troubled(exchange: &mut Exchange, trouble: FileTrouble) -> Early {
    tracing::debug!(reason = %trouble, "a file cannot be served");
    overloaded(exchange, Detail::FilesBusy)
}

fn overloaded(exchange: &mut Exchange, detail: Detail) -> Early {
    exchange.note.outcome = Outcome::Error;
    exchange.note.detail = Some(detail);
    answer::overloaded().into()
}
