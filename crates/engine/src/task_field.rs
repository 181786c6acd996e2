//! The coroutine of an `asyncio.Task` that is written in C: a field that Python
//! code can read but not write. A portal for a running task must change it.
//!
//! Where the field lies differs between versions and builds. It is found on a
//! throw-away task, whose coroutine is known: exactly one word of the task may
//! be a reference to it. A swap then checks that the word is what the task says
//! its coroutine is.

use core::ptr;

use pyo3::ffi::{self, PyObject};

/// The words of an object of class `base` or of a subclass: their address and
/// number. None with `TypeError` set.
unsafe fn words(object: *mut PyObject, base: *mut PyObject) -> Option<(*mut *mut PyObject, usize)> {
    // SAFETY: the GIL is held and both objects are live.
    unsafe {
        if ffi::PyType_Check(base) == 0 || ffi::PyObject_TypeCheck(object, base.cast()) == 0 {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"'%.200s' is not a subclass of the type whose field this is".as_ptr(),
                (*ffi::Py_TYPE(object)).tp_name,
            );
            return None;
        }
        let size = (*base.cast::<ffi::PyTypeObject>()).tp_basicsize as usize;
        Some((object.cast(), size / size_of::<*mut PyObject>()))
    }
}

/// The `nargs` arguments as an array, if there are `N`. None with `TypeError` set.
unsafe fn arguments<const N: usize>(
    args: *const *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> Option<[*mut PyObject; N]> {
    // SAFETY: `args` holds `nargs` live references.
    unsafe {
        if nargs as usize != N {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"expected %zd arguments, got %zd".as_ptr(),
                N as ffi::Py_ssize_t,
                nargs,
            );
            return None;
        }
        Some(ptr::read(args.cast()))
    }
}

/// `find_field(task_type, task, coroutine)`: the index of the one word of `task`
/// that refers to `coroutine`, or None if none does or several do.
pub unsafe extern "C" fn find_field(
    _module: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects; only
    // words inside the object are read.
    unsafe {
        let Some([class, task, coroutine]) = arguments(args, nargs) else {
            return ptr::null_mut();
        };
        let Some((words, count)) = words(task, class) else {
            return ptr::null_mut();
        };
        let mut matching = (0..count).filter(|index| *words.add(*index) == coroutine);
        match (matching.next(), matching.next()) {
            (Some(index), None) => ffi::PyLong_FromSize_t(index),
            _ => ffi::Py_NewRef(ffi::Py_None()),
        }
    }
}

/// `swap_field(task_type, task, index, old, new)`: puts `new` into the field that
/// `find_field` found, if `old` is in it. Returns whether it was.
pub unsafe extern "C" fn swap_field(
    _module: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above. The word is a counted reference to `old`, which the
    // caller holds too.
    unsafe {
        let Some([class, task, index, old, new]) = arguments(args, nargs) else {
            return ptr::null_mut();
        };
        let Some((words, count)) = words(task, class) else {
            return ptr::null_mut();
        };
        let index = ffi::PyLong_AsSize_t(index);
        if index == usize::MAX && !ffi::PyErr_Occurred().is_null() {
            return ptr::null_mut();
        }
        let swapped = index < count && *words.add(index) == old;
        if swapped {
            *words.add(index) = ffi::Py_NewRef(new);
            ffi::Py_DECREF(old);
        }
        ffi::PyBool_FromLong(swapped.into())
    }
}
