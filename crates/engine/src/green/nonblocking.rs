//! A socket of the stdlib that must not block for the time of one call.
//!
//! `_socket.socket` keeps its timeout in the object, and its methods and those of
//! `_ssl` wait by themselves if it is not 0. Setting it through `settimeout` costs two
//! system calls each time, because that also sets the mode of the descriptor. So the
//! field is written here, at a place that was found on a socket whose contents are
//! known; and the descriptor's mode is changed only where it has to be.

use core::ffi::{c_int, c_void};
use core::ptr;
use std::os::fd::RawFd;

use pyo3::ffi::{self, PyObject};

use crate::errors::{self, raise};
use crate::reactor::here::{self, Here};
use crate::reactor::wait::{deadline_after, for_fd, give_way};
use crate::reactor::{READ, Reason, WRITE};

/// What we read of `PySocketSockObject`. `CPython`'s, the same from 3.11 to 3.15.
#[repr(C)]
pub struct SocketObject {
    ob_base: PyObject,
    pub fd: c_int,
    pub family: c_int,
    pub kind: c_int,
    pub protocol: c_int,
    errorhandler: *const c_void,
    /// Nanoseconds; 0 in non-blocking mode, negative without a timeout.
    pub timeout: i64,
}

/// `_socket.socket`, and whether its objects have that layout; null before `init`.
static mut BASE: *mut PyObject = ptr::null_mut();

/// Looks at a socket of known contents.
///
/// # Safety
///
/// The GIL is held; called once, when the module is made.
pub unsafe fn init() -> bool {
    const KNOWN: f64 = 12_345.5;
    // SAFETY: by contract. The fields are read only where the object is long enough.
    unsafe {
        let module = ffi::PyImport_ImportModule(c"_socket".as_ptr());
        if module.is_null() {
            return false;
        }
        let base = ffi::PyObject_GetAttrString(module, c"socket".as_ptr());
        ffi::Py_DECREF(module);
        if base.is_null() || ffi::PyType_Check(base) == 0 {
            return false;
        }
        let socket = ffi::PyObject_CallFunction(
            base,
            c"iii".as_ptr(),
            libc::AF_INET,
            libc::SOCK_STREAM,
            libc::IPPROTO_TCP,
        );
        if socket.is_null() {
            return false;
        }
        let set = ffi::PyObject_CallMethod(socket, c"settimeout".as_ptr(), c"d".as_ptr(), KNOWN);
        let number = ffi::PyObject_CallMethod(socket, c"fileno".as_ptr(), ptr::null());
        let long_enough =
            (*base.cast::<ffi::PyTypeObject>()).tp_basicsize as usize >= size_of::<SocketObject>();
        let mut fits = false;
        if !set.is_null() && !number.is_null() && long_enough {
            let fields = socket.cast::<SocketObject>();
            fits = (*fields).fd as i64 == ffi::PyLong_AsLong(number)
                && (*fields).family == libc::AF_INET
                && (*fields).kind == libc::SOCK_STREAM
                && (*fields).protocol == libc::IPPROTO_TCP
                && (*fields).timeout == (KNOWN * 1e9) as i64;
        }
        ffi::Py_XDECREF(number);
        ffi::Py_XDECREF(set);
        let closed = ffi::PyObject_CallMethod(socket, c"close".as_ptr(), ptr::null());
        ffi::Py_XDECREF(closed);
        ffi::Py_DECREF(socket);
        ffi::PyErr_Clear();
        if !fits {
            ffi::Py_DECREF(base);
            raise(
                ffi::PyExc_ImportError,
                c"verdigris does not know the layout of this CPython's socket objects; please report it with the output of `python -VV`",
            );
            return false;
        }
        BASE = base;
        true
    }
}

/// The fields of a socket, or null with `TypeError` set.
///
/// # Safety
///
/// The GIL is held and `object` is live.
#[inline]
pub unsafe fn fields(object: *mut PyObject) -> *mut SocketObject {
    // SAFETY: by contract; the layout was looked at.
    unsafe {
        if ffi::PyObject_TypeCheck(object, BASE.cast()) == 0 {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"expected a socket, not '%.200s'".as_ptr(),
                (*ffi::Py_TYPE(object)).tp_name,
            );
            return ptr::null_mut();
        }
        object.cast()
    }
}

/// `_socket.socket`, borrowed.
pub fn base() -> *mut PyObject {
    // SAFETY: written once, when the module is made, under the GIL.
    unsafe { BASE }
}

/// A method of `_socket.socket` itself: a new reference, or null.
pub unsafe fn method_of_base(name: &core::ffi::CStr) -> *mut PyObject {
    // SAFETY: the GIL is held.
    unsafe { ffi::PyObject_GetAttrString(BASE, name.as_ptr()) }
}

/// `TimeoutError: timed out`.
pub unsafe fn raise_timed_out() -> *mut PyObject {
    // SAFETY: the GIL is held.
    unsafe { raise(ffi::PyExc_TimeoutError, c"timed out") }
}

/// Waits for a socket, as long as its timeout allows. `deadline` is kept between the
/// waits of one call. False with an exception set.
///
/// # Safety
///
/// The GIL is held, and the caller is at `here`.
pub unsafe fn wait_for(
    here: Here,
    socket: *mut PyObject,
    fd: RawFd,
    events: u8,
    timeout: i64,
    deadline: &mut Option<u64>,
) -> bool {
    // SAFETY: by contract.
    unsafe {
        if timeout > 0 && deadline.is_none() {
            *deadline = deadline_after(here.reactor, timeout as f64 / 1e9);
            if deadline.is_none() {
                return false;
            }
        }
        match for_fd(here, fd, events, socket, *deadline) {
            None => false,
            Some(Reason::TimedOut) => {
                raise_timed_out();
                false
            }
            Some(_) => true,
        }
    }
}

unsafe fn set_mode(fd: RawFd, nonblocking: bool) {
    // SAFETY: `ioctl` reads one int.
    unsafe {
        let mut mode = c_int::from(nonblocking);
        libc::ioctl(fd, libc::FIONBIO, &raw mut mode);
    }
}

/// Calls `function` with a socket that does not block meanwhile.
unsafe fn call_nonblocking(
    socket: *mut SocketObject,
    function: *mut PyObject,
    args: *const *mut PyObject,
    nargs: usize,
) -> *mut PyObject {
    // SAFETY: the GIL is held and all are live. The fields are those of a live socket:
    // its own methods change them under the GIL too.
    unsafe {
        let (timeout, fd) = ((*socket).timeout, (*socket).fd);
        (*socket).timeout = 0;
        // One with a timeout is in non-blocking mode already.
        if timeout < 0 && fd >= 0 {
            set_mode(fd, true);
        }
        let result = ffi::PyObject_Vectorcall(function, args, nargs, ptr::null_mut());
        if (*socket).timeout == 0 {
            (*socket).timeout = timeout;
        }
        if timeout < 0 && fd >= 0 && (*socket).fd == fd {
            set_mode(fd, false);
        }
        result
    }
}

/// `SSLWantReadError` and `SSLWantWriteError`, once `_ssl` is there.
static mut WANTS: [*mut PyObject; 2] = [ptr::null_mut(); 2];

/// What the exception that is set waits for, or 0. `events` for `BlockingIOError`.
unsafe fn wanted(events: u8) -> u8 {
    // SAFETY: the GIL is held. The module, if there, stays.
    unsafe {
        if ffi::PyErr_ExceptionMatches(ffi::PyExc_BlockingIOError) != 0 {
            return events;
        }
        if WANTS[0].is_null() {
            let raised = errors::take();
            let module = ffi::PyDict_GetItemString(ffi::PyImport_GetModuleDict(), c"_ssl".as_ptr());
            if !module.is_null() {
                WANTS = [c"SSLWantReadError", c"SSLWantWriteError"]
                    .map(|name| ffi::PyObject_GetAttrString(module, name.as_ptr()));
            }
            ffi::PyErr_Clear();
            errors::restore(raised);
        }
        for (class, events) in core::iter::zip(WANTS, [READ, WRITE]) {
            if !class.is_null() && ffi::PyErr_ExceptionMatches(class) != 0 {
                return events;
            }
        }
        0
    }
}

/// `retry(socket, events, function, *args)`: calls a function of a socket until it
/// need not wait.
pub unsafe extern "C" fn retry(
    _module: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects.
    unsafe {
        if nargs < 3 {
            return raise(ffi::PyExc_TypeError, c"retry() takes at least 3 arguments");
        }
        let [object, events, function] = ptr::read(args.cast::<[*mut PyObject; 3]>());
        let (rest, count) = (args.add(3), nargs as usize - 3);
        let socket = fields(object);
        if socket.is_null() {
            return ptr::null_mut();
        }
        let events = ffi::PyLong_AsLong(events);
        if events != i64::from(READ) && events != i64::from(WRITE) {
            if ffi::PyErr_Occurred().is_null() {
                raise(ffi::PyExc_ValueError, c"events are READ (1) or WRITE (2)");
            }
            return ptr::null_mut();
        }
        let timeout = (*socket).timeout;
        let here = if timeout == 0 || (*socket).fd < 0 {
            None
        } else {
            here::find()
        };
        let Some(here) = here else {
            return ffi::PyObject_Vectorcall(function, rest, count, ptr::null_mut());
        };
        if !give_way(&here) {
            return ptr::null_mut();
        }
        let mut deadline = None;
        loop {
            let result = call_nonblocking(socket, function, rest, count);
            if !result.is_null() {
                return result;
            }
            let events = wanted(events as u8);
            if events == 0 {
                return result;
            }
            ffi::PyErr_Clear();
            let fd = (*socket).fd;
            let Some(here) = here::find() else {
                return raise_timed_out(); // the loop has ended meanwhile
            };
            if events & READ != 0 {
                (*here.reactor).was_drained(fd, object);
            }
            if !wait_for(here, object, fd, events, timeout, &mut deadline) {
                return ptr::null_mut();
            }
            if (*socket).fd < 0 {
                // Objects of `_ssl` know the number only, which may be another file's now.
                crate::errno::set(libc::EBADF);
                return ffi::PyErr_SetFromErrno(ffi::PyExc_OSError);
            }
        }
    }
}
