//! How a portal is stepped.

use core::ffi::CStr;

use pyo3::ffi::{self, PyObject};

use super::{Input, Portal};
use crate::activation::Outcome;
use crate::protocol::{self, Steps};
use crate::tables::Table;
use crate::{errors, thread_state};

impl Steps for Portal {
    const GENERIC: &'static CStr = c"PortalCoroutine[T] for annotations.";

    #[inline(always)]
    unsafe fn send(this: *mut Self, value: *mut PyObject) -> Outcome {
        // SAFETY: by contract; the thread state is the current one.
        unsafe { Self::step(this, ffi::PyThreadState_Get(), Input::Value(value)) }
    }

    unsafe fn throw(this: *mut Self, exception: *mut PyObject) -> Outcome {
        // SAFETY: as above; the exception's reference is ours.
        unsafe {
            let input = Input::Exception(exception);
            let outcome = Self::step(this, ffi::PyThreadState_Get(), input);
            ffi::Py_DECREF(exception);
            outcome
        }
    }

    unsafe fn close(this: *mut Self) -> bool {
        // SAFETY: by contract.
        unsafe { Self::close(this) }
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

pub static METHODS: Table<[ffi::PyMethodDef; 6]> = protocol::methods::<Portal>();
