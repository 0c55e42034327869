//! The interpreter's state of a thread: kept for a worker, and given an exception that interrupts what runs there.

#![allow(unsafe_code)] // PyO3 has these functions of the interpreter as foreign ones only.

use std::{ffi::c_ulong, ptr};

use pyo3::{ffi, prelude::*, types::PyType};

/// Keeps the state of this thread for as long as the thread lives. Python discards that of a foreign one (a worker's)
/// after each use; making it anew costs more than a quick call.
pub(super) fn keep(_attached: Python<'_>) {
    // SAFETY: it may be called at any time on an attached thread. Without a release the state stays.
    unsafe { ffi::PyGILState_Ensure() };
}

/// Has a thread raise an exception of this class at its next bytecode; `None` takes back one that has not arrived. A
/// thread that has ended is left alone.
#[pyfunction]
pub(super) fn raise_in(
    _attached: Python<'_>,
    thread: c_ulong,
    exception: Option<&Bound<'_, PyType>>,
) {
    let exception = exception.map_or(ptr::null_mut(), Bound::as_ptr);
    // SAFETY: the thread is attached, and the exception is a class or null. The interpreter takes a reference of its
    // own, and looks the thread up by its identity.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread.cast_signed(), exception) };
}
