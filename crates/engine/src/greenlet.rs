//! The extension greenlet, if the program has loaded it: whether the caller runs
//! in a greenlet.
//!
//! greenlet copies slices of one C stack per thread. A native stack that is
//! entered from inside a greenlet, and switches greenlets there, would have
//! slices of two stacks mixed up.

use core::ffi::c_void;
use core::ptr;

use pyo3::ffi::{self, PyObject};

/// `PyGreenlet_GetCurrent` in greenlet's table of C functions; the same in all
/// its versions.
const GET_CURRENT: usize = 4;

/// The table, once greenlet is loaded.
static mut API: *const *const c_void = ptr::null();
static mut MODULE: *mut PyObject = ptr::null_mut();
static mut PARENT: *mut PyObject = ptr::null_mut();

/// Whether the caller runs in a greenlet that some other one has switched to.
/// Leaves no exception.
///
/// # Safety
///
/// The GIL is held and no exception is set.
pub unsafe fn is_switched() -> bool {
    // SAFETY: the GIL is held; the table is greenlet's own, for others to call,
    // and its module is never unloaded.
    unsafe {
        if API.is_null() && !find() {
            return false;
        }
        type GetCurrent = unsafe extern "C" fn() -> *mut PyObject;
        let get_current: GetCurrent = core::mem::transmute(*API.add(GET_CURRENT));
        let current = get_current();
        if current.is_null() {
            ffi::PyErr_Clear();
            return false;
        }
        let parent = ffi::PyObject_GetAttr(current, PARENT);
        ffi::Py_DECREF(current);
        if parent.is_null() {
            ffi::PyErr_Clear();
            return false;
        }
        // Only a thread's first greenlet has none.
        let switched = parent != ffi::Py_None();
        ffi::Py_DECREF(parent);
        switched
    }
}

/// Looks whether greenlet is there. Never imports it.
unsafe fn find() -> bool {
    // SAFETY: the GIL is held.
    unsafe {
        if MODULE.is_null() {
            MODULE = ffi::PyUnicode_InternFromString(c"greenlet._greenlet".as_ptr());
            PARENT = ffi::PyUnicode_InternFromString(c"parent".as_ptr());
        }
        let modules = ffi::PyImport_GetModuleDict();
        let module = ffi::PyDict_GetItemWithError(modules, MODULE);
        if module.is_null() {
            ffi::PyErr_Clear();
            return false;
        }
        let capsule = ffi::PyObject_GetAttrString(module, c"_C_API".as_ptr());
        if capsule.is_null() {
            ffi::PyErr_Clear();
            return false;
        }
        let api = ffi::PyCapsule_GetPointer(capsule, c"greenlet._C_API".as_ptr());
        ffi::Py_DECREF(capsule);
        if api.is_null() {
            ffi::PyErr_Clear();
            return false;
        }
        API = api.cast();
        true
    }
}
