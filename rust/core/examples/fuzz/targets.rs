//! Fuzz targets: for each parser a function that takes any bytes and panics when a promise is broken.
//!
//! Shared by the runner for stable toolchains (`../fuzz.rs`) and the cargo-fuzz crate (`/fuzz`). Most promises are more
//! than "does not panic": two ways to the same result agree, written data can be read back, nothing is accepted that
//! was forged.
#![allow(dead_code, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub(crate) mod purging;

pub(crate) mod admission;
pub(crate) mod caching;
pub(crate) mod corpus;
pub(crate) mod fields;
pub(crate) mod guarding;
pub(crate) mod http2;
pub(crate) mod identity;
pub(crate) mod images;
pub(crate) mod listening;
pub(crate) mod plans;
pub(crate) mod records;
pub(crate) mod responses;

use edgerouter_core::http::{FieldName, Fields};
use http::HeaderValue;

/// A parser under test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FuzzTarget {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Inputs that mutation starts from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub(crate) const TARGETS: &[FuzzTarget] = &[
    FuzzTarget {
        name: "requests",
        run: admission::requests,
        seeds: corpus::messages,
    },
    FuzzTarget {
        name: "chunked",
        run: admission::chunked,
        seeds: corpus::chunked,
    },
    FuzzTarget {
        name: "responses",
        run: responses::responses,
        seeds: responses::seeds,
    },
    FuzzTarget {
        name: "field_section",
        run: http2::field_section,
        seeds: http2::field_sections,
    },
    FuzzTarget {
        name: "frame_heads",
        run: http2::frame_heads,
        seeds: http2::frames,
    },
    FuzzTarget {
        name: "proxy_header",
        run: listening::proxy_header,
        seeds: listening::proxy_headers,
    },
    FuzzTarget {
        name: "certificate",
        run: listening::certificate,
        seeds: listening::certificates,
    },
    FuzzTarget {
        name: "head_fields",
        run: admission::head_fields,
        seeds: corpus::heads,
    },
    FuzzTarget {
        name: "image_url",
        run: images::image_url,
        seeds: images::urls,
    },
    FuzzTarget {
        name: "image_parameters",
        run: images::image_parameters,
        seeds: images::queries,
    },
    FuzzTarget {
        name: "file_path",
        run: fields::file_path,
        seeds: corpus::file_paths,
    },
    FuzzTarget {
        name: "cache_control",
        run: fields::cache_control,
        seeds: corpus::cache_control,
    },
    FuzzTarget {
        name: "cookie",
        run: fields::cookie,
        seeds: corpus::cookies,
    },
    FuzzTarget {
        name: "outward",
        run: fields::outward,
        seeds: corpus::inner_urls,
    },
    FuzzTarget {
        name: "date",
        run: fields::date,
        seeds: corpus::dates,
    },
    FuzzTarget {
        name: "etag",
        run: fields::etag,
        seeds: corpus::etags,
    },
    FuzzTarget {
        name: "range",
        run: fields::range,
        seeds: corpus::ranges,
    },
    FuzzTarget {
        name: "structured",
        run: fields::structured,
        seeds: corpus::dictionaries,
    },
    FuzzTarget {
        name: "uri",
        run: fields::uri,
        seeds: corpus::paths,
    },
    FuzzTarget {
        name: "key",
        run: caching::key,
        seeds: corpus::urls,
    },
    FuzzTarget {
        name: "vary",
        run: caching::vary,
        seeds: corpus::vary,
    },
    FuzzTarget {
        name: "response",
        run: caching::response,
        seeds: corpus::responses,
    },
    FuzzTarget {
        name: "record",
        run: records::record,
        seeds: records::records,
    },
    FuzzTarget {
        name: "sidecar",
        run: records::sidecar,
        seeds: records::sidecars,
    },
    FuzzTarget {
        name: "signed_url",
        run: guarding::signed_url,
        seeds: guarding::queries,
    },
    FuzzTarget {
        name: "signed_policy",
        run: guarding::signed_policy,
        seeds: guarding::policies,
    },
    FuzzTarget {
        name: "jwt",
        run: identity::jwt,
        seeds: identity::tokens,
    },
    FuzzTarget {
        name: "jwt_payload",
        run: identity::jwt_payload,
        seeds: corpus::payloads,
    },
    FuzzTarget {
        name: "jwks",
        run: identity::jwks,
        seeds: corpus::key_sets,
    },
    FuzzTarget {
        name: "client_address",
        run: identity::client_address,
        seeds: corpus::forwarded,
    },
    FuzzTarget {
        name: "purge_path",
        run: purging::purge_path,
        seeds: purging::paths,
    },
    FuzzTarget {
        name: "purge_order",
        run: purging::purge_order,
        seeds: purging::orders,
    },
    FuzzTarget {
        name: "purge_log",
        run: purging::purge_log,
        seeds: purging::logs,
    },
    FuzzTarget {
        name: "cloudfront_xml",
        run: purging::cloudfront_xml,
        seeds: purging::batches,
    },
    FuzzTarget {
        name: "path_pattern",
        run: plans::path_pattern,
        seeds: corpus::patterns,
    },
    FuzzTarget {
        name: "plan_json",
        run: plans::plan_json,
        seeds: corpus::plans,
    },
    FuzzTarget {
        name: "explain",
        run: plans::explain,
        seeds: corpus::requests,
    },
];

/// The fixed time of all targets, in seconds since the epoch.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A field value of these bytes; a byte that no value may hold becomes a space.
fn value(bytes: &[u8]) -> HeaderValue {
    let bytes: Vec<u8> = bytes
        .iter()
        .map(|&byte| if byte.is_ascii_control() { b' ' } else { byte })
        .collect();
    HeaderValue::from_bytes(&bytes).expect("no control characters are left")
}

/// Fields from lines of `name: value`; other lines are left out.
fn head(bytes: &[u8]) -> Fields {
    let mut headers = Fields::new();
    for line in bytes.split(|&byte| byte == b'\n').take(64) {
        if let Some(colon) = line.iter().position(|&byte| byte == b':')
            && let (name, text) = line.split_at(colon)
            && let Ok(name) = FieldName::from_bytes(name)
        {
            headers.append(name, value(text.get(1..).unwrap_or_default().trim_ascii()));
        }
    }
    headers
}

/// The lines of an input as text.
fn lines(bytes: &[u8], most: usize) -> Vec<String> {
    bytes
        .splitn(most, |&byte| byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect()
}

/// A number that depends on every byte (FNV-1a): makes choices inside a target depend on the input alone.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
