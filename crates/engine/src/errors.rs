//! Exceptions: raising, catching and putting them aside through the C API.
//!
//! The entry points that switch stacks must stay free of `PyO3`'s attach
//! counting, so these are thin functions over `ffi`. The exceptions of our own
//! are kept here.

use core::ffi::{CStr, c_int};
use core::ptr;
use std::ffi::CString;

use pyo3::ffi::{self, PyObject};
use verdigris_fiber::StackError;

use crate::thread_state;

static mut NO_AWAIT_CONTEXT: *mut PyObject = ptr::null_mut();
static mut NO_AWAIT_OCCURRED: *mut PyObject = ptr::null_mut();

/// Makes the exception types. Called once, when the module is made.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn make_types() -> Option<[(&'static str, *mut PyObject); 2]> {
    // SAFETY: the GIL is held; nobody reads the statics before this returns.
    unsafe {
        NO_AWAIT_CONTEXT = ffi::PyErr_NewExceptionWithDoc(
            c"verdigris.NoAwaitContext".as_ptr(),
            c"`await_` had nothing to wait in: no event loop runs in this thread, or the\nfunction was entered without `async_def`. The message says which.".as_ptr(),
            ffi::PyExc_RuntimeError,
            ptr::null_mut(),
        );
        NO_AWAIT_OCCURRED = ffi::PyErr_NewExceptionWithDoc(
            c"verdigris.NoAwaitOccurred".as_ptr(),
            c"A function run with `assert_await_occurs=True` returned without calling `await_`."
                .as_ptr(),
            ffi::PyExc_RuntimeError,
            ptr::null_mut(),
        );
        if NO_AWAIT_CONTEXT.is_null() || NO_AWAIT_OCCURRED.is_null() {
            return None;
        }
        Some([
            ("NoAwaitContext", NO_AWAIT_CONTEXT),
            ("NoAwaitOccurred", NO_AWAIT_OCCURRED),
        ])
    }
}

/// Sets an exception and returns null.
///
/// # Safety
///
/// The GIL is held and `class` is an exception type.
#[cold]
pub unsafe fn raise(class: *mut PyObject, text: &CStr) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe { ffi::PyErr_SetString(class, text.as_ptr()) };
    ptr::null_mut()
}

#[cold]
pub unsafe fn raise_text(class: *mut PyObject, text: String) -> *mut PyObject {
    let text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
    // SAFETY: the GIL is held, as for `raise`.
    unsafe { raise(class, &text) }
}

/// Takes the exception that is set: a new reference, or null.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn take() -> *mut PyObject {
    // SAFETY: by contract. Before 3.12 the three parts are made one object.
    unsafe {
        #[cfg(Py_3_12)]
        {
            ffi::PyErr_GetRaisedException()
        }
        #[cfg(not(Py_3_12))]
        {
            let (mut class, mut value, mut traceback) =
                (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
            ffi::PyErr_Fetch(&raw mut class, &raw mut value, &raw mut traceback);
            if class.is_null() {
                return ptr::null_mut();
            }
            ffi::PyErr_NormalizeException(&raw mut class, &raw mut value, &raw mut traceback);
            if !traceback.is_null() {
                ffi::PyException_SetTraceback(value, traceback);
                ffi::Py_DECREF(traceback);
            }
            ffi::Py_DECREF(class);
            value
        }
    }
}

/// Sets `exception` (a new reference, or null for none), as it was taken.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn restore(exception: *mut PyObject) {
    // SAFETY: by contract; the reference is given away.
    unsafe {
        #[cfg(Py_3_12)]
        ffi::PyErr_SetRaisedException(exception);
        #[cfg(not(Py_3_12))]
        if exception.is_null() {
            ffi::PyErr_Clear();
        } else {
            let class = ffi::Py_NewRef(ffi::Py_TYPE(exception).cast());
            ffi::PyErr_Restore(class, exception, ffi::PyException_GetTraceback(exception));
        }
    }
}

/// Raises `exception` (a new reference) here, as a coroutine raises what is
/// thrown in: chained to what this code is handling, but not to what its driver
/// is.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn raise_here(exception: *mut PyObject) {
    // SAFETY: by contract. PyErr_SetObject chains, and keeps the traceback.
    unsafe {
        if thread_state::is_handling(ffi::PyThreadState_Get()) == 0 {
            return restore(exception);
        }
        ffi::PyErr_SetObject(ffi::Py_TYPE(exception).cast(), exception);
        ffi::Py_DECREF(exception);
    }
}

/// Sets `StopIteration(value)`. Takes the reference.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn raise_stop_iteration(value: *mut PyObject) {
    // SAFETY: by contract. The instance is made here, since a tuple or an
    // exception as value would be unpacked by PyErr_SetObject.
    unsafe {
        if value == ffi::Py_None() {
            ffi::PyErr_SetNone(ffi::PyExc_StopIteration);
        } else {
            let stop = ffi::PyObject_CallOneArg(ffi::PyExc_StopIteration, value);
            if !stop.is_null() {
                ffi::PyErr_SetObject(ffi::PyExc_StopIteration, stop);
                ffi::Py_DECREF(stop);
            }
        }
        ffi::Py_DECREF(value);
    }
}

/// If `StopIteration` is set, takes its value; otherwise null, exception kept.
///
/// # Safety
///
/// The GIL is held and an exception is set.
pub unsafe fn take_stop_iteration() -> *mut PyObject {
    // SAFETY: by contract; `value` is StopIteration's only field of its own.
    unsafe {
        if ffi::PyErr_ExceptionMatches(ffi::PyExc_StopIteration) == 0 {
            return ptr::null_mut();
        }
        let stop = take();
        let value = ffi::PyObject_GetAttrString(stop, c"value".as_ptr());
        ffi::Py_DECREF(stop);
        value
    }
}

/// `StopIteration` can't leave a coroutine: replaced by a `RuntimeError` that
/// names the function and has it as its cause.
///
/// # Safety
///
/// The GIL is held, an exception is set, `qualname` is borrowed or null.
pub unsafe fn replace_stop_iteration(qualname: impl FnOnce() -> *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        if ffi::PyErr_ExceptionMatches(ffi::PyExc_StopIteration) == 0 {
            return;
        }
        let stop = take();
        ffi::PyErr_Format(
            ffi::PyExc_RuntimeError,
            c"function '%V' raised StopIteration, which would end whoever awaits it; catch it in the function and return instead".as_ptr(),
            qualname(),
            c"?".as_ptr(),
        );
        let error = take();
        ffi::PyException_SetContext(error, ffi::Py_NewRef(stop));
        ffi::PyException_SetCause(error, stop);
        restore(error);
    }
}

/// `MemoryError`: no native stack is to be had.
#[cold]
pub unsafe fn raise_no_stack(error: &StackError) -> *mut PyObject {
    // SAFETY: the GIL is held by the callers, who step coroutines.
    unsafe {
        raise_text(
            ffi::PyExc_MemoryError,
            format!("no native stack for the function: {error}"),
        )
    }
}

/// `RuntimeError`: the stack belongs to another thread.
#[cold]
pub unsafe fn raise_wrong_thread(qualname: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held; `qualname` is borrowed or null.
    unsafe {
        ffi::PyErr_Format(
            ffi::PyExc_RuntimeError,
            c"function '%V' waits on a native stack of another thread and can only be resumed, closed or thrown into there; run it with that thread's event loop, e.g. through asyncio.run_coroutine_threadsafe()".as_ptr(),
            qualname,
            c"?".as_ptr(),
        );
    }
    ptr::null_mut()
}

/// `NoAwaitOccurred`.
#[cold]
pub unsafe fn raise_no_await_occurred() -> *mut PyObject {
    // SAFETY: the GIL is held; the type was made with the module.
    unsafe {
        raise(
            NO_AWAIT_OCCURRED,
            c"Function was run but no await was called.",
        )
    }
}

/// `NoAwaitContext` with `text`.
#[cold]
pub unsafe fn raise_no_await_context(text: String) -> *mut PyObject {
    // SAFETY: the GIL is held; the type was made with the module.
    unsafe { raise_text(NO_AWAIT_CONTEXT, text) }
}

/// The instance that `throw(...)` is to raise: a new reference, or null with
/// an exception set.
///
/// # Safety
///
/// The GIL is held; `args` holds `nargs` borrowed references.
pub unsafe fn exception_to_throw(
    args: *const *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        if !(1..=3).contains(&nargs) {
            return raise(ffi::PyExc_TypeError, c"throw() takes from 1 to 3 arguments");
        }
        let none = ffi::Py_None();
        let kind = *args;
        let value = if nargs > 1 { *args.add(1) } else { none };
        let traceback = if nargs > 2 { *args.add(2) } else { none };
        if traceback != none && ffi::PyTraceBack_Check(traceback) == 0 {
            return raise(
                ffi::PyExc_TypeError,
                c"throw() third argument must be a traceback object",
            );
        }
        let exception = if ffi::PyExceptionInstance_Check(kind) != 0 {
            if value != none {
                return raise(
                    ffi::PyExc_TypeError,
                    c"instance exception may not have a separate value",
                );
            }
            ffi::Py_NewRef(kind)
        } else if ffi::PyExceptionClass_Check(kind) != 0 {
            if ffi::PyObject_IsInstance(value, kind) == 1 {
                ffi::Py_NewRef(value)
            } else if value == none {
                ffi::PyObject_CallNoArgs(kind)
            } else if ffi::PyTuple_Check(value) != 0 {
                ffi::PyObject_CallObject(kind, value)
            } else {
                ffi::PyObject_CallOneArg(kind, value)
            }
        } else {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"exceptions must be classes or instances deriving from BaseException, not %s"
                    .as_ptr(),
                (*ffi::Py_TYPE(kind)).tp_name,
            );
            return ptr::null_mut();
        };
        if exception.is_null() {
            return exception;
        }
        if ffi::PyExceptionInstance_Check(exception) == 0 {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"calling %R should have returned an instance of BaseException, not %s".as_ptr(),
                kind,
                (*ffi::Py_TYPE(exception)).tp_name,
            );
            ffi::Py_DECREF(exception);
            return ptr::null_mut();
        }
        if traceback != none {
            ffi::PyException_SetTraceback(exception, traceback);
        }
        exception
    }
}

/// "coroutine 'f' was never awaited", as the interpreter says it.
///
/// # Safety
///
/// The GIL is held, no exception is set; `qualname` is borrowed or null.
#[cold]
pub unsafe fn warn_never_awaited(coroutine: *mut PyObject, qualname: *mut PyObject) {
    // SAFETY: by contract. The warnings module formats the origin as well; at
    // the very end of the interpreter it may be gone.
    unsafe {
        let warnings = ffi::PyImport_ImportModule(c"warnings".as_ptr());
        if !warnings.is_null() {
            let warn = ffi::PyObject_GetAttrString(warnings, c"_warn_unawaited_coroutine".as_ptr());
            ffi::Py_DECREF(warnings);
            if !warn.is_null() {
                let done = ffi::PyObject_CallOneArg(warn, coroutine);
                ffi::Py_DECREF(warn);
                if done.is_null() {
                    ffi::PyErr_WriteUnraisable(coroutine);
                } else {
                    ffi::Py_DECREF(done);
                }
                return;
            }
        }
        ffi::PyErr_Clear();
        if ffi::PyErr_WarnFormat(
            ffi::PyExc_RuntimeWarning,
            1,
            c"coroutine '%V' was never awaited".as_ptr(),
            qualname,
            c"?".as_ptr(),
        ) < 0
        {
            ffi::PyErr_WriteUnraisable(coroutine);
        }
    }
}

/// A `RuntimeWarning` about a stack given up; `format` has one `%V`.
///
/// # Safety
///
/// The GIL is held; `qualname` is borrowed or null.
#[cold]
pub unsafe fn warn_leaked(qualname: *mut PyObject, format: &CStr) {
    // SAFETY: by contract; `%V` takes an object or null, and a fallback.
    unsafe {
        if ffi::PyErr_WarnFormat(
            ffi::PyExc_RuntimeWarning,
            1,
            format.as_ptr(),
            qualname,
            c"?".as_ptr(),
        ) < 0
        {
            ffi::PyErr_WriteUnraisable(qualname);
        }
    }
}

/// A coroutine's origin: `((file, line, function), ...)`, innermost first, at
/// most `depth` frames. A new reference, or null with an exception set.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn call_stack(depth: c_int) -> *mut PyObject {
    // SAFETY: by contract; every frame is a reference of ours until it is dropped.
    unsafe {
        let list = ffi::PyList_New(0);
        if list.is_null() {
            return list;
        }
        let mut frame = ffi::PyThreadState_GetFrame(ffi::PyThreadState_Get());
        for _ in 0..depth {
            if frame.is_null() {
                break;
            }
            let code = ffi::PyFrame_GetCode(frame);
            let name = ffi::PyObject_GetAttrString(code.cast(), c"co_name".as_ptr());
            let file = ffi::PyObject_GetAttrString(code.cast(), c"co_filename".as_ptr());
            ffi::Py_DECREF(code.cast());
            let entry = ffi::Py_BuildValue(
                c"(NiN)".as_ptr(),
                file,
                ffi::PyFrame_GetLineNumber(frame),
                name,
            );
            let outer = ffi::PyFrame_GetBack(frame);
            ffi::Py_DECREF(frame.cast());
            frame = outer;
            let failed = entry.is_null() || ffi::PyList_Append(list, entry) < 0;
            ffi::Py_XDECREF(entry);
            if failed {
                ffi::Py_XDECREF(frame.cast());
                ffi::Py_DECREF(list);
                return ptr::null_mut();
            }
        }
        ffi::Py_XDECREF(frame.cast());
        let tuple = ffi::PyList_AsTuple(list);
        ffi::Py_DECREF(list);
        tuple
    }
}
