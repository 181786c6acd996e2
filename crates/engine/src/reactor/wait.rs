//! Waiting with the reactor, from the function's side.

use core::ptr;
use std::os::fd::RawFd;

use pyo3::ffi::{self, PyObject};

use super::here::{self, Here};
use super::inner_loop::Surfaced;
use super::timers::Time;
use super::{
    Kind, LONGEST_STRETCH, PRIORITY, READ, Reactor, Reason, WRITE, Waiter, monotonic,
    to_nanoseconds,
};
use crate::activation::{Activation, AwaitRecord, Incoming};
use crate::errors::{self, raise};
use crate::{atomic, await_, greenlet};

/// The end of a timeout, on the reactor's clock: none for None. The outer option is
/// none with an exception set.
#[expect(clippy::option_option, reason = "an error is neither")]
pub unsafe fn deadline_of(reactor: *mut Reactor, timeout: *mut PyObject) -> Option<Option<Time>> {
    // SAFETY: the GIL is held and both are live.
    unsafe {
        if timeout.is_null() || timeout == ffi::Py_None() {
            return Some(None);
        }
        let seconds = ffi::PyFloat_AsDouble(timeout);
        if seconds == -1.0 && !ffi::PyErr_Occurred().is_null() {
            return None;
        }
        deadline_after(reactor, seconds).map(Some)
    }
}

/// The time in so many seconds. None with an exception set.
pub unsafe fn deadline_after(reactor: *mut Reactor, seconds: f64) -> Option<Time> {
    // SAFETY: the GIL is held and the reactor is live.
    let now = unsafe { (*reactor).now()? };
    Some(now.saturating_add(to_nanoseconds(seconds.max(0.0))))
}

/// A wait of the caller that is set up and not yet begun: dropped, it is taken out of
/// everything.
pub struct Wait {
    here: Here,
    waiter: *mut Waiter,
    /// Where the function runs a loop of its own, that is put aside meanwhile.
    surfaced: Option<Surfaced>,
}

impl Wait {
    /// None with an exception set.
    ///
    /// # Safety
    ///
    /// The GIL is held, and `here` is where the caller is.
    pub unsafe fn new(here: Here) -> Option<Self> {
        // SAFETY: by contract.
        unsafe {
            if (*here.stack).atomic != 0 {
                atomic::refuse();
                return None;
            }
            (*here.reactor).runs_here();
            let surfaced = Surfaced::new(here.stack)?;
            let host = Reactor::host(here.reactor);
            let mut waiter = ptr::null_mut();
            if !host.is_null() {
                waiter = Waiter::new(here.reactor, host);
                ffi::Py_DECREF(host);
            }
            if waiter.is_null() {
                if let Some(surfaced) = surfaced {
                    surfaced.submerge();
                }
                return None;
            }
            Some(Self {
                here,
                waiter,
                surfaced,
            })
        }
    }

    /// What is to be woken.
    pub fn waiter(&self) -> *mut Waiter {
        self.waiter
    }

    /// Ends the wait at a time. False with an exception set.
    pub unsafe fn until(&self, deadline: Option<Time>) -> bool {
        // SAFETY: the GIL is held.
        unsafe {
            deadline.is_none_or(|deadline| {
                Reactor::set_deadline(self.here.reactor, deadline, self.waiter)
            })
        }
    }

    /// Ends the wait when a descriptor is ready. False when it always is, none with an
    /// exception set.
    pub unsafe fn for_fd(&self, fd: RawFd, events: u8, owner: *mut PyObject) -> Option<bool> {
        // SAFETY: the GIL is held.
        unsafe { Reactor::watch(self.here.reactor, fd, events, owner, self.waiter) }
    }

    /// Suspends the function until the wait is over, and tells why it is. None with an
    /// exception set: what the loop threw in.
    ///
    /// # Safety
    ///
    /// The GIL is held, and the caller is where the wait was made.
    #[inline]
    pub unsafe fn suspend(&self) -> Option<Reason> {
        // SAFETY: by contract; the waiter is ours.
        unsafe {
            (*(*self.here.stack).innermost).awaited = true;
            (*self.here.reactor).unwaited.set(0);
            let done = if (*self.here.reactor).kind == Kind::Asyncio {
                self.as_future()
            } else {
                self.as_trap()
            };
            // What is thrown in may come from elsewhere: the loop is gone, and the function
            // is unwound.
            if done {
                (*self.here.stack).remember_reactor(self.here.reactor);
            }
            done.then(|| (*self.waiter).reason)
        }
    }

    #[inline]
    unsafe fn as_future(&self) -> bool {
        // SAFETY: as above. The record is taken out before it goes out of scope.
        unsafe {
            let stack = self.here.stack;
            loop {
                if (*self.waiter).reason != Reason::Pending {
                    return true;
                }
                (*self.waiter).yielded();
                let record = record_of(stack, self.waiter.cast());
                let kept = greenlet::keep(stack, &record);
                let incoming = Activation::suspend(stack, ffi::Py_NewRef(self.waiter.cast()));
                greenlet::release(stack, &record, kept);
                match incoming {
                    Incoming::Value(value) => ffi::Py_DECREF(value),
                    Incoming::Exception(exception) => {
                        Waiter::detach(self.waiter);
                        errors::raise_here(exception);
                        return false;
                    }
                }
            }
        }
    }

    unsafe fn as_trap(&self) -> bool {
        // SAFETY: as above.
        unsafe {
            loop {
                if (*self.waiter).reason != Reason::Pending {
                    return true;
                }
                let trap = Reactor::park(self.here.reactor, self.waiter);
                (*self.waiter).parked = true;
                let done = !trap.is_null() && drive(self.here.stack, trap);
                (*self.waiter).parked = false;
                if !done {
                    Waiter::detach(self.waiter);
                    return false;
                }
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // SAFETY: the GIL is held by whoever waits; the reference is ours.
        unsafe {
            Waiter::detach(self.waiter);
            if let Some(surfaced) = self.surfaced.take() {
                surfaced.submerge();
            }
            // A turn that finds it ready all the same has nobody to go on.
            ffi::Py_DECREF(self.waiter.cast());
        }
    }
}

fn record_of(stack: *mut Activation, awaited: *mut PyObject) -> AwaitRecord {
    AwaitRecord {
        awaited,
        args: ptr::null(),
        awaiter: ptr::null_mut(),
        owned: 1,
        // SAFETY: the stack runs now.
        outer: unsafe { (*stack).awaits },
    }
}

/// Steps what the loop's library gave to wait with, and drops it. False with an
/// exception set.
unsafe fn drive(stack: *mut Activation, coroutine: *mut PyObject) -> bool {
    // SAFETY: the GIL is held, the stack runs now, the reference is ours.
    unsafe {
        let record = record_of(stack, coroutine);
        let kept = greenlet::keep(stack, &record);
        let result = await_::drive(stack, coroutine);
        greenlet::release(stack, &record, kept);
        ffi::Py_DECREF(coroutine);
        ffi::Py_XDECREF(result);
        !result.is_null()
    }
}

/// One checkpoint of the loop: others that are ready go first. False with an
/// exception set.
///
/// # Safety
///
/// The GIL is held, and the caller is at `here`.
pub unsafe fn checkpoint(here: &Here) -> bool {
    // SAFETY: by contract.
    unsafe {
        if (*here.stack).atomic != 0 {
            atomic::refuse();
            return false;
        }
        (*(*here.stack).innermost).awaited = true;
        let Some(surfaced) = Surfaced::new(here.stack) else {
            return false;
        };
        let done = checkpoint_now(here);
        match surfaced {
            Some(surfaced) => {
                surfaced.submerge();
                done
            }
            None => done,
        }
    }
}

unsafe fn checkpoint_now(here: &Here) -> bool {
    // SAFETY: as above.
    unsafe {
        if (*here.reactor).kind == Kind::Trio {
            let coroutine = Reactor::checkpoint(here.reactor);
            return !coroutine.is_null() && drive(here.stack, coroutine);
        }
        match Activation::suspend(here.stack, ffi::Py_NewRef(ffi::Py_None())) {
            Incoming::Value(value) => {
                ffi::Py_DECREF(value);
                true
            }
            Incoming::Exception(exception) => {
                errors::raise_here(exception);
                false
            }
        }
    }
}

/// Waits for one descriptor. None with an exception set.
///
/// # Safety
///
/// The GIL is held, and the caller is at `here`.
pub unsafe fn for_fd(
    here: Here,
    fd: RawFd,
    events: u8,
    owner: *mut PyObject,
    deadline: Option<Time>,
) -> Option<Reason> {
    // SAFETY: by contract.
    unsafe {
        let wait = Wait::new(here)?;
        if !wait.for_fd(fd, events, owner)? {
            return Some(Reason::Ready(events));
        }
        if !wait.until(deadline) {
            return None;
        }
        wait.suspend()
    }
}

/// To be called before what might wait and probably need not: a function whose socket
/// always has data would never let anybody else run. False with an exception set.
///
/// # Safety
///
/// The GIL is held, and the caller is at `here`.
#[inline]
pub unsafe fn give_way(here: &Here) -> bool {
    /// Nobody looks at the clock more often than that.
    const LOOK: u32 = 32;
    // SAFETY: by contract.
    unsafe {
        let reactor = here.reactor;
        let count = (*reactor).unwaited.get() + 1;
        (*reactor).unwaited.set(count);
        count % LOOK != 0 || give_way_now(here, count == LOOK)
    }
}

#[cold]
unsafe fn give_way_now(here: &Here, is_first: bool) -> bool {
    // SAFETY: as above.
    unsafe {
        let now = monotonic();
        let reactor = here.reactor;
        if is_first {
            (*reactor).unwaited_since.set(now);
            return true;
        }
        // Async code that calls this counts on being alone, and so does an atomic block.
        if !here.is_in_sync_code()
            || (*here.stack).atomic != 0
            || now - (*reactor).unwaited_since.get() < LONGEST_STRETCH
        {
            return true;
        }
        (*reactor).unwaited.set(0);
        checkpoint(here)
    }
}

/// `give_way()`.
pub unsafe extern "C" fn give_way_here(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        if let Some(here) = here::find()
            && !give_way(&here)
        {
            return ptr::null_mut();
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// Where the caller is, or `RuntimeError`.
unsafe fn here_or_raise() -> Option<Here> {
    // SAFETY: the GIL is held.
    unsafe {
        let here = here::find();
        if here.is_none() {
            raise(
                ffi::PyExc_RuntimeError,
                c"a wait without a green function: ask is_green() first, and block where it is False",
            );
        }
        here
    }
}

unsafe fn events_of(number: *mut PyObject) -> Option<u8> {
    // SAFETY: the GIL is held.
    unsafe {
        let events = ffi::PyLong_AsLong(number);
        if events == -1 && !ffi::PyErr_Occurred().is_null() {
            return None;
        }
        match u8::try_from(events) {
            Ok(events @ 1..) if events <= READ | WRITE | PRIORITY => Some(events),
            _ => {
                raise(
                    ffi::PyExc_ValueError,
                    c"events are READ (1), WRITE (2) and PRIORITY (4), one or more of them",
                );
                None
            }
        }
    }
}

unsafe fn fd_of(object: *mut PyObject) -> Option<RawFd> {
    // SAFETY: the GIL is held.
    unsafe {
        let fd = ffi::PyObject_AsFileDescriptor(object);
        (fd >= 0).then_some(fd)
    }
}

/// `wait_fd(fd, events, timeout=None)`.
pub unsafe extern "C" fn wait_fd(
    _module: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects.
    unsafe {
        if !(2..=3).contains(&nargs) {
            return raise(ffi::PyExc_TypeError, c"wait_fd() takes 2 or 3 arguments");
        }
        let timeout = if nargs > 2 {
            *args.add(2)
        } else {
            ptr::null_mut()
        };
        let waited = (|| {
            let (fd, events) = (fd_of(*args)?, events_of(*args.add(1))?);
            let here = here_or_raise()?;
            let deadline = deadline_of(here.reactor, timeout)?;
            for_fd(here, fd, events, ptr::null_mut(), deadline)
        })();
        match waited {
            None => ptr::null_mut(),
            Some(Reason::Ready(events)) => ffi::PyLong_FromLong(events.into()),
            Some(_) => ffi::PyLong_FromLong(0),
        }
    }
}

/// `wait_fds(pairs, timeout=None)`.
pub unsafe extern "C" fn wait_fds(
    _module: *mut PyObject,
    args: *mut *mut PyObject,
    nargs: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and `nargs` live objects.
    unsafe {
        if !(1..=2).contains(&nargs) {
            return raise(ffi::PyExc_TypeError, c"wait_fds() takes 1 or 2 arguments");
        }
        let timeout = if nargs > 1 {
            *args.add(1)
        } else {
            ptr::null_mut()
        };
        let pairs = ffi::PySequence_Fast(*args, c"wait_fds() takes a sequence of pairs".as_ptr());
        if pairs.is_null() {
            return pairs;
        }
        let waited = (|| {
            let here = here_or_raise()?;
            let deadline = deadline_of(here.reactor, timeout)?;
            let wait = Wait::new(here)?;
            for index in 0..ffi::PySequence_Fast_GET_SIZE(pairs) {
                let pair = ffi::PySequence_Fast_GET_ITEM(pairs, index);
                if ffi::PyTuple_Check(pair) == 0 || ffi::PyTuple_GET_SIZE(pair) != 2 {
                    raise(
                        ffi::PyExc_TypeError,
                        c"wait_fds() takes pairs of fd and events",
                    );
                    return None;
                }
                let fd = fd_of(ffi::PyTuple_GET_ITEM(pair, 0))?;
                let events = events_of(ffi::PyTuple_GET_ITEM(pair, 1))?;
                if !wait.for_fd(fd, events, ptr::null_mut())? {
                    return Some(Reason::Ready(events));
                }
            }
            if !wait.until(deadline) {
                return None;
            }
            wait.suspend()
        })();
        ffi::Py_DECREF(pairs);
        waited.map_or(ptr::null_mut(), |reason| {
            ffi::PyBool_FromLong((reason != Reason::TimedOut).into())
        })
    }
}
