//! `sleep`: the stdlib's `time.sleep`.

use core::ptr;

use pyo3::ffi::{self, PyObject};

use crate::errors::raise;
use crate::reactor::here;
use crate::reactor::wait::{Wait, checkpoint, deadline_after};

/// `time.sleep` as it was when it was first needed.
static mut ORIGINAL: *mut PyObject = ptr::null_mut();

/// Takes the stdlib's function before anybody can replace it.
///
/// # Safety
///
/// The GIL is held; called once, when the module is made.
pub unsafe fn init() -> bool {
    // SAFETY: by contract.
    unsafe {
        let module = ffi::PyImport_ImportModule(c"time".as_ptr());
        if module.is_null() {
            return false;
        }
        ORIGINAL = ffi::PyObject_GetAttrString(module, c"sleep".as_ptr());
        ffi::Py_DECREF(module);
        !ORIGINAL.is_null()
    }
}

/// `sleep(seconds)`.
pub unsafe extern "C" fn sleep(_module: *mut PyObject, duration: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        let is_number = ffi::PyFloat_Check(duration) != 0 || ffi::PyLong_Check(duration) != 0;
        let here = if is_number { here::find() } else { None };
        let Some(here) = here else {
            return ffi::PyObject_CallOneArg(ORIGINAL, duration);
        };
        let seconds = ffi::PyFloat_AsDouble(duration);
        if seconds == -1.0 && !ffi::PyErr_Occurred().is_null() {
            return ptr::null_mut();
        }
        if seconds < 0.0 {
            return raise(ffi::PyExc_ValueError, c"sleep length must be non-negative");
        }
        if seconds.is_nan() {
            return raise(ffi::PyExc_ValueError, c"Invalid value NaN (not a number)");
        }
        if seconds > i64::MAX as f64 / 1e9 {
            return raise(
                ffi::PyExc_OverflowError,
                c"timestamp out of range for platform time_t",
            );
        }
        let done = if seconds == 0.0 {
            checkpoint(&here)
        } else {
            match deadline_after(here.reactor, seconds) {
                None => false,
                deadline => Wait::new(here)
                    .is_some_and(|wait| wait.until(deadline) && wait.suspend().is_some()),
            }
        };
        if done {
            ffi::Py_NewRef(ffi::Py_None())
        } else {
            ptr::null_mut()
        }
    }
}
