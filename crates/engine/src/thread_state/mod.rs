//! `CPython`'s thread state, as far as a switch of stacks must know it.
//!
//! The knowledge is in `switch.h`, `switch.c`, `carry.c`, `frames.c` and
//! `instrumentation.c`, compiled against the headers of the interpreter; this
//! file only declares it to Rust. `portable.c` takes their place where the thread
//! state is not known.

#[cfg(known_thread_state)]
mod known;
#[cfg(not(known_thread_state))]
mod portable;

use core::ffi::c_int;
use pyo3::ffi::{PyObject, PyThreadState, visitproc};

use crate::activation::AwaitRecord;

#[cfg(known_thread_state)]
pub use known::*;
#[cfg(not(known_thread_state))]
pub use portable::*;

/// Whether this build knows the interpreter's thread state. Without that functions
/// run on greenlets only.
pub const IS_KNOWN: bool = cfg!(known_thread_state);

/// What a green stack owns of the thread state while it is away (`vg_stack`).
#[repr(C, align(8))]
pub struct StackState([u64; 50]);

/// What the driver gets back after a switch (`vg_driver`).
#[repr(C, align(8))]
pub struct DriverState([u64; 20]);

impl StackState {
    /// Memory for [`carry_make`].
    pub const fn zero() -> Self {
        Self([0; 50])
    }
}

impl DriverState {
    /// Room that may be looked at.
    pub const fn zero() -> Self {
        Self([0; 20])
    }

    /// Room for [`enter`] to fill.
    #[inline]
    pub const fn uninit() -> core::mem::MaybeUninit<Self> {
        core::mem::MaybeUninit::uninit()
    }
}

unsafe extern "C" {
    #[link_name = "vg_init"]
    pub fn init() -> c_int;
    #[link_name = "vg_check_interpreter"]
    pub fn check_interpreter() -> c_int;
    #[link_name = "vg_runtime"]
    pub fn runtime() -> *const core::ffi::c_void;
    #[link_name = "vg_set_runtime"]
    pub fn set_runtime(runtime: *const core::ffi::c_void);
    #[link_name = "vg_thread_id"]
    pub fn thread_id(thread: *mut PyThreadState) -> u64;
    #[link_name = "vg_thread_lives"]
    pub fn thread_lives(id: u64) -> c_int;
    #[link_name = "vg_thread_ident"]
    pub fn thread_ident(id: u64) -> core::ffi::c_ulong;
    #[link_name = "vg_stop_linking_frames"]
    pub fn stop_linking_frames();
    #[link_name = "vg_unlink_frames"]
    pub fn unlink_frames(stack: *mut StackState);
    #[link_name = "vg_has_room"]
    pub fn has_room(thread: *mut PyThreadState, stack: *mut StackState) -> c_int;
    #[link_name = "vg_give_up"]
    pub fn give_up(thread: *mut PyThreadState, stack: *mut StackState);
    #[link_name = "vg_origin_depth"]
    pub fn origin_depth(thread: *mut PyThreadState) -> c_int;

    #[link_name = "vg_make"]
    pub fn make(stack: *mut StackState, chunk: *mut u8, chunk_size: usize, low: usize, top: usize);
    #[link_name = "vg_begin"]
    pub fn begin(thread: *mut PyThreadState, stack: *mut StackState);
    #[link_name = "vg_enter"]
    pub fn enter(thread: *mut PyThreadState, stack: *mut StackState, driver: *mut DriverState);
    #[link_name = "vg_leave"]
    pub fn leave(thread: *mut PyThreadState, stack: *mut StackState, driver: *const DriverState);
    #[link_name = "vg_end"]
    pub fn end(thread: *mut PyThreadState, stack: *mut StackState, driver: *const DriverState);

    #[link_name = "vg_carry_make"]
    pub fn carry_make(stack: *mut StackState);
    #[link_name = "vg_carry_note_frames"]
    pub fn carry_note_frames(thread: *mut PyThreadState, stack: *mut StackState);
    #[link_name = "vg_carry_let_go"]
    pub fn carry_let_go(stack: *mut StackState);
    #[link_name = "vg_carry_park"]
    pub fn carry_park(thread: *mut PyThreadState, stack: *mut StackState, driver: *mut DriverState);
    #[link_name = "vg_carry_begin"]
    pub fn carry_begin(
        thread: *mut PyThreadState,
        stack: *mut StackState,
        driver: *const DriverState,
    );
    #[link_name = "vg_carry_arrive"]
    pub fn carry_arrive(
        thread: *mut PyThreadState,
        stack: *mut StackState,
        driver: *const DriverState,
        is_base: c_int,
    );
    #[link_name = "vg_carry_leave"]
    pub fn carry_leave(
        thread: *mut PyThreadState,
        stack: *mut StackState,
        driver: *const DriverState,
        is_base: c_int,
    );
    #[link_name = "vg_carry_end"]
    pub fn carry_end(thread: *mut PyThreadState, stack: *mut StackState);

    #[link_name = "vg_is_iterable_coroutine"]
    pub fn is_iterable_coroutine(object: *mut PyObject) -> c_int;
    #[link_name = "vg_current_coroutine"]
    pub fn current_coroutine(thread: *mut PyThreadState) -> *mut PyObject;
    #[cfg(all(Py_3_14, known_thread_state))]
    #[link_name = "vg_running_task"]
    pub fn running_task(thread: *mut PyThreadState) -> *mut PyObject;
    #[link_name = "vg_function_names"]
    pub fn function_names(
        function: *mut PyObject,
        name: *mut *mut PyObject,
        qualname: *mut *mut PyObject,
    ) -> c_int;
    #[link_name = "vg_function_code"]
    pub fn function_code(function: *mut PyObject) -> *mut PyObject;
    #[link_name = "vg_unstarted_frame"]
    pub fn unstarted_frame(thread: *mut PyThreadState, function: *mut PyObject) -> *mut PyObject;
    #[link_name = "vg_suspended_frame"]
    pub fn suspended_frame(thread: *mut PyThreadState, stack: *mut StackState) -> *mut PyObject;
    #[link_name = "vg_driving_frame"]
    pub fn driving_frame(thread: *mut PyThreadState, inner: *mut StackState) -> *mut PyObject;
    #[link_name = "vg_visit_stack"]
    pub fn visit_stack(
        stack: *mut StackState,
        innermost: *const AwaitRecord,
        visit: visitproc,
        arg: *mut core::ffi::c_void,
    ) -> c_int;
}
