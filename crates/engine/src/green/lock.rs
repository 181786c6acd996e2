//! `Lock`: the stdlib's `_thread.lock`, shared by green functions, loops and threads.

use core::ffi::{CStr, c_int, c_uint, c_void};
use core::mem::offset_of;
use core::ptr;

use pyo3::ffi::{self, PyObject};

use super::raw_lock::{Acquired, RawLock};
use crate::arguments;
use crate::errors::raise;
use crate::tables::{Table, method, slot};

/// `TIMEOUT_MAX` of the stdlib, in seconds: what fits into its nanoseconds.
const TIMEOUT_MAX: f64 = 9_223_372_036.0;

#[repr(C)]
pub struct Lock {
    ob_base: PyObject,
    raw: RawLock,
    weak_references: *mut PyObject,
}

/// The arguments of `acquire(blocking=True, timeout=-1)`: None for "do not wait", and
/// how long. None with an exception set.
pub unsafe fn parse_acquire(
    args: *const *mut PyObject,
    nargs: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> Option<Option<Option<f64>>> {
    // SAFETY: called with the arguments of a vectorcall.
    unsafe {
        let given = arguments::by_name(args, nargs, names, [c"blocking", c"timeout"]);
        let Some(values) = given else {
            raise(
                ffi::PyExc_TypeError,
                c"acquire() takes at most 2 arguments, blocking and timeout",
            );
            return None;
        };
        let blocking = if values[0].is_null() {
            true
        } else {
            match ffi::PyObject_IsTrue(values[0]) {
                -1 => return None,
                truth => truth == 1,
            }
        };
        let timeout = if values[1].is_null() {
            -1.0
        } else {
            let timeout = ffi::PyFloat_AsDouble(values[1]);
            if timeout == -1.0 && !ffi::PyErr_Occurred().is_null() {
                return None;
            }
            timeout
        };
        let refusal = if !blocking && timeout != -1.0 {
            c"can't specify a timeout for a non-blocking call"
        } else if timeout < 0.0 && timeout != -1.0 {
            c"timeout value must be a non-negative number"
        } else if timeout.is_nan() {
            c"Invalid value NaN (not a number)"
        } else if timeout > TIMEOUT_MAX {
            raise(ffi::PyExc_OverflowError, c"timeout value is too large");
            return None;
        } else if !blocking || timeout == 0.0 {
            return Some(None);
        } else {
            return Some(Some((timeout >= 0.0).then_some(timeout)));
        };
        raise(ffi::PyExc_ValueError, refusal);
        None
    }
}

unsafe extern "C" fn acquire(
    this: *mut PyObject,
    args: *const *mut PyObject,
    nargs: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and live objects; the caller holds
    // `this` while it waits.
    unsafe {
        let raw = &raw mut (*this.cast::<Lock>()).raw;
        if nargs == 0 && names.is_null() && (*raw).try_acquire() {
            return ffi::PyBool_FromLong(1);
        }
        let Some(waits) = parse_acquire(args, nargs, names) else {
            return ptr::null_mut();
        };
        let acquired = match waits {
            None => return ffi::PyBool_FromLong((*raw).try_acquire().into()),
            Some(timeout) => RawLock::acquire(raw, this, timeout),
        };
        match acquired {
            Acquired::Yes => ffi::PyBool_FromLong(1),
            Acquired::TimedOut => ffi::PyBool_FromLong(0),
            Acquired::Failed => ptr::null_mut(),
        }
    }
}

unsafe extern "C" fn enter(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { acquire(this, ptr::null(), 0, ptr::null_mut()) }
}

unsafe extern "C" fn release(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let raw = &raw mut (*this.cast::<Lock>()).raw;
        if !(*raw).is_locked() {
            return raise(ffi::PyExc_RuntimeError, c"release unlocked lock");
        }
        RawLock::release(raw);
        ffi::Py_NewRef(ffi::Py_None())
    }
}

unsafe extern "C" fn exit(
    this: *mut PyObject,
    _: *mut *mut PyObject,
    _: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { release(this, ptr::null_mut()) }
}

unsafe extern "C" fn locked(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { ffi::PyBool_FromLong((*this.cast::<Lock>()).raw.is_locked().into()) }
}

unsafe extern "C" fn at_fork_reinit(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        (*this.cast::<Lock>()).raw.reset();
        ffi::Py_NewRef(ffi::Py_None())
    }
}

unsafe extern "C" fn tp_new(
    class: *mut ffi::PyTypeObject,
    args: *mut PyObject,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        let given = ffi::PyTuple_Size(args)
            + if names.is_null() {
                0
            } else {
                ffi::PyDict_Size(names)
            };
        if given != 0 {
            return raise(ffi::PyExc_TypeError, c"Lock() takes no arguments");
        }
        let this = ffi::PyType_GenericAlloc(class, 0);
        if !this.is_null() {
            (&raw mut (*this.cast::<Lock>()).raw).write(RawLock::default());
        }
        this
    }
}

unsafe extern "C" fn tp_repr(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        let state = if (*this.cast::<Lock>()).raw.is_locked() {
            c"locked"
        } else {
            c"unlocked"
        };
        ffi::PyUnicode_FromFormat(
            c"<%s %s object at %p>".as_ptr(),
            state.as_ptr(),
            (*ffi::Py_TYPE(this)).tp_name,
            this,
        )
    }
}

unsafe extern "C" fn tp_dealloc(this: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held, when no reference is left: nobody
    // waits.
    unsafe {
        let lock: *mut Lock = this.cast();
        if !(*lock).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
        ptr::drop_in_place(&raw mut (*lock).raw);
        let class = ffi::Py_TYPE(this);
        ffi::PyObject_Free(this.cast());
        ffi::Py_DECREF(class.cast());
    }
}

const DOC: &CStr = c"A lock that green functions, event loops and OS threads share.

It is `threading.Lock`. In a green function, waiting for it suspends the function;
anywhere else it blocks the thread.";

static METHODS: Table<[ffi::PyMethodDef; 10]> = Table([
    method(
        c"acquire",
        ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: acquire,
        },
        ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ACQUIRE_DOC,
    ),
    method(
        c"acquire_lock",
        ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: acquire,
        },
        ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ACQUIRE_DOC,
    ),
    method(
        c"release",
        ffi::PyMethodDefPointer {
            PyCFunction: release,
        },
        ffi::METH_NOARGS,
        RELEASE_DOC,
    ),
    method(
        c"release_lock",
        ffi::PyMethodDefPointer {
            PyCFunction: release,
        },
        ffi::METH_NOARGS,
        RELEASE_DOC,
    ),
    method(
        c"locked",
        ffi::PyMethodDefPointer {
            PyCFunction: locked,
        },
        ffi::METH_NOARGS,
        LOCKED_DOC,
    ),
    method(
        c"locked_lock",
        ffi::PyMethodDefPointer {
            PyCFunction: locked,
        },
        ffi::METH_NOARGS,
        LOCKED_DOC,
    ),
    method(
        c"__enter__",
        ffi::PyMethodDefPointer { PyCFunction: enter },
        ffi::METH_NOARGS,
        c"__enter__($self, /)\n--\n\nTake the lock.",
    ),
    method(
        c"__exit__",
        ffi::PyMethodDefPointer {
            PyCFunctionFast: exit,
        },
        ffi::METH_FASTCALL,
        c"__exit__($self, /, *exc_info)\n--\n\nRelease the lock.",
    ),
    method(
        c"_at_fork_reinit",
        ffi::PyMethodDefPointer {
            PyCFunction: at_fork_reinit,
        },
        ffi::METH_NOARGS,
        c"_at_fork_reinit($self, /)\n--\n\nMake it as new, in a fork's child.",
    ),
    ffi::PyMethodDef::zeroed(),
]);

const ACQUIRE_DOC: &CStr = c"acquire($self, /, blocking=True, timeout=-1)\n--\n\nTake the lock. Returns whether it was taken; waits for it unless blocking is\nFalse, and at most timeout seconds unless that is -1.";
const RELEASE_DOC: &CStr = c"release($self, /)\n--\n\nFree the lock, which may be another thread's or function's. RuntimeError if it\nis free.";
const LOCKED_DOC: &CStr = c"locked($self, /)\n--\n\nWhether it is taken.";

static MEMBERS: Table<[ffi::PyMemberDef; 2]> = Table([
    ffi::PyMemberDef {
        name: c"__weaklistoffset__".as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset_of!(Lock, weak_references) as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    },
    // SAFETY: all fields of a sentinel are null.
    unsafe { core::mem::zeroed() },
]);

/// Makes the type: a new reference, or null with an exception set.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn make_type() -> *mut PyObject {
    let mut slots = [
        slot(ffi::Py_tp_doc, DOC.as_ptr() as *mut c_void),
        slot(ffi::Py_tp_new, tp_new as *mut c_void),
        slot(ffi::Py_tp_repr, tp_repr as *mut c_void),
        slot(ffi::Py_tp_dealloc, tp_dealloc as *mut c_void),
        slot(ffi::Py_tp_methods, METHODS.0.as_ptr() as *mut c_void),
        slot(ffi::Py_tp_members, MEMBERS.0.as_ptr() as *mut c_void),
        slot(0, ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"_thread.lock".as_ptr(),
        basicsize: size_of::<Lock>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_IMMUTABLETYPE) as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the slots are those of the type and end with 0, the tables are static; the GIL is held.
    unsafe {
        let class = ffi::PyType_FromSpec(&raw mut spec);
        if !class.is_null() && ffi::Py_Version < VERSION_3_13 && !name_for_pickle(class) {
            ffi::Py_DECREF(class);
            return ptr::null_mut();
        }
        class
    }
}

/// From this one on the stdlib's type can be found by its name.
const VERSION_3_13: core::ffi::c_ulong = 0x030D_0000;

/// Has the type pickled as `_thread.allocate_lock`, which is what `threading.Lock` is up to 3.12:
/// the managers of `multiprocessing` send it to their process. Returns false with an exception set.
///
/// # Safety
///
/// A heap type that was just made; the GIL is held.
unsafe fn name_for_pickle(class: *mut PyObject) -> bool {
    // SAFETY: nobody has seen the type yet, and it owns the reference to its name.
    unsafe {
        let name = ffi::PyUnicode_FromString(c"allocate_lock".as_ptr());
        if name.is_null() {
            return false;
        }
        let class = class.cast::<ffi::PyHeapTypeObject>();
        ffi::Py_DECREF(core::mem::replace(&mut (*class).ht_qualname, name));
        true
    }
}
