//! This process in `CDN-Loop` (RFC 8586).
//!
//! `Via` cannot show a loop for certain: edges in a chain share a pseudonym, and policies may remove the field. A
//! member of `CDN-Loop` names the process by a parameter, and no policy edits the field.

use http::HeaderValue;

use crate::http::{FieldName, Fields, list};

/// The field (RFC 8586 §2).
pub const CDN_LOOP: FieldName = FieldName::from_static("cdn-loop");

/// The member of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdnLoop(HeaderValue);

impl CdnLoop {
    /// The member for the edge's pseudonym and a random number of the process.
    pub fn new(pseudonym: &str, process: u64) -> Self {
        let member = HeaderValue::try_from(format!("{pseudonym};i={process:016x}"));
        // The pseudonym is a token.
        Self(member.unwrap_or(HeaderValue::from_static("edgerouter")))
    }

    /// Adds the member to a request that leaves the edge.
    pub fn append(&self, headers: &mut Fields) {
        headers.append(CDN_LOOP, self.0.clone());
    }

    /// How often the request has left this process before. Caches on the way may write members with other white space
    /// and in another case.
    pub fn passes(&self, headers: &Fields) -> usize {
        let own = self.0.as_bytes();
        let is_own = |member: &&[u8]| {
            let written = member.iter().filter(|byte| !matches!(**byte, b' ' | b'\t'));
            written
                .map(u8::to_ascii_lowercase)
                .eq(own.iter().map(u8::to_ascii_lowercase))
        };
        headers
            .get_all(&CDN_LOOP)
            .iter()
            .map(|line| list(line.as_bytes()).filter(is_own).count())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_of_this_process_count() {
        let own = CdnLoop::new("edge", 7);
        let rows: [(&[&'static str], usize); 7] = [
            (&[], 0),
            (&["edge"], 0),
            (&["edge;i=0000000000000008"], 0),
            (&["edge;i=0000000000000007"], 1),
            (
                &["Edge ; i=0000000000000007, other.example:80; v=\"1, 2\""],
                1,
            ),
            (
                &["edge;i=0000000000000007", "x", "edge;i=0000000000000007"],
                2,
            ),
            (
                &["x; q=\"edge;i=0000000000000007, edge;i=0000000000000007\""],
                0,
            ),
        ];
        for (lines, passes) in rows {
            let mut headers = Fields::new();
            for &line in lines {
                headers.append(CDN_LOOP, HeaderValue::from_static(line));
            }
            assert_eq!(own.passes(&headers), passes, "{lines:?}");
            own.append(&mut headers);
            assert_eq!(own.passes(&headers), passes + 1, "{lines:?}");
        }
    }
}
