//! `block`: calls a function of either kind from blocking code.
//!
//! Where the function runs on a stack, a coroutine that the call gives is driven
//! right here, as `await_` does. All else is the package's: threads without a
//! loop, and results that only look awaitable.

use core::ptr;

use pyo3::ffi::{self, PyObject};

use crate::await_::wait_for_coroutine;
use crate::runtime::Runtime;
use crate::{eager, thread_state};

/// Called with the arguments of `block` where nothing can be awaited.
static mut ELSEWHERE: *mut PyObject = ptr::null_mut();

/// Called with the function and its result, which is awaitable and no coroutine of
/// an `async def` function.
static mut FINISH: *mut PyObject = ptr::null_mut();

/// `_register_block(elsewhere, finish)`.
pub unsafe extern "C" fn register_block(
    _module: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects.
    unsafe {
        if nargs != 2 {
            ffi::PyErr_SetString(
                ffi::PyExc_TypeError,
                c"_register_block() takes two functions".as_ptr(),
            );
            return ptr::null_mut();
        }
        let old = (ELSEWHERE, FINISH);
        ELSEWHERE = ffi::Py_NewRef(*args);
        FINISH = ffi::Py_NewRef(*args.add(1));
        ffi::Py_XDECREF(old.0);
        ffi::Py_XDECREF(old.1);
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// `block(fn, /, *args, **kwargs)`.
pub unsafe extern "C" fn block(
    _module: *mut PyObject,
    args: *const *mut PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held, `nargs` live objects, and as many
    // more as there are names. A current stack is live.
    unsafe {
        if nargs == 0 {
            ffi::PyErr_SetString(ffi::PyExc_TypeError, c"block() needs a function".as_ptr());
            return ptr::null_mut();
        }
        if ELSEWHERE.is_null() && !load_package() {
            return ptr::null_mut();
        }
        let stack = match Runtime::get() {
            Some(runtime) => runtime.here(),
            None => ptr::null_mut(),
        };
        if stack.is_null() || eager::is_foreign_step(stack) {
            #[expect(clippy::cast_sign_loss, reason = "a count")]
            return ffi::PyObject_Vectorcall(ELSEWHERE, args, nargs as usize, kwnames);
        }
        let function = *args;
        #[expect(clippy::cast_sign_loss, reason = "a count, of one at least")]
        let result = ffi::PyObject_Vectorcall(function, args.add(1), (nargs - 1) as usize, kwnames);
        if result.is_null() {
            return result;
        }
        if ffi::PyCoro_CheckExact(result) != 0 {
            let value = wait_for_coroutine(stack, result, args);
            ffi::Py_DECREF(result);
            return value;
        }
        let methods = (*ffi::Py_TYPE(result)).tp_as_async;
        let is_awaitable = !methods.is_null() && (*methods).am_await.is_some();
        if !is_awaitable && thread_state::is_iterable_coroutine(result) == 0 {
            return result;
        }
        let pair = [function, result];
        let value = ffi::PyObject_Vectorcall(FINISH, pair.as_ptr(), 2, ptr::null_mut());
        ffi::Py_DECREF(result);
        value
    }
}

/// Unpickling imports this module only: the rest of `block` is loaded here.
#[cold]
unsafe fn load_package() -> bool {
    // SAFETY: the GIL is held.
    unsafe {
        let module = ffi::PyImport_ImportModule(c"verdigris.worlds._blocking".as_ptr());
        if module.is_null() {
            return false;
        }
        ffi::Py_DECREF(module);
        if ELSEWHERE.is_null() {
            // It is being imported, by this very thread.
            ffi::PyErr_SetString(
                ffi::PyExc_ImportError,
                c"block() was called while verdigris.worlds is being imported; call it later"
                    .as_ptr(),
            );
            return false;
        }
        true
    }
}
