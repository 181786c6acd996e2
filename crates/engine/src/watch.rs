//! Watching functions: since when each waits, and a call at each step.
//!
//! Off, it costs no instruction: a step looks anyway whether its thread has
//! [something to do first](crate::runtime::Runtime::needs_attention), and being
//! watched is one more reason to take that way. What runs when watching begins is
//! watched from its next step on.

use core::ffi::c_long;
use core::ptr;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::ffi::{self, PyObject};

use crate::activation::Outcome;
use crate::coroutine::{self, GreenCoroutine, State};
use crate::errors::{self, raise};
use crate::reactor::monotonic;
use crate::runtime;
use crate::thread_state;

/// What the watcher is told.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Event {
    Goes = 0,
    Waits = 1,
    Ends = 2,
}

/// Called with the event, the coroutine or, for the step of a portal, the portal, and
/// what is awaited or None; or null.
static mut WATCHER: *mut PyObject = ptr::null_mut();

static mut KEEPS_TIMES: bool = false;

/// Since when the functions wait that are watched, by their coroutines' addresses.
static SINCE: Mutex<BTreeMap<usize, u64>> = Mutex::new(BTreeMap::new());

fn since() -> MutexGuard<'static, BTreeMap<usize, u64>> {
    SINCE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether steps are watched now.
pub fn is_on() -> bool {
    // SAFETY: read and written with the GIL held.
    unsafe { KEEPS_TIMES || !WATCHER.is_null() }
}

/// The function is about to go on, or to begin.
///
/// # Safety
///
/// The GIL is held, `coroutine` is live, and no exception is set.
pub unsafe fn goes(coroutine: *mut GreenCoroutine) {
    // SAFETY: by contract.
    unsafe {
        if KEEPS_TIMES {
            since().remove(&(coroutine as usize));
        }
        call(Event::Goes, coroutine);
    }
}

/// The function waits again, or has ended.
///
/// # Safety
///
/// The GIL is held, and `coroutine` is live. An exception may be set.
pub unsafe fn went(coroutine: *mut GreenCoroutine, outcome: &Outcome) {
    // SAFETY: by contract.
    unsafe {
        match outcome {
            Outcome::Yielded(_) => {
                if KEEPS_TIMES {
                    since().insert(coroutine as usize, monotonic());
                }
                call(Event::Waits, coroutine);
            }
            Outcome::Ended(_) => {
                let exception = errors::take();
                call(Event::Ends, coroutine);
                errors::restore(exception);
            }
        }
    }
}

/// The function was given up: its coroutine's address may come again.
pub fn forget(coroutine: *mut GreenCoroutine) {
    since().remove(&(coroutine as usize));
}

unsafe fn call(event: Event, coroutine: *mut GreenCoroutine) {
    // SAFETY: by contract of the callers; the watcher is held for the time of the call.
    unsafe {
        if WATCHER.is_null() {
            return;
        }
        let watcher = ffi::Py_NewRef(WATCHER);
        let portal = (*coroutine).portal;
        // Nobody may come to hold a portal's step, which is used again.
        let subject: *mut PyObject = if portal.is_null() {
            coroutine.cast()
        } else {
            portal.cast()
        };
        let mut awaited = ffi::Py_None();
        if matches!(event, Event::Waits) {
            // A portal tells only when its step is over.
            awaited = GreenCoroutine::awaits(coroutine);
        }
        let awaited = ffi::Py_NewRef(awaited);
        let number = ffi::PyLong_FromLong(event as c_long);
        let result = if number.is_null() {
            ptr::null_mut()
        } else {
            ffi::PyObject_CallFunctionObjArgs(
                watcher,
                number,
                subject,
                awaited,
                ptr::null_mut::<PyObject>(),
            )
        };
        ffi::Py_XDECREF(number);
        ffi::Py_DECREF(awaited);
        if result.is_null() {
            if ffi::PyErr_ExceptionMatches(ffi::PyExc_KeyboardInterrupt) != 0 {
                // It came by chance while this ran, and is meant for the program.
                ffi::PyErr_Clear();
                ffi::PyErr_SetInterrupt();
            } else {
                ffi::PyErr_WriteUnraisable(watcher);
            }
        }
        ffi::Py_XDECREF(result);
        ffi::Py_DECREF(watcher);
    }
}

/// `watch(watcher, keep_times)`.
pub unsafe extern "C" fn watch(
    _module: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects.
    unsafe {
        if nargs != 2 {
            return raise(ffi::PyExc_TypeError, c"watch() takes 2 arguments");
        }
        let keeps = ffi::PyObject_IsTrue(*args.add(1));
        if keeps < 0 {
            return ptr::null_mut();
        }
        let old = WATCHER;
        WATCHER = if *args == ffi::Py_None() {
            ptr::null_mut()
        } else {
            ffi::Py_NewRef(*args)
        };
        KEEPS_TIMES = keeps != 0;
        if !KEEPS_TIMES {
            since().clear();
        }
        runtime::watch_all(is_on());
        ffi::Py_XDECREF(old);
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// `wait_of(coroutine)`: the number of its thread (None when that has ended), its
/// portal if it is the step of one, what it awaits (the outermost first), and since
/// when; None for a function that has no stack of its own, or does not wait.
pub unsafe extern "C" fn wait_of(_module: *mut PyObject, object: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object. A suspended stack
    // and its records do not change meanwhile: no Python code runs here but that of the
    // collector, after all is read.
    unsafe {
        if !coroutine::check_exact(object) {
            return raise(ffi::PyExc_TypeError, c"expected a GreenCoroutine");
        }
        let coroutine: *mut GreenCoroutine = object.cast();
        if (*coroutine).state != State::Suspended {
            return ffi::Py_NewRef(ffi::Py_None());
        }
        let (thread, awaited) = GreenCoroutine::wait(coroutine);
        let ident = thread_state::thread_ident(thread);
        let time = since().get(&(object as usize)).copied();
        let portal: *mut PyObject = (*coroutine).portal.cast();
        let portal = ffi::Py_XNewRef(portal);
        let list = ffi::PyTuple_New(awaited.len() as ffi::Py_ssize_t);
        if list.is_null() {
            for object in awaited {
                ffi::Py_DECREF(object);
            }
            ffi::Py_XDECREF(portal);
            return list;
        }
        for (index, object) in awaited.into_iter().enumerate() {
            ffi::PyTuple_SET_ITEM(list, index as ffi::Py_ssize_t, object);
        }
        let none = || ffi::Py_NewRef(ffi::Py_None());
        let portal = if portal.is_null() { none() } else { portal };
        let ident = if ident == 0 {
            none()
        } else {
            ffi::PyLong_FromUnsignedLong(ident)
        };
        let time = time.map_or_else(none, |time| ffi::PyFloat_FromDouble(time as f64 / 1e9));
        // It takes all four, and is null if one of them is.
        ffi::Py_BuildValue(c"(NNNN)".as_ptr(), ident, portal, list, time)
    }
}
