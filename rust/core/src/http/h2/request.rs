//! The field section of a request (RFC 9113 §8): read once and whole, and only if it has one possible reading. The
//! same is refused as in HTTP/1.1, since it may be forwarded in HTTP/1.1.

use http::{HeaderValue, Method, Version};

use crate::{
    admit::Refusal,
    http::{
        FieldValue, Fields, Known, PathAndQuery, RequestParts, TargetAuthority,
        h1::{
            MOST_METHOD, content_length, is_host, origin_form,
            request::{RequestLimits, is_same_authority},
        },
        header, is_token_byte,
    },
};

/// The head of a request.
#[derive(Debug)]
pub struct StreamHead {
    /// With `Host` as the first field, whichever field named the authority.
    pub parts: Box<RequestParts>,
    /// Bytes of the content, if the client declares them.
    pub length: Option<u64>,
    /// The client waits for a 100 before it sends the content (RFC 9110 §10.1.1).
    pub expects_continue: bool,
    /// The stream is to become a tunnel (RFC 8441). The head is that of an upgrade in HTTP/1.1, without its key.
    is_tunnel: bool,
}

impl StreamHead {
    /// True if the stream is to become a tunnel: what follows the head is no content.
    pub fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }
}

/// Reads the fields of a section in their order, pseudo-fields included. `is_whole`: no content follows; `is_secured`:
/// the connection has TLS.
pub fn read<'a>(
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    is_whole: bool,
    is_secured: bool,
    limits: &RequestLimits,
) -> Result<StreamHead, Refusal> {
    let mut pseudo = PseudoFields::default();
    let mut fields = fields.into_iter().peekable();
    while let Some((name, value)) = fields.next_if(|(name, _)| name.starts_with(b":")) {
        pseudo.set(name, value)?;
    }
    let line = pseudo.line(limits)?;
    let mut section = Section::default();
    if let Some(authority) = line.authority {
        section.headers.append(header::HOST, authority);
        section.count = 1;
    }
    for (name, value) in fields {
        section.field(name, value, &line, limits)?;
    }
    section.end();
    if line.is_tunnel {
        // Content has no place in it, and the stream must be open (RFC 8441 §4).
        if is_whole || section.length.is_some() || section.expects {
            return Err(Refusal::BadPseudoField);
        }
        // The key of WebSocket is the edge's (RFC 8441 §5).
        section.headers.remove("sec-websocket-key");
        let upgrade = HeaderValue::from_static("websocket");
        section.headers.append(header::UPGRADE, upgrade);
        let connection = HeaderValue::from_static("Upgrade");
        section.headers.append(header::CONNECTION, connection);
    }
    if !section.headers.contains_key(header::HOST) {
        return Err(Refusal::BadHost);
    }
    match section.length {
        Some(1..) if is_whole => return Err(Refusal::BadContentLength),
        Some(length) if length > limits.body_bytes => return Err(Refusal::BodyTooLarge),
        _ => {}
    }
    Ok(StreamHead {
        parts: Box::new(RequestParts {
            method: line.method,
            target: line.target,
            authority: line.authority.filter(|_| line.is_https && !is_secured).map(
                // An https URL is for phase 2, as one in absolute form is in HTTP/1.1.
                |authority| TargetAuthority {
                    value: authority.owned(),
                    is_https: true,
                },
            ),
            version: Version::HTTP_2,
            headers: section.headers,
        }),
        length: section.length,
        expects_continue: section.expects && !is_whole,
        is_tunnel: line.is_tunnel,
    })
}

/// Pseudo-fields of a request (RFC 9113 §8.3.1).
#[derive(Default)]
struct PseudoFields<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    /// RFC 8441 §4.
    protocol: Option<&'a [u8]>,
}

/// The parts of a request line.
struct Line<'a> {
    method: Method,
    target: PathAndQuery,
    authority: Option<FieldValue<'a>>,
    is_https: bool,
    is_tunnel: bool,
}

impl<'a> PseudoFields<'a> {
    fn set(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        let field = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            _ => return Err(Refusal::BadPseudoField),
        };
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(Refusal::BadPseudoField),
        }
    }

    fn line(&self, limits: &RequestLimits) -> Result<Line<'a>, Refusal> {
        let method = self.method.ok_or(Refusal::BadPseudoField)?;
        let is_tunnel = method == b"CONNECT" && self.protocol == Some(b"websocket");
        match method {
            b"CONNECT" if is_tunnel => {}
            b"CONNECT" => return Err(Refusal::Connect),
            _ if self.protocol.is_some() => return Err(Refusal::BadPseudoField),
            b"TRACE" => return Err(Refusal::Trace),
            _ if method.is_empty() || !method.iter().all(|&byte| is_token_byte(byte)) => {
                return Err(Refusal::BadMethod);
            }
            _ if method.len() > MOST_METHOD => return Err(Refusal::MethodTooLong),
            _ => {}
        }
        let scheme = self.scheme.ok_or(Refusal::BadPseudoField)?;
        let is_https = scheme.eq_ignore_ascii_case(b"https");
        if !is_https && !scheme.eq_ignore_ascii_case(b"http") {
            return Err(Refusal::BadPseudoField);
        }
        let path = self.path.ok_or(Refusal::BadPseudoField)?;
        if path.len() > limits.url_bytes {
            return Err(Refusal::UrlTooLong);
        }
        let target = match path {
            [b'/', ..] => origin_form(path)?,
            b"*" if method == b"OPTIONS" => origin_form(path)?,
            _ => return Err(Refusal::BadTarget),
        };
        let authority = match self.authority {
            Some(authority) if !is_host(authority) => return Err(Refusal::BadHost),
            Some(authority) => Some(FieldValue::of(authority).ok_or(Refusal::BadHost)?),
            None => None,
        };
        let method = match is_tunnel {
            true => Method::GET,
            false => Method::from_bytes(method).map_err(|_| Refusal::BadMethod)?,
        };
        Ok(Line {
            method,
            target,
            authority,
            is_https,
            is_tunnel,
        })
    }
}

/// The regular fields as they are read, and those of them that decide about the message.
#[derive(Default)]
struct Section {
    headers: Fields,
    /// Fields of the head that have been read, as HTTP/1.1 would count them: all of `Cookie` are one, and so are `Host`
    /// and the authority.
    count: usize,
    has_host: bool,
    length: Option<u64>,
    expects: bool,
    /// Values of `Cookie`, joined (RFC 9113 §8.2.3).
    cookie: Vec<u8>,
}

impl Section {
    fn field(
        &mut self,
        name: &[u8],
        value: &[u8],
        line: &Line<'_>,
        limits: &RequestLimits,
    ) -> Result<(), Refusal> {
        if name.starts_with(b":") {
            return Err(Refusal::BadPseudoField);
        }
        // §8.2.1: lower case only, and no white space around a value.
        if name.iter().any(u8::is_ascii_uppercase) || value.trim_ascii().len() != value.len() {
            return Err(Refusal::BadField);
        }
        let value = FieldValue::of(value).ok_or(Refusal::BadField)?;
        let known = Known::of(name);
        self.count += usize::from(match known {
            Some(header::COOKIE) => self.cookie.is_empty(),
            Some(header::HOST) => line.authority.is_none(),
            _ => true,
        });
        if self.count > limits.head_fields {
            return Err(Refusal::TooManyFields);
        }
        match known {
            // §8.2.2.
            Some(
                header::CONNECTION
                | header::KEEP_ALIVE
                | header::PROXY_CONNECTION
                | header::TRANSFER_ENCODING
                | header::UPGRADE
                | header::HTTP2_SETTINGS,
            ) => return Err(Refusal::BadField),
            Some(header::TE) if !value.as_bytes().eq_ignore_ascii_case(b"trailers") => {
                return Err(Refusal::BadField);
            }
            Some(header::HOST) => {
                if std::mem::replace(&mut self.has_host, true) || !is_host(value.as_bytes()) {
                    return Err(Refusal::BadHost);
                }
                // §8.3.1: it must name the same, in whichever spelling.
                if let Some(authority) = line.authority {
                    let authority = authority.as_bytes();
                    let same = is_same_authority(value.as_bytes(), authority, line.is_https);
                    return if same { Ok(()) } else { Err(Refusal::BadHost) };
                }
            }
            Some(header::CONTENT_LENGTH) => {
                if self.length.is_some() {
                    return Err(Refusal::BadContentLength);
                }
                let length = content_length(value.as_bytes());
                self.length = Some(length.ok_or(Refusal::BadContentLength)?);
            }
            Some(header::EXPECT) => {
                if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::Expectation);
                }
                self.expects = true;
            }
            Some(header::COOKIE) => {
                if value.is_empty() {
                    return Ok(());
                }
                if self.cookie.is_empty() {
                    self.headers.append(header::COOKIE, value);
                } else {
                    self.cookie.extend_from_slice(b"; ");
                }
                self.cookie.extend_from_slice(value.as_bytes());
                return Ok(());
            }
            _ => {}
        }
        let added = self.headers.append_wire(name, value);
        added.map_err(|_| Refusal::BadField)
    }

    fn end(&mut self) {
        let first = self.headers.get(header::COOKIE).map(FieldValue::len);
        if first.is_some_and(|length| length < self.cookie.len())
            && let Ok(cookie) = HeaderValue::from_bytes(&self.cookie)
        {
            self.headers.insert(header::COOKIE, cookie);
        }
    }
}

#[cfg(test)]
mod tests;
