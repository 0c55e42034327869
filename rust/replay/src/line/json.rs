//! An object on each line, under the names of edgerouter, nginx, Caddy, Cloudflare and CloudFront. Names that nobody
//! reads are passed over without a copy; serde_json bounds the depth.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{LogLine, address, number, request_line, scheme, time};

/// A field that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Time,
    Client,
    Method,
    Target,
    Query,
    Host,
    /// The name of a server block, if the request's own host is not there.
    Server,
    Scheme,
    Status,
    Bytes,
    /// With the head of the response, if its content alone is not there.
    AllBytes,
    Referer,
    Agent,
    ContentType,
    CacheControl,
    Reason,
    /// A request line; in Caddy's logs an object.
    Request,
    /// Response fields by their names, each a text or a list.
    Headers,
}

fn name(text: &str) -> Option<Name> {
    Some(match text {
        "time" | "timestamp" | "@timestamp" | "ts" | "time_iso8601" | "time_local" | "msec"
        | "EdgeStartTimestamp" | "datetime" => Name::Time,
        "client" | "remote_addr" | "remote_ip" | "client_ip" | "ClientIP" | "c-ip" => Name::Client,
        "method" | "request_method" | "ClientRequestMethod" | "cs-method" => Name::Method,
        "url" | "uri" | "request_uri" | "ClientRequestURI" | "path" | "cs-uri-stem" => Name::Target,
        "cs-uri-query" => Name::Query,
        "host" | "http_host" | "ClientRequestHost" | "vhost" | "x-host-header" => Name::Host,
        "server_name" | "cs(Host)" => Name::Server,
        "scheme" | "ClientRequestScheme" | "cs-protocol" => Name::Scheme,
        "status" | "status_code" | "EdgeResponseStatus" | "sc-status" => Name::Status,
        "bytes" | "body_bytes_sent" | "size" | "EdgeResponseBodyBytes" | "sc-content-len" => {
            Name::Bytes
        }
        "bytes_sent" | "EdgeResponseBytes" | "sc-bytes" => Name::AllBytes,
        "referer" | "http_referer" | "ClientRequestReferer" | "cs(Referer)" => Name::Referer,
        "user_agent" | "http_user_agent" | "ClientRequestUserAgent" | "cs(User-Agent)" => {
            Name::Agent
        }
        "content_type"
        | "sent_http_content_type"
        | "EdgeResponseContentType"
        | "sc-content-type"
        | "content-type"
        | "Content-Type" => Name::ContentType,
        "cache_control"
        | "sent_http_cache_control"
        | "upstream_http_cache_control"
        | "cache-control"
        | "Cache-Control" => Name::CacheControl,
        "reason" => Name::Reason,
        "request" => Name::Request,
        "resp_headers" | "ResponseHeaders" => Name::Headers,
        _ => return None,
    })
}

/// A line, and what other fields may still replace.
#[derive(Debug, Default)]
struct Read<'a> {
    line: LogLine<'a>,
    timed: bool,
    query: Cow<'a, [u8]>,
    exact_host: bool,
    exact_bytes: bool,
}

pub(super) fn parse(line: &[u8]) -> Option<LogLine<'_>> {
    if line.first() != Some(&b'{') {
        return None;
    }
    let mut read = Read::default();
    let mut json = serde_json::Deserializer::from_slice(line);
    let object = Value {
        read: &mut read,
        name: None,
    };
    object.deserialize(&mut json).ok()?;
    json.end().ok()?;
    let mut line = read.line;
    if !matches!(&*read.query, b"" | b"-") {
        line.target = Cow::Owned([&*line.target, b"?", &*read.query].concat());
    }
    read.timed.then_some(line)
}

/// A value under a name; with no name the whole line.
struct Value<'r, 'a> {
    read: &'r mut Read<'a>,
    name: Option<Name>,
}

impl<'a> Value<'_, 'a> {
    fn text(self, text: Cow<'a, [u8]>) {
        let Some(name) = self.name else { return };
        if *text == *b"-" {
            return;
        }
        let read = self.read;
        let line = &mut read.line;
        match name {
            Name::Time => {
                let at = time::iso(&text)
                    .or_else(|| time::common(&text))
                    .or_else(|| time::epoch(std::str::from_utf8(&text).ok()?.parse().ok()?));
                if let Some(at) = at {
                    (line.at, read.timed) = (at, true);
                }
            }
            Name::Client => line.client = address(&text).or(line.client),
            Name::Method => line.method = text,
            Name::Target => line.target = text,
            Name::Query => read.query = text,
            Name::Host => (line.host, read.exact_host) = (text, true),
            Name::Server if !read.exact_host => line.host = text,
            Name::Scheme => line.scheme = scheme(&text),
            Name::Status | Name::Bytes | Name::AllBytes => {
                if let Some(number) = number(&text) {
                    Value { read, name: None }.number(number, Some(name));
                }
            }
            Name::Referer => line.referer = text,
            Name::Agent => line.agent = text,
            Name::ContentType => line.content_type = text,
            Name::CacheControl => line.cache_control = text,
            Name::Reason => line.reason = text,
            Name::Request => {
                if let Some((method, target)) = request_line(&text)
                    && line.target.is_empty()
                {
                    line.method = Cow::Owned(method.to_vec());
                    line.target = Cow::Owned(target.to_vec());
                }
            }
            Name::Server | Name::Headers => {}
        }
    }

    fn number(self, number: u64, name: Option<Name>) {
        let read = self.read;
        match name {
            Some(Name::Status) => read.line.status = u16::try_from(number).unwrap_or(0),
            Some(Name::Bytes) => (read.line.bytes, read.exact_bytes) = (number, true),
            Some(Name::AllBytes) if !read.exact_bytes => read.line.bytes = number,
            Some(Name::Time) => {
                if let Some(at) = time::epoch(number as f64) {
                    (read.line.at, read.timed) = (at, true);
                }
            }
            _ => {}
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object on each line")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.text(Cow::Borrowed(text.as_bytes()));
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.text(Cow::Owned(text.as_bytes().to_vec()));
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        let name = self.name;
        self.number(number, name);
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        if self.name == Some(Name::Time)
            && let Some(at) = time::epoch(number)
        {
            (self.read.line.at, self.read.timed) = (at, true);
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    /// Of the values of a field the first one counts.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        seq.next_element_seed(self)?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = matches!(self.name, None | Some(Name::Request | Name::Headers));
        while let Some(name) = map.next_key_seed(Key)? {
            // In an object of response fields only these two are what their names say.
            let known = name.filter(|name| {
                inner
                    && (self.name != Some(Name::Headers)
                        || matches!(name, Name::CacheControl | Name::ContentType))
            });
            match known {
                Some(name) => map.next_value_seed(Value {
                    read: &mut *self.read,
                    name: Some(name),
                })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The name of a field, without a copy.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<Name>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Name>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<Name>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<Name>, E> {
        Ok(name(text))
    }
}
