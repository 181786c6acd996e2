//! The coroutine protocol of a portal: slots and methods.

use core::ptr;

use pyo3::ffi::{self, PyObject, PySendResult};

use super::{Input, Portal};
use crate::activation::Outcome;
use crate::await_iterator::{self, Stepped};
use crate::coroutine::method_result;
use crate::tables::{Table, method};
use crate::{errors, thread_state};

pub unsafe extern "C" fn am_send(
    this: *mut PyObject,
    value: *mut PyObject,
    result: *mut *mut PyObject,
) -> PySendResult {
    // SAFETY: called by CPython with the GIL held and live objects.
    unsafe {
        match Portal::step(this.cast(), ffi::PyThreadState_Get(), Input::Value(value)) {
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

pub unsafe extern "C" fn tp_iternext(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        let input = Input::Value(ffi::Py_None());
        match Portal::step(this.cast(), ffi::PyThreadState_Get(), input) {
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

/// `await` steps the portal itself.
pub unsafe extern "C" fn am_await(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        let portal: *mut Portal = this.cast();
        let coroutine = (*portal).coroutine;
        if (*portal).running
            || !(*portal).waiting.is_null()
            || (ffi::PyCoro_CheckExact(coroutine) != 0
                && thread_state::coroutine_is_suspended(coroutine))
        {
            return errors::raise(
                ffi::PyExc_RuntimeError,
                c"coroutine is being awaited already",
            );
        }
        ffi::Py_NewRef(this)
    }
}

unsafe extern "C" fn method_send(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and live objects.
    unsafe {
        method_result(Portal::step(
            this.cast(),
            ffi::PyThreadState_Get(),
            Input::Value(value),
        ))
    }
}

unsafe extern "C" fn method_throw(
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
        let outcome = Portal::step(
            this.cast(),
            ffi::PyThreadState_Get(),
            Input::Exception(exception),
        );
        ffi::Py_DECREF(exception);
        method_result(outcome)
    }
}

unsafe extern "C" fn method_close(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        if Portal::close(this.cast()) {
            ffi::Py_NewRef(ffi::Py_None())
        } else {
            ptr::null_mut()
        }
    }
}

/// `__await__()` called by hand.
unsafe extern "C" fn method_await(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe { await_iterator::new(this, &STEPPED) }
}

static STEPPED: Stepped = Stepped {
    next: tp_iternext,
    send: method_send,
    throw: method_throw,
    close: method_close,
};

pub static METHODS: Table<[ffi::PyMethodDef; 6]> = Table([
    method(c"send", ffi::PyMethodDefPointer { PyCFunction: method_send }, ffi::METH_O,
        c"send($self, value, /)\n--\n\nResume with value; return what it yields next or raise StopIteration."),
    method(c"throw", ffi::PyMethodDefPointer { PyCFunctionFast: method_throw }, ffi::METH_FASTCALL,
        c"throw($self, type, value=None, traceback=None, /)\n--\n\nRaise an exception where it waits; return what it yields next or raise StopIteration."),
    method(c"close", ffi::PyMethodDefPointer { PyCFunction: method_close }, ffi::METH_NOARGS,
        c"close($self, /)\n--\n\nRaise GeneratorExit where it waits, and let it end."),
    method(c"__await__", ffi::PyMethodDefPointer { PyCFunction: method_await },
        ffi::METH_NOARGS | ffi::METH_COEXIST, // in place of the slot's wrapper
        c"__await__($self, /)\n--\n\nReturn an iterator to be used in an await expression."),
    method(c"__class_getitem__", ffi::PyMethodDefPointer { PyCFunction: ffi::Py_GenericAlias },
        ffi::METH_O | ffi::METH_CLASS, c"PortalCoroutine[T] for annotations."),
    ffi::PyMethodDef::zeroed(),
]);
