//! A function that runs an event loop of its own, as `asyncio.run` in a sync program.
//!
//! Inside the function that loop is the running one, and the loop outside is hidden:
//! the package does that, and hands over its account of it, an object with
//!
//! - `reactor`, that of the loop outside: what the inner loop waits with, as its
//!   selector is a green one;
//! - `surface()`, called before the function is suspended: the loop outside is the
//!   running one again. Returns what hides it, for
//! - `submerge(state)`, called when the function goes on.
//!
//! `await_` is refused in there: it would give what belongs to the inner loop to the
//! one outside.

use core::ptr;

use pyo3::ffi::{self, PyObject};

use super::{Reactor, call, check_exact, tell};
use crate::activation::Activation;
use crate::errors::{self, raise};
use crate::runtime::Runtime;

/// The stack that runs here, or null with `RuntimeError` set.
unsafe fn stack() -> *mut Activation {
    // SAFETY: the GIL is held.
    unsafe {
        let stack = Runtime::get().map_or(ptr::null_mut(), Runtime::here);
        if stack.is_null() {
            raise(ffi::PyExc_RuntimeError, c"no function runs green here");
        }
        stack
    }
}

/// `enter_inner_loop(outside)`.
pub unsafe extern "C" fn enter(_module: *mut PyObject, outside: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        let stack = stack();
        if stack.is_null() {
            return ptr::null_mut();
        }
        if !(*stack).inner_loop.is_null() {
            return raise(
                ffi::PyExc_RuntimeError,
                c"this function runs an event loop already",
            );
        }
        (*stack).inner_loop = ffi::Py_NewRef(outside);
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// `leave_inner_loop()`.
pub unsafe extern "C" fn leave(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        let stack = stack();
        if stack.is_null() {
            return ptr::null_mut();
        }
        let outside = core::mem::replace(&mut (*stack).inner_loop, ptr::null_mut());
        ffi::Py_XDECREF(outside);
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// The reactor outside, borrowed from what is on the stack; null if it is closed.
///
/// # Safety
///
/// The GIL is held, and `stack` runs a loop of its own.
pub unsafe fn reactor_outside(stack: *mut Activation) -> *mut Reactor {
    // SAFETY: by contract. The package's account holds the reactor.
    unsafe {
        let found = ffi::PyObject_GetAttrString((*stack).inner_loop, c"reactor".as_ptr());
        if found.is_null() {
            ffi::PyErr_Clear();
            return ptr::null_mut();
        }
        ffi::Py_DECREF(found);
        let reactor: *mut Reactor = found.cast();
        if check_exact(found) && (*reactor).is_open() {
            reactor
        } else {
            ptr::null_mut()
        }
    }
}

/// The loop outside is the running one, until this is dropped by [`submerge`](Self::submerge).
pub struct Surfaced {
    stack: *mut Activation,
    outside: *mut PyObject,
    state: *mut PyObject,
}

impl Surfaced {
    /// To be made before a suspension. The outer option is none with an exception set;
    /// the inner is none where the function runs no loop.
    ///
    /// # Safety
    ///
    /// The GIL is held, and `stack` runs now.
    #[inline]
    #[expect(clippy::option_option, reason = "an error is neither")]
    pub unsafe fn new(stack: *mut Activation) -> Option<Option<Self>> {
        // SAFETY: by contract.
        unsafe {
            if (*stack).inner_loop.is_null() {
                return Some(None);
            }
            Self::surface(stack).map(Some)
        }
    }

    #[cold]
    unsafe fn surface(stack: *mut Activation) -> Option<Self> {
        // SAFETY: as above.
        unsafe {
            let outside = (*stack).inner_loop;
            let state = call(outside, c"surface", ptr::null_mut());
            if state.is_null() {
                return None;
            }
            (*stack).inner_loop = ptr::null_mut();
            Some(Self {
                stack,
                outside,
                state,
            })
        }
    }

    /// The function goes on. False with an exception set, which takes the place of one
    /// that was.
    ///
    /// # Safety
    ///
    /// The GIL is held, on the stack it was made for.
    pub unsafe fn submerge(self) -> bool {
        // SAFETY: by contract; the references are ours.
        unsafe {
            let raised = errors::take();
            (*self.stack).inner_loop = self.outside;
            let done = tell(self.outside, c"submerge", self.state);
            ffi::Py_DECREF(self.state);
            if done {
                let fine = raised.is_null();
                errors::restore(raised);
                fine
            } else {
                ffi::Py_XDECREF(raised);
                false
            }
        }
    }
}
