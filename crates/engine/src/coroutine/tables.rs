//! The tables that a type is made of.

use core::ffi::{CStr, c_int};
use core::ptr;

use pyo3::ffi;

/// A table that `CPython` reads.
pub struct Table<T>(pub T);
// SAFETY: the tables are written here and only read by CPython, under the GIL.
unsafe impl<T> Sync for Table<T> {}

/// One method, for a table.
pub const fn method(
    name: &'static CStr,
    pointer: ffi::PyMethodDefPointer,
    flags: c_int,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: pointer,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }
}

/// One attribute, for a table.
pub const fn attribute(
    name: &'static CStr,
    get: ffi::getter,
    set: Option<ffi::setter>,
    doc: &'static CStr,
) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set,
        doc: doc.as_ptr(),
        closure: ptr::null_mut(),
    }
}

/// One slot of a type.
pub const fn slot(number: c_int, pointer: *mut core::ffi::c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot {
        slot: number,
        pfunc: pointer,
    }
}
