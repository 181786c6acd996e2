//! The reactor: who waits for what in one event loop, whichever loop it is.
//!
//! ```text
//!   asyncio, uvloop, Trio            watches one descriptor, calls turn()
//!        |                ^
//!        v                | soon(), arm(delay)      backend: python/verdigris/loops
//!     Reactor --------------------------------------
//!        | descriptors   an epoll instance of its own, each descriptor registered once
//!        | timers        every deadline; the loop has one timer, for the earliest
//!        | ready         whose wait is over: the next turn lets them go on
//!        v
//!     Waiter             what a suspended function has given to its task
//! ```
//!
//! A turn takes events and due deadlines, and resumes the tasks that waited for
//! them, right there. What is over outside a turn (a lock that another function
//! releases) asks the loop for a turn `soon`; from another thread it is asked for
//! through the reactor's own descriptor.
//!
//! Everything is guarded by the GIL. No Python code runs while the state is
//! borrowed.

mod class;
mod descriptors;
mod guards;
pub mod here;
pub mod inner_loop;
mod timers;
pub mod wait;
mod waiter;

use core::cell::{Cell, RefCell};
use core::ffi::{CStr, c_ulong};
use core::mem::ManuallyDrop;
use core::ptr;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::ffi::{self, PyObject};

use crate::errors;
use crate::runtime::Runtime;
use descriptors::Descriptors;
use timers::{Time, Timers};

pub use class::{check_exact, make_type, new};
pub use descriptors::{PRIORITY, READ, WRITE};
pub use waiter::{Reason, Waiter, make_type as make_waiter_type};

/// After so many nanoseconds green functions let the loop's other callbacks run.
const LONGEST_STRETCH: Time = 10_000_000;

/// How a loop suspends and resumes its tasks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A task yields a future, and goes on when that calls it back.
    Asyncio,
    /// A task sleeps until it is rescheduled.
    Trio,
}

#[repr(C)]
pub struct Reactor {
    ob_base: PyObject,
    pub kind: Kind,
    /// What the package does for it on the loop.
    backend: *mut PyObject,
    /// The loop, or the token of Trio's run: only compared.
    key: *const PyObject,
    /// A function that gives the loop's time in seconds, where that is not the
    /// system's monotonic clock; or null.
    clock: *mut PyObject,
    /// The thread that the loop ran in last.
    thread: Cell<c_ulong>,
    /// How often the process had forked when it was made.
    forks: u32,
    closed: Cell<bool>,
    /// Whether a turn finds out whose wait is over. It lets them go on itself.
    collecting: Cell<bool>,
    /// Whether the loop was asked for a turn.
    asked: Cell<bool>,
    /// When the loop's timer is due; `Time::MAX` when there is none.
    armed: Cell<Time>,
    /// How often the function that runs could have waited and had not to, and when that
    /// was first looked at (`wait::give_way`).
    unwaited: Cell<u32>,
    unwaited_since: Cell<Time>,
    state: ManuallyDrop<RefCell<State>>,
}

struct State {
    descriptors: Descriptors,
    timers: Timers,
    /// Counted references.
    ready: VecDeque<*mut Waiter>,
}

/// All that are open: nearly always one.
static ALL: Mutex<Vec<Open>> = Mutex::new(Vec::new());

#[derive(Clone, Copy, PartialEq)]
struct Open(*mut Reactor);

// SAFETY: the pointer is followed only with the GIL held, and taken off the list before
// the reactor ends.
unsafe impl Send for Open {}

fn all() -> MutexGuard<'static, Vec<Open>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often this process is a fork's child, counted from its start.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The same. Whoever waited in the parent does not wait in the child, and its stack may
/// be gone.
#[inline]
pub fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Has the C library count forks: before any Python code runs in the child.
///
/// # Safety
///
/// Called once, when the module is made.
pub unsafe fn count_forks() {
    // SAFETY: the function only counts, which is all that may be done there.
    unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
}

unsafe extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Calls `f` with each reactor that is open.
///
/// # Safety
///
/// The GIL is held.
unsafe fn for_each(mut f: impl FnMut(&Reactor)) {
    // SAFETY: the GIL is held; a reactor leaves the list before it ends, and `f` runs
    // no Python code.
    unsafe {
        for Open(reactor) in all().iter() {
            if (**reactor).is_open() {
                f(&**reactor);
            }
        }
    }
}

/// `_forget_fd(fd)`: to be called before a descriptor is closed. Its waiters wake,
/// and find it closed.
pub unsafe extern "C" fn forget_fd(_module: *mut PyObject, fd: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        let fd = ffi::PyLong_AsLong(fd);
        if fd == -1 && !ffi::PyErr_Occurred().is_null() {
            return ptr::null_mut();
        }
        forget(fd as RawFd);
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// The same, from Rust.
///
/// # Safety
///
/// The GIL is held, and no reactor is borrowed.
pub unsafe fn forget(fd: RawFd) {
    // SAFETY: by contract. Waiters stay alive: they are woken in a later turn.
    unsafe {
        let mut woken = Vec::new();
        for_each(|reactor| {
            woken.append(&mut reactor.state.borrow_mut().descriptors.forget(fd));
        });
        // Waking the first may run code that ends the wait of the second.
        for (waiter, _) in &woken {
            ffi::Py_INCREF(waiter.cast());
        }
        for (waiter, events) in woken {
            Waiter::wake(waiter, Reason::Ready(events));
            ffi::Py_DECREF(waiter.cast());
        }
    }
}

/// `asyncio.CancelledError`: a new reference, or null with an exception set.
unsafe fn cancelled_error() -> *mut PyObject {
    // SAFETY: the GIL is held. The module is loaded: its task has called.
    unsafe {
        let module = ffi::PyImport_ImportModule(c"asyncio".as_ptr());
        if module.is_null() {
            return module;
        }
        let class = ffi::PyObject_GetAttrString(module, c"CancelledError".as_ptr());
        ffi::Py_DECREF(module);
        class
    }
}

impl Reactor {
    /// Notes the thread that its loop runs in: the caller's. A loop may move between two runs.
    #[inline]
    pub fn runs_here(&self) {
        // SAFETY: it reads a register of the thread's.
        self.thread
            .set(unsafe { ffi::PyThread_get_thread_ident() } as c_ulong);
    }

    /// Whether it can be waited with: not closed, and of this process.
    #[inline]
    pub fn is_open(&self) -> bool {
        !self.closed.get() && self.forks == forks()
    }

    /// Whether it is the one of the loop or run that `key` is.
    #[inline]
    pub fn is_of(&self, key: *mut PyObject) -> bool {
        ptr::eq(self.key, key)
    }

    /// The time on its clock. Null with an exception set when the loop's clock fails.
    pub fn now(&self) -> Option<Time> {
        if self.clock.is_null() {
            return Some(monotonic());
        }
        // SAFETY: the GIL is held; the clock is ours.
        unsafe {
            let seconds = ffi::PyObject_CallNoArgs(self.clock);
            if seconds.is_null() {
                return None;
            }
            let value = ffi::PyFloat_AsDouble(seconds);
            ffi::Py_DECREF(seconds);
            if value == -1.0 && !ffi::PyErr_Occurred().is_null() {
                return None;
            }
            Some(to_nanoseconds(value))
        }
    }

    /// Takes a waiter out of its descriptors and the timers.
    fn remove(&self, waiter: *mut Waiter) {
        let mut state = self.state.borrow_mut();
        // SAFETY: the waiter is live: whoever calls this holds it.
        let waiter_ = unsafe { &mut *waiter };
        if waiter_.fd >= 0 {
            state.descriptors.remove_waiter(waiter_.fd, waiter);
            for fd in waiter_.more.drain(..) {
                state.descriptors.remove_waiter(fd, waiter);
            }
            waiter_.fd = -1;
        }
        if let Some(key) = waiter_.deadline.take() {
            state.timers.remove(key);
        }
    }

    /// The descriptors that a waiter waits for, with the events.
    fn events_of(&self, waiter: *mut Waiter) -> Vec<(RawFd, u8)> {
        let mut state = self.state.borrow_mut();
        // SAFETY: the waiter is live: whoever calls this holds it.
        let waiter_ = unsafe { &*waiter };
        let first = (waiter_.fd >= 0).then_some(waiter_.fd);
        first
            .into_iter()
            .chain(waiter_.more.iter().copied())
            .map(|fd| (fd, state.descriptors.events_of(fd, waiter)))
            .collect()
    }

    /// The owner of a registration is gone.
    fn owner_is_gone(&self, fd: RawFd, guard: *mut PyObject) {
        self.state.borrow_mut().descriptors.owner_is_gone(fd, guard);
    }

    /// Whether it makes sense to try a read for `owner` before waiting.
    #[inline]
    pub fn may_be_readable(&self, fd: RawFd, owner: *mut PyObject) -> bool {
        self.state
            .borrow_mut()
            .descriptors
            .may_be_readable(fd, owner)
    }

    /// A read for `owner` was in vain.
    #[inline]
    pub fn was_drained(&self, fd: RawFd, owner: *mut PyObject) {
        self.state.borrow_mut().descriptors.was_drained(fd, owner);
    }

    /// A read of a stream for `owner` gave less than it asked for.
    #[inline]
    pub fn was_short(&self, fd: RawFd, owner: *mut PyObject) {
        self.state.borrow_mut().descriptors.was_short(fd, owner);
    }

    /// Has `waiter` woken when `fd` is ready. False when it is always ready, and null
    /// (None) with an exception set.
    unsafe fn watch(
        this: *mut Self,
        fd: RawFd,
        events: u8,
        owner: *mut PyObject,
        waiter: *mut Waiter,
    ) -> Option<bool> {
        // SAFETY: the GIL is held; nothing is borrowed while the guard is made.
        unsafe {
            let state = &(*this).state;
            let mut owner = owner;
            let mut guard = ptr::null_mut();
            if state.borrow_mut().descriptors.needs_guard(fd, owner) {
                guard = guards::make(owner, fd);
                if guard.is_null() {
                    owner = guard;
                }
            }
            let added = state
                .borrow_mut()
                .descriptors
                .add_waiter(fd, events, owner, guard, waiter);
            match added {
                Ok(waits) => {
                    if waits {
                        if (*waiter).fd < 0 {
                            (*waiter).fd = fd;
                        } else {
                            (*waiter).more.push(fd);
                        }
                    }
                    Some(waits)
                }
                Err(error) => {
                    raise_os_error(&error);
                    None
                }
            }
        }
    }

    /// Has `waiter` woken at `deadline`. False with an exception set.
    unsafe fn set_deadline(this: *mut Self, deadline: Time, waiter: *mut Waiter) -> bool {
        // SAFETY: the GIL is held.
        unsafe {
            let key = (*this).state.borrow_mut().timers.insert(deadline, waiter);
            (*waiter).deadline = Some(key);
            Self::arm(this)
        }
    }

    /// Sets the loop's timer for the earliest deadline. False with an exception set.
    unsafe fn arm(this: *mut Self) -> bool {
        // SAFETY: the GIL is held; nothing is borrowed while the backend is called.
        unsafe {
            let Some(earliest) = (*this).state.borrow().timers.earliest() else {
                return true;
            };
            // A timer that comes too early does no harm, and most deadlines never come.
            if earliest >= (*this).armed.get() {
                return true;
            }
            let Some(now) = (*this).now() else {
                return false;
            };
            (*this).armed.set(earliest);
            let seconds = earliest.saturating_sub(now) as f64 / 1e9;
            let delay = ffi::PyFloat_FromDouble(seconds);
            if delay.is_null() {
                return false;
            }
            let done = tell((*this).backend, c"arm", delay);
            ffi::Py_DECREF(delay);
            if !done {
                // There may be no timer now, and others need it: the end of a turn sets it.
                (*this).armed.set(Time::MAX);
                let raised = errors::take();
                if !(*this).asked.get() {
                    Self::ask_for_turn(this);
                }
                errors::restore(raised);
            }
            done
        }
    }

    /// Notes that a wait is over, and sees to it that there is a turn.
    unsafe fn make_ready(this: *mut Self, waiter: *mut Waiter) {
        // SAFETY: the GIL is held and both are live.
        unsafe {
            let waiter = ffi::Py_NewRef(waiter.cast()).cast();
            (*this).state.borrow_mut().ready.push_back(waiter);
            if !(*this).collecting.get() && !(*this).asked.get() {
                Self::ask_for_turn(this);
                if (*this).may_have_interrupted() {
                    let _ = (*this).wake_loop();
                }
            }
        }
    }

    /// Whether the caller may be a signal's handler in the middle of the loop's wait, which asyncio
    /// goes on with as if nothing had happened.
    fn may_have_interrupted(&self) -> bool {
        let in_function = Runtime::get().is_some_and(|runtime| !runtime.here().is_null());
        self.kind == Kind::Asyncio && !in_function && self.is_here()
    }

    /// Whether the caller is in the thread of the loop.
    fn is_here(&self) -> bool {
        // SAFETY: it reads a register of the thread's.
        unsafe { ffi::PyThread_get_thread_ident() as c_ulong == self.thread.get() }
    }

    /// Has the loop turn by an event of its descriptor, from wherever.
    fn wake_loop(&self) -> io::Result<()> {
        self.state.borrow_mut().descriptors.waker()?.wake()
    }

    /// Called where no exception may come of it: a lock is released, perhaps by a
    /// finalizer. A loop that is closed has nobody left who waits.
    unsafe fn ask_for_turn(this: *mut Self) {
        // SAFETY: the GIL is held.
        unsafe {
            if !(*this).is_open() {
                return;
            }
            (*this).asked.set(true);
            if !(*this).is_here() {
                if (*this).wake_loop().is_err() {
                    (*this).asked.set(false);
                }
                return;
            }
            let raised = errors::take();
            let mut was_interrupted = false;
            let mut attempts = 0;
            while !tell((*this).backend, c"soon", ptr::null_mut()) {
                was_interrupted |= ffi::PyErr_ExceptionMatches(ffi::PyExc_KeyboardInterrupt) != 0;
                ffi::PyErr_Clear();
                // What a signal's handler raised comes once; a loop that is closed refuses always.
                attempts += 1;
                if attempts == 3 {
                    (*this).asked.set(false);
                    break;
                }
            }
            if was_interrupted {
                // Nobody can raise it here. It comes again, when the loop has been asked: set
                // before, each further attempt would be interrupted at its first step.
                ffi::PyErr_SetInterrupt();
            }
            errors::restore(raised);
        }
    }

    /// Lets the loop's task go on. False with an exception set.
    unsafe fn reschedule(this: *mut Self, task: *mut PyObject) -> bool {
        // SAFETY: the GIL is held.
        unsafe { tell((*this).backend, c"reschedule", task) }
    }

    /// What a task of Trio awaits while `waiter` waits: a new reference, or null.
    pub unsafe fn park(this: *mut Self, waiter: *mut Waiter) -> *mut PyObject {
        // SAFETY: the GIL is held.
        unsafe { call((*this).backend, c"park", waiter.cast()) }
    }

    /// The loop or task that a waiter of the caller belongs to: a new reference, or null.
    pub unsafe fn host(this: *mut Self) -> *mut PyObject {
        // SAFETY: the GIL is held. A loop that runs lives.
        unsafe {
            match (*this).kind {
                Kind::Asyncio => ffi::Py_NewRef((*this).key.cast_mut()),
                Kind::Trio => call((*this).backend, c"host", ptr::null_mut()),
            }
        }
    }

    /// What one checkpoint of the loop awaits: a new reference, or null.
    pub unsafe fn checkpoint(this: *mut Self) -> *mut PyObject {
        // SAFETY: the GIL is held.
        unsafe { call((*this).backend, c"checkpoint", ptr::null_mut()) }
    }

    /// Takes events, lets those go on whose wait is over, and sets the timer anew.
    unsafe fn turn(this: *mut Self, polls: bool) -> *mut PyObject {
        // SAFETY: the GIL is held, the caller holds `this`.
        unsafe {
            (*this).asked.set(false);
            (*this).runs_here();
            if !(*this).is_open() {
                return ffi::Py_NewRef(ffi::Py_None()); // a call that came late
            }
            // A function may run its own loop once more, inside of the turn (nest_asyncio): that
            // has turns of its own, and so each wait asks for what it needs at once.
            (*this).collecting.set(true);
            let collected = Self::collect(this, polls);
            (*this).collecting.set(false);
            let raised = if collected && Self::deliver(this) {
                ptr::null_mut()
            } else {
                errors::take()
            };
            let more = !(*this).state.borrow().ready.is_empty();
            if more && !(*this).asked.get() {
                Self::ask_for_turn(this);
            }
            if !Self::arm(this) && raised.is_null() {
                return ptr::null_mut();
            }
            if !raised.is_null() {
                errors::restore(raised);
                return ptr::null_mut();
            }
            ffi::Py_NewRef(ffi::Py_None())
        }
    }

    /// Finds those whose wait is over. False with an exception set.
    unsafe fn collect(this: *mut Self, polls: bool) -> bool {
        // SAFETY: as above. Waiters found here are live: their frames take them out.
        unsafe {
            let mut woken = Vec::new();
            let mut more = polls;
            while more {
                let polled = (*this)
                    .state
                    .borrow_mut()
                    .descriptors
                    .poll(|waiter, events| woken.push((waiter, events)));
                for (waiter, events) in woken.drain(..) {
                    Waiter::wake(waiter, Reason::Ready(events));
                }
                match polled {
                    Ok(left) => more = left,
                    Err(error) => {
                        raise_os_error(&error);
                        return false;
                    }
                }
            }
            if (*this).state.borrow().timers.len() > 0 {
                let Some(now) = (*this).now() else {
                    return false;
                };
                loop {
                    let due = (*this).state.borrow_mut().timers.pop_due(now);
                    let Some(waiter) = due else { break };
                    (*waiter).deadline = None;
                    Waiter::wake(waiter, Reason::TimedOut);
                }
            }
            true
        }
    }

    /// Lets them go on. False with an exception set.
    unsafe fn deliver(this: *mut Self) -> bool {
        // SAFETY: as above.
        unsafe {
            // Those that become ready meanwhile have their turn after the loop's other
            // callbacks, and so has what is left when the time is over.
            let count = (*this).state.borrow().ready.len();
            let end = monotonic() + LONGEST_STRETCH;
            for done in 0..count {
                if done > 0 && monotonic() > end {
                    break;
                }
                (*this).unwaited.set(0);
                let next = (*this).state.borrow_mut().ready.pop_front();
                let Some(waiter) = next else { break };
                let delivered = Waiter::deliver(waiter);
                ffi::Py_DECREF(waiter.cast());
                if !delivered {
                    return false;
                }
            }
            true
        }
    }

    /// Nothing can be waited for with it any more. Its descriptor goes, and the number may soon be
    /// another file's: the loop watches it no longer, or is gone.
    ///
    /// # Safety
    ///
    /// The GIL is held, and the reactor is not borrowed.
    unsafe fn close(this: *mut Self) {
        // SAFETY: by contract. The references are dropped last, when nothing is borrowed: they may
        // run any code.
        unsafe {
            (*this).closed.set(true);
            all().retain(|known| *known != Open(this));
            let ready = {
                let mut state = (*this).state.borrow_mut();
                state.descriptors.close();
                core::mem::take(&mut state.ready)
            };
            for waiter in ready {
                ffi::Py_DECREF(waiter.cast());
            }
        }
    }
}

/// Calls `method` of an object, with `argument` if that is not null: a new reference,
/// or null with an exception set.
unsafe fn call(object: *mut PyObject, method: &CStr, argument: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held, and both are live.
    unsafe {
        let method = ffi::PyObject_GetAttrString(object, method.as_ptr());
        if method.is_null() {
            return method;
        }
        let result = if argument.is_null() {
            ffi::PyObject_CallNoArgs(method)
        } else {
            ffi::PyObject_CallOneArg(method, argument)
        };
        ffi::Py_DECREF(method);
        result
    }
}

/// The same, for what returns nothing. False with an exception set.
unsafe fn tell(object: *mut PyObject, method: &CStr, argument: *mut PyObject) -> bool {
    // SAFETY: as above.
    unsafe {
        let result = call(object, method, argument);
        ffi::Py_XDECREF(result);
        !result.is_null()
    }
}

/// The system's monotonic clock.
pub fn monotonic() -> Time {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists, and `time` is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as Time * 1_000_000_000 + time.tv_nsec as Time
}

/// Seconds as nanoseconds, rounded up: who sleeps must not wake early.
pub fn to_nanoseconds(seconds: f64) -> Time {
    // A cast saturates: a hundred years and more are for ever.
    (seconds * 1e9).ceil() as Time
}

unsafe fn raise_os_error(error: &io::Error) {
    // SAFETY: the GIL is held.
    unsafe {
        crate::errno::set(error.raw_os_error().unwrap_or(libc::EIO));
        ffi::PyErr_SetFromErrno(ffi::PyExc_OSError);
    }
}
