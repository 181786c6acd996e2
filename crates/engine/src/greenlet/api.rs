//! greenlet's C functions. Their places in its table are the same in all releases
//! from 2.0 on.

use core::ffi::{c_int, c_void};
use core::ptr;

use pyo3::ffi::{self, PyObject};

type New = unsafe extern "C" fn(run: *mut PyObject, parent: *mut PyObject) -> *mut PyObject;
type GetCurrent = unsafe extern "C" fn() -> *mut PyObject;
type Throw = unsafe extern "C" fn(
    greenlet: *mut PyObject,
    class: *mut PyObject,
    value: *mut PyObject,
    traceback: *mut PyObject,
) -> *mut PyObject;
type Switch = unsafe extern "C" fn(
    greenlet: *mut PyObject,
    args: *mut PyObject,
    keywords: *mut PyObject,
) -> *mut PyObject;
type SetParent = unsafe extern "C" fn(greenlet: *mut PyObject, parent: *mut PyObject) -> c_int;
type GetParent = unsafe extern "C" fn(greenlet: *mut PyObject) -> *mut PyObject;

/// The table, as greenlet fills it.
#[repr(C)]
struct Table {
    class: *mut PyObject,
    error: *mut PyObject,
    exit: *mut PyObject,
    new: Option<New>,
    get_current: Option<GetCurrent>,
    throw: Option<Throw>,
    switch: Option<Switch>,
    set_parent: Option<SetParent>,
    is_main: *const c_void,
    is_started: *const c_void,
    is_active: *const c_void,
    get_parent: Option<GetParent>,
}

/// What is used of it.
#[derive(Clone, Copy)]
pub struct Api {
    /// `greenlet.error`.
    pub error: *mut PyObject,
    /// A new greenlet below the current one, if `parent` is null.
    pub new: New,
    pub get_current: GetCurrent,
    pub throw: Throw,
    /// Returns what the caller is switched back to with.
    pub switch: Switch,
    pub set_parent: SetParent,
    /// A new reference, or null without an exception.
    pub get_parent: GetParent,
}

/// Guarded by the GIL.
static mut API: Option<Api> = None;

/// The functions, once [`load`] has found them.
#[inline]
pub fn get() -> Option<Api> {
    // SAFETY: the GIL is held, which every caller needs for what it does next.
    unsafe { API }
}

/// Looks the functions up, if greenlet is loaded. False if they are not there;
/// leaves no exception.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn load() -> bool {
    // SAFETY: the GIL is held. The table is for others to read, and the library is
    // never unloaded.
    unsafe {
        let table = find_table().cast::<Table>();
        if table.is_null() {
            return false;
        }
        let table = &*table;
        let found = (|| {
            Some(Api {
                error: table.error,
                new: table.new?,
                get_current: table.get_current?,
                throw: table.throw?,
                switch: table.switch?,
                set_parent: table.set_parent?,
                get_parent: table.get_parent?,
            })
        })();
        API = found;
        found.is_some()
    }
}

/// Asked of the extension itself: the package that shows the table to others may
/// still be in the middle of its import.
unsafe fn find_table() -> *mut c_void {
    // SAFETY: the GIL is held.
    unsafe {
        let modules = ffi::PyImport_GetModuleDict();
        let module = ffi::PyDict_GetItemString(modules, c"greenlet._greenlet".as_ptr());
        if module.is_null() {
            return ptr::null_mut();
        }
        let capsule = ffi::PyObject_GetAttrString(module, c"_C_API".as_ptr());
        if capsule.is_null() {
            ffi::PyErr_Clear();
            return ptr::null_mut();
        }
        let table = ffi::PyCapsule_GetPointer(capsule, c"greenlet._C_API".as_ptr());
        ffi::Py_DECREF(capsule);
        if table.is_null() {
            ffi::PyErr_Clear();
        }
        table
    }
}

/// The current greenlet, a new reference, or null without an exception.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn current() -> *mut PyObject {
    // SAFETY: greenlet's own function, called as it asks for.
    unsafe {
        let Some(api) = get() else {
            return ptr::null_mut();
        };
        let current = (api.get_current)();
        if current.is_null() {
            ffi::PyErr_Clear();
        }
        current
    }
}
