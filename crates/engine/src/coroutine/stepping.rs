//! How a coroutine is stepped, and the choice of the stack that its function runs
//! on.

use core::ffi::CStr;
use core::ptr;

use pyo3::ffi::{self, PyObject, PyThreadState};

use super::{GreenCoroutine, State};
use crate::activation::{Activation, Outcome};
use crate::errors::raise;
use crate::protocol::{self, Steps};
use crate::runtime::Runtime;
use crate::tables::Table;
use crate::{greenlet, thread_state};

impl Steps for GreenCoroutine {
    const GENERIC: &'static CStr = c"GreenCoroutine[T] for annotations.";

    #[inline(always)]
    unsafe fn send(this: *mut Self, value: *mut PyObject) -> Outcome {
        // SAFETY: by contract; the thread state is the current one.
        unsafe { Self::send(this, ffi::PyThreadState_Get(), value) }
    }

    /// The one place where the function may come to share a stack.
    #[inline(always)]
    unsafe fn step(this: *mut Self, value: *mut PyObject) -> Outcome {
        // SAFETY: by contract.
        unsafe {
            let thread = ffi::PyThreadState_Get();
            let awaiter = (*this).awaiter;
            if !awaiter.is_null()
                && let Some(stack) = shared_stack(this, thread, value)
            {
                return Outcome::Ended(Self::run_on_this_stack(this, stack, ptr::null(), awaiter));
            }
            Self::send(this, thread, value)
        }
    }

    unsafe fn throw(this: *mut Self, exception: *mut PyObject) -> Outcome {
        // SAFETY: by contract.
        unsafe { Self::throw(this, exception) }
    }

    unsafe fn close(this: *mut Self) -> bool {
        // SAFETY: by contract.
        unsafe { Self::close(this) }
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

pub static METHODS: Table<[ffi::PyMethodDef; 6]> = protocol::methods::<GreenCoroutine>();
