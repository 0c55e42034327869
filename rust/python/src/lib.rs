//! The module `edgerouter._core`: converts between Python and the engine, and decides nothing.
//!
//! `engine` starts and stops, `views` are the request and response that callables see, `runner` carries calls to
//! Python's own threads and their answers back, `properties` opens pure decisions to property tests.

mod engine;
mod errors;
mod properties;
mod runner;
mod views;

use pyo3::prelude::*;

/// The allocator of the Rust side; Python keeps its own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<engine::PlanTable>()?;
    module.add_class::<runner::Runner>()?;
    module.add_class::<runner::Call>()?;
    module.add_class::<views::Request>()?;
    module.add_class::<views::Response>()?;
    module.add_class::<views::Headers>()?;
    module.add_class::<views::Context>()?;
    module.add_function(wrap_pyfunction!(engine::compile, module)?)?;
    module.add_function(wrap_pyfunction!(engine::explain, module)?)?;
    properties::add(module)
}
