//! Connections of C libraries that are polled until they are ready.

use core::ptr;

use pyo3::ffi::{self, PyObject};

use crate::reactor::{READ, WRITE, here, wait};

/// What `poll()` of such a connection answers: all is done, or what it has to wait for.
/// These are libpq's and psycopg2's numbers.
const OK: i64 = 0;
const WAITS_TO_READ: i64 = 1;
const WAITS_TO_WRITE: i64 = 2;

static mut NAMES: [*mut PyObject; 2] = [ptr::null_mut(); 2];

/// Makes the names. False with an exception set. Called once, when the module is made.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn init() -> bool {
    // SAFETY: by contract.
    unsafe {
        let names = [c"poll", c"fileno"].map(|name| ffi::PyUnicode_InternFromString(name.as_ptr()));
        NAMES = names;
        names.iter().all(|name| !name.is_null())
    }
}

/// `poll_until_ready(connection)`.
pub unsafe extern "C" fn poll_until_ready(
    _module: *mut PyObject,
    connection: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held; the caller holds the connection.
    unsafe {
        loop {
            let state = ffi::PyObject_CallMethodNoArgs(connection, NAMES[0]);
            if state.is_null() {
                return state;
            }
            let events = match ffi::PyLong_AsLongLong(state) {
                WAITS_TO_READ => READ,
                WAITS_TO_WRITE => WRITE,
                OK => {
                    ffi::Py_DECREF(state);
                    return ffi::Py_NewRef(ffi::Py_None());
                }
                -1 if !ffi::PyErr_Occurred().is_null() => {
                    ffi::Py_DECREF(state);
                    return ptr::null_mut();
                }
                _ => return state,
            };
            // Asked anew for each wait: `poll` may run any code.
            let Some(here) = here::find() else {
                return state;
            };
            ffi::Py_DECREF(state);
            let number = ffi::PyObject_CallMethodNoArgs(connection, NAMES[1]);
            if number.is_null() {
                return number;
            }
            let fd = ffi::PyObject_AsFileDescriptor(number);
            ffi::Py_DECREF(number);
            // The library reads as much as it likes: only a registration made anew tells
            // whether something is left. So no owner is given.
            if fd < 0 || wait::for_fd(here, fd, events, ptr::null_mut(), None).is_none() {
                return ptr::null_mut();
            }
        }
    }
}
