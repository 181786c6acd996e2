//! The type object of [`Portal`]: how one is made, collected and freed.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::offset_of;
use core::ptr;

use pyo3::ffi::{self, PyObject};

use super::{Portal, inspection, stepping};
use crate::coroutine::GreenCoroutine;
use crate::protocol;
use crate::tables::{self, Table, slot};

static mut TYPE: *mut ffi::PyTypeObject = ptr::null_mut();

/// The type, borrowed; null before [`make_type`].
#[inline]
pub fn get() -> *mut ffi::PyTypeObject {
    // SAFETY: written once, when the module is made, under the GIL.
    unsafe { TYPE }
}

/// `portal(coroutine, /)`.
pub unsafe extern "C" fn new(_module: *mut PyObject, coroutine: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        for name in [c"send", c"throw", c"close"] {
            if ffi::PyObject_HasAttrString(coroutine, name.as_ptr()) == 0 {
                ffi::PyErr_Format(
                    ffi::PyExc_TypeError,
                    c"a portal needs a coroutine, not '%.200s', which has no %s()".as_ptr(),
                    (*ffi::Py_TYPE(coroutine)).tp_name,
                    name.as_ptr(),
                );
                return ptr::null_mut();
            }
        }
        let this: *mut Portal = ffi::PyObject_GC_New(get());
        if !this.is_null() {
            (*this).coroutine = ffi::Py_NewRef(coroutine);
            (*this).waiting = ptr::null_mut();
            (*this).bound = ptr::null_mut();
            (*this).checkpoint = ffi::Py_NewRef(ffi::Py_None());
            (*this).weak_references = ptr::null_mut();
            (*this).running = false;
            ffi::PyObject_GC_Track(this.cast());
        }
        this.cast()
    }
}

unsafe extern "C" fn tp_traverse(
    this: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with the GIL held and a live object.
    unsafe {
        let portal: *mut Portal = this.cast();
        let owned = [
            ffi::Py_TYPE(this).cast(),
            (*portal).coroutine,
            (*portal).waiting.cast(),
            (*portal).checkpoint,
        ];
        for object in owned {
            if !object.is_null() {
                let failed = visit(object, arg);
                if failed != 0 {
                    return failed;
                }
            }
        }
        0
    }
}

unsafe extern "C" fn tp_dealloc(this: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held, when no reference is left;
    // one that runs is held by its step.
    unsafe {
        let portal: *mut Portal = this.cast();
        ffi::PyObject_GC_UnTrack(this.cast());
        if !(*portal).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
        let waiting: *mut GreenCoroutine = (*portal).waiting;
        if !waiting.is_null() {
            // Its finalizer ends it.
            (*waiting).portal = ptr::null_mut();
            ffi::Py_DECREF(waiting.cast());
        }
        Portal::unbind(portal);
        ffi::Py_XDECREF((*portal).checkpoint);
        ffi::Py_DECREF((*portal).coroutine);
        let class = ffi::Py_TYPE(this);
        ffi::PyObject_GC_Del(this.cast());
        ffi::Py_DECREF(class.cast());
    }
}

const DOC: &CStr = c"A coroutine whose every step runs on a native stack.

Made by the portal functions of verdigris, and found where the coroutine of a
task with a portal is asked for. What it does not know itself it asks the
task's own coroutine, which is its attribute `coroutine`.";

static MEMBERS: Table<[ffi::PyMemberDef; 4]> = Table([
    ffi::PyMemberDef {
        name: c"__weaklistoffset__".as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset_of!(Portal, weak_references) as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null::<c_char>(),
    },
    ffi::PyMemberDef {
        name: c"coroutine".as_ptr(),
        type_code: ffi::Py_T_OBJECT_EX,
        offset: offset_of!(Portal, coroutine) as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: c"The task's own coroutine.".as_ptr(),
    },
    ffi::PyMemberDef {
        name: c"checkpoint".as_ptr(),
        type_code: ffi::Py_T_OBJECT_EX,
        offset: offset_of!(Portal, checkpoint) as ffi::Py_ssize_t,
        flags: 0,
        doc: c"What takes one step through the task's loop, or None.".as_ptr(),
    },
    // SAFETY: all fields of a sentinel are null.
    unsafe { core::mem::zeroed() },
]);

/// Makes the type. Called once, when the module is made.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn make_type() -> *mut PyObject {
    let mut slots = [
        slot(ffi::Py_tp_doc, DOC.as_ptr() as *mut c_void),
        slot(ffi::Py_am_send, protocol::am_send::<Portal> as *mut c_void),
        slot(ffi::Py_am_await, stepping::am_await as *mut c_void),
        slot(
            ffi::Py_tp_iternext,
            protocol::tp_iternext::<Portal> as *mut c_void,
        ),
        slot(ffi::Py_tp_getattro, inspection::tp_getattro as *mut c_void),
        slot(ffi::Py_tp_repr, inspection::tp_repr as *mut c_void),
        slot(ffi::Py_tp_traverse, tp_traverse as *mut c_void),
        slot(ffi::Py_tp_dealloc, tp_dealloc as *mut c_void),
        slot(
            ffi::Py_tp_methods,
            stepping::METHODS.0.as_ptr() as *mut c_void,
        ),
        slot(
            ffi::Py_tp_getset,
            inspection::ATTRIBUTES.0.as_ptr() as *mut c_void,
        ),
        slot(ffi::Py_tp_members, MEMBERS.0.as_ptr() as *mut c_void),
        slot(0, ptr::null_mut()),
    ];
    // SAFETY: the slots are those of the type and end with 0, the tables are
    // static, and the GIL is held, so nobody reads TYPE meanwhile.
    unsafe {
        let class = tables::make_type::<Portal>(c"verdigris.PortalCoroutine", &mut slots);
        TYPE = class.cast();
        class
    }
}
