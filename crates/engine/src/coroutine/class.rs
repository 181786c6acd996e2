//! The type object of [`GreenCoroutine`].

use core::ffi::{CStr, c_char, c_void};
use core::mem::offset_of;
use core::ptr;

use pyo3::ffi::{self, PyObject};

use super::{GreenCoroutine, collection, inspection, stepping};
use crate::protocol;
use crate::tables::{self, Table, slot};

static mut TYPE: *mut ffi::PyTypeObject = ptr::null_mut();

/// The type, borrowed; null before [`make_type`].
#[inline]
pub fn get() -> *mut ffi::PyTypeObject {
    // SAFETY: written once, when the module is made, under the GIL.
    unsafe { TYPE }
}

const DOC: &CStr = c"A synchronous function that can wait, as a coroutine.

Made by `async_def`. Await it, or give it to anything that takes a coroutine:
`asyncio.create_task`, `asyncio.run`, a `TaskGroup`, `trio.run`, a nursery.

While it is suspended, `cr_frame` is the frame that waits, and its `f_back`
walks the function's whole stack; `cr_await` is what it waits for.";

static MEMBERS: Table<[ffi::PyMemberDef; 2]> = Table([
    ffi::PyMemberDef {
        name: c"__weaklistoffset__".as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset_of!(GreenCoroutine, weak_references) as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null::<c_char>(),
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
        slot(
            ffi::Py_am_send,
            protocol::am_send::<GreenCoroutine> as *mut c_void,
        ),
        slot(ffi::Py_am_await, stepping::am_await as *mut c_void),
        slot(
            ffi::Py_tp_iternext,
            protocol::tp_iternext::<GreenCoroutine> as *mut c_void,
        ),
        slot(ffi::Py_tp_repr, inspection::tp_repr as *mut c_void),
        slot(ffi::Py_tp_finalize, collection::tp_finalize as *mut c_void),
        slot(ffi::Py_tp_traverse, collection::tp_traverse as *mut c_void),
        slot(ffi::Py_tp_clear, collection::tp_clear as *mut c_void),
        slot(ffi::Py_tp_dealloc, collection::tp_dealloc as *mut c_void),
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
        let class = tables::make_type::<GreenCoroutine>(c"verdigris.GreenCoroutine", &mut slots);
        TYPE = class.cast();
        class
    }
}
