//! Spans as messages of OpenTelemetry's protocol (OTLP 1): the part of its definitions that the edge needs.

use edgerouter_core::trace::TraceContext;
use prost::Message;

use super::{FinishedTrace, Span, Value, Work};

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(fixed32, tag = "6")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

/// One of these, of which the fields are not repeated: `oneof` on the wire.
#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
}

/// The code of a failed span.
const ERROR: i32 = 2;
/// The trace is kept; the parent's process is known, and another one.
const SAMPLED: u32 = 1;
const KNOWN: u32 = 1 << 8;
const REMOTE: u32 = 1 << 9;

/// The message with these traces. `resource`: attributes of this process.
pub fn encoded(resource: &[(Box<str>, Box<str>)], traces: &[FinishedTrace]) -> Vec<u8> {
    let attributes = resource.iter();
    let attributes = attributes
        .map(|(key, value)| text(key, value.to_string()))
        .collect();
    let spans = traces
        .iter()
        .flat_map(|trace| trace.spans.iter().map(|span| message(trace, span)));
    let scope = Scope {
        name: "edgerouter".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let request = Request {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes }),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.collect(),
            }],
        }],
    };
    request.encode_to_vec()
}

/// The number of spans that the receiver says it refused; `None` if the response cannot be read.
pub fn rejected(response: &[u8]) -> Option<u64> {
    let response = Response::decode(response).ok()?;
    let rejected = response
        .partial_success
        .map_or(0, |partial| partial.rejected_spans);
    Some(u64::try_from(rejected).unwrap_or(0))
}

fn message(trace: &FinishedTrace, span: &Span) -> SpanMessage {
    let mut attributes: Vec<KeyValue> = span
        .attributes
        .iter()
        .map(|(key, value)| pair(key, value))
        .collect();
    if let Some(error) = &span.error {
        attributes.push(text("error.type", error.to_string()));
    }
    let remote = if span.is_continued { REMOTE } else { 0 };
    SpanMessage {
        trace_id: trace.id.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        trace_state: trace.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: span
            .parent
            .map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
        name: span.name.to_string(),
        kind: match span.work {
            Work::Request => 2,
            Work::Origin | Work::Binding => 3,
            Work::Fetch | Work::Cache | Work::Hook | Work::Function => 1,
        },
        start_time_unix_nano: span.begun,
        end_time_unix_nano: span.ended.max(span.begun),
        attributes,
        links: span.link.iter().map(link).collect(),
        status: span.error.as_ref().map(|_| Status {
            message: String::new(),
            code: ERROR,
        }),
        flags: SAMPLED | KNOWN | remote,
    }
}

fn link(context: &TraceContext) -> Link {
    Link {
        trace_id: context.trace.to_be_bytes().to_vec(),
        span_id: context.span.to_be_bytes().to_vec(),
        flags: u32::from(context.sampled) | KNOWN | REMOTE,
    }
}

fn pair(key: &str, value: &Value) -> KeyValue {
    match value {
        Value::Text(value) => text(key, value.to_string()),
        Value::Number(number) => KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue {
                text: None,
                number: Some(*number),
            }),
        },
    }
}

fn text(key: &str, value: String) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            text: Some(value),
            number: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_lies_about_its_refusals_is_not_believed_below_zero() {
        let refused = |rejected_spans| {
            let partial_success = Some(PartialSuccess { rejected_spans });
            rejected(&Response { partial_success }.encode_to_vec())
        };
        assert_eq!(
            (refused(3), refused(-3), rejected(b"")),
            (Some(3), Some(0), Some(0))
        );
        assert_eq!(rejected(b"<html>"), None);
    }
}
