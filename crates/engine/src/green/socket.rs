//! The methods of sockets that are called most: `recv`, `recv_into`, `send` and
//! `sendall`, as one system call each, for the stdlib's own socket objects.
//!
//! They are functions, for the class of a green socket or, in place, for
//! `socket.socket`. Where they need not or cannot wait in a green function, they call
//! the stdlib's. The system calls are made with `MSG_DONTWAIT`, so the descriptor's
//! mode is nobody's business, and with the GIL held: they copy and return.

use core::ffi::{CStr, c_int, c_void};
use core::ptr;

use pyo3::ffi::{self, PyObject};

use super::nonblocking::{self, SocketObject, raise_timed_out, wait_for};
use crate::arguments;
use crate::errno;
use crate::errors::raise;
use crate::reactor::here::{self, Here};
use crate::reactor::wait::give_way;
use crate::reactor::{READ, WRITE};
use crate::tables::{Table, method};

unsafe extern "C" {
    fn _PyBytes_Resize(bytes: *mut *mut PyObject, size: ffi::Py_ssize_t) -> c_int;
}

/// The GIL is released for copies longer than this.
const LONG: usize = 256 << 10;

/// The stdlib's methods, in the order of [`METHODS`].
static mut ORIGINALS: [*mut PyObject; 4] = [ptr::null_mut(); 4];

const RECV: usize = 0;
const RECV_INTO: usize = 1;
const SEND: usize = 2;
const SENDALL: usize = 3;

static METHODS: Table<[ffi::PyMethodDef; 5]> = Table([
    method(c"recv", ffi::PyMethodDefPointer { PyCFunctionFast: recv }, ffi::METH_FASTCALL, c"recv($self, bufsize, flags=0, /)\n--\n\nReceive at most bufsize bytes; b'' at the end of the stream."),
    method(c"recv_into", ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: recv_into }, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, c"recv_into($self, buffer, nbytes=0, flags=0)\n--\n\nReceive into a buffer, at most nbytes unless that is 0. Returns how many."),
    method(c"send", ffi::PyMethodDefPointer { PyCFunctionFast: send }, ffi::METH_FASTCALL, c"send($self, data, flags=0, /)\n--\n\nSend bytes. Returns how many were sent."),
    method(c"sendall", ffi::PyMethodDefPointer { PyCFunctionFast: sendall }, ffi::METH_FASTCALL, c"sendall($self, data, flags=0, /)\n--\n\nSend all of the bytes."),
    ffi::PyMethodDef::zeroed(),
]);

/// A dict of the methods, to be set on a class of sockets: a new reference, or null.
///
/// # Safety
///
/// The GIL is held; called once, when the module is made.
pub unsafe fn make_methods() -> *mut PyObject {
    // SAFETY: by contract. A method descriptor would insist on one class; these are for
    // every class below `_socket.socket`, and look at what they are given.
    unsafe {
        if !nonblocking::init() {
            return ptr::null_mut();
        }
        let base = nonblocking::base();
        let methods = ffi::PyDict_New();
        if methods.is_null() {
            return methods;
        }
        for (index, definition) in METHODS.0[..4].iter().enumerate() {
            let name = CStr::from_ptr(definition.ml_name);
            ORIGINALS[index] = nonblocking::method_of_base(name);
            let descriptor =
                ffi::PyDescr_NewMethod(base.cast(), ptr::from_ref(definition).cast_mut());
            let failed = ORIGINALS[index].is_null()
                || descriptor.is_null()
                || ffi::PyDict_SetItemString(methods, name.as_ptr(), descriptor) < 0;
            ffi::Py_XDECREF(descriptor);
            if failed {
                ffi::Py_DECREF(methods);
                return ptr::null_mut();
            }
        }
        methods
    }
}

/// Calls the stdlib's method. `this` and the arguments lie side by side, as a method's
/// do in a vectorcall; where they do not, they are copied.
unsafe fn original(
    which: usize,
    this: *mut PyObject,
    args: *const *mut PyObject,
    nargs: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called with the arguments of a vectorcall.
    unsafe {
        let count = nargs as usize
            + if names.is_null() {
                0
            } else {
                ffi::PyTuple_GET_SIZE(names) as usize
            };
        let mut call = [ptr::null_mut(); 8];
        if count + 1 > call.len() {
            return raise(
                ffi::PyExc_TypeError,
                c"too many arguments for a socket's method",
            );
        }
        call[0] = this;
        for index in 0..count {
            call[1 + index] = *args.add(index);
        }
        ffi::PyObject_Vectorcall(ORIGINALS[which], call.as_ptr(), nargs as usize + 1, names)
    }
}

/// Flags of calls that wait for nothing.
#[cfg(target_os = "linux")]
const NEVER_WAITS: c_int = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE;
#[cfg(not(target_os = "linux"))]
const NEVER_WAITS: c_int = libc::MSG_DONTWAIT;

/// What a call on a socket works with, where it may wait green.
struct Call {
    object: *mut PyObject,
    socket: *mut SocketObject,
    timeout: i64,
    deadline: Option<u64>,
}

/// None where the stdlib's method is right: not green, non-blocking, or closed.
#[inline]
unsafe fn begin(object: *mut PyObject, flags: c_int) -> Option<(Call, Here)> {
    // SAFETY: the GIL is held; the descriptor has checked the type.
    unsafe {
        let socket: *mut SocketObject = object.cast();
        if (*socket).timeout == 0 || (*socket).fd < 0 || flags & NEVER_WAITS != 0 {
            return None;
        }
        let here = here::find()?;
        let call = Call {
            object,
            socket,
            timeout: (*socket).timeout,
            deadline: None,
        };
        Some((call, here))
    }
}

/// Runs a system call, without the GIL if it may take long.
unsafe fn system_call(length: usize, call: impl FnOnce() -> isize) -> isize {
    if length <= LONG {
        return call();
    }
    // SAFETY: the GIL is held; the buffer is held by the caller, and no stack is switched.
    unsafe {
        let saved = ffi::PyEval_SaveThread();
        let done = call();
        let error = errno::get();
        ffi::PyEval_RestoreThread(saved);
        errno::set(error);
        done
    }
}

/// What came of a system call.
enum Tried {
    Done(usize),
    WouldBlock,
    /// With an exception set.
    Failed,
}

/// Waiting is what is left, or an error.
unsafe fn tried(done: isize) -> Tried {
    // SAFETY: the GIL is held.
    unsafe {
        if done >= 0 {
            return Tried::Done(done as usize);
        }
        match errno::get() {
            libc::EAGAIN => Tried::WouldBlock,
            libc::EINTR if ffi::PyErr_CheckSignals() == 0 => Tried::WouldBlock,
            libc::EINTR => Tried::Failed,
            _ => {
                ffi::PyErr_SetFromErrno(ffi::PyExc_OSError);
                Tried::Failed
            }
        }
    }
}

impl Call {
    /// Receives into `buffer`, waiting until there is something. None with an
    /// exception set.
    unsafe fn receive(
        &mut self,
        mut here: Here,
        buffer: *mut c_void,
        length: usize,
        flags: c_int,
    ) -> Option<usize> {
        // SAFETY: the GIL is held; the buffer is the caller's and has that length.
        unsafe {
            if !give_way(&here) {
                return None;
            }
            let mut got = 0; // of all that is waited for
            loop {
                let fd = (*self.socket).fd;
                let reactor = here.reactor;
                if flags != 0 || fd < 0 || (*reactor).may_be_readable(fd, self.object) {
                    let done = system_call(length, || {
                        let rest = buffer.cast::<u8>().add(got).cast();
                        libc::recv(fd, rest, length - got, flags | libc::MSG_DONTWAIT)
                    });
                    match tried(done) {
                        // With a timeout the flag means nothing to the stdlib's sockets.
                        Tried::Done(count)
                            if flags & libc::MSG_WAITALL != 0 && count > 0 && self.timeout < 0 =>
                        {
                            got += count;
                            if got == length {
                                return Some(got);
                            }
                        }
                        Tried::Done(count) if got > 0 => return Some(got + count),
                        Tried::Done(count) => {
                            // TCP gives all it has. Others keep messages apart.
                            let is_tcp = (*self.socket).kind == libc::SOCK_STREAM
                                && (*self.socket).family != libc::AF_UNIX;
                            if count < length && count > 0 && flags == 0 && is_tcp {
                                (*reactor).was_short(fd, self.object);
                            }
                            return Some(count);
                        }
                        Tried::Failed => return None,
                        Tried::WouldBlock => (*reactor).was_drained(fd, self.object),
                    }
                }
                here = self.wait(here, READ)?;
            }
        }
    }

    unsafe fn wait(&mut self, here: Here, events: u8) -> Option<Here> {
        // SAFETY: the GIL is held.
        unsafe {
            let fd = (*self.socket).fd;
            if !wait_for(
                here,
                self.object,
                fd,
                events,
                self.timeout,
                &mut self.deadline,
            ) {
                return None;
            }
            let here = here::find();
            if here.is_none() {
                raise_timed_out(); // the loop has ended meanwhile
            }
            here
        }
    }

    /// Sends some of the bytes, waiting until it can. None with an exception set.
    unsafe fn transmit(
        &mut self,
        mut here: Here,
        buffer: *const c_void,
        length: usize,
        flags: c_int,
    ) -> Option<usize> {
        // SAFETY: as above.
        unsafe {
            if !give_way(&here) {
                return None;
            }
            loop {
                let fd = (*self.socket).fd;
                let done = system_call(length, || {
                    libc::send(fd, buffer, length, flags | libc::MSG_DONTWAIT)
                });
                match tried(done) {
                    Tried::Done(count) => return Some(count),
                    Tried::Failed => return None,
                    Tried::WouldBlock => here = self.wait(here, WRITE)?,
                }
            }
        }
    }
}

/// An argument `flags`, 0 by default. None with an exception set.
unsafe fn flags_of(object: *mut PyObject) -> Option<c_int> {
    // SAFETY: the GIL is held; `object` is borrowed, or null.
    unsafe {
        if object.is_null() {
            return Some(0);
        }
        let value = ffi::PyLong_AsLong(object);
        if value == -1 && !ffi::PyErr_Occurred().is_null() {
            return None;
        }
        if let Ok(value) = c_int::try_from(value) {
            return Some(value);
        }
        raise(
            ffi::PyExc_OverflowError,
            c"Python int too large to convert to C int",
        );
        None
    }
}

unsafe extern "C" fn recv(
    this: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and live objects.
    unsafe {
        if !(1..=2).contains(&nargs) {
            return original(RECV, this, args, nargs, ptr::null_mut());
        }
        let flags = if nargs > 1 {
            *args.add(1)
        } else {
            ptr::null_mut()
        };
        let Some(flags) = flags_of(flags) else {
            return ptr::null_mut();
        };
        let Some((mut call, here)) = begin(this, flags) else {
            return original(RECV, this, args, nargs, ptr::null_mut());
        };
        let length = ffi::PyNumber_AsSsize_t(*args, ffi::PyExc_OverflowError);
        if length < 0 {
            ffi::PyErr_Clear();
            return original(RECV, this, args, nargs, ptr::null_mut());
        }
        let mut bytes = ffi::PyBytes_FromStringAndSize(ptr::null(), length);
        if bytes.is_null() {
            return bytes;
        }
        let buffer = ffi::PyBytes_AsString(bytes).cast();
        let Some(count) = call.receive(here, buffer, length as usize, flags) else {
            ffi::Py_DECREF(bytes);
            return ptr::null_mut();
        };
        if count != length as usize {
            _PyBytes_Resize(&raw mut bytes, count as ffi::Py_ssize_t);
        }
        bytes
    }
}

unsafe extern "C" fn recv_into(
    this: *mut PyObject,
    args: *const *mut PyObject,
    nargs: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        let given = arguments::by_name(args, nargs, names, [c"buffer", c"nbytes", c"flags"]);
        let Some([buffer, wanted, flags]) = given.filter(|given| !given[0].is_null()) else {
            return original(RECV_INTO, this, args, nargs, names);
        };
        let Some(flags) = flags_of(flags) else {
            return ptr::null_mut();
        };
        let Some((mut call, here)) = begin(this, flags) else {
            return original(RECV_INTO, this, args, nargs, names);
        };
        let wanted = if wanted.is_null() {
            0
        } else {
            ffi::PyNumber_AsSsize_t(wanted, ffi::PyExc_OverflowError)
        };
        if wanted == -1 && !ffi::PyErr_Occurred().is_null() {
            return ptr::null_mut();
        }
        if wanted < 0 {
            return raise(ffi::PyExc_ValueError, c"negative buffersize in recv_into");
        }
        let mut view = core::mem::MaybeUninit::<ffi::Py_buffer>::zeroed();
        if ffi::PyObject_GetBuffer(buffer, view.as_mut_ptr(), ffi::PyBUF_WRITABLE) < 0 {
            ffi::PyErr_Clear();
            return original(RECV_INTO, this, args, nargs, names); // its error
        }
        let view = view.assume_init_mut();
        let length = if wanted == 0 { view.len } else { wanted };
        let count = if length > view.len {
            raise(
                ffi::PyExc_ValueError,
                c"buffer too small for requested bytes",
            );
            None
        } else if length == 0 {
            Some(0)
        } else {
            call.receive(here, view.buf, length as usize, flags)
        };
        ffi::PyBuffer_Release(view);
        count.map_or(ptr::null_mut(), |count| ffi::PyLong_FromSize_t(count))
    }
}

/// `send` and `sendall`.
unsafe fn sending(
    which: usize,
    this: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        if !(1..=2).contains(&nargs) {
            return original(which, this, args, nargs, ptr::null_mut());
        }
        let flags = if nargs > 1 {
            *args.add(1)
        } else {
            ptr::null_mut()
        };
        let Some(flags) = flags_of(flags) else {
            return ptr::null_mut();
        };
        let Some((mut call, mut here)) = begin(this, flags) else {
            return original(which, this, args, nargs, ptr::null_mut());
        };
        if ffi::PyUnicode_Check(*args) != 0 {
            return original(which, this, args, nargs, ptr::null_mut()); // its error
        }
        let mut view = core::mem::MaybeUninit::<ffi::Py_buffer>::zeroed();
        if ffi::PyObject_GetBuffer(*args, view.as_mut_ptr(), ffi::PyBUF_SIMPLE) < 0 {
            return ptr::null_mut();
        }
        let view = view.assume_init_mut();
        let length = view.len as usize;
        let mut sent = 0;
        let result = loop {
            let rest = view.buf.cast::<u8>().cast_const().add(sent).cast();
            let Some(count) = call.transmit(here, rest, length - sent, flags) else {
                break ptr::null_mut();
            };
            sent += count;
            // Without a timeout a blocking `send` takes all that a stream is given.
            let whole = call.timeout < 0 && (*call.socket).kind == libc::SOCK_STREAM;
            if which == SEND && (sent >= length || !whole) {
                break ffi::PyLong_FromSize_t(sent);
            }
            if sent >= length {
                break ffi::Py_NewRef(ffi::Py_None());
            }
            // As the stdlib: what handlers of signals raise ends a long call.
            if ffi::PyErr_CheckSignals() < 0 {
                break ptr::null_mut();
            }
            let Some(found) = here::find() else {
                break raise_timed_out();
            };
            here = found;
        };
        ffi::PyBuffer_Release(view);
        result
    }
}

unsafe extern "C" fn send(
    this: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { sending(SEND, this, args, nargs) }
}

unsafe extern "C" fn sendall(
    this: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { sending(SENDALL, this, args, nargs) }
}
