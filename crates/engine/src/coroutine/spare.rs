//! A few freed objects, kept to be made again: an `async_def` that does not
//! wait then allocates nothing.

use core::ptr;

use pyo3::ffi::{self, PyObject};

use super::{GreenCoroutine, class};

/// None in debug builds of `CPython`, which account for every block.
const LIMIT: usize = if cfg!(py_sys_config = "Py_REF_DEBUG") {
    0
} else {
    64
};

/// Chained through `function`.
static mut FIRST: *mut GreenCoroutine = ptr::null_mut();
static mut COUNT: usize = 0;

/// Memory for one, as a new object of the type; null with an exception set.
///
/// # Safety
///
/// The GIL is held. All fields must be written before anybody sees it.
#[inline]
pub unsafe fn allocate() -> *mut GreenCoroutine {
    // SAFETY: the GIL is held, which guards the chain. A spare object is
    // untracked, and its collector's header is as the allocator left it.
    unsafe {
        let first = FIRST;
        if first.is_null() {
            return ffi::PyObject_GC_New(class::get());
        }
        FIRST = (*first).function.cast();
        COUNT -= 1;
        ffi::PyObject_Init(first.cast(), class::get()).cast()
    }
}

/// Takes the memory of one back.
///
/// # Safety
///
/// The GIL is held; nothing refers to `this`, it is untracked and its fields
/// are released.
#[inline]
pub unsafe fn free(this: *mut GreenCoroutine) {
    // SAFETY: the GIL is held; nothing refers to `this`, it is untracked
    // and its fields are released. One that the collector has finalized
    // keeps that mark, and is not used again.
    unsafe {
        if COUNT < LIMIT && !(*this).finalized {
            (*this).function = FIRST.cast::<PyObject>();
            FIRST = this;
            COUNT += 1;
        } else {
            ffi::PyObject_GC_Del(this.cast());
        }
    }
}

/// A portal's step that has ended, ready to be another one; or null.
static mut STEP: *mut GreenCoroutine = ptr::null_mut();

/// Takes the step that [`keep_step`] kept, with all fields as they were; or null.
///
/// # Safety
///
/// The GIL is held.
#[inline(always)]
pub unsafe fn take_step() -> *mut GreenCoroutine {
    // SAFETY: the GIL is held.
    unsafe { ptr::replace(&raw mut STEP, ptr::null_mut()) }
}

/// Keeps a step, whose only reference is the caller's. False if there is one.
///
/// # Safety
///
/// The GIL is held; the step has ended, is not tracked, and nobody else has
/// changed its fields.
#[inline(always)]
pub unsafe fn keep_step(step: *mut GreenCoroutine) -> bool {
    // SAFETY: the GIL is held.
    unsafe {
        let keeps = LIMIT > 0 && STEP.is_null();
        if keeps {
            STEP = step;
        }
        keeps
    }
}
