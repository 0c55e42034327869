//! Heads of messages between the library's fields and ours.

use edgerouter_core::{
    admit::Refusal,
    http::{
        Fields, KnownSet,
        h1::request::RequestLimits,
        h2::request::{self, StreamHead},
        header,
    },
};
use h2::ext::Protocol;
use http::{HeaderMap, HeaderName, header as names, request::Parts};

/// Fields that HTTP/2 has no use for (RFC 9113 §8.2.2).
const OF_CONNECTION: KnownSet = KnownSet::of(&[
    header::CONNECTION,
    header::KEEP_ALIVE,
    header::PROXY_CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
]);

/// The head of a request. The library has found a scheme, which it keeps beside an authority only, and a path.
pub(super) fn request(
    parts: &Parts,
    is_whole: bool,
    is_secured: bool,
    limits: &RequestLimits,
) -> Result<StreamHead, Refusal> {
    let uri = &parts.uri;
    let scheme = uri.scheme_str().unwrap_or(match is_secured {
        true => "https",
        false => "http",
    });
    let path = uri.path_and_query().map(|path| path.as_str().as_bytes());
    let authority = uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let protocol = parts.extensions.get::<Protocol>();
    let pseudo: [(&[u8], Option<&[u8]>); 5] = [
        (b":method", Some(parts.method.as_str().as_bytes())),
        (b":scheme", Some(scheme.as_bytes())),
        (b":path", path),
        (b":authority", authority),
        (b":protocol", protocol.map(AsRef::as_ref)),
    ];
    let pseudo = pseudo
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let regular = parts.headers.iter();
    let regular = regular.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    request::read(pseudo.chain(regular), is_whole, is_secured, limits)
}

/// The fields of a response. `length`: of its content, where no field says it.
pub(super) fn response(headers: &Fields, length: Option<u64>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in headers {
        if !name.is_of(OF_CONNECTION)
            && let Ok(name) = HeaderName::from_bytes(name.as_wire())
        {
            // Fails beyond 24,576 names: no response has as many.
            let _ = map.try_append(name, value.owned());
        }
    }
    if let Some(length) = length
        && !map.contains_key(names::CONTENT_LENGTH)
    {
        map.insert(names::CONTENT_LENGTH, length.into());
    }
    map
}
