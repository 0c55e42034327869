//! Decisions about TLS with clients: the policy that a name selects, requests that belong to another one, and
//! the identity of clients with certificates.
//!
//! No cryptography and no sockets are here: `listen` makes handshakes and keeps keys. Names flow in as the client sent
//! them, in SNI or in the authority of a request; a position or a reason flows out.

mod authority;
mod certificate;
mod client;
mod der;
mod names;

pub use authority::{ConnectionTerms, PolicyNames, TermsDigest};
pub use certificate::{
    CertificateFacts, certificate_facts, hexadecimal, is_ocsp_response, pin, public_key,
    renewal_identifier,
};
pub use client::{ClientCertificate, client_fields};
pub use names::NameTable;
