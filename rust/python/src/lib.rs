//! The module `edgerouter._core`: converts between Python and the engine, and decides nothing.
//!
//! `engine` starts and stops, `plan` shows what a plan means. `request`, `response`, `headers`, `values`, `cache` and `context` are
//! what callables see: views on the engine's values. `runner` carries calls to Python's own threads and their answers back.
//! `allocator` is the one of the Rust side. `output` carries what is printed, and signals. `properties` opens pure decisions to property tests.

mod allocator;
mod cache;
mod context;
mod engine;
mod errors;
mod headers;
mod json;
mod logs;
mod output;
mod plan;
mod properties;
mod request;
mod response;
mod runner;
mod values;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<request::Request>()?;
    module.add_class::<request::Geo>()?;
    module.add_class::<response::Response>()?;
    module.add_class::<headers::Headers>()?;
    values::register(module.py())?;
    module.add_class::<context::CallContext>()?;
    module.add_class::<context::Context>()?;
    module.add_class::<context::AsyncContext>()?;
    module.add_class::<cache::Cache>()?;
    module.add_class::<cache::AsyncCache>()?;
    module.add_class::<cache::Caches>()?;
    output::add(module)?;
    logs::add(module)?;
    plan::add(module)?;
    runner::add(module)?;
    properties::add(module)
}
