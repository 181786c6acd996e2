//! One wait of one function: from when it is suspended to when it goes on.
//!
//! To asyncio a [`Waiter`] is a future, as far as a task looks: the task that is
//! given one adds a callback and waits for its call. The future of asyncio's own
//! schedules that callback for the next iteration of the loop; this one's is called
//! right where the reactor learns that the wait is over, which saves the handle, the
//! iteration and its system call. On Trio the task sleeps in
//! `wait_task_rescheduled`, and is rescheduled from there.
//!
//! A waiter is in no more than one place of each kind: descriptors, a deadline, a
//! lock's queue. These hold no reference: the C frame that waits owns the waiter,
//! and takes it out of them when it goes on, for whatever reason.

use core::ffi::{CStr, c_int, c_void};
use core::ptr;
use std::os::fd::RawFd;

use pyo3::ffi::{self, PyObject};

use super::timers::Key;
use super::{Kind, Reactor};
use crate::arguments;
use crate::errors::raise;
use crate::tables::{self, Table, attribute, method, slot};

/// Why a wait is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is not.
    Pending,
    /// A descriptor is ready: its events.
    Ready(u8),
    /// The deadline has come.
    TimedOut,
    /// A lock was released, or whoever was waited for has called.
    Notified,
    /// The loop cancels the wait.
    Cancelled,
}

#[repr(C)]
pub struct Waiter {
    ob_base: PyObject,
    pub reason: Reason,
    /// asyncio's mark of a future that was yielded and not yet looked at.
    blocking: bool,
    /// Whether a task of Trio sleeps until it is rescheduled for this.
    pub parked: bool,
    reactor: *mut Reactor,
    /// The loop, or Trio's task.
    pub host: *mut PyObject,
    /// What the loop's task wants to have called, and in which context; or null.
    callback: *mut PyObject,
    context: *mut PyObject,
    cancel_message: *mut PyObject,
    /// The descriptor it waits for, or -1.
    pub fd: RawFd,
    /// Further ones.
    pub more: Vec<RawFd>,
    pub deadline: Option<Key>,
    /// The lock in whose queue it is, borrowed from the frame that waits; or null.
    pub lock: *mut PyObject,
}

static mut TYPE: *mut ffi::PyTypeObject = ptr::null_mut();

impl Waiter {
    /// A new reference, or null with an exception set. `host` is borrowed.
    ///
    /// # Safety
    ///
    /// The GIL is held, and both are live.
    pub unsafe fn new(reactor: *mut Reactor, host: *mut PyObject) -> *mut Self {
        // SAFETY: TYPE is made with the module; the object is complete when tracked.
        unsafe {
            let this: *mut Self = ffi::PyObject_GC_New(TYPE);
            if this.is_null() {
                return this;
            }
            (*this).reason = Reason::Pending;
            (*this).blocking = true;
            (*this).parked = false;
            (*this).reactor = ffi::Py_NewRef(reactor.cast()).cast();
            (*this).host = ffi::Py_XNewRef(host);
            (*this).callback = ptr::null_mut();
            (*this).context = ptr::null_mut();
            (*this).cancel_message = ptr::null_mut();
            (*this).fd = -1;
            (&raw mut (*this).more).write(Vec::new());
            (*this).deadline = None;
            (*this).lock = ptr::null_mut();
            ffi::PyObject_GC_Track(this.cast());
            this
        }
    }

    /// Whose turn goes on with it.
    pub fn reactor(&self) -> *const Reactor {
        self.reactor
    }

    /// Marks it as yielded to the loop (once more).
    pub fn yielded(&mut self) {
        self.blocking = true;
    }

    /// The wait is over: the function goes on in the reactor's turn. False if it was over
    /// already.
    ///
    /// # Safety
    ///
    /// The GIL is held, `this` is live, and its reactor is not borrowed.
    pub unsafe fn wake(this: *mut Self, reason: Reason) -> bool {
        // SAFETY: by contract.
        unsafe {
            if (*this).reason != Reason::Pending {
                return false;
            }
            (*this).reason = reason;
            Self::detach(this);
            Reactor::make_ready((*this).reactor, this);
            true
        }
    }

    /// Takes it out of everything that would wake it, but for a lock's queue.
    ///
    /// # Safety
    ///
    /// As for `wake`.
    pub unsafe fn detach(this: *mut Self) {
        // SAFETY: by contract.
        unsafe {
            if (*this).fd >= 0 || (*this).deadline.is_some() {
                (*(*this).reactor).remove(this);
            }
        }
    }

    /// Has the loop go on with the task. False with an exception that must end the turn.
    ///
    /// # Safety
    ///
    /// The GIL is held, `this` is held by the caller, and its wait is over.
    #[inline]
    pub unsafe fn deliver(this: *mut Self) -> bool {
        // SAFETY: by contract; references are taken out before they are used.
        unsafe {
            if (*(*this).reactor).kind == Kind::Trio {
                // One that was over before it was slept for is noticed without.
                return !core::mem::take(&mut (*this).parked)
                    || Reactor::reschedule((*this).reactor, (*this).host);
            }
            let callback = core::mem::replace(&mut (*this).callback, ptr::null_mut());
            if callback.is_null() {
                return true; // nobody has looked yet, and will find it over
            }
            let context = core::mem::replace(&mut (*this).context, ptr::null_mut());
            let mut result = ptr::null_mut();
            if ffi::PyContext_Enter(context) == 0 {
                result = ffi::PyObject_CallOneArg(callback, this.cast());
                let error = crate::errors::take();
                if ffi::PyContext_Exit(context) < 0 {
                    ffi::PyErr_Clear();
                }
                crate::errors::restore(error);
            }
            ffi::Py_DECREF(context);
            ffi::Py_DECREF(callback);
            if result.is_null() {
                return false;
            }
            ffi::Py_DECREF(result);
            true
        }
    }

    /// The loop's task will not wait any longer.
    unsafe fn cancelled(this: *mut Self) -> bool {
        // SAFETY: the GIL is held and `this` is live.
        unsafe { Self::wake(this, Reason::Cancelled) }
    }
}

unsafe extern "C" fn add_done_callback(
    this: *mut PyObject,
    args: *const *mut PyObject,
    nargs: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and live objects.
    unsafe {
        let this: *mut Waiter = this.cast();
        let given = arguments::by_name(args, nargs, names, [c"fn", c"context"]);
        let Some([callback, context]) = given.filter(|given| !given[0].is_null()) else {
            return raise(
                ffi::PyExc_TypeError,
                c"add_done_callback() takes a function and a context",
            );
        };
        if !(*this).callback.is_null() {
            return raise(
                ffi::PyExc_RuntimeError,
                c"a wait of verdigris has one callback: that of the task it suspends",
            );
        }
        (*this).context = if context.is_null() || context == ffi::Py_None() {
            ffi::PyContext_CopyCurrent()
        } else {
            ffi::Py_NewRef(context)
        };
        if (*this).context.is_null() {
            return ptr::null_mut();
        }
        (*this).callback = ffi::Py_NewRef(callback);
        if (*this).reason != Reason::Pending {
            Reactor::make_ready((*this).reactor, this);
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

unsafe extern "C" fn remove_done_callback(
    this: *mut PyObject,
    callback: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let this: *mut Waiter = this.cast();
        let known = (*this).callback;
        let same =
            !known.is_null() && ffi::PyObject_RichCompareBool(known, callback, ffi::Py_EQ) == 1;
        if same && (*this).callback == known {
            (*this).callback = ptr::null_mut();
            let context = core::mem::replace(&mut (*this).context, ptr::null_mut());
            ffi::Py_DECREF(known);
            ffi::Py_XDECREF(context);
        }
        ffi::PyErr_Clear();
        ffi::PyLong_FromLong(same.into())
    }
}

unsafe extern "C" fn cancel(
    this: *mut PyObject,
    args: *const *mut PyObject,
    nargs: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let this: *mut Waiter = this.cast();
        let Some([message]) = arguments::by_name(args, nargs, names, [c"msg"]) else {
            return raise(ffi::PyExc_TypeError, c"cancel() takes a message");
        };
        let cancelled = Waiter::cancelled(this);
        if cancelled && !message.is_null() && message != ffi::Py_None() {
            (*this).cancel_message = ffi::Py_NewRef(message);
        }
        ffi::PyBool_FromLong(cancelled.into())
    }
}

/// Trio's abort function. Whoever was woken already is rescheduled anyway.
unsafe extern "C" fn abort(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let this: *mut Waiter = this.cast();
        let pending = (*this).reason == Reason::Pending;
        if pending {
            (*this).reason = Reason::Cancelled;
            Waiter::detach(this);
        }
        ffi::PyBool_FromLong(pending.into())
    }
}

unsafe extern "C" fn result(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let this: *mut Waiter = this.cast();
        match (*this).reason {
            Reason::Pending => raise(ffi::PyExc_RuntimeError, c"the wait is not over"),
            Reason::Cancelled => {
                let class = super::cancelled_error();
                if class.is_null() {
                    return class;
                }
                let message = (*this).cancel_message;
                let error = if message.is_null() {
                    ffi::PyObject_CallNoArgs(class)
                } else {
                    ffi::PyObject_CallOneArg(class, message)
                };
                if !error.is_null() {
                    ffi::PyErr_SetObject(class, error);
                    ffi::Py_DECREF(error);
                }
                ffi::Py_DECREF(class);
                ptr::null_mut()
            }
            _ => ffi::Py_NewRef(ffi::Py_None()),
        }
    }
}

unsafe extern "C" fn get_loop(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { ffi::Py_NewRef((*this.cast::<Waiter>()).host) }
}

unsafe extern "C" fn done(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let over = (*this.cast::<Waiter>()).reason != Reason::Pending;
        ffi::PyBool_FromLong(over.into())
    }
}

unsafe extern "C" fn is_cancelled(this: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let cancelled = (*this.cast::<Waiter>()).reason == Reason::Cancelled;
        ffi::PyBool_FromLong(cancelled.into())
    }
}

unsafe extern "C" fn blocking(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { ffi::PyBool_FromLong((*this.cast::<Waiter>()).blocking.into()) }
}

unsafe extern "C" fn set_blocking(
    this: *mut PyObject,
    value: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    // SAFETY: as above; a null value is a deletion, which changes nothing.
    unsafe {
        (*this.cast::<Waiter>()).blocking = !value.is_null() && ffi::PyObject_IsTrue(value) == 1;
    }
    0
}

/// What it waits for: pairs of descriptors and events, the seconds until its deadline
/// (or None), and its lock (or None). None when it is over.
unsafe extern "C" fn waits_for(this: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: as above; a lock is held by the frame that waits.
    unsafe {
        let this: *mut Waiter = this.cast();
        if (*this).reason != Reason::Pending {
            return ffi::Py_NewRef(ffi::Py_None());
        }
        let left = match (*this).deadline {
            None => ffi::Py_NewRef(ffi::Py_None()),
            Some((deadline, _)) => match (*(*this).reactor).now() {
                Some(now) => ffi::PyFloat_FromDouble(deadline.saturating_sub(now) as f64 / 1e9),
                None => return ptr::null_mut(),
            },
        };
        // The clock may be the program's own code.
        let fds = (*(*this).reactor).events_of(this);
        let lock = if (*this).lock.is_null() {
            ffi::Py_NewRef(ffi::Py_None())
        } else {
            ffi::Py_NewRef((*this).lock)
        };
        let list = ffi::PyList_New(0);
        let mut complete = !list.is_null() && !left.is_null();
        for (fd, events) in fds {
            let pair = if complete {
                ffi::Py_BuildValue(c"(ii)".as_ptr(), fd, c_int::from(events))
            } else {
                ptr::null_mut()
            };
            complete = !pair.is_null() && ffi::PyList_Append(list, pair) == 0;
            ffi::Py_XDECREF(pair);
        }
        let result = if complete {
            ffi::PyTuple_Pack(3, list, left, lock)
        } else {
            ptr::null_mut()
        };
        ffi::Py_XDECREF(list);
        ffi::Py_XDECREF(left);
        ffi::Py_DECREF(lock);
        result
    }
}

unsafe extern "C" fn tp_repr(this: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let this: *mut Waiter = this.cast();
        let what = if (*this).reason != Reason::Pending {
            "over".to_owned()
        } else if (*this).fd >= 0 {
            format!("for descriptor {}", (*this).fd)
        } else if (*this).deadline.is_some() {
            "until a deadline".to_owned()
        } else {
            "for a call".to_owned()
        };
        let text = format!("<verdigris wait, {what}>");
        ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as ffi::Py_ssize_t)
    }
}

unsafe extern "C" fn tp_traverse(
    this: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with the GIL held and a live object.
    unsafe {
        let this: *mut Waiter = this.cast();
        let parts = [
            ffi::Py_TYPE(this.cast()).cast(),
            (*this).reactor.cast(),
            (*this).host,
            (*this).callback,
            (*this).context,
            (*this).cancel_message,
        ];
        for part in parts {
            if !part.is_null() {
                let failed = visit(part, arg);
                if failed != 0 {
                    return failed;
                }
            }
        }
        0
    }
}

unsafe extern "C" fn tp_clear(this: *mut PyObject) -> c_int {
    // SAFETY: as above. The host and the reactor stay: they are asked for, and are no
    // part of a cycle without the callback.
    unsafe {
        let this: *mut Waiter = this.cast();
        let callback = core::mem::replace(&mut (*this).callback, ptr::null_mut());
        let context = core::mem::replace(&mut (*this).context, ptr::null_mut());
        ffi::Py_XDECREF(callback);
        ffi::Py_XDECREF(context);
        0
    }
}

unsafe extern "C" fn tp_dealloc(this: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held, when no reference is left: the frame
    // that waited has taken it out of everything.
    unsafe {
        ffi::PyObject_GC_UnTrack(this.cast());
        tp_clear(this);
        let waiter: *mut Waiter = this.cast();
        debug_assert!((*waiter).fd < 0 && (*waiter).deadline.is_none());
        ffi::Py_XDECREF((*waiter).cancel_message);
        ffi::Py_XDECREF((*waiter).host);
        ffi::Py_DECREF((*waiter).reactor.cast());
        ptr::drop_in_place(&raw mut (*waiter).more);
        let class = ffi::Py_TYPE(this);
        ffi::PyObject_GC_Del(this.cast());
        ffi::Py_DECREF(class.cast());
    }
}

const DOC: &CStr = c"A wait of one function: what an asyncio task that runs it is given.";

static METHODS: Table<[ffi::PyMethodDef; 9]> = Table([
    method(
        c"add_done_callback",
        ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: add_done_callback,
        },
        ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        c"As a future's, once.",
    ),
    method(
        c"remove_done_callback",
        ffi::PyMethodDefPointer {
            PyCFunction: remove_done_callback,
        },
        ffi::METH_O,
        c"As a future's.",
    ),
    method(
        c"cancel",
        ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: cancel,
        },
        ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        c"As a future's.",
    ),
    method(
        c"abort",
        ffi::PyMethodDefPointer { PyCFunction: abort },
        ffi::METH_NOARGS,
        c"Ends the wait, and returns whether it was not over.",
    ),
    method(
        c"result",
        ffi::PyMethodDefPointer {
            PyCFunction: result,
        },
        ffi::METH_NOARGS,
        c"As a future's: None, or CancelledError.",
    ),
    method(
        c"get_loop",
        ffi::PyMethodDefPointer {
            PyCFunction: get_loop,
        },
        ffi::METH_NOARGS,
        c"As a future's.",
    ),
    method(
        c"done",
        ffi::PyMethodDefPointer { PyCFunction: done },
        ffi::METH_NOARGS,
        c"As a future's.",
    ),
    method(
        c"cancelled",
        ffi::PyMethodDefPointer {
            PyCFunction: is_cancelled,
        },
        ffi::METH_NOARGS,
        c"As a future's.",
    ),
    ffi::PyMethodDef::zeroed(),
]);

static ATTRIBUTES: Table<[ffi::PyGetSetDef; 3]> = Table([
    attribute(
        c"_asyncio_future_blocking",
        blocking,
        Some(set_blocking),
        c"As a future's.",
    ),
    attribute(
        c"waits_for",
        waits_for,
        None,
        c"Pairs of descriptor and events, the seconds left, and the lock; None when over.",
    ),
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
        slot(ffi::Py_tp_repr, tp_repr as *mut c_void),
        slot(ffi::Py_tp_traverse, tp_traverse as *mut c_void),
        slot(ffi::Py_tp_clear, tp_clear as *mut c_void),
        slot(ffi::Py_tp_dealloc, tp_dealloc as *mut c_void),
        slot(ffi::Py_tp_methods, METHODS.0.as_ptr() as *mut c_void),
        slot(ffi::Py_tp_getset, ATTRIBUTES.0.as_ptr() as *mut c_void),
        slot(0, ptr::null_mut()),
    ];
    // SAFETY: the slots are those of the type and end with 0, the tables are
    // static, and the GIL is held, so nobody reads TYPE meanwhile.
    unsafe {
        let class = tables::make_type::<Waiter>(c"verdigris._engine.Waiter", &mut slots);
        TYPE = class.cast();
        class
    }
}
