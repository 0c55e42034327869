//! The module `edgerouter._core`: converts between Python and the engine, and decides nothing.
//!
//! `engine` starts and stops, `plan` compiles plans, `replay` predicts by one. `message`, `values`, `cache`, `data` and
//! `context` are the views on the engine's values that callables get. `runner` carries calls to Python's own threads
//! and their answers back. `allocator` is the one of the Rust side, and `huge_pages` makes what it uses cheaper to
//! reach. `output` carries printed lines and signals, `logs` the records of Python's log, `deploys` the orders for
//! deploys. `fetch` makes the requests of callables, `websocket` reads and writes frames, `html` edits pages, `json`
//! encodes. `errors` makes Python's exceptions, `processes` has the counts of worker processes, `certificates` those
//! for development, `passwords` makes lines of files of users, `addresses` reads those to listen on, and `properties`
//! exposes pure decisions to property tests.

mod addresses;
mod allocator;
mod cache;
mod certificates;
mod context;
mod data;
mod deploys;
mod engine;
mod errors;
mod fetch;
mod html;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod huge_pages;
mod json;
mod logs;
mod message;
mod output;
mod passwords;
mod plan;
mod processes;
mod properties;
mod replay;
mod runner;
mod values;
mod websocket;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<engine::PyEngine>()?;
    module.add_function(wrap_pyfunction!(addresses::inherited_addresses, module)?)?;
    module.add_class::<message::request::Request>()?;
    module.add_function(wrap_pyfunction!(message::crossing::dismantle, module)?)?;
    module.add_function(wrap_pyfunction!(message::crossing::assemble, module)?)?;
    module.add_function(wrap_pyfunction!(message::asgi::asgi_scope, module)?)?;
    module.add_function(wrap_pyfunction!(message::asgi::asgi_response, module)?)?;
    module.add_function(wrap_pyfunction!(message::asgi::server_of, module)?)?;
    module.add_class::<message::geo::Geo>()?;
    module.add_class::<message::experiment::PyAssignedVariant>()?;
    module.add_class::<message::certificate::PyClientCertificate>()?;
    module.add_class::<message::response::Response>()?;
    module.add_function(wrap_pyfunction!(
        message::response::may_have_content,
        module
    )?)?;
    module.add_class::<message::headers::Headers>()?;
    module.add_function(wrap_pyfunction!(message::headers::field_lines, module)?)?;
    module.add_class::<values::Values>()?;
    values::register(module.py())?;
    module.add_class::<context::CallContext>()?;
    module.add_class::<context::TracePlace>()?;
    module.add_class::<context::Context>()?;
    module.add_class::<context::AsyncContext>()?;
    module.add_class::<fetch::PendingFetch>()?;
    module.add_class::<cache::PyCache>()?;
    module.add_class::<cache::AsyncCache>()?;
    module.add_class::<cache::Caches>()?;
    module.add_class::<websocket::WebSocketCodec>()?;
    module.add_class::<html::HtmlRewriter>()?;
    module.add_function(wrap_pyfunction!(html::check_edit, module)?)?;
    data::add(module)?;
    deploys::add(module)?;
    output::add(module)?;
    logs::add(module)?;
    plan::add(module)?;
    processes::add(module)?;
    replay::add(module)?;
    runner::add(module)?;
    certificates::add(module)?;
    passwords::add(module)?;
    properties::add(module)
}
