//! What is looked at too often to call for it: offsets that `frames.c` tells.

use core::ffi::c_int;
use pyo3::ffi::{PyFunction_Check, PyObject, PyThreadState};

use super::StackState;

/// Offsets and values that are too hot for a call into C (`vg_layout`).
#[repr(C)]
struct Layout {
    coroutine_state: usize,
    first_suspended: i8,
    last_suspended: i8,
    function_closure: usize,
    function_defaults: usize,
    function_kwdefaults: usize,
    exception_bottom: usize,
}

/// Whether a coroutine is between two steps: something awaits it, or it was
/// stepped by hand. One that has not started, is running or has ended answers
/// for itself.
///
/// # Safety
///
/// `coroutine` is a native coroutine.
#[inline]
pub unsafe fn coroutine_is_suspended(coroutine: *mut PyObject) -> bool {
    // SAFETY: the offset is that of a byte in every coroutine object.
    unsafe {
        let state: i8 = *coroutine.byte_add(LAYOUT.coroutine_state).cast();
        (LAYOUT.first_suspended..=LAYOUT.last_suspended).contains(&state)
    }
}

/// Whether a callable is a Python function that refers to nothing of a call:
/// no closure, no default values. Keeping it alive keeps no data alive but what
/// somebody set as its attributes.
///
/// # Safety
///
/// The GIL is held and `function` is live.
#[inline]
pub unsafe fn is_plain_function(function: *mut PyObject) -> bool {
    // SAFETY: by contract; the offsets are those of pointers in a function object.
    unsafe {
        let field = |offset: usize| *function.byte_add(offset).cast::<*mut PyObject>();
        PyFunction_Check(function) != 0
            && field(LAYOUT.function_closure).is_null()
            && field(LAYOUT.function_defaults).is_null()
            && field(LAYOUT.function_kwdefaults).is_null()
    }
}

/// The last item of the chain of handled exceptions, which greenlet exchanges.
///
/// # Safety
///
/// `thread` is the current thread state.
#[inline(always)]
pub unsafe fn exception_bottom(thread: *mut PyThreadState) -> *mut *mut PyObject {
    // SAFETY: the offset is that of a reference in every thread state.
    unsafe { thread.byte_add(LAYOUT.exception_bottom).cast() }
}

/// Nothing is needed of greenlet: `carry.c` knows where things are.
pub fn carry_with(_get_current: unsafe extern "C" fn() -> *mut PyObject) {}

/// What a function has of its driver is let go of when it is left.
///
/// # Safety
///
/// None is asked for; the other build does.
#[inline(always)]
pub unsafe fn carry_back(_stack: *mut StackState) {}

unsafe extern "C" {
    #[link_name = "vg_layouts"]
    static LAYOUT: Layout;
    #[link_name = "vg_is_handling"]
    pub fn is_handling(thread: *mut PyThreadState) -> c_int;
}
