//! What `coroutine.__await__()` returns: an iterator over the coroutine's steps,
//! for those who drive it by `yield from` or by hand.
//!
//! The coroutine itself is no iterable, as a native one is none. (`await` skips
//! this object: it takes the coroutine as its own iterator.)

use core::ffi::{CStr, c_int, c_void};
use core::ptr;

use pyo3::ffi::{self, PyObject};

use crate::tables::{self, Table, method, slot};

/// The functions that step coroutines of one type.
pub struct Driven {
    pub next: ffi::iternextfunc,
    pub send: ffi::PyCFunction,
    pub throw: ffi::PyCFunctionFast,
    pub close: ffi::PyCFunction,
}

#[repr(C)]
struct AwaitIterator {
    ob_base: PyObject,
    coroutine: *mut PyObject,
    by: &'static Driven,
}

static mut TYPE: *mut ffi::PyTypeObject = ptr::null_mut();

/// An iterator over the steps of `coroutine`: a new reference, or null.
///
/// # Safety
///
/// The GIL is held; `coroutine` is live and of the type that `by` steps.
pub unsafe fn new(coroutine: *mut PyObject, by: &'static Driven) -> *mut PyObject {
    // SAFETY: TYPE is made with the module; the object is complete when tracked.
    unsafe {
        let this: *mut AwaitIterator = ffi::PyObject_GC_New(TYPE);
        if !this.is_null() {
            (*this).coroutine = ffi::Py_NewRef(coroutine);
            (*this).by = by;
            ffi::PyObject_GC_Track(this.cast());
        }
        this.cast()
    }
}

/// The coroutine behind an iterator, borrowed, and how it is stepped.
unsafe fn coroutine_of(this: *mut PyObject) -> (*mut PyObject, &'static Driven) {
    // SAFETY: called with a live object of the type, which always has both.
    unsafe {
        let this: *mut AwaitIterator = this.cast();
        ((*this).coroutine, (*this).by)
    }
}

unsafe extern "C" fn send(this: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and live objects.
    unsafe {
        let (coroutine, by) = coroutine_of(this);
        (by.send)(coroutine, value)
    }
}

unsafe extern "C" fn throw(
    this: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let (coroutine, by) = coroutine_of(this);
        (by.throw)(coroutine, args, nargs)
    }
}

unsafe extern "C" fn close(this: *mut PyObject, unused: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let (coroutine, by) = coroutine_of(this);
        (by.close)(coroutine, unused)
    }
}

unsafe extern "C" fn tp_iternext(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let (coroutine, by) = coroutine_of(this);
        (by.next)(coroutine)
    }
}

unsafe extern "C" fn tp_traverse(
    this: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with the GIL held and a live object.
    unsafe {
        let failed = visit(ffi::Py_TYPE(this).cast(), arg);
        if failed != 0 {
            failed
        } else {
            visit(coroutine_of(this).0, arg)
        }
    }
}

unsafe extern "C" fn tp_dealloc(this: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held, when no reference is left.
    unsafe {
        ffi::PyObject_GC_UnTrack(this.cast());
        ffi::Py_DECREF(coroutine_of(this).0);
        let class = ffi::Py_TYPE(this);
        ffi::PyObject_GC_Del(this.cast());
        ffi::Py_DECREF(class.cast());
    }
}

const DOC: &CStr = c"Iterator over the steps of a coroutine of verdigris.";

static METHODS: Table<[ffi::PyMethodDef; 4]> = Table([
    method(
        c"send",
        ffi::PyMethodDefPointer { PyCFunction: send },
        ffi::METH_O,
        c"As the coroutine's.",
    ),
    method(
        c"throw",
        ffi::PyMethodDefPointer {
            PyCFunctionFast: throw,
        },
        ffi::METH_FASTCALL,
        c"As the coroutine's.",
    ),
    method(
        c"close",
        ffi::PyMethodDefPointer { PyCFunction: close },
        ffi::METH_NOARGS,
        c"As the coroutine's.",
    ),
    ffi::PyMethodDef::zeroed(),
]);

/// Makes the type: a new reference, or null with an exception set. Called
/// once, when the module is made.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn make_type() -> *mut PyObject {
    let mut slots = [
        slot(ffi::Py_tp_doc, DOC.as_ptr() as *mut c_void),
        slot(ffi::Py_tp_iter, ffi::PyObject_SelfIter as *mut c_void),
        slot(ffi::Py_tp_iternext, tp_iternext as *mut c_void),
        slot(ffi::Py_tp_traverse, tp_traverse as *mut c_void),
        slot(ffi::Py_tp_dealloc, tp_dealloc as *mut c_void),
        slot(ffi::Py_tp_methods, METHODS.0.as_ptr() as *mut c_void),
        slot(0, ptr::null_mut()),
    ];
    // SAFETY: the slots are those of the type and end with 0, the tables are
    // static, and the GIL is held, so nobody reads TYPE meanwhile.
    unsafe {
        let class =
            tables::make_type::<AwaitIterator>(c"verdigris._engine.AwaitIterator", &mut slots);
        TYPE = class.cast();
        class
    }
}
