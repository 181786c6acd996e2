//! The arguments of a call that may be given by name.

use core::ffi::CStr;
use core::ptr;

use pyo3::ffi::{self, PyObject};

/// The arguments by their places, borrowed, null where none was given. None where there
/// are too many, one is given twice, or a name is not `known`; no exception is set.
///
/// # Safety
///
/// The GIL is held; the arguments are those of a vectorcall.
pub unsafe fn by_name<const N: usize>(
    args: *const *mut PyObject,
    nargs: ffi::Py_ssize_t,
    names: *mut PyObject,
    known: [&CStr; N],
) -> Option<[*mut PyObject; N]> {
    // SAFETY: by contract.
    unsafe {
        let mut places = [ptr::null_mut(); N];
        if nargs as usize > N {
            return None;
        }
        for (index, place) in places.iter_mut().take(nargs as usize).enumerate() {
            *place = *args.add(index);
        }
        if names.is_null() {
            return Some(places);
        }
        for index in 0..ffi::PyTuple_GET_SIZE(names) {
            let name = ffi::PyTuple_GET_ITEM(names, index);
            let place = known.iter().position(|known| {
                ffi::PyUnicode_CompareWithASCIIString(name, known.as_ptr()) == 0
            })?;
            if !places[place].is_null() {
                return None;
            }
            places[place] = *args.offset(nargs + index);
        }
        Some(places)
    }
}
