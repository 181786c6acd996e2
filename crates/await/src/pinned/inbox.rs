//! What other threads tell a pinned thread: one lock, held for a few instructions.

use std::collections::HashSet;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::Wake;

use super::sync::{Condvar, Mutex, MutexGuard};
use crate::Builder;

/// Names a function of one thread. Never used twice, so that what is late finds nobody.
pub(super) type Id = u64;

/// A function as its thread sees it: done when its result was handed over.
pub(super) type Running = Pin<Box<dyn Future<Output = ()>>>;

/// Makes the function a future, on its thread.
pub(super) type Start = Box<dyn FnOnce(&Builder) -> Running + Send>;

#[derive(Default)]
pub(super) struct Inbox {
    letters: Mutex<Letters>,
    arrived: Condvar,
}

/// What arrived since the thread last looked.
#[derive(Default)]
pub(super) struct Letters {
    next_id: Id,
    closed: bool,
    /// The thread is gone, and looks no more.
    ended: bool,
    pub(super) starts: Vec<(Id, Start)>,
    pub(super) cancels: Vec<Id>,
    pub(super) wakes: Vec<Id>,
    /// Those in `wakes`: many wakers may fire before the thread looks.
    woken: HashSet<Id>,
}

impl Inbox {
    /// A panic while the lock is held is one of the allocator's at most, and leaves whole letters.
    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, start: Start) -> Id {
        let mut letters = self.lock();
        let id = letters.next_id;
        letters.next_id += 1;
        if letters.ended {
            // Dropped outside of the lock: what the closure captured is the caller's.
            drop(letters);
            drop(start);
            return id;
        }
        letters.starts.push((id, start));
        drop(letters);
        self.arrived.notify_one();
        id
    }

    /// The thread ends, whatever is still here.
    pub(super) fn end(&self) {
        let mut letters = self.lock();
        letters.ended = true;
        let starts = mem::take(&mut letters.starts);
        drop(letters);
        drop(starts);
    }

    pub(super) fn cancel(&self, id: Id) {
        self.lock().cancels.push(id);
        self.arrived.notify_one();
    }

    fn wake(&self, id: Id) {
        let mut letters = self.lock();
        if letters.woken.insert(id) {
            letters.wakes.push(id);
            drop(letters);
            self.arrived.notify_one();
        }
    }

    /// No more starts. The thread ends with its last function.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Waits for letters. None when nothing will come: closed, and `idle` as the thread knows.
    pub(super) fn next(&self, idle: bool) -> Option<Letters> {
        let mut letters = self.lock();
        loop {
            let any = !(letters.starts.is_empty()
                && letters.cancels.is_empty()
                && letters.wakes.is_empty());
            if any {
                letters.woken.clear();
                return Some(Letters {
                    starts: mem::take(&mut letters.starts),
                    cancels: mem::take(&mut letters.cancels),
                    wakes: mem::take(&mut letters.wakes),
                    ..Letters::default()
                });
            }
            if letters.closed && idle {
                return None;
            }
            letters = self
                .arrived
                .wait(letters)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The waker of one function.
pub(super) struct Wakes {
    pub(super) inbox: Arc<Inbox>,
    pub(super) id: Id,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.inbox.wake(self.id);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.inbox.wake(self.id);
    }
}
