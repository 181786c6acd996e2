//! The type object of [`Reactor`]: how one is made, what the package calls on it, and
//! its end.

use core::cell::{Cell, RefCell};
use core::ffi::{CStr, c_int, c_long, c_ulong, c_void};
use core::mem::ManuallyDrop;
use core::ptr;
use std::collections::VecDeque;

use pyo3::ffi::{self, PyObject};

use super::descriptors::Descriptors;
use super::timers::{Time, Timers};
use super::{Kind, Open, Reactor, State, all, forks, here, raise_os_error};
use crate::errors::raise;
use crate::tables::{self, Table, method, slot};

static mut TYPE: *mut ffi::PyTypeObject = ptr::null_mut();

/// `_reactor(backend, key, is_trio, clock)`: a reactor for the loop that runs in this
/// thread.
pub unsafe extern "C" fn new(
    _module: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects; the object
    // is complete when tracked.
    unsafe {
        if nargs != 4 {
            return raise(ffi::PyExc_TypeError, c"_reactor() takes 4 arguments");
        }
        let [backend, key, is_trio, clock] = ptr::read(args.cast::<[*mut PyObject; 4]>());
        let descriptors = match Descriptors::new() {
            Ok(descriptors) => descriptors,
            Err(error) => {
                raise_os_error(&error);
                return ptr::null_mut();
            }
        };
        let this: *mut Reactor = ffi::PyObject_GC_New(TYPE);
        if this.is_null() {
            return ptr::null_mut();
        }
        (*this).kind = if ffi::PyObject_IsTrue(is_trio) == 1 {
            Kind::Trio
        } else {
            Kind::Asyncio
        };
        (*this).backend = ffi::Py_NewRef(backend);
        (*this).key = key;
        (*this).clock = if clock == ffi::Py_None() {
            ptr::null_mut()
        } else {
            ffi::Py_NewRef(clock)
        };
        (&raw mut (*this).thread).write(Cell::new(ffi::PyThread_get_thread_ident() as c_ulong));
        (*this).forks = forks();
        (&raw mut (*this).closed).write(Cell::new(false));
        (&raw mut (*this).collecting).write(Cell::new(false));
        (&raw mut (*this).asked).write(Cell::new(false));
        (&raw mut (*this).armed).write(Cell::new(Time::MAX));
        (&raw mut (*this).unwaited).write(Cell::new(0));
        (&raw mut (*this).unwaited_since).write(Cell::new(0));
        (&raw mut (*this).state).write(ManuallyDrop::new(RefCell::new(State {
            descriptors,
            timers: Timers::default(),
            ready: VecDeque::new(),
        })));
        all().push(Open(this));
        ffi::PyObject_GC_Track(this.cast());
        this.cast()
    }
}

/// Whether `object` is a reactor.
pub fn check_exact(object: *mut PyObject) -> bool {
    // SAFETY: `object` is live; TYPE is written once, under the GIL.
    unsafe { ffi::Py_TYPE(object) == TYPE }
}

unsafe extern "C" fn fileno(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object.
    unsafe {
        let this: *mut Reactor = this.cast();
        let fd = (*this).state.borrow().descriptors.fileno();
        ffi::PyLong_FromLong(fd.into())
    }
}

unsafe extern "C" fn turn(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above; the loop's handle holds the object, but may drop it meanwhile.
    unsafe {
        ffi::Py_INCREF(this);
        let result = Reactor::turn(this.cast(), true);
        ffi::Py_DECREF(this);
        result
    }
}

unsafe extern "C" fn run_ready(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        ffi::Py_INCREF(this);
        let result = Reactor::turn(this.cast(), false);
        ffi::Py_DECREF(this);
        result
    }
}

/// The loop's timer may be early: some round, some look at their clock once an iteration.
unsafe extern "C" fn on_timer(this: *mut PyObject, unused: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        (*this.cast::<Reactor>()).armed.set(Time::MAX);
        turn(this, unused)
    }
}

unsafe extern "C" fn close(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        Reactor::close(this.cast());
        ffi::Py_NewRef(ffi::Py_None())
    }
}

unsafe extern "C" fn is_open(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { ffi::PyBool_FromLong(c_long::from((*this.cast::<Reactor>()).is_open())) }
}

unsafe extern "C" fn stats(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let state = (*this.cast::<Reactor>()).state.borrow();
        let (descriptors, waiters) = state.descriptors.count();
        let (timers, ready) = (state.timers.len(), state.ready.len());
        drop(state);
        ffi::Py_BuildValue(
            c"{snsnsnsn}".as_ptr(),
            c"descriptors".as_ptr(),
            descriptors as ffi::Py_ssize_t,
            c"waiters".as_ptr(),
            waiters as ffi::Py_ssize_t,
            c"timers".as_ptr(),
            timers as ffi::Py_ssize_t,
            c"ready".as_ptr(),
            ready as ffi::Py_ssize_t,
        )
    }
}

unsafe extern "C" fn tp_traverse(
    this: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with the GIL held and a live object; the state is
    // never borrowed while Python code, and so the collector, runs.
    unsafe {
        let this: *mut Reactor = this.cast();
        let parts = [
            ffi::Py_TYPE(this.cast()).cast(),
            (*this).backend,
            (*this).clock,
        ];
        for part in parts {
            if !part.is_null() {
                let failed = visit(part, arg);
                if failed != 0 {
                    return failed;
                }
            }
        }
        for waiter in &(*this).state.borrow().ready {
            let failed = visit(waiter.cast(), arg);
            if failed != 0 {
                return failed;
            }
        }
        0
    }
}

unsafe extern "C" fn tp_clear(this: *mut PyObject) -> c_int {
    // SAFETY: as above. The backend stays: its methods are called to the end.
    unsafe { Reactor::close(this.cast()) };
    0
}

unsafe extern "C" fn tp_dealloc(this: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held, when no reference is left.
    unsafe {
        ffi::PyObject_GC_UnTrack(this.cast());
        let reactor: *mut Reactor = this.cast();
        Reactor::close(reactor);
        here::forget_reactor(reactor);
        ManuallyDrop::drop(&mut (*reactor).state);
        ffi::Py_DECREF((*reactor).backend);
        ffi::Py_XDECREF((*reactor).clock);
        let class = ffi::Py_TYPE(this);
        ffi::PyObject_GC_Del(this.cast());
        ffi::Py_DECREF(class.cast());
    }
}

const DOC: &CStr = c"Who waits for what in one event loop.

The package makes one for each loop (verdigris.loops), which watches `fileno()`
and calls `turn()`.";

static METHODS: Table<[ffi::PyMethodDef; 8]> = Table([
    method(c"fileno", ffi::PyMethodDefPointer { PyCFunction: fileno }, ffi::METH_NOARGS, c"fileno($self, /)\n--\n\nThe descriptor that the loop watches for reading; -1 when it has ended."),
    method(c"turn", ffi::PyMethodDefPointer { PyCFunction: turn }, ffi::METH_NOARGS, c"turn($self, /)\n--\n\nTake events and due deadlines, and resume whoever waited for them."),
    method(c"on_timer", ffi::PyMethodDefPointer { PyCFunction: on_timer }, ffi::METH_NOARGS, c"on_timer($self, /)\n--\n\nThe same, called by the timer that was set last, which is over."),
    method(c"run_ready", ffi::PyMethodDefPointer { PyCFunction: run_ready }, ffi::METH_NOARGS, c"run_ready($self, /)\n--\n\nThe same without asking the kernel for events."),
    method(c"close", ffi::PyMethodDefPointer { PyCFunction: close }, ffi::METH_NOARGS, c"close($self, /)\n--\n\nThe loop has ended: nothing can be waited for with it any more."),
    method(c"is_open", ffi::PyMethodDefPointer { PyCFunction: is_open }, ffi::METH_NOARGS, c"is_open($self, /)\n--\n\nWhether it can be waited with: not closed, and of this process."),
    method(c"stats", ffi::PyMethodDefPointer { PyCFunction: stats }, ffi::METH_NOARGS, c"stats($self, /)\n--\n\nA dict: how many descriptors, waiters on them, timers, and waits that are over."),
    ffi::PyMethodDef::zeroed(),
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
        slot(ffi::Py_tp_traverse, tp_traverse as *mut c_void),
        slot(ffi::Py_tp_clear, tp_clear as *mut c_void),
        slot(ffi::Py_tp_dealloc, tp_dealloc as *mut c_void),
        slot(ffi::Py_tp_methods, METHODS.0.as_ptr() as *mut c_void),
        slot(0, ptr::null_mut()),
    ];
    // SAFETY: the slots are those of the type and end with 0, the tables are
    // static, and the GIL is held, so nobody reads TYPE meanwhile.
    unsafe {
        let class = tables::make_type::<Reactor>(c"verdigris._engine.Reactor", &mut slots);
        TYPE = class.cast();
        class
    }
}
