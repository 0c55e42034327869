//! Phases 7, 10, 12, 14 and edge functions: a request goes to a callable, and its output takes effect.
//!
//! `viewer` has the phases that see the exchange with a client, `origin` those that may outlive it, with the `context`
//! that they keep, and `function` stands in the place of phases 8 to 13, and `made` in that of an origin behind the
//! cache; `hints` are those that both send ahead of a response. `transform` has content pass through a callable by
//! `feed`. The callables run behind `crate::functions`.

mod call;
pub(crate) mod context;
mod feed;
mod function;
mod hints;
mod made;
mod origin;
mod transform;
mod viewer;

pub(crate) use self::{
    call::page,
    function::{collect, function},
    made::made,
    origin::{origin_request, origin_response},
    transform::without_range,
    viewer::{found, viewer_request, viewer_response},
};
