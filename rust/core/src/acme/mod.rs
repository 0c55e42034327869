//! Decisions about certificates that the edge obtains by ACME (RFC 8555): names, tokens, when to renew, when to try
//! again, and what an issuer's certificate has to be.
//!
//! No sockets, files, keys or clocks are here: the crate `acme` speaks to issuers and keeps what they issue. Values
//! flow in from the plan, from requests and from issuers, none of which are trusted; a decision with its reason flows
//! out.

mod issued;
mod names;
mod schedule;
mod token;

pub use issued::{CertificateFault, judge};
pub use names::{NameFault, normalised_name};
pub use schedule::{
    Renewal, RenewalReason, RenewalWindow, asked_wait, is_hasty, may_retry, patient_wait, renewal,
    rest, retry_wait, window_wait,
};
pub use token::{CHALLENGE_PATH, challenge_token, is_token};
