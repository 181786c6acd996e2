//! The tables that a type is made of.

use core::ffi::{CStr, c_int, c_uint};
use core::ptr;

use pyo3::ffi::{self, PyObject};

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

/// Makes a type for objects of layout `T`: a new reference, or null with an
/// exception set. It is collected, immutable, and not to be called.
///
/// # Safety
///
/// The GIL is held; `slots` ends with a slot 0, is right for `T`, and refers to
/// static tables.
pub unsafe fn make_type<T>(name: &'static CStr, slots: &mut [ffi::PyType_Slot]) -> *mut PyObject {
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: size_of::<T>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT
            | ffi::Py_TPFLAGS_HAVE_GC
            | ffi::Py_TPFLAGS_IMMUTABLETYPE
            | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: by contract.
    unsafe { ffi::PyType_FromSpec(&raw mut spec) }
}
