//! Decisions about TLS with clients: the policy that a name selects, and requests that belong to another one.
//!
//! No cryptography and no sockets are here: `listen` makes handshakes and keeps keys. Names flow in as the client sent
//! them, in SNI or in the authority of a request; a position or a reason flows out.

mod authority;
mod names;

pub use authority::{ConnectionTerms, PolicyNames, TermsDigest};
pub use names::NameTable;
