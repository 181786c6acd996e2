//! What is asked of `portable.c` in place of looking at a known thread state, or at
//! an object's fields.

use core::ffi::c_int;
use core::ptr;

use pyo3::ffi::{PyObject, PyThreadState};

use super::StackState;
use crate::runtime::Runtime;

/// As in the known build.
///
/// # Safety
///
/// `coroutine` is a native coroutine.
pub unsafe fn coroutine_is_suspended(coroutine: *mut PyObject) -> bool {
    // SAFETY: the GIL is held and the object is live.
    unsafe { ask_coroutine(coroutine) != 0 }
}

/// As in the known build.
///
/// # Safety
///
/// The GIL is held and `function` is live.
pub unsafe fn is_plain_function(function: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe { ask_function(function) != 0 }
}

/// As in the known build, where only native stacks call it.
///
/// # Safety
///
/// Is never called.
pub unsafe fn exception_bottom(_thread: *mut PyThreadState) -> *mut *mut PyObject {
    unreachable!("there are no native stacks where the thread state is not known")
}

/// As in the known build.
///
/// # Safety
///
/// `thread` is the current thread state.
pub unsafe fn is_handling(_thread: *mut PyThreadState) -> c_int {
    let running = Runtime::get().map_or(ptr::null_mut(), Runtime::here);
    // SAFETY: the GIL is held; the running function is live.
    unsafe {
        is_handling_in(if running.is_null() {
            ptr::null_mut()
        } else {
            (*running).state()
        })
    }
}

unsafe extern "C" {
    #[link_name = "vg_coroutine_is_suspended"]
    fn ask_coroutine(coroutine: *mut PyObject) -> c_int;
    #[link_name = "vg_is_plain_function"]
    fn ask_function(function: *mut PyObject) -> c_int;
    #[link_name = "vg_is_handling_in"]
    fn is_handling_in(stack: *mut StackState) -> c_int;
    #[link_name = "vg_carry_with"]
    pub fn carry_with(get_current: unsafe extern "C" fn() -> *mut PyObject);
    #[link_name = "vg_carry_back"]
    pub fn carry_back(stack: *mut StackState);
}
