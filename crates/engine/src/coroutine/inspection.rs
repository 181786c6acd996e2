//! Looking at a coroutine: names, origin, frame, code, what it waits for.

use core::ffi::{CStr, c_int, c_void};
use core::ptr;

use pyo3::ffi::{self, PyObject, PyThreadState};

use super::{GreenCoroutine, State};
use crate::activation::Activation;
use crate::errors::{self, raise};
use crate::runtime::Runtime;
use crate::tables::{Table, attribute};
use crate::thread_state;

impl GreenCoroutine {
    /// The qualified name, borrowed; the function's as long as nobody set it.
    pub(super) unsafe fn qualname(this: *mut Self) -> *mut PyObject {
        // SAFETY: the GIL is held.
        unsafe {
            if (*this).qualname.is_null() {
                Self::read_names(this);
            }
            (*this).qualname
        }
    }

    pub(super) unsafe fn name(this: *mut Self) -> *mut PyObject {
        // SAFETY: the GIL is held.
        unsafe {
            if (*this).name.is_null() {
                Self::read_names(this);
            }
            (*this).name
        }
    }

    /// Copies the names that are still missing from a Python function or method.
    /// False if the function is neither.
    pub(super) unsafe fn copy_names(this: *mut Self) -> bool {
        // SAFETY: the GIL is held, and so is `function`.
        unsafe {
            let (mut name, mut qualname) = (ptr::null_mut(), ptr::null_mut());
            let function = (*this).function;
            if thread_state::function_names(function, &raw mut name, &raw mut qualname) == 0 {
                return false;
            }
            if (*this).name.is_null() {
                (*this).name = ffi::Py_NewRef(name);
            }
            if (*this).qualname.is_null() {
                (*this).qualname = ffi::Py_NewRef(qualname);
            }
            true
        }
    }

    /// Reads the names that are still missing. Leaves no exception.
    #[cold]
    unsafe fn read_names(this: *mut Self) {
        // SAFETY: the GIL is held. While a name is missing, `function` is held.
        unsafe {
            if Self::copy_names(this) {
                return;
            }
            let exception = errors::take();
            let function = (*this).function;
            if (*this).name.is_null() {
                (*this).name = read_text(function, c"__name__");
            }
            if (*this).name.is_null() {
                let class = ffi::Py_TYPE(function).cast::<PyObject>();
                (*this).name = read_text(class, c"__name__");
            }
            if (*this).qualname.is_null() {
                (*this).qualname = read_text(function, c"__qualname__");
            }
            if (*this).qualname.is_null() {
                (*this).qualname = ffi::Py_XNewRef((*this).name);
            }
            errors::restore(exception);
        }
    }

    /// Where it was made, as `sys.set_coroutine_origin_tracking_depth` asks.
    #[cold]
    pub(super) unsafe fn record_origin(this: *mut Self) {
        // SAFETY: the GIL is held; `this` is new.
        unsafe {
            let depth = thread_state::origin_depth(ffi::PyThreadState_Get());
            (*this).origin = errors::call_stack(depth);
            if (*this).origin.is_null() {
                ffi::PyErr_Clear();
            }
        }
    }

    /// The state as others see it: a function that shares the stack of one that
    /// waits is waiting too.
    unsafe fn seen_state(this: *mut Self) -> State {
        // SAFETY: the GIL is held; while running, the stack and the coroutine it
        // was started for are live.
        unsafe {
            let stack = (*this).activation;
            if (*this).state == State::Running && !stack.is_null() {
                return (*(*stack).coroutine).state;
            }
            (*this).state
        }
    }

    /// The innermost Python frame: while suspended, the line that waits, whose
    /// `f_back` walks the whole stack.
    unsafe fn frame(this: *mut Self) -> *mut PyObject {
        // SAFETY: the GIL is held.
        unsafe {
            let thread = ffi::PyThreadState_Get();
            let found = match Self::seen_state(this) {
                State::Created => return thread_state::unstarted_frame(thread, (*this).function),
                State::Ended => ptr::null_mut(),
                State::Suspended => Activation::suspended_frame((*this).activation, thread),
                State::Running => Self::running_frame(this, thread),
            };
            if found.is_null() && ffi::PyErr_Occurred().is_null() {
                return ffi::Py_NewRef(ffi::Py_None());
            }
            found
        }
    }

    /// The innermost frame of a running function, or null: it runs on another
    /// thread.
    unsafe fn running_frame(this: *mut Self, thread: *mut PyThreadState) -> *mut PyObject {
        // SAFETY: the GIL is held; the chain of drivers is this thread's.
        unsafe {
            let Some(runtime) = Runtime::get() else {
                return ptr::null_mut();
            };
            let mut inner: *mut Activation = ptr::null_mut();
            let mut activation = runtime.here();
            while !activation.is_null() {
                if activation == (*this).activation {
                    return if inner.is_null() {
                        ffi::PyThreadState_GetFrame(thread).cast()
                    } else {
                        Activation::driving_frame(inner, thread)
                    };
                }
                inner = activation;
                activation = (*activation).driver;
            }
            ptr::null_mut()
        }
    }
}

unsafe fn read_text(object: *mut PyObject, attribute: &CStr) -> *mut PyObject {
    // SAFETY: the GIL is held and `object` is live.
    unsafe {
        let text = ffi::PyObject_GetAttrString(object, attribute.as_ptr());
        if text.is_null() {
            ffi::PyErr_Clear();
        } else if ffi::PyUnicode_Check(text) == 0 {
            ffi::Py_DECREF(text);
            return ptr::null_mut();
        }
        text
    }
}
unsafe extern "C" fn get_running(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        let running = GreenCoroutine::seen_state(this.cast()) == State::Running;
        ffi::PyBool_FromLong(running.into())
    }
}

unsafe extern "C" fn get_suspended(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let suspended = GreenCoroutine::seen_state(this.cast()) == State::Suspended;
        ffi::PyBool_FromLong(suspended.into())
    }
}

/// The names that `inspect.getcoroutinestate` returns; 3.15 reads them here.
unsafe extern "C" fn get_state(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let name = match GreenCoroutine::seen_state(this.cast()) {
            State::Created => c"CORO_CREATED",
            State::Suspended => c"CORO_SUSPENDED",
            State::Running => c"CORO_RUNNING",
            State::Ended => c"CORO_CLOSED",
        };
        ffi::PyUnicode_InternFromString(name.as_ptr())
    }
}

unsafe extern "C" fn get_frame(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { GreenCoroutine::frame(this.cast()) }
}

/// The code of `cr_frame` while suspended, so that file and line belong
/// together wherever the two are read; the function's own code otherwise.
unsafe extern "C" fn get_code(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        if GreenCoroutine::seen_state(coroutine) == State::Suspended {
            let thread = ffi::PyThreadState_Get();
            let frame = Activation::suspended_frame((*coroutine).activation, thread);
            if !frame.is_null() {
                let code = ffi::PyFrame_GetCode(frame.cast());
                ffi::Py_DECREF(frame);
                return code.cast();
            }
            if !ffi::PyErr_Occurred().is_null() {
                return ptr::null_mut();
            }
        }
        let function = (*coroutine).function;
        let code = if function.is_null() {
            ptr::null_mut()
        } else {
            thread_state::function_code(function)
        };
        ffi::Py_NewRef(if code.is_null() { ffi::Py_None() } else { code })
    }
}

unsafe extern "C" fn get_awaited(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        let mut awaited = ffi::Py_None();
        if GreenCoroutine::seen_state(coroutine) == State::Suspended {
            awaited = GreenCoroutine::awaits(coroutine);
        }
        ffi::Py_NewRef(awaited)
    }
}

unsafe extern "C" fn get_has_awaited(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { ffi::PyBool_FromLong((*this.cast::<GreenCoroutine>()).awaited.into()) }
}

unsafe extern "C" fn get_origin(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let origin = (*this.cast::<GreenCoroutine>()).origin;
        ffi::Py_NewRef(if origin.is_null() {
            ffi::Py_None()
        } else {
            origin
        })
    }
}

unsafe extern "C" fn get_name(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { text_or_empty(GreenCoroutine::name(this.cast())) }
}

unsafe extern "C" fn get_qualname(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { text_or_empty(GreenCoroutine::qualname(this.cast())) }
}

unsafe fn text_or_empty(text: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held.
    unsafe {
        if text.is_null() {
            ffi::PyUnicode_FromString(c"".as_ptr())
        } else {
            ffi::Py_NewRef(text)
        }
    }
}

unsafe extern "C" fn set_name(this: *mut PyObject, value: *mut PyObject, _: *mut c_void) -> c_int {
    // SAFETY: as above; the missing name is read first, since the function may go.
    unsafe {
        GreenCoroutine::name(this.cast());
        set_text(
            &raw mut (*this.cast::<GreenCoroutine>()).name,
            value,
            c"__name__ must be set to a string object",
        )
    }
}

unsafe extern "C" fn set_qualname(
    this: *mut PyObject,
    value: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        GreenCoroutine::qualname(this.cast());
        set_text(
            &raw mut (*this.cast::<GreenCoroutine>()).qualname,
            value,
            c"__qualname__ must be set to a string object",
        )
    }
}

unsafe fn set_text(field: *mut *mut PyObject, value: *mut PyObject, refusal: &CStr) -> c_int {
    // SAFETY: the GIL is held and `field` is a name of a live object.
    unsafe {
        if value.is_null() || ffi::PyUnicode_Check(value) == 0 {
            raise(ffi::PyExc_TypeError, refusal);
            return -1;
        }
        let old = core::mem::replace(&mut *field, ffi::Py_NewRef(value));
        ffi::Py_XDECREF(old);
        0
    }
}

pub unsafe extern "C" fn tp_repr(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        let qualname = GreenCoroutine::qualname(this.cast());
        if qualname.is_null() {
            return ffi::PyUnicode_FromFormat(c"<green_coroutine object at %p>".as_ptr(), this);
        }
        ffi::PyUnicode_FromFormat(
            c"<green_coroutine object %U at %p>".as_ptr(),
            qualname,
            this,
        )
    }
}

pub static ATTRIBUTES: Table<[ffi::PyGetSetDef; 11]> = Table([
    attribute(
        c"__name__",
        get_name,
        Some(set_name),
        c"The function's name.",
    ),
    attribute(
        c"__qualname__",
        get_qualname,
        Some(set_qualname),
        c"The function's qualified name.",
    ),
    attribute(
        c"cr_await",
        get_awaited,
        None,
        c"What it waits for, or None.",
    ),
    attribute(c"cr_code", get_code, None, c"The code of `cr_frame`."),
    attribute(
        c"cr_frame",
        get_frame,
        None,
        c"The innermost frame, or None when it has ended.",
    ),
    attribute(
        c"cr_has_awaited",
        get_has_awaited,
        None,
        c"Whether its function has called `await_` yet.",
    ),
    attribute(
        c"cr_origin",
        get_origin,
        None,
        c"Where it was made, if that is tracked.",
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
