//! edgerouter-acme: certificates that the edge obtains and renews by itself (RFC 8555).
//!
//! `service` is a thread of its own, in which `keeper` decides, second by second, what of `held` is due; `order`
//! obtains one certificate by `account` and `client`; `storage` keeps everything in a folder that processes share;
//! `issued` is the part that handshakes and requests see. Rules are in `core::acme`, handshakes in `listen`. Terms flow
//! in with each plan, certificates and the answers to challenges flow out; no worker waits for an issuer or a disk.

mod account;
mod alpn;
mod client;
mod fault;
mod held;
mod issued;
mod keeper;
mod order;
mod pair;
mod records;
mod service;
mod storage;

pub use alpn::ALPN;
pub use client::issuer_fault;
pub use issued::IssuedCertificates;
pub use keeper::Clock;
pub use records::{CallKind, RecordCall, RecordCalls};
pub use service::AcmeService;
