//! What a lock is, without an object around it: a flag and a queue, both guarded by the
//! GIL.
//!
//! Releasing wakes the first in the queue, which takes the lock if nobody was faster,
//! and queues at the front again if somebody was. Who is woken and cannot take it (it
//! was cancelled just then) passes the wake on.

use core::cell::Cell;
use core::ptr;
use std::collections::VecDeque;

use pyo3::ffi::{self, PyObject};

use super::gil::{Sleeper, Slept};
use crate::errors::raise;
use crate::reactor::here;
use crate::reactor::wait::{Wait, deadline_after};
use crate::reactor::{Reactor, Reason, Waiter, forks, monotonic};

#[cfg(Py_3_15)]
unsafe extern "C" {
    // Not in PyO3's bindings.
    static PyExc_PythonFinalizationError: *mut ffi::PyObject;
}

/// Who waits for a lock.
#[derive(Clone, Copy, PartialEq)]
enum Queued {
    Green(*mut Waiter),
    Thread(*const Blocked),
}

impl Queued {
    /// The loop that has to let it go on; null for a thread, which does so by itself.
    unsafe fn place(self) -> *const Reactor {
        match self {
            // SAFETY: who is in a queue is alive, and the GIL is held.
            Self::Green(waiter) => unsafe { (*waiter).reactor() },
            Self::Thread(_) => ptr::null(),
        }
    }
}

/// A thread that waits, on its own stack.
struct Blocked {
    sleeper: Sleeper,
    woken: Cell<bool>,
}

/// The state of a lock, wherever it lies.
#[derive(Default)]
pub struct RawLock {
    locked: bool,
    /// Empty and without memory until somebody has to wait.
    queue: VecDeque<Queued>,
    /// In which process those in the queue wait (`reactor::forks`).
    forks: u32,
    /// Whether those in the queue may be of several loops, or of a loop and threads.
    mixed: bool,
}

/// How an attempt to take a lock ended.
pub enum Acquired {
    Yes,
    TimedOut,
    /// With an exception set.
    Failed,
}

impl RawLock {
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_acquire(&mut self) -> bool {
        !core::mem::replace(&mut self.locked, true)
    }

    /// Takes the lock, waiting for at most so many seconds. `owner` is the object that
    /// it is in, for those who want to know what is waited for.
    ///
    /// # Safety
    ///
    /// The GIL is held; `this` stays where it is meanwhile.
    pub unsafe fn acquire(this: *mut Self, owner: *mut PyObject, timeout: Option<f64>) -> Acquired {
        // SAFETY: by contract; `this` is never borrowed across a wait.
        unsafe {
            if (*this).try_acquire() {
                return Acquired::Yes;
            }
            if here::find().is_some() {
                Self::acquire_green(this, owner, timeout)
            } else {
                Self::acquire_blocking(this, timeout)
            }
        }
    }

    #[cold]
    unsafe fn acquire_green(
        this: *mut Self,
        owner: *mut PyObject,
        timeout: Option<f64>,
    ) -> Acquired {
        // SAFETY: as above.
        unsafe {
            let mut deadline = None;
            let mut was_woken = false;
            loop {
                // Found anew each time: it is where the caller is now.
                let Some(here) = here::find() else {
                    return Self::acquire_blocking(this, timeout);
                };
                if let (Some(seconds), None) = (timeout, deadline) {
                    deadline = deadline_after(here.reactor, seconds);
                    if deadline.is_none() {
                        return Acquired::Failed;
                    }
                }
                let Some(wait) = Wait::new(here) else {
                    return Acquired::Failed;
                };
                // Finding the loop and making the wait may have run Python code, and so other
                // threads: one that freed the lock meanwhile has seen nobody in the queue.
                if (*this).try_acquire() {
                    return Acquired::Yes;
                }
                let me = Queued::Green(wait.waiter());
                (*wait.waiter()).lock = owner;
                (*this).enqueue(me, was_woken);
                let reason = if wait.until(deadline) {
                    wait.suspend()
                } else {
                    None
                };
                // The loop may hold the waiter for longer than this frame holds the lock.
                (*wait.waiter()).lock = ptr::null_mut();
                let notified = (*wait.waiter()).reason == Reason::Notified;
                if !notified {
                    (*this).dequeue(me);
                }
                match reason {
                    Some(Reason::Notified) => {
                        if (*this).try_acquire() {
                            return Acquired::Yes;
                        }
                        was_woken = true;
                    }
                    Some(_) => {
                        return if (*this).try_acquire() {
                            Acquired::Yes
                        } else {
                            Acquired::TimedOut
                        };
                    }
                    None => {
                        if notified {
                            Self::pass_on(this);
                        }
                        return Acquired::Failed;
                    }
                }
            }
        }
    }

    #[cold]
    unsafe fn acquire_blocking(this: *mut Self, timeout: Option<f64>) -> Acquired {
        // SAFETY: as above. `blocked` stays in this frame while it is in the queue: it
        // is taken out before every return, or was by whoever woke it.
        unsafe {
            if refuses_at_the_end() {
                return Acquired::Failed;
            }
            let end = timeout.map(|seconds| {
                monotonic().saturating_add(crate::reactor::to_nanoseconds(seconds.max(0.0)))
            });
            let mut was_woken = false;
            loop {
                let Some(sleeper) = Sleeper::new() else {
                    raise(ffi::PyExc_RuntimeError, c"can't allocate lock");
                    return Acquired::Failed;
                };
                if (*this).try_acquire() {
                    return Acquired::Yes; // freed while it was looked for a loop here
                }
                let blocked = Blocked {
                    sleeper,
                    woken: Cell::new(false),
                };
                let me = Queued::Thread(&raw const blocked);
                (*this).enqueue(me, was_woken);
                loop {
                    let left = end.map(|end| (end.saturating_sub(monotonic()) / 1000) as i64);
                    let slept = blocked.sleeper.sleep(left);
                    if blocked.woken.get() {
                        break;
                    }
                    match slept {
                        Slept::Woken => break,
                        Slept::TimedOut => {
                            (*this).dequeue(me);
                            return if (*this).try_acquire() {
                                Acquired::Yes
                            } else {
                                Acquired::TimedOut
                            };
                        }
                        Slept::Interrupted => {
                            if ffi::PyErr_CheckSignals() < 0 {
                                if blocked.woken.get() {
                                    Self::pass_on(this);
                                } else {
                                    (*this).dequeue(me);
                                }
                                return Acquired::Failed;
                            }
                        }
                    }
                }
                if (*this).try_acquire() {
                    return Acquired::Yes;
                }
                was_woken = true;
            }
        }
    }

    /// In a fork's child those who waited in the parent are gone, with their stacks.
    #[inline]
    fn forget_the_parents(&mut self) {
        let forks = forks();
        if self.forks != forks {
            self.forks = forks;
            self.queue.clear();
        }
    }

    fn enqueue(&mut self, who: Queued, in_front: bool) {
        self.forget_the_parents();
        self.mixed = match self.queue.front() {
            None => false,
            // SAFETY: the GIL is held; both are alive.
            Some(first) => self.mixed || unsafe { first.place() != who.place() },
        };
        if in_front {
            self.queue.push_front(who);
        } else {
            self.queue.push_back(who);
        }
    }

    fn dequeue(&mut self, who: Queued) {
        self.forget_the_parents();
        self.queue.retain(|queued| *queued != who);
    }

    /// Frees the lock and wakes who is first.
    ///
    /// # Safety
    ///
    /// The GIL is held.
    #[inline]
    pub unsafe fn release(this: *mut Self) {
        // SAFETY: by contract.
        unsafe {
            (*this).locked = false;
            if !(*this).queue.is_empty() {
                Self::pass_on(this);
            }
        }
    }

    #[cold]
    unsafe fn pass_on(this: *mut Self) {
        // SAFETY: as above. Whoever is in the queue is alive: it waits. One that is not
        // to be woken any more is just about to take itself out.
        unsafe {
            (*this).forget_the_parents();
            // A function goes on when its loop lets it, and the loop's thread may be blocked: by
            // a wait for this very lock, or for somebody who waits for it. So the first of every
            // other loop is woken too, or the first thread, which goes on by itself. Who is late
            // queues at the front again.
            let mut asked: Vec<*const Reactor> = Vec::new();
            let mut index = 0;
            while !(*this).locked && index < (*this).queue.len() {
                let who = (&(*this).queue)[index];
                let place = who.place();
                if asked.contains(&place) {
                    index += 1;
                    continue;
                }
                (*this).queue.remove(index);
                match who {
                    Queued::Green(waiter) => {
                        if Waiter::wake(waiter, Reason::Notified) {
                            if !(*this).mixed {
                                return;
                            }
                            asked.push(place);
                        }
                        index = 0; // waking may have run any code
                    }
                    Queued::Thread(blocked) => {
                        (*blocked).woken.set(true);
                        (*blocked).sleeper.wake();
                        return;
                    }
                }
            }
        }
    }

    /// In a fork's child: free, and nobody waits.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// From 3.15 on nobody waits for a lock when the interpreter ends: who holds it is gone.
/// True with an exception set.
unsafe fn refuses_at_the_end() -> bool {
    // SAFETY: the GIL is held.
    #[cfg(Py_3_15)]
    unsafe {
        if ffi::Py_IsFinalizing() != 0 {
            raise(
                PyExc_PythonFinalizationError,
                c"cannot acquire lock at interpreter finalization",
            );
            return true;
        }
    }
    false
}
