//! `RLock`: the stdlib's `_thread.RLock`, whose owner is a thread or a green function.

use core::ffi::{CStr, c_int, c_uint, c_void};
use core::mem::offset_of;
use core::ptr;

use pyo3::ffi::{self, PyObject};

use super::lock::parse_acquire;
use super::raw_lock::{Acquired, RawLock};
use crate::errors::{self, raise};
use crate::reactor::here;
use crate::tables::{Table, method, slot};

static mut TYPE: *mut ffi::PyTypeObject = ptr::null_mut();

#[repr(C)]
struct RLock {
    ob_base: PyObject,
    raw: RawLock,
    /// Whose it is; 0 when it is free.
    owner: usize,
    count: usize,
    weak_references: *mut PyObject,
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
        let lock: *mut RLock = this.cast();
        let Some(waits) = parse_acquire(args, nargs, names) else {
            return ptr::null_mut();
        };
        match take_within(lock, waits) {
            Acquired::Yes => ffi::PyBool_FromLong(1),
            Acquired::TimedOut => ffi::PyBool_FromLong(0),
            Acquired::Failed => ptr::null_mut(),
        }
    }
}

/// Takes the lock, or takes it once more: `waits` is what [`parse_acquire`] gives.
unsafe fn take_within(lock: *mut RLock, waits: Option<Option<f64>>) -> Acquired {
    // SAFETY: the GIL is held, and the caller holds the lock's object.
    unsafe {
        let me = here::ident();
        if (*lock).count > 0 && (*lock).owner == me {
            (*lock).count += 1;
            return Acquired::Yes;
        }
        let raw = &raw mut (*lock).raw;
        let acquired = match waits {
            None if (*raw).try_acquire() => Acquired::Yes,
            None => Acquired::TimedOut,
            Some(timeout) => RawLock::acquire(raw, lock.cast(), timeout),
        };
        if matches!(acquired, Acquired::Yes) {
            (*lock).owner = me;
            (*lock).count = 1;
        }
        acquired
    }
}

/// Takes a lock, as `with` does. False with an exception set.
///
/// # Safety
///
/// The GIL is held; the caller holds `lock`, for which [`check_exact`] is true.
#[inline]
pub unsafe fn take(lock: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe { matches!(take_within(lock.cast(), Some(None)), Acquired::Yes) }
}

/// Gives it back once. False with an exception set, when it is not the caller's.
///
/// # Safety
///
/// As of [`take`].
#[inline]
pub unsafe fn give_back(lock: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe {
        let lock: *mut RLock = lock.cast();
        if !is_mine(lock) {
            raise(ffi::PyExc_RuntimeError, c"cannot release un-acquired lock");
            return false;
        }
        (*lock).count -= 1;
        if (*lock).count == 0 {
            (*lock).owner = 0;
            RawLock::release(&raw mut (*lock).raw);
        }
        true
    }
}

/// A new lock, or null with an exception set.
///
/// # Safety
///
/// The GIL is held, and the type is made.
pub unsafe fn new() -> *mut PyObject {
    // SAFETY: by contract.
    unsafe { tp_new(TYPE, ptr::null_mut(), ptr::null_mut()) }
}

/// Whether `object` is a lock of this type itself.
///
/// # Safety
///
/// The GIL is held and `object` is live.
#[inline]
pub unsafe fn check_exact(object: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe { ptr::eq(ffi::Py_TYPE(object), TYPE) }
}

unsafe extern "C" fn enter(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { acquire(this, ptr::null(), 0, ptr::null_mut()) }
}

unsafe fn is_mine(lock: *mut RLock) -> bool {
    // SAFETY: the GIL is held and `lock` is live.
    unsafe { (*lock).count > 0 && (*lock).owner == here::ident() }
}

unsafe extern "C" fn release(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        if give_back(this) {
            ffi::Py_NewRef(ffi::Py_None())
        } else {
            ptr::null_mut()
        }
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
    unsafe { ffi::PyBool_FromLong(((*this.cast::<RLock>()).count > 0).into()) }
}

unsafe extern "C" fn is_owned(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { ffi::PyBool_FromLong(is_mine(this.cast()).into()) }
}

unsafe extern "C" fn recursion_count(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let lock: *mut RLock = this.cast();
        ffi::PyLong_FromSize_t(if is_mine(lock) { (*lock).count } else { 0 })
    }
}

/// For `threading.Condition`, which gives the lock away however often it is held.
unsafe extern "C" fn release_save(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let lock: *mut RLock = this.cast();
        if (*lock).count == 0 {
            return raise(ffi::PyExc_RuntimeError, c"cannot release un-acquired lock");
        }
        let state = ffi::Py_BuildValue(
            c"nn".as_ptr(),
            (*lock).count as ffi::Py_ssize_t,
            (*lock).owner as ffi::Py_ssize_t,
        );
        if !state.is_null() {
            (*lock).count = 0;
            (*lock).owner = 0;
            RawLock::release(&raw mut (*lock).raw);
        }
        state
    }
}

unsafe extern "C" fn acquire_restore(this: *mut PyObject, state: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let lock: *mut RLock = this.cast();
        let (mut count, mut owner): (ffi::Py_ssize_t, ffi::Py_ssize_t) = (0, 0);
        if ffi::PyTuple_Check(state) == 0 {
            return raise(ffi::PyExc_TypeError, c"_acquire_restore() takes a tuple");
        }
        if ffi::PyArg_ParseTuple(
            state,
            c"nn:_acquire_restore".as_ptr(),
            &raw mut count,
            &raw mut owner,
        ) == 0
        {
            return ptr::null_mut();
        }
        // Whoever has the lock in a `with` block must have it again at its end. A
        // cancellation that comes meanwhile is raised then.
        let mut thrown: *mut PyObject = ptr::null_mut();
        while let Acquired::Failed | Acquired::TimedOut =
            RawLock::acquire(&raw mut (*lock).raw, lock.cast(), None)
        {
            // An error of ours; or nobody will ever go on with the function.
            if ffi::PyErr_ExceptionMatches(ffi::PyExc_Exception) != 0
                || ffi::PyErr_ExceptionMatches(ffi::PyExc_GeneratorExit) != 0
            {
                ffi::Py_XDECREF(thrown);
                return ptr::null_mut();
            }
            let exception = errors::take();
            if thrown.is_null() {
                thrown = exception;
            } else {
                ffi::Py_XDECREF(exception);
            }
        }
        (*lock).count = count as usize;
        (*lock).owner = owner as usize;
        if !thrown.is_null() {
            errors::restore(thrown);
            return ptr::null_mut();
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

unsafe extern "C" fn at_fork_reinit(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let lock: *mut RLock = this.cast();
        (*lock).raw.reset();
        (*lock).count = 0;
        (*lock).owner = 0;
        ffi::Py_NewRef(ffi::Py_None())
    }
}

unsafe extern "C" fn tp_new(
    class: *mut ffi::PyTypeObject,
    args: *mut PyObject,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held; the memory is zeroed.
    unsafe {
        // Up to 3.14 the stdlib's takes any, for nothing.
        let given = (!args.is_null() && ffi::PyTuple_Size(args) != 0)
            || (!names.is_null() && ffi::PyDict_Size(names) != 0);
        if cfg!(Py_3_15) && given && ptr::eq(class, TYPE) {
            return raise(ffi::PyExc_TypeError, c"RLock() takes no arguments");
        }
        let this = ffi::PyType_GenericAlloc(class, 0);
        if !this.is_null() {
            (&raw mut (*this.cast::<RLock>()).raw).write(RawLock::default());
        }
        this
    }
}

unsafe extern "C" fn tp_repr(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        let lock: *mut RLock = this.cast();
        ffi::PyUnicode_FromFormat(
            c"<%s %s object owner=%zu count=%zu at %p>".as_ptr(),
            if (*lock).count > 0 {
                c"locked".as_ptr()
            } else {
                c"unlocked".as_ptr()
            },
            (*ffi::Py_TYPE(this)).tp_name,
            (*lock).owner,
            (*lock).count,
            this,
        )
    }
}

unsafe extern "C" fn tp_dealloc(this: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held, when no reference is left: nobody
    // waits.
    unsafe {
        let lock: *mut RLock = this.cast();
        if !(*lock).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(this);
        }
        ptr::drop_in_place(&raw mut (*lock).raw);
        let class = ffi::Py_TYPE(this);
        if let Some(free) = (*class).tp_free {
            free(this.cast());
        }
        ffi::Py_DECREF(class.cast());
    }
}

const DOC: &CStr = c"A lock that its owner may take again: a thread, or a green function.

It is `threading.RLock`. In a green function, waiting for it suspends the function;
anywhere else it blocks the thread.";

static METHODS: Table<[ffi::PyMethodDef; 11]> = Table([
    method(c"acquire", ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: acquire }, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, c"acquire($self, /, blocking=True, timeout=-1)\n--\n\nTake the lock, or take it once more. Returns whether it was taken; waits for it\nunless blocking is False, and at most timeout seconds unless that is -1."),
    method(c"release", ffi::PyMethodDefPointer { PyCFunction: release }, ffi::METH_NOARGS, c"release($self, /)\n--\n\nGive it back once. RuntimeError if the caller has not taken it."),
    method(c"locked", ffi::PyMethodDefPointer { PyCFunction: locked }, ffi::METH_NOARGS, c"locked($self, /)\n--\n\nWhether it is taken."),
    method(c"__enter__", ffi::PyMethodDefPointer { PyCFunction: enter }, ffi::METH_NOARGS, c"__enter__($self, /)\n--\n\nTake the lock."),
    method(c"__exit__", ffi::PyMethodDefPointer { PyCFunctionFast: exit }, ffi::METH_FASTCALL, c"__exit__($self, /, *exc_info)\n--\n\nGive it back."),
    method(c"_is_owned", ffi::PyMethodDefPointer { PyCFunction: is_owned }, ffi::METH_NOARGS, c"_is_owned($self, /)\n--\n\nWhether it is the caller's."),
    method(c"_recursion_count", ffi::PyMethodDefPointer { PyCFunction: recursion_count }, ffi::METH_NOARGS, c"_recursion_count($self, /)\n--\n\nHow often the caller has taken it."),
    method(c"_release_save", ffi::PyMethodDefPointer { PyCFunction: release_save }, ffi::METH_NOARGS, c"_release_save($self, /)\n--\n\nFor threading.Condition."),
    method(c"_acquire_restore", ffi::PyMethodDefPointer { PyCFunction: acquire_restore }, ffi::METH_O, c"_acquire_restore($self, state, /)\n--\n\nFor threading.Condition."),
    method(c"_at_fork_reinit", ffi::PyMethodDefPointer { PyCFunction: at_fork_reinit }, ffi::METH_NOARGS, c"_at_fork_reinit($self, /)\n--\n\nMake it as new, in a fork's child."),
    ffi::PyMethodDef::zeroed(),
]);

static MEMBERS: Table<[ffi::PyMemberDef; 2]> = Table([
    ffi::PyMemberDef {
        name: c"__weaklistoffset__".as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset_of!(RLock, weak_references) as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    },
    // SAFETY: all fields of a sentinel are null.
    unsafe { core::mem::zeroed() },
]);

/// Makes the type: a new reference, or null with an exception set. Called once,
/// when the module is made.
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
        name: c"_thread.RLock".as_ptr(),
        basicsize: size_of::<RLock>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_IMMUTABLETYPE | ffi::Py_TPFLAGS_BASETYPE)
            as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the slots are those of the type and end with 0, the tables are static, and
    // the GIL is held, so nobody reads TYPE meanwhile.
    unsafe {
        let class = ffi::PyType_FromSpec(&raw mut spec);
        TYPE = class.cast();
        class
    }
}
