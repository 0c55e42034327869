//! The end of the interpreter while a callable still runs on a thread that is not the main one.
//!
//! CPython before 3.14 ends such a thread where it takes the GIL again, by unwinding it. Rust's frames below the
//! callable cannot be unwound so: the runtime aborts the process ("FATAL: exception not rethrown"), after a stop that
//! went well. The thread therefore stays where it is. It holds no GIL, and the process ends without waiting for it.
//!
//! PyO3 does the same where a thread enters the interpreter. It declares the functions below as ones that never unwind,
//! and the compiler leaves no guard around those.

#![allow(unsafe_code)] // Functions of the interpreter by their address, as ones that may unwind.

use std::{hint::black_box, mem::transmute, ptr};

use pyo3::{
    ffi,
    prelude::*,
    types::{PyIterator, PyTuple, iterator::PySendResult},
};

type Object = *mut ffi::PyObject;
type CallFunction = unsafe extern "C" fn(Object, Object, Object) -> Object;
type UnwindingCall = unsafe extern "C-unwind" fn(Object, Object, Object) -> Object;
type SendFunction = unsafe extern "C" fn(Object, Object, *mut Object) -> ffi::PySendResult;
type UnwindingSend = unsafe extern "C-unwind" fn(Object, Object, *mut Object) -> ffi::PySendResult;

/// `callable(*arguments)`, for a callable that may still run when the interpreter ends.
pub(crate) fn call<'py>(
    callable: &Bound<'py, PyAny>,
    arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = arguments.into_pyobject(callable.py())?;
    // SAFETY: the two conventions differ only in that this one may unwind.
    let function =
        black_box(unsafe { transmute::<CallFunction, UnwindingCall>(ffi::PyObject_Call) });
    let stays = Stays;
    // SAFETY: both are objects, and the thread is attached. Null stands for no keywords.
    let result = unsafe { function(callable.as_ptr(), arguments.as_ptr(), ptr::null_mut()) };
    std::mem::forget(stays);
    // SAFETY: it is a new reference, or null with the exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// `coroutine.send(value)`, for a coroutine whose step may still run when the interpreter ends.
pub(crate) fn send<'py>(
    coroutine: &Bound<'py, PyIterator>,
    value: &Bound<'py, PyAny>,
) -> PyResult<PySendResult<'py>> {
    // SAFETY: as above.
    let function = black_box(unsafe { transmute::<SendFunction, UnwindingSend>(ffi::PyIter_Send) });
    let mut result = ptr::null_mut();
    let stays = Stays;
    // SAFETY: both are objects, the thread is attached, and the result has a place.
    let sent = unsafe { function(coroutine.as_ptr(), value.as_ptr(), &raw mut result) };
    std::mem::forget(stays);
    let py = coroutine.py();
    match sent {
        ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        // SAFETY: a result is a new reference unless there is an error.
        ffi::PySendResult::PYGEN_RETURN => {
            unsafe { Bound::from_owned_ptr_or_err(py, result) }.map(PySendResult::Return)
        }
        // SAFETY: the same.
        ffi::PySendResult::PYGEN_NEXT => {
            unsafe { Bound::from_owned_ptr_or_err(py, result) }.map(PySendResult::Next)
        }
    }
}

/// Keeps a thread that is unwound.
struct Stays;

impl Drop for Stays {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}
