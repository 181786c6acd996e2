//! The C library's `errno` of this thread. Each system has its own name for where it
//! is, and `std` only reads it.

use core::ffi::c_int;

#[cfg(target_os = "linux")]
use libc::__errno_location as location;

#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
use libc::__error as location;

#[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
use libc::__errno as location;

/// What the last system call that failed left.
pub fn get() -> c_int {
    // SAFETY: has no preconditions; the address is this thread's own.
    unsafe { *location() }
}

/// Leaves an error where `PyErr_SetFromErrno` looks.
pub fn set(error: c_int) {
    // SAFETY: as above.
    unsafe { *location() = error };
}
