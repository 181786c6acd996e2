//! The coroutine protocol: the slots and methods that `GreenCoroutine` and
//! `PortalCoroutine` have in common, made out of three steps.

use core::ffi::CStr;
use core::ptr;

use pyo3::ffi::{self, PyObject, PySendResult};

use crate::activation::Outcome;
use crate::await_iterator::{self, Driven};
use crate::errors::{self, raise};
use crate::tables::{Table, method};

/// An object that is stepped as a coroutine is.
pub trait Steps: Sized {
    /// The documentation of `__class_getitem__`.
    const GENERIC: &'static CStr;

    /// One step by hand: sends a borrowed reference.
    ///
    /// # Safety
    ///
    /// The GIL is held, and the caller holds `this`. So it is for all of these.
    unsafe fn send(this: *mut Self, value: *mut PyObject) -> Outcome;

    /// The same, on behalf of an `await` statement or a task.
    ///
    /// # Safety
    ///
    /// As for [`Steps::send`].
    #[inline(always)]
    unsafe fn step(this: *mut Self, value: *mut PyObject) -> Outcome {
        // SAFETY: by contract.
        unsafe { Self::send(this, value) }
    }

    /// Throws an exception instance: a new reference.
    ///
    /// # Safety
    ///
    /// As for [`Steps::send`].
    unsafe fn throw(this: *mut Self, exception: *mut PyObject) -> Outcome;

    /// Ends it as `coroutine.close` does. False with an exception set when it could
    /// not be ended, or ended with another exception.
    ///
    /// # Safety
    ///
    /// As for [`Steps::send`].
    unsafe fn close(this: *mut Self) -> bool;
}

/// Whether what came of a step that was to close a coroutine is what `close` wants;
/// if not, with an exception set.
///
/// # Safety
///
/// The GIL is held; the outcome's reference is given away.
pub unsafe fn is_closed_by(outcome: Outcome) -> bool {
    // SAFETY: by contract.
    unsafe {
        match outcome {
            Outcome::Yielded(value) => {
                ffi::Py_DECREF(value);
                raise(ffi::PyExc_RuntimeError, c"coroutine ignored GeneratorExit");
                false
            }
            Outcome::Ended(result) if !result.is_null() => {
                ffi::Py_DECREF(result);
                true
            }
            Outcome::Ended(_) => {
                let expected = ffi::PyErr_ExceptionMatches(ffi::PyExc_GeneratorExit) != 0;
                if expected {
                    ffi::PyErr_Clear();
                }
                expected
            }
        }
    }
}

pub unsafe extern "C" fn am_send<C: Steps>(
    this: *mut PyObject,
    value: *mut PyObject,
    result: *mut *mut PyObject,
) -> PySendResult {
    // SAFETY: called by CPython with the GIL held and live objects.
    unsafe {
        match C::step(this.cast(), value) {
            Outcome::Yielded(value) => {
                *result = value;
                PySendResult::PYGEN_NEXT
            }
            Outcome::Ended(value) => {
                *result = value;
                if value.is_null() {
                    PySendResult::PYGEN_ERROR
                } else {
                    PySendResult::PYGEN_RETURN
                }
            }
        }
    }
}

pub unsafe extern "C" fn tp_iternext<C: Steps>(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        match C::step(this.cast(), ffi::Py_None()) {
            Outcome::Yielded(value) => value,
            Outcome::Ended(result) => {
                if result == ffi::Py_None() {
                    // The iterator protocol: an end without StopIteration is None.
                    ffi::Py_DECREF(result);
                } else if !result.is_null() {
                    errors::raise_stop_iteration(result);
                }
                ptr::null_mut()
            }
        }
    }
}

/// What a method that steps returns: a yielded value, or null with
/// `StopIteration` for a result.
unsafe fn method_result(outcome: Outcome) -> *mut PyObject {
    match outcome {
        Outcome::Yielded(value) => value,
        Outcome::Ended(result) => {
            if !result.is_null() {
                // SAFETY: the GIL is held; the reference is given away.
                unsafe { errors::raise_stop_iteration(result) };
            }
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn send<C: Steps>(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and live objects.
    unsafe { method_result(C::send(this.cast(), value)) }
}

unsafe extern "C" fn throw<C: Steps>(
    this: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects.
    unsafe {
        let exception = errors::exception_to_throw(args, nargs);
        if exception.is_null() {
            return ptr::null_mut();
        }
        method_result(C::throw(this.cast(), exception))
    }
}

unsafe extern "C" fn close<C: Steps>(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        if C::close(this.cast()) {
            ffi::Py_NewRef(ffi::Py_None())
        } else {
            ptr::null_mut()
        }
    }
}

/// `__await__()` called by hand: nothing is known of who will step the result.
unsafe extern "C" fn dunder_await<C: Steps>(
    this: *mut PyObject,
    _: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe { await_iterator::new(this, driven::<C>()) }
}

fn driven<C: Steps>() -> &'static Driven {
    const {
        &Driven {
            next: tp_iternext::<C>,
            send: send::<C>,
            throw: throw::<C>,
            close: close::<C>,
        }
    }
}

/// The methods of the type.
pub const fn methods<C: Steps>() -> Table<[ffi::PyMethodDef; 6]> {
    Table([
        method(c"send", ffi::PyMethodDefPointer { PyCFunction: send::<C> }, ffi::METH_O,
            c"send($self, value, /)\n--\n\nResume with `value`; return what it yields next or raise `StopIteration`."),
        method(c"throw", ffi::PyMethodDefPointer { PyCFunctionFast: throw::<C> }, ffi::METH_FASTCALL,
            c"throw($self, type, value=None, traceback=None, /)\n--\n\nRaise an exception where it waits; return what it yields next or raise StopIteration."),
        method(c"close", ffi::PyMethodDefPointer { PyCFunction: close::<C> }, ffi::METH_NOARGS,
            c"close($self, /)\n--\n\nRaise GeneratorExit where it waits, and let it end."),
        method(c"__await__", ffi::PyMethodDefPointer { PyCFunction: dunder_await::<C> },
            ffi::METH_NOARGS | ffi::METH_COEXIST, // in place of the slot's wrapper
            c"__await__($self, /)\n--\n\nReturn an iterator to be used in an await expression."),
        method(c"__class_getitem__", ffi::PyMethodDefPointer { PyCFunction: ffi::Py_GenericAlias },
            ffi::METH_O | ffi::METH_CLASS, C::GENERIC),
        ffi::PyMethodDef::zeroed(),
    ])
}
