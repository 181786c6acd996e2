//! The end of a coroutine object: finalizer, garbage collection, deallocation.

use core::ffi::{c_int, c_void};

use pyo3::ffi::{self, PyObject};

use super::{GreenCoroutine, State, spare};
use crate::activation::Activation;
use crate::errors;

pub unsafe extern "C" fn tp_finalize(this: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held and a live object. An
    // exception in flight is put aside, as finalizers must.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        (*coroutine).finalized = true;
        match (*coroutine).state {
            State::Created => {
                let exception = errors::take();
                errors::warn_never_awaited(this, GreenCoroutine::qualname(coroutine));
                errors::restore(exception);
            }
            State::Suspended => {
                let exception = errors::take();
                if !GreenCoroutine::abandon_later(coroutine) {
                    GreenCoroutine::abandon(coroutine);
                }
                errors::restore(exception);
            }
            State::Running | State::Ended => {}
        }
    }
}

pub unsafe extern "C" fn tp_traverse(
    this: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with the GIL held and a live object.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        macro_rules! visit {
            ($object:expr) => {
                let object: *mut PyObject = $object;
                if !object.is_null() {
                    let failed = visit(object, arg);
                    if failed != 0 {
                        return failed;
                    }
                }
            };
        }
        visit!(ffi::Py_TYPE(this).cast());
        visit!((*coroutine).function);
        visit!((*coroutine).keywords);
        visit!((*coroutine).name);
        visit!((*coroutine).qualname);
        visit!((*coroutine).origin);
        let named = if (*coroutine).keywords.is_null() {
            0
        } else {
            ffi::PyTuple_GET_SIZE((*coroutine).keywords) as usize
        };
        for index in 1..=(*coroutine).nargs as usize + named {
            visit!(*(*coroutine).args.add(index));
        }
        if (*coroutine).state == State::Suspended {
            return Activation::traverse((*coroutine).activation, visit, arg);
        }
        0
    }
}

pub unsafe extern "C" fn tp_clear(this: *mut PyObject) -> c_int {
    // SAFETY: called by the collector with the GIL held and a live object. A
    // running function's arguments are in use; a suspended one was ended by
    // the finalizer, which the collector calls first.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        if matches!((*coroutine).state, State::Created | State::Ended) {
            (*coroutine).state = State::Ended;
            GreenCoroutine::release_call(coroutine);
        }
        0
    }
}

pub unsafe extern "C" fn tp_dealloc(this: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held, when no reference is left.
    unsafe {
        let coroutine: *mut GreenCoroutine = this.cast();
        if (*coroutine).tracked {
            ffi::PyObject_GC_UnTrack(this.cast());
        }
        if !(*coroutine).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
        if (*coroutine).state != State::Ended {
            // The finalizer may be the one to keep it alive.
            (*coroutine).tracked = true;
            ffi::PyObject_GC_Track(this.cast());
            if ffi::PyObject_CallFinalizerFromDealloc(this) < 0 {
                return;
            }
            ffi::PyObject_GC_UnTrack(this.cast());
            // One that has ended has dropped its arguments already.
            GreenCoroutine::release_call(coroutine);
        }
        ffi::Py_XDECREF((*coroutine).function);
        ffi::Py_XDECREF((*coroutine).name);
        ffi::Py_XDECREF((*coroutine).qualname);
        ffi::Py_XDECREF((*coroutine).origin);
        let class = ffi::Py_TYPE(this);
        spare::free(coroutine);
        ffi::Py_DECREF(class.cast());
    }
}
