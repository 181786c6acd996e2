//! `await_`: waits for an awaitable from synchronous code.
//!
//! It drives the awaitable itself, on the stack it was called on, and leaves
//! the stack only when the awaitable really yields to the event loop. Whatever
//! is yielded goes up unchanged, and whatever the loop sends or throws comes
//! down unchanged: only the coroutine protocol is assumed of the loop.

use core::ptr;

use pyo3::ffi::{self, PyObject, PySendResult};

use crate::activation::{Activation, AwaitRecord, Incoming};
use crate::coroutine::{self, GreenCoroutine};
use crate::errors::{self, raise};
use crate::runtime::Runtime;
use crate::{atomic, eager, greenlet, no_context, thread_state};

const AWAITED_ALREADY: &core::ffi::CStr = c"coroutine is being awaited already";

/// Called with what is not awaitable: wraps an async function, or returns
/// `NotImplemented`. Set by the package (`_register_decorator`).
static mut DECORATOR: *mut PyObject = ptr::null_mut();

/// `_register_decorator(fn)`.
pub unsafe extern "C" fn register_decorator(
    _module: *mut PyObject,
    decorator: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        let old = DECORATOR;
        DECORATOR = ffi::Py_NewRef(decorator);
        ffi::Py_XDECREF(old);
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// Waits where no stack of ours is: in a greenlet of another library. Called with
/// an awaitable it waits, or returns `NotImplemented`; called with None it tells
/// whether it could. Set by the package (`_register_other_waiter`).
static mut OTHER_WAITER: *mut PyObject = ptr::null_mut();

/// `_register_other_waiter(fn)`.
pub unsafe extern "C" fn register_other_waiter(
    _module: *mut PyObject,
    waiter: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        let old = OTHER_WAITER;
        OTHER_WAITER = ffi::Py_NewRef(waiter);
        ffi::Py_XDECREF(old);
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// `can_await()`.
pub unsafe extern "C" fn can_await(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held; a current stack is live.
    unsafe {
        let can = Runtime::get().is_some_and(|runtime| {
            let stack = runtime.here();
            !stack.is_null() && !eager::is_foreign_step(stack)
        });
        if !can && !OTHER_WAITER.is_null() {
            return ffi::PyObject_CallOneArg(OTHER_WAITER, ffi::Py_None());
        }
        ffi::PyBool_FromLong(can.into())
    }
}

/// `await_(awaitable, /)`.
///
/// The arguments come as a vector, not as one object, because their address is
/// that of the caller's evaluation stack: the garbage collector needs it.
pub unsafe extern "C" fn await_(
    _module: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects.
    unsafe {
        if nargs != 1 {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"await_() takes exactly one argument (%zd given)".as_ptr(),
                nargs,
            );
            return ptr::null_mut();
        }
        let awaitable = *args;
        let stack = match Runtime::get() {
            Some(runtime) => runtime.here(),
            None => ptr::null_mut(),
        };
        if stack.is_null() {
            return without_stack(awaitable);
        }
        if (*stack).atomic != 0 {
            return in_atomic_block(awaitable);
        }
        (*(*stack).innermost).awaited = true;
        let (iterator, owned) = if ffi::PyCoro_CheckExact(awaitable) != 0 {
            if thread_state::coroutine_is_suspended(awaitable) {
                return raise(ffi::PyExc_RuntimeError, AWAITED_ALREADY);
            }
            (awaitable, false) // the caller holds its arguments until we return
        } else if coroutine::check_exact(awaitable)
            && !Runtime::get().is_some_and(greenlet::is_active)
        {
            return GreenCoroutine::await_here(awaitable.cast(), stack, args);
        } else {
            let iterator = iterator_of(awaitable);
            if iterator.is_null() {
                return if ffi::PyErr_Occurred().is_null() {
                    decorate(awaitable)
                } else {
                    iterator
                };
            }
            (iterator, true)
        };
        let result = wait_for(stack, iterator, args, owned);
        if owned {
            ffi::Py_DECREF(iterator);
        }
        result
    }
}

/// Drives `iterator` to its end, and has the collector know of it meanwhile.
///
/// # Safety
///
/// As for [`drive`]; `args` and `owned` as in [`AwaitRecord`].
#[inline(always)]
unsafe fn wait_for(
    stack: *mut Activation,
    iterator: *mut PyObject,
    args: *const *mut PyObject,
    owned: bool,
) -> *mut PyObject {
    // SAFETY: by contract. The record lies in this frame, and is released before it ends.
    unsafe {
        let record = AwaitRecord {
            awaited: iterator,
            args,
            awaiter: ptr::null_mut(),
            owned: owned.into(),
            outer: (*stack).awaits,
        };
        let kept = greenlet::keep(stack, &record);
        let result = drive(stack, iterator);
        greenlet::release(stack, &record, kept);
        result
    }
}

/// What [`await_`] does for a coroutine that the C frame holds, which was made by the
/// call whose arguments are `args`.
///
/// # Safety
///
/// The GIL is held, `stack` runs now, `coroutine` is of an `async def` function.
pub unsafe fn wait_for_coroutine(
    stack: *mut Activation,
    coroutine: *mut PyObject,
    args: *const *mut PyObject,
) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        if (*stack).atomic != 0 {
            return in_atomic_block(coroutine);
        }
        (*(*stack).innermost).awaited = true;
        if thread_state::coroutine_is_suspended(coroutine) {
            return raise(ffi::PyExc_RuntimeError, AWAITED_ALREADY);
        }
        wait_for(stack, coroutine, args, true)
    }
}

/// Steps `iterator` to its end: its result, or null with an exception set.
///
/// # Safety
///
/// The GIL is held, `stack` runs now, `iterator` is held by the caller.
#[inline(always)]
pub unsafe fn drive(stack: *mut Activation, iterator: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held, `stack` runs now, `iterator` is held by the caller.
    unsafe {
        // The slot that PyIter_Send would look up at every step.
        let methods = (*ffi::Py_TYPE(iterator)).tp_as_async;
        let send = if methods.is_null() {
            None
        } else {
            (*methods).am_send
        };
        let send = send.unwrap_or(ffi::PyIter_Send);
        let mut result = ptr::null_mut();
        let mut status = send(iterator, ffi::Py_None(), &raw mut result);
        loop {
            match status {
                PySendResult::PYGEN_RETURN => return result,
                PySendResult::PYGEN_ERROR => return ptr::null_mut(),
                PySendResult::PYGEN_NEXT => {}
            }
            if eager::is_foreign_step(stack) {
                ffi::Py_DECREF(result);
                close(iterator);
                return no_context::raise();
            }
            status = match Activation::suspend(stack, result) {
                Incoming::Value(value) => {
                    let status = send(iterator, value, &raw mut result);
                    ffi::Py_DECREF(value);
                    status
                }
                Incoming::Exception(exception) => throw(stack, iterator, exception, &mut result),
            };
        }
    }
}

/// Throws `exception` (a new reference) into what is awaited, as the `await`
/// statement would: `GeneratorExit` closes it, anything else goes to its `throw`.
#[cold]
unsafe fn throw(
    stack: *mut Activation,
    iterator: *mut PyObject,
    exception: *mut PyObject,
    result: &mut *mut PyObject,
) -> PySendResult {
    // SAFETY: the GIL is held and both objects are live.
    unsafe {
        if ffi::PyErr_GivenExceptionMatches(exception, ffi::PyExc_GeneratorExit) != 0 {
            if close(iterator) {
                errors::raise_here(exception);
            } else {
                ffi::Py_DECREF(exception);
            }
            return PySendResult::PYGEN_ERROR;
        }
        let method = ffi::PyObject_GetAttrString(iterator, c"throw".as_ptr());
        if method.is_null() {
            if ffi::PyErr_ExceptionMatches(ffi::PyExc_AttributeError) != 0 {
                ffi::PyErr_Clear();
                errors::raise_here(exception);
            } else {
                ffi::Py_DECREF(exception);
            }
            return PySendResult::PYGEN_ERROR;
        }
        let steps = (*stack).steps;
        *result = ffi::PyObject_CallOneArg(method, exception);
        ffi::Py_DECREF(method);
        ffi::Py_DECREF(exception);
        if !result.is_null() {
            return PySendResult::PYGEN_NEXT;
        }
        *result = errors::take_stop_iteration();
        if !result.is_null() {
            return PySendResult::PYGEN_RETURN;
        }
        // Raised on this line: chained to what is being handled around it. If the
        // stack was suspended meanwhile, `throw` was survived, and this is the
        // exception of a later step.
        if (*stack).steps == steps {
            errors::raise_here(errors::take());
        }
        PySendResult::PYGEN_ERROR
    }
}

/// Closes what is awaited, if it can be closed. False with an exception set.
#[cold]
unsafe fn close(iterator: *mut PyObject) -> bool {
    // SAFETY: the GIL is held and the object is live.
    unsafe {
        let method = ffi::PyObject_GetAttrString(iterator, c"close".as_ptr());
        if method.is_null() {
            if ffi::PyErr_ExceptionMatches(ffi::PyExc_AttributeError) == 0 {
                return false;
            }
            ffi::PyErr_Clear();
            return true;
        }
        let closed = ffi::PyObject_CallNoArgs(method);
        ffi::Py_DECREF(method);
        ffi::Py_XDECREF(closed);
        !closed.is_null()
    }
}

/// What `await` would step for an object that is no coroutine: a new reference;
/// null with an exception, or null without one when it is not awaitable.
unsafe fn iterator_of(awaitable: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held and the object is live.
    unsafe {
        let methods = (*ffi::Py_TYPE(awaitable)).tp_as_async;
        let slot = if methods.is_null() {
            None
        } else {
            (*methods).am_await
        };
        let Some(am_await) = slot else {
            if thread_state::is_iterable_coroutine(awaitable) != 0 {
                return ffi::Py_NewRef(awaitable);
            }
            return ptr::null_mut();
        };
        let iterator = am_await(awaitable);
        if iterator.is_null() {
            if ffi::PyErr_Occurred().is_null() {
                raise(
                    ffi::PyExc_SystemError,
                    c"__await__() returned nothing and set no exception",
                );
            }
            return iterator;
        }
        let refusal = if ffi::PyCoro_CheckExact(iterator) != 0
            || thread_state::is_iterable_coroutine(iterator) != 0
        {
            c"__await__() returned a coroutine"
        } else if ffi::PyIter_Check(iterator) == 0 {
            c"__await__() returned non-iterator of type '%.100s'"
        } else {
            return iterator;
        };
        ffi::PyErr_Format(
            ffi::PyExc_TypeError,
            refusal.as_ptr(),
            (*ffi::Py_TYPE(iterator)).tp_name,
        );
        ffi::Py_DECREF(iterator);
        ptr::null_mut()
    }
}

/// `await_` on an async function is a decorator; on anything else, an error.
#[cold]
unsafe fn decorate(object: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held and the object is live.
    unsafe {
        if !DECORATOR.is_null() {
            let wrapped = ffi::PyObject_CallOneArg(DECORATOR, object);
            if wrapped.is_null() || wrapped != ffi::Py_NotImplemented() {
                return wrapped;
            }
            ffi::Py_DECREF(wrapped);
        }
        ffi::PyErr_Format(
            ffi::PyExc_TypeError,
            c"await_() needs an awaitable or an async function, not '%.200s'".as_ptr(),
            (*ffi::Py_TYPE(object)).tp_name,
        );
        ptr::null_mut()
    }
}

/// Called where no wait may happen. As a decorator it waits for nothing.
#[cold]
unsafe fn in_atomic_block(awaitable: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held and the object is live.
    unsafe {
        if !is_awaitable(awaitable) {
            return decorate(awaitable);
        }
        if is_coroutine(awaitable) && !close(awaitable) {
            return ptr::null_mut();
        }
        atomic::refuse()
    }
}

unsafe fn is_awaitable(object: *mut PyObject) -> bool {
    // SAFETY: the GIL is held and the object is live.
    unsafe {
        let methods = (*ffi::Py_TYPE(object)).tp_as_async;
        (!methods.is_null() && (*methods).am_await.is_some())
            || thread_state::is_iterable_coroutine(object) != 0
    }
}

/// Whether it would warn that it was never awaited: then it is to be closed. A future, or
/// an object of some library, is not ours to close.
unsafe fn is_coroutine(awaitable: *mut PyObject) -> bool {
    // SAFETY: the GIL is held and the object is live.
    unsafe {
        ffi::PyCoro_CheckExact(awaitable) != 0
            || coroutine::check_exact(awaitable)
            || thread_state::is_iterable_coroutine(awaitable) != 0
    }
}

/// Called on the thread's own stack: there is nothing to wait in.
#[cold]
unsafe fn without_stack(awaitable: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held and the object is live.
    unsafe {
        if !is_awaitable(awaitable) {
            return decorate(awaitable);
        }
        if !OTHER_WAITER.is_null() {
            let result = ffi::PyObject_CallOneArg(OTHER_WAITER, awaitable);
            if result.is_null() || result != ffi::Py_NotImplemented() {
                return result;
            }
            ffi::Py_DECREF(result);
        }
        if is_coroutine(awaitable) && !close(awaitable) {
            return ptr::null_mut();
        }
        no_context::raise()
    }
}
