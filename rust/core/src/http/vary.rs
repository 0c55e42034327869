//! `Vary` (RFC 9110 §12.5.5).

use http::HeaderValue;

use super::{Fields, Named, header, list};

/// Adds a name to `Vary`, unless the field has it or `*` already.
pub fn add(headers: &mut Fields, name: impl Named) {
    let named = headers
        .get_all(header::VARY)
        .iter()
        .flat_map(|line| list(line.as_bytes()))
        .any(|member| member == b"*" || member.eq_ignore_ascii_case(name.text()));
    if !named && let Ok(value) = HeaderValue::from_bytes(name.text()) {
        headers.append(header::VARY, value);
    }
}
