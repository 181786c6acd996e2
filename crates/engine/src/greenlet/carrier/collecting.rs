//! Collections of garbage, during which greenlets must not be switched.
//!
//! The collector keeps the heads of its lists on the C stack, and objects point there. A switch
//! moves slices of that stack away, and what is freed meanwhile is unlinked from a list whose head
//! is elsewhere. So in a finalizer that the collector calls, functions neither wait nor go on, and
//! those that it finds are unwound after it. (Native stacks leave the collector's where it is.)

use core::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi::{self, PyObject};

use crate::errors::raise;
use crate::runtime::Runtime;

/// The thread state that collects, 0 for none. Changed under the GIL.
static COLLECTOR: AtomicUsize = AtomicUsize::new(0);

/// Whether this thread is in the middle of a collection.
#[inline]
pub fn is_here() -> bool {
    let collector = COLLECTOR.load(Ordering::Relaxed);
    // SAFETY: the GIL is held by whoever switches, or ends a function.
    collector != 0 && collector == unsafe { ffi::PyThreadState_Get() } as usize
}

/// Raises the error of what is refused here. Null.
#[cold]
pub fn refuse() -> *mut PyObject {
    // SAFETY: the GIL is held by those who switch.
    unsafe {
        raise(
            ffi::PyExc_RuntimeError,
            c"a function can't wait or go on in a finalizer that the garbage collector calls, where greenlets carry functions: greenlet would move the collector's stack. Leave that to later, e.g. through loop.call_soon()",
        )
    }
}

/// `note_collection(phase, info, /)`, one of `gc.callbacks`.
pub unsafe extern "C" fn note(
    _module: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects.
    unsafe {
        if nargs >= 1 && ffi::PyUnicode_CompareWithASCIIString(*args, c"start".as_ptr()) == 0 {
            COLLECTOR.store(ffi::PyThreadState_Get() as usize, Ordering::Relaxed);
        } else {
            COLLECTOR.store(0, Ordering::Relaxed);
            if let Some(runtime) = Runtime::get() {
                runtime.unwind_abandoned();
            }
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}
