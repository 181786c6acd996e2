//! Looking at a portal: it shows what its coroutine would show, and, while
//! synchronous code waits below it, where that is.

use core::ffi::{CStr, c_void};
use core::ptr;

use pyo3::ffi::{self, PyObject};

use super::Portal;
use crate::tables::{Table, attribute};

/// An attribute that the waiting step answers for, or else the coroutine.
unsafe fn of_step_or_coroutine(this: *mut PyObject, name: &'static CStr) -> *mut PyObject {
    // SAFETY: the GIL is held; the portal holds both.
    unsafe {
        let portal: *mut Portal = this.cast();
        let waits = !(*portal).waiting.is_null() && !(*portal).running;
        let asked: *mut PyObject = if waits {
            (*portal).waiting.cast()
        } else {
            (*portal).coroutine
        };
        ffi::PyObject_GetAttrString(asked, name.as_ptr())
    }
}

unsafe extern "C" fn get_frame(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe { of_step_or_coroutine(this, c"cr_frame") }
}

unsafe extern "C" fn get_code(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { of_step_or_coroutine(this, c"cr_code") }
}

unsafe extern "C" fn get_awaited(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { of_step_or_coroutine(this, c"cr_await") }
}

unsafe extern "C" fn get_suspended(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { of_step_or_coroutine(this, c"cr_suspended") }
}

unsafe extern "C" fn get_running(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above. A coroutine that is being stepped by somebody else (the
    // portal was set while the task runs) runs too.
    unsafe {
        let portal: *mut Portal = this.cast();
        if (*portal).running {
            return ffi::PyBool_FromLong(1);
        }
        of_step_or_coroutine(this, c"cr_running")
    }
}

/// What `inspect.getcoroutinestate` returns; 3.15 reads it here.
unsafe extern "C" fn get_state(this: *mut PyObject, closure: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        type Getter = unsafe extern "C" fn(*mut PyObject, *mut c_void) -> *mut PyObject;
        let is = |get: Getter| {
            let object = get(this, closure);
            if object.is_null() {
                return -1;
            }
            let truth = ffi::PyObject_IsTrue(object);
            ffi::Py_DECREF(object);
            truth
        };
        let states: [(Getter, &CStr); 2] = [
            (get_running, c"CORO_RUNNING"),
            (get_suspended, c"CORO_SUSPENDED"),
        ];
        for (get, name) in states {
            match is(get) {
                0 => {}
                1 => return ffi::PyUnicode_InternFromString(name.as_ptr()),
                _ => return ptr::null_mut(),
            }
        }
        let frame = get_frame(this, closure);
        if frame.is_null() {
            return frame;
        }
        let has_frame = frame != ffi::Py_None();
        ffi::Py_DECREF(frame);
        let name = if has_frame {
            c"CORO_CREATED"
        } else {
            c"CORO_CLOSED"
        };
        ffi::PyUnicode_InternFromString(name.as_ptr())
    }
}

/// Everything else that is asked of it, its names for a start, is the coroutine's.
pub unsafe extern "C" fn tp_getattro(this: *mut PyObject, name: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and live objects.
    unsafe {
        let found = ffi::PyObject_GenericGetAttr(this, name);
        if !found.is_null() || ffi::PyErr_ExceptionMatches(ffi::PyExc_AttributeError) == 0 {
            return found;
        }
        ffi::PyErr_Clear();
        ffi::PyObject_GetAttr((*this.cast::<Portal>()).coroutine, name)
    }
}

pub unsafe extern "C" fn tp_repr(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        ffi::PyUnicode_FromFormat(
            c"<portal of %R>".as_ptr(),
            (*this.cast::<Portal>()).coroutine,
        )
    }
}

pub static ATTRIBUTES: Table<[ffi::PyGetSetDef; 7]> = Table([
    attribute(
        c"cr_await",
        get_awaited,
        None,
        c"What its task waits for, or None.",
    ),
    attribute(c"cr_code", get_code, None, c"The code of `cr_frame`."),
    attribute(
        c"cr_frame",
        get_frame,
        None,
        c"The coroutine's frame; while sync code waits, the innermost frame.",
    ),
    attribute(c"cr_running", get_running, None, c"Whether it runs now."),
    attribute(
        c"cr_state",
        get_state,
        None,
        c"What `inspect.getcoroutinestate` returns.",
    ),
    attribute(
        c"cr_suspended",
        get_suspended,
        None,
        c"Whether it waits now.",
    ),
    // SAFETY: all fields of a sentinel are null.
    unsafe { core::mem::zeroed() },
]);
