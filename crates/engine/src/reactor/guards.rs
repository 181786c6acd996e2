//! Weak references to the sockets that own a registration.

use core::ffi::c_int;
use core::ptr;

use pyo3::ffi::{self, PyObject};

use crate::tables::{Table, method};

static CALLBACK: Table<[ffi::PyMethodDef; 1]> = Table([method(
    c"owner_is_gone",
    ffi::PyMethodDefPointer {
        PyCFunction: owner_is_gone,
    },
    ffi::METH_O,
    c"Called with the weak reference to a socket that is gone.",
)]);

/// A weak reference to `owner` that takes its registration of `fd` away when the
/// owner is gone: a new reference, or null when there can be none.
pub fn make(owner: *mut PyObject, fd: c_int) -> *mut PyObject {
    // SAFETY: the GIL is held by all who use a reactor, `owner` is live.
    unsafe {
        let number = ffi::PyLong_FromLong(fd.into());
        let callback = ffi::PyCFunction_New(CALLBACK.0.as_ptr().cast_mut(), number);
        ffi::Py_XDECREF(number);
        let guard = if callback.is_null() {
            ptr::null_mut()
        } else {
            ffi::PyWeakref_NewRef(owner, callback)
        };
        ffi::Py_XDECREF(callback);
        if guard.is_null() {
            ffi::PyErr_Clear();
        }
        guard
    }
}

unsafe extern "C" fn owner_is_gone(number: *mut PyObject, guard: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held; `number` is the int it was made with.
    unsafe {
        let fd = ffi::PyLong_AsLong(number) as c_int;
        super::for_each(|reactor| reactor.owner_is_gone(fd, guard));
        ffi::Py_NewRef(ffi::Py_None())
    }
}
