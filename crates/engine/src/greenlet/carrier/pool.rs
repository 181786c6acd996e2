//! The activations of functions on greenlets: made as they are needed, and used
//! again by the thread that made them, or by others when that has ended.

use core::cell::Cell;
use core::ffi::CStr;
use core::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::ffi::{self, PyObject, PyThreadState};

use super::{Carrier, enter};
use crate::activation::Activation;
use crate::runtime::Runtime;
use crate::tables::{Table, method};
use crate::thread_state::{self, DriverState};

/// What the engine keeps for each thread.
#[derive(Default)]
pub struct OfThread {
    /// Activations whose function has ended.
    spare: Cell<Vec<*mut Activation>>,
    /// Those, and all others of this thread.
    pub(super) all: Cell<Vec<*mut Activation>>,
    /// Those that were resumed, and have not left since, in that order.
    pub(super) running: Cell<Vec<*mut Activation>>,
    in_use: Cell<usize>,
    leaked: Cell<usize>,
}

/// Those of threads that have ended.
static SPARE: Mutex<Vec<Spare>> = Mutex::new(Vec::new());

struct Spare(*mut Activation);
// SAFETY: nothing refers to it any more, and it is used under the GIL only.
unsafe impl Send for Spare {}

fn spare_of_others() -> MutexGuard<'static, Vec<Spare>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for OfThread {
    fn drop(&mut self) {
        spare_of_others().extend(self.spare.get_mut().drain(..).map(Spare));
    }
}

impl OfThread {
    /// How many functions wait or run.
    pub fn in_use(&self) -> usize {
        self.in_use.get()
    }

    /// How many were given up.
    pub fn leaked(&self) -> usize {
        self.leaked.get()
    }

    pub(super) fn count_leaked(&self) {
        self.count(-1);
        self.leaked.set(self.leaked.get() + 1);
    }

    pub(super) fn count(&self, change: isize) {
        self.in_use
            .set(self.in_use.get().wrapping_add_signed(change));
    }
}

/// An activation without a greenlet.
///
/// # Errors
///
/// Null with an exception set.
///
/// # Safety
///
/// The GIL is held, and `thread` is the current thread state.
pub unsafe fn take(
    runtime: &Runtime,
    thread: *mut PyThreadState,
) -> Result<*mut Activation, *mut PyObject> {
    let mut spare = runtime.carried.spare.take();
    let found = spare
        .pop()
        .or_else(|| spare_of_others().pop().map(|Spare(this)| this));
    runtime.carried.spare.set(spare);
    // SAFETY: the GIL is held.
    unsafe {
        let this = match found {
            Some(this) => this,
            None => make()?,
        };
        if (*this).runtime != runtime.id {
            (*this).move_to(thread_state::thread_id(thread), runtime.id);
            let mut all = runtime.carried.all.take();
            all.push(this);
            runtime.carried.all.set(all);
        }
        Ok(this)
    }
}

unsafe fn make() -> Result<*mut Activation, *mut PyObject> {
    // SAFETY: the GIL is held.
    unsafe {
        let carrier = Box::into_raw(Box::new(Carrier {
            entry: ptr::null_mut(),
            base: ptr::null_mut(),
            references: 0,
            waiting: ptr::null_mut(),
            driver: ptr::null_mut(),
            driver_state: DriverState::zero(),
            coming: Cell::new(false),
            going: Cell::new(false),
            raised: ptr::null_mut(),
            rests: false,
            dismissed: false,
        }));
        let this = Box::into_raw(Box::new(Activation::carried(carrier)));
        thread_state::carry_make((*this).state());
        let capsule = ffi::PyCapsule_New(this.cast(), NAME.as_ptr(), None);
        if !capsule.is_null() {
            (*carrier).entry =
                ffi::PyCFunction_NewEx((&raw const ENTRY.0).cast_mut(), capsule, ptr::null_mut());
            ffi::Py_DECREF(capsule);
        }
        if (*carrier).entry.is_null() {
            drop(Box::from_raw(this));
            drop(Box::from_raw(carrier));
            return Err(ptr::null_mut());
        }
        Ok(this)
    }
}

/// Takes one back whose greenlet has ended.
///
/// # Safety
///
/// The GIL is held, and it is this thread's.
pub unsafe fn give(runtime: &Runtime, this: *mut Activation) {
    let mut spare = runtime.carried.spare.take();
    spare.push(this);
    runtime.carried.spare.set(spare);
}

/// Of the capsule that leads from a greenlet to its activation.
pub const NAME: &CStr = c"verdigris function";

/// What a function's greenlet calls.
static ENTRY: Table<ffi::PyMethodDef> = Table(method(
    c"async_def",
    ffi::PyMethodDefPointer { PyCFunction: enter },
    ffi::METH_VARARGS,
    c"Runs a function of async_def().",
));
