//! Blocks of sync code in which no wait may happen: the package's `atomic()`.
//!
//! A function that waits lets others run, and what it was in the middle of is seen half
//! done. In such a block each wait is refused where it would begin. One that need not
//! happen (a free lock, data that is there) is none.

use core::ptr;

use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;

use crate::activation::Activation;
use crate::errors;
use crate::places::call_stack;
use crate::runtime::Runtime;

unsafe fn here() -> *mut Activation {
    // SAFETY: the GIL is held.
    Runtime::get().map_or(ptr::null_mut(), Runtime::here)
}

/// `enter_atomic()`.
pub unsafe extern "C" fn enter(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held; a current stack is live.
    unsafe {
        let stack = here();
        if !stack.is_null() {
            (*stack).atomic += 1;
        }
        ffi::PyBool_FromLong((!stack.is_null()).into())
    }
}

/// `leave_atomic()`.
pub unsafe extern "C" fn leave(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above. No wait was possible meanwhile, so it is the same stack.
    unsafe {
        let stack = here();
        if !stack.is_null() {
            (*stack).atomic = (*stack).atomic.saturating_sub(1);
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// Raises `RuntimeError`; returns null.
///
/// # Safety
///
/// The GIL is held.
#[cold]
pub unsafe fn refuse() -> *mut PyObject {
    let text = Python::attach(|py| {
        let place = call_stack(py).ok().and_then(|places| {
            let place = places.into_iter().next()?;
            Some(format!(
                " at {}:{}, in {}",
                place.file, place.line, place.function
            ))
        });
        format!(
            "a wait inside of an atomic() block{}: other code would run in the middle of it. Wait \
             before the block or after it.",
            place.unwrap_or_default()
        )
    });
    // SAFETY: the GIL is held.
    unsafe { errors::raise_text(ffi::PyExc_RuntimeError, text) }
}
