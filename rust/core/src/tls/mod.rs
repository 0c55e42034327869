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
mod ocsp;

pub use authority::{ConnectionTerms, PolicyNames, TermsDigest};
pub use certificate::{
    CertificateFacts, certificate_facts, hexadecimal, pin, public_key, renewal_identifier,
};
pub use client::{ClientCertificate, client_fields};
pub use names::NameTable;
pub use ocsp::{OcspFault, ocsp_end};
