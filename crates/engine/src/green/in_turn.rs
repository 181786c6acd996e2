//! Methods that several functions of a thread call one after another.
//!
//! A buffered file of the stdlib has a lock that knows threads, and raises for the second
//! of two functions on one thread. `in_turn` puts a lock that knows functions around such
//! a method. Files are read line by line, so it is a callable of its own: a Python function
//! with the lock in it costs as much again as the line.

use core::ffi::{CStr, c_int, c_uint, c_void};
use core::mem::offset_of;
use core::ptr;

use pyo3::ffi::{self, PyObject};

use super::rlock;
use crate::errors::raise;
use crate::tables::{Table, slot};

unsafe extern "C" {
    // Not in PyO3's bindings.
    fn PyMethod_New(function: *mut PyObject, this: *mut PyObject) -> *mut PyObject;
}

static mut TYPE: *mut ffi::PyTypeObject = ptr::null_mut();

#[repr(C)]
struct InTurn {
    ob_base: PyObject,
    vectorcall: ffi::vectorcallfunc,
    /// What is called.
    method: *mut PyObject,
    /// Whose instances have the lock, and where in them.
    class: *mut ffi::PyTypeObject,
    offset: ffi::Py_ssize_t,
}

/// `in_turn(method, member)`.
pub unsafe extern "C" fn in_turn(
    _module: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects.
    unsafe {
        let is_member = nargs == 2
            && ffi::PyObject_TypeCheck(*args.add(1), &raw mut ffi::PyMemberDescr_Type) != 0;
        if !is_member {
            return raise(
                ffi::PyExc_TypeError,
                c"in_turn() takes a method, and the member of a class for the lock",
            );
        }
        let member: *mut ffi::PyMemberDescrObject = (*args.add(1)).cast();
        if (*(*member).d_member).type_code != ffi::Py_T_OBJECT_EX {
            return raise(
                ffi::PyExc_TypeError,
                c"the lock belongs into a member of __slots__",
            );
        }
        let this = ffi::PyType_GenericAlloc(TYPE, 0);
        if !this.is_null() {
            let made: *mut InTurn = this.cast();
            (*made).vectorcall = call;
            (*made).method = ffi::Py_NewRef(*args);
            (*made).class = ffi::Py_NewRef((*member).d_common.d_type.cast()).cast();
            (*made).offset = (*(*member).d_member).offset;
        }
        this
    }
}

unsafe extern "C" fn call(
    callable: *mut PyObject,
    args: *const *mut PyObject,
    nargsf: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and live arguments, which the caller
    // holds.
    unsafe {
        let this: *mut InTurn = callable.cast();
        if ffi::PyVectorcall_NARGS(nargsf) == 0
            || ffi::PyObject_TypeCheck(*args, (*this).class) == 0
        {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"%R needs a '%s' as its first argument".as_ptr(),
                (*this).method,
                (*(*this).class).tp_name,
            );
            return ptr::null_mut();
        }
        let turn = turn_of((*args).byte_offset((*this).offset).cast());
        if turn.is_null() {
            return turn;
        }
        let mut result = ptr::null_mut();
        if rlock::take(turn) {
            result = ffi::PyObject_Vectorcall((*this).method, args, nargsf, names);
            rlock::give_back(turn);
        }
        ffi::Py_DECREF(turn);
        result
    }
}

/// The lock in the member of an object, made when it is first needed: a new reference, or
/// null with an exception set.
unsafe fn turn_of(member: *mut *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held; the member is the object's, and null or holds a reference.
    unsafe {
        if (*member).is_null() {
            *member = rlock::new();
        } else if !rlock::check_exact(*member) {
            return raise(ffi::PyExc_TypeError, c"the lock of this file was replaced");
        }
        ffi::Py_XNewRef(*member)
    }
}

unsafe extern "C" fn tp_descr_get(
    this: *mut PyObject,
    object: *mut PyObject,
    _: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and live objects.
    unsafe {
        if object.is_null() {
            return ffi::Py_NewRef(this);
        }
        PyMethod_New(this, object)
    }
}

/// An attribute of the method, whose name is the closure.
unsafe extern "C" fn of_method(this: *mut PyObject, name: *mut c_void) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held; the table below has C strings.
    unsafe { ffi::PyObject_GetAttrString((*this.cast::<InTurn>()).method, name.cast()) }
}

unsafe extern "C" fn wrapped(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { ffi::Py_NewRef((*this.cast::<InTurn>()).method) }
}

unsafe extern "C" fn tp_repr(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe { ffi::PyUnicode_FromFormat(c"<%R, in turn>".as_ptr(), (*this.cast::<InTurn>()).method) }
}

unsafe extern "C" fn tp_traverse(
    this: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with the GIL held.
    unsafe {
        let of = this.cast::<InTurn>();
        for object in [(*of).method, (*of).class.cast(), ffi::Py_TYPE(this).cast()] {
            if !object.is_null() {
                let stop = visit(object, arg);
                if stop != 0 {
                    return stop;
                }
            }
        }
        0
    }
}

unsafe extern "C" fn tp_dealloc(this: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held, when no reference is left.
    unsafe {
        ffi::PyObject_GC_UnTrack(this.cast());
        let of = this.cast::<InTurn>();
        ffi::Py_XDECREF((*of).method);
        ffi::Py_XDECREF((*of).class.cast());
        let class = ffi::Py_TYPE(this);
        ffi::PyObject_GC_Del(this.cast());
        ffi::Py_DECREF(class.cast());
    }
}

const fn of_method_by(name: &'static CStr) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(of_method),
        set: None,
        doc: ptr::null(),
        closure: name.as_ptr().cast_mut().cast(),
    }
}

static ATTRIBUTES: Table<[ffi::PyGetSetDef; 5]> = Table([
    of_method_by(c"__name__"),
    of_method_by(c"__qualname__"),
    of_method_by(c"__doc__"),
    ffi::PyGetSetDef {
        name: c"__wrapped__".as_ptr(),
        get: Some(wrapped),
        set: None,
        doc: ptr::null(),
        closure: ptr::null_mut(),
    },
    // SAFETY: all fields of a sentinel are null.
    unsafe { core::mem::zeroed() },
]);

static MEMBERS: Table<[ffi::PyMemberDef; 2]> = Table([
    ffi::PyMemberDef {
        name: c"__vectorcalloffset__".as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset_of!(InTurn, vectorcall) as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    },
    // SAFETY: all fields of a sentinel are null.
    unsafe { core::mem::zeroed() },
]);

/// Makes the type. False with an exception set. Called once, when the module is made.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn make_type() -> bool {
    let mut slots = [
        slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
        slot(ffi::Py_tp_descr_get, tp_descr_get as *mut c_void),
        slot(ffi::Py_tp_repr, tp_repr as *mut c_void),
        slot(ffi::Py_tp_traverse, tp_traverse as *mut c_void),
        slot(ffi::Py_tp_dealloc, tp_dealloc as *mut c_void),
        slot(ffi::Py_tp_getset, ATTRIBUTES.0.as_ptr() as *mut c_void),
        slot(ffi::Py_tp_members, MEMBERS.0.as_ptr() as *mut c_void),
        slot(0, ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"verdigris._engine.InTurn".as_ptr(),
        basicsize: size_of::<InTurn>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT
            | ffi::Py_TPFLAGS_HAVE_GC
            | ffi::Py_TPFLAGS_HAVE_VECTORCALL
            | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR
            | ffi::Py_TPFLAGS_IMMUTABLETYPE
            | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the slots are those of the type and end with 0, the tables are static, and
    // the GIL is held, so nobody reads TYPE meanwhile.
    unsafe {
        TYPE = ffi::PyType_FromSpec(&raw mut spec).cast();
        !TYPE.is_null()
    }
}
