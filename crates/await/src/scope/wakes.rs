//! Which children are ready to be polled, told by wakers from any thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// The list of a scope. Shared with the wakers of its children, which may outlive it.
#[derive(Default)]
pub(super) struct Wakes {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    ready: Vec<usize>,
    /// Whether a place is in `ready`.
    listed: Vec<bool>,
    /// The task's. Taken by the first wake, so that it is woken once until it is polled.
    task: Option<Waker>,
}

/// What wakes one child, or whatever is in its place later: a wake too many is allowed.
struct ChildWake {
    at: usize,
    wakes: Arc<Wakes>,
}

impl Wakes {
    /// A waker that lists `at`.
    pub(super) fn waker(self: &Arc<Self>, at: usize) -> Waker {
        Waker::from(Arc::new(ChildWake {
            at,
            wakes: self.clone(),
        }))
    }

    /// Called by each poll of the task: whom to wake from now on.
    pub(super) fn polled_by(&self, task: &Waker) {
        let mut list = self.lock();
        if list
            .task
            .as_ref()
            .is_none_or(|known| !known.will_wake(task))
        {
            let old = list.task.replace(task.clone());
            drop(list);
            // After the lock: the last waker of a task may drop its future.
            drop(old);
        }
    }

    /// Moves the list to `batch`.
    pub(super) fn take(&self, batch: &mut Vec<usize>) {
        let list = &mut *self.lock();
        for at in &list.ready {
            list.listed[*at] = false;
        }
        batch.append(&mut list.ready);
    }

    fn wake(&self, at: usize) {
        let task = {
            let list = &mut *self.lock();
            if list.listed.len() <= at {
                list.listed.resize(at + 1, false);
            }
            if !std::mem::replace(&mut list.listed[at], true) {
                list.ready.push(at);
            }
            list.task.take()
        };
        // After the lock: a waker may run anything.
        if let Some(task) = task {
            task.wake();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, List> {
        // Nothing that can panic runs under the lock, except for a full memory.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for ChildWake {
    fn wake(self: Arc<Self>) {
        self.wakes.wake(self.at);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.wake(self.at);
    }
}
