//! Guarding: who may use a route, from which pages, and with which promises to browsers.
//!
//! Each policy is a compiled value with one decision: `addresses` allows and denies networks, `places` countries and
//! network operators, `cors` answers pages of other origins (Fetch §3.2), `rate` limits requests, `signed` opens URLs
//! by signatures, `basic` by passwords, `security` lists fields that restrict browsers, `csp` reads the policy about
//! content among them, and `nonce` fills those that name one. They take values and know neither routes nor plans. Data
//! flows from `plan::spec`, which reads the policies, to `path`, which applies them at their place among the phases.

pub mod addresses;
pub mod basic;
pub mod cors;
pub mod csp;
pub mod nonce;
pub mod places;
pub mod rate;
pub mod security;
pub mod signed;
