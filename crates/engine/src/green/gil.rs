//! Blocking the thread, without the GIL.

use core::ffi::{c_int, c_longlong, c_void};
use core::ptr::NonNull;

use pyo3::ffi;

unsafe extern "C" {
    fn PyThread_allocate_lock() -> *mut c_void;
    fn PyThread_free_lock(lock: *mut c_void);
    fn PyThread_acquire_lock(lock: *mut c_void, wait: c_int) -> c_int;
    fn PyThread_acquire_lock_timed(
        lock: *mut c_void,
        microseconds: c_longlong,
        interruptible: c_int,
    ) -> c_int;
    fn PyThread_release_lock(lock: *mut c_void);
}

/// `PyLockStatus`.
const ACQUIRED: c_int = 1;
const INTERRUPTED: c_int = 2;

/// How a thread's sleep ended.
pub enum Slept {
    Woken,
    TimedOut,
    Interrupted,
}

/// One thread that sleeps until it is woken.
pub struct Sleeper(NonNull<c_void>);

impl Sleeper {
    /// None when there is no memory for a lock.
    pub fn new() -> Option<Self> {
        // SAFETY: the lock is ours; it is taken here, so that taking it again sleeps.
        unsafe {
            let lock = NonNull::new(PyThread_allocate_lock())?;
            PyThread_acquire_lock(lock.as_ptr(), 0);
            Some(Self(lock))
        }
    }

    /// Sleeps, without the GIL, until [`wake`](Self::wake) or for that long.
    ///
    /// # Safety
    ///
    /// The GIL is held, and no stack is switched meanwhile.
    pub unsafe fn sleep(&self, microseconds: Option<i64>) -> Slept {
        // SAFETY: by contract.
        unsafe {
            let saved = ffi::PyEval_SaveThread();
            let status =
                PyThread_acquire_lock_timed(self.0.as_ptr(), microseconds.unwrap_or(-1), 1);
            ffi::PyEval_RestoreThread(saved);
            match status {
                ACQUIRED => Slept::Woken,
                INTERRUPTED => Slept::Interrupted,
                _ => Slept::TimedOut,
            }
        }
    }

    /// Wakes the thread. Once.
    pub fn wake(&self) {
        // SAFETY: the lock is held since it was made.
        unsafe { PyThread_release_lock(self.0.as_ptr()) };
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // SAFETY: nobody sleeps any more.
        unsafe { PyThread_free_lock(self.0.as_ptr()) };
    }
}
