//! `JoinHandle`: the result of a function that runs on another thread.

use std::fmt;
use std::panic;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use super::inbox::{Id, Inbox};
use super::sync::{Mutex, MutexGuard};

/// The result of a function that runs on a pinned thread, as a future that is `Send`.
///
/// Dropping it cancels the function: its stack is unwound on its thread, soon after.
/// [`detach`](JoinHandle::detach) lets it go on instead.
///
/// # Panics
///
/// Awaiting it panics with the function's panic, if it had one.
#[must_use = "dropping a JoinHandle cancels the function; detach it to let it go on"]
pub struct JoinHandle<T> {
    slot: Arc<Slot<T>>,
    inbox: Arc<Inbox>,
    id: Id,
    /// The function runs on whatever becomes of this handle, or it has ended.
    released: bool,
}

/// Where the result is handed over.
pub(super) struct Slot<T> {
    state: Mutex<State<T>>,
}

enum State<T> {
    Pending(Option<Waker>),
    Ended(thread::Result<T>),
    Taken,
}

impl<T> Slot<T> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State::Pending(None)),
        }
    }

    /// The lock is held over moves and a waker's clone. Were that one to panic, nothing is half done.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fill(&self, result: thread::Result<T>) {
        let before = std::mem::replace(&mut *self.lock(), State::Ended(result));
        // Outside of the lock: a waker runs code of its executor.
        if let State::Pending(Some(waker)) = before {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<thread::Result<T>> {
        let mut state = self.lock();
        match &mut *state {
            State::Pending(Some(waker)) => waker.clone_from(cx.waker()),
            State::Pending(none) => *none = Some(cx.waker().clone()),
            State::Ended(_) => {
                let State::Ended(result) = std::mem::replace(&mut *state, State::Taken) else {
                    unreachable!("just seen");
                };
                return Poll::Ready(result);
            }
            State::Taken => panic!("`JoinHandle` polled after it ended"),
        }
        Poll::Pending
    }
}

/// What the function's thread holds of a slot: it is filled whatever happens there.
pub(super) struct Promise<T>(pub(super) Arc<Slot<T>>);

impl<T> Promise<T> {
    pub(super) fn keep(self, result: thread::Result<T>) {
        self.0.fill(result);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if matches!(&*self.0.lock(), State::Pending(_)) {
            let told = "the thread of a pinned function ended before the function did; see what \
                        `PinnedThreadsBuilder::around` was given";
            self.0.fill(Err(Box::new(told)));
        }
    }
}

impl<T> JoinHandle<T> {
    pub(super) fn new(slot: Arc<Slot<T>>, inbox: Arc<Inbox>, id: Id) -> Self {
        Self {
            slot,
            inbox,
            id,
            released: false,
        }
    }

    /// Lets the function go on without anybody to take its result. A panic of it is reported by the
    /// panic hook only.
    pub fn detach(mut self) {
        self.released = true;
    }

    /// Whether the function has ended.
    pub fn is_finished(&self) -> bool {
        !matches!(&*self.slot.lock(), State::Pending(_))
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Poll::Ready(result) = self.slot.poll(cx) else {
            return Poll::Pending;
        };
        self.released = true;
        Poll::Ready(result.unwrap_or_else(|payload| panic::resume_unwind(payload)))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if !self.released {
            self.inbox.cancel(self.id);
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("finished", &self.is_finished())
            .finish()
    }
}
