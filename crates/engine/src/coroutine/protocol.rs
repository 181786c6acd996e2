//! The coroutine protocol: the slots and methods that step a coroutine, and the
//! choice of the stack that its function runs on.

use core::ptr;

use pyo3::ffi::{self, PyObject, PySendResult, PyThreadState};

use super::{GreenCoroutine, State};
use crate::activation::{Activation, Outcome};
use crate::await_iterator::{self, Stepped};
use crate::errors::{self, raise};
use crate::runtime::Runtime;
use crate::tables::{Table, method};
use crate::{greenlet, thread_state};

/// A step on behalf of an `await` statement, a task, or whoever else drives.
#[inline(always)]
unsafe fn step(coroutine: *mut GreenCoroutine, value: *mut PyObject) -> Outcome {
    // SAFETY: the GIL is held and both objects are live.
    unsafe {
        let thread = ffi::PyThreadState_Get();
        let awaiter = (*coroutine).awaiter;
        if !awaiter.is_null()
            && let Some(stack) = shared_stack(coroutine, thread, value)
        {
            return Outcome::Ended(GreenCoroutine::run_on_this_stack(
                coroutine,
                stack,
                ptr::null(),
                awaiter,
            ));
        }
        GreenCoroutine::send(coroutine, thread, value)
    }
}

pub unsafe extern "C" fn am_send(
    this: *mut PyObject,
    value: *mut PyObject,
    result: *mut *mut PyObject,
) -> PySendResult {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        match step(this.cast(), value) {
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

/// `await` calls this, and then steps what it returns from the same frame.
pub unsafe extern "C" fn am_await(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        match (*coroutine).state {
            State::Created => {
                if let Some(runtime) = Runtime::get()
                    && !runtime.here().is_null()
                {
                    (*coroutine).awaiter =
                        thread_state::current_coroutine(ffi::PyThreadState_Get());
                }
            }
            State::Ended => {}
            State::Suspended | State::Running => {
                return raise(
                    ffi::PyExc_RuntimeError,
                    c"coroutine is being awaited already",
                );
            }
        }
        ffi::Py_NewRef(this)
    }
}

pub unsafe extern "C" fn tp_iternext(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        match step(this.cast(), ffi::Py_None()) {
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

/// The running stack, if the function may run right on it.
///
/// That is so when the `await_` innermost on the stack drives a coroutine which
/// awaits this one by an `await` statement: then whatever this function yields
/// passes through that coroutine unseen, so it may as well suspend the whole
/// stack. A coroutine that steps this one by hand, or hands it to a task, did
/// not come by `am_await` from its own frame and gets a stack of its own.
unsafe fn shared_stack(
    coroutine: *mut GreenCoroutine,
    thread: *mut PyThreadState,
    value: *mut PyObject,
) -> Option<*mut Activation> {
    // SAFETY: the GIL is held; the records of the running stack are in live frames.
    unsafe {
        let awaiter = core::mem::replace(&mut (*coroutine).awaiter, ptr::null_mut());
        if (*coroutine).state != State::Created || value != ffi::Py_None() {
            return None;
        }
        let runtime = Runtime::get()?;
        let stack = runtime.here();
        let shared = !stack.is_null()
            && !greenlet::is_active(runtime)
            && !(*stack).awaits.is_null()
            && (*(*stack).awaits).awaited == awaiter
            && thread_state::current_coroutine(thread) == awaiter;
        shared.then_some(stack)
    }
}

/// What a method that steps returns: a yielded value, or null with
/// `StopIteration` for a result.
pub unsafe fn method_result(outcome: Outcome) -> *mut PyObject {
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

unsafe extern "C" fn method_send(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and live objects.
    unsafe {
        method_result(GreenCoroutine::send(
            this.cast(),
            ffi::PyThreadState_Get(),
            value,
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
        method_result(GreenCoroutine::throw(this.cast(), exception))
    }
}

unsafe extern "C" fn method_close(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        if GreenCoroutine::close(this.cast()) {
            ffi::Py_NewRef(ffi::Py_None())
        } else {
            ptr::null_mut()
        }
    }
}

/// `__await__()` called by hand: nothing is known of who will step the result.
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
        ffi::METH_O | ffi::METH_CLASS, c"GreenCoroutine[T] for annotations."),
    ffi::PyMethodDef::zeroed(),
]);
