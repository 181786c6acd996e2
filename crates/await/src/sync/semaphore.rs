//! The one place where locks and channels wait: a count, and a queue of who wants some of it.
//!
//! Permits are handed over: whoever is first in the queue gets them from the hand that gives them
//! back, and is woken. Nobody else can take them in between. So there is one wake for each wait, and
//! who is dropped after it was served and before it ran gives them on.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

pub(super) struct Semaphore {
    state: Mutex<State>,
    /// Whether permits that nobody waits for stay. Those of a condition variable do not.
    keeps: bool,
}

struct State {
    permits: usize,
    /// Once closed: the first key that will not be served. Keys below it were.
    closed: Option<u64>,
    /// In the order of their keys. Who is not in it any more was served, or the semaphore closed.
    waiting: VecDeque<Waiting>,
    next_key: u64,
}

struct Waiting {
    key: u64,
    want: usize,
    waker: Waker,
}

/// There will be no more permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// Waits for permits. Dropped, it leaves the queue, or gives on what it was served.
#[must_use = "futures do nothing unless they are polled"]
pub(super) struct Acquire<'a> {
    semaphore: &'a Semaphore,
    want: usize,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    New,
    Waits(u64),
    Done,
}

impl Semaphore {
    pub(super) const fn new(permits: usize) -> Self {
        Self::with(permits, true)
    }

    /// One whose permits go only to those that wait already.
    pub(super) const fn for_notifications() -> Self {
        Self::with(0, false)
    }

    const fn with(permits: usize, keeps: bool) -> Self {
        Self {
            keeps,
            state: Mutex::new(State {
                permits,
                closed: None,
                waiting: VecDeque::new(),
                next_key: 0,
            }),
        }
    }

    pub(super) fn try_acquire(&self, want: usize) -> bool {
        self.lock().take(want)
    }

    pub(super) fn acquire(&self, want: usize) -> Acquire<'_> {
        Acquire {
            semaphore: self,
            want,
            step: Step::New,
        }
    }

    /// Adds permits, and serves who waits.
    pub(super) fn release(&self, count: usize) {
        let mut state = self.lock();
        state.permits += count;
        let served = state.serve();
        if !self.keeps {
            state.permits = 0;
        }
        drop(state);
        wake(served);
    }

    /// Says that there will be no more permits. What there is can still be taken.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        if state.closed.is_some() {
            return;
        }
        let first = state.waiting.front().map(|waiting| waiting.key);
        state.closed = Some(first.unwrap_or(state.next_key));
        // Had there been any for the first in the queue, it would have been served.
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        wake(waiting);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under it but the cloning of wakers. The state is whole when one is
        // cloned. They are dropped after the lock: the last waker of a task may drop its future.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes permits if nobody waits for them.
    fn take(&mut self, want: usize) -> bool {
        let can = self.waiting.is_empty() && self.permits >= want;
        if can {
            self.permits -= want;
        }
        can
    }

    /// Serves the queue from its head as far as the permits go.
    fn serve(&mut self) -> VecDeque<Waiting> {
        let mut served = VecDeque::new();
        while let Some(first) = self.waiting.front() {
            if first.want > self.permits {
                break;
            }
            self.permits -= first.want;
            served.extend(self.waiting.pop_front());
        }
        served
    }

    /// What became of one that is not in the queue any more.
    fn outcome(&self, key: u64) -> Result<(), Closed> {
        match self.closed {
            Some(first) if key >= first => Err(Closed),
            _ => Ok(()),
        }
    }

    fn find(&self, key: u64) -> Result<usize, usize> {
        self.waiting
            .binary_search_by_key(&key, |waiting| waiting.key)
    }
}

/// Wakes after the lock: a waker may run anything.
fn wake(served: VecDeque<Waiting>) {
    for waiting in served {
        waiting.waker.wake();
    }
}

impl Future for Acquire<'_> {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut state = this.semaphore.lock();
        match this.step {
            Step::New if state.take(this.want) => {
                this.step = Step::Done;
                Poll::Ready(Ok(()))
            }
            Step::New if state.closed.is_some() => {
                this.step = Step::Done;
                Poll::Ready(Err(Closed))
            }
            Step::New => {
                let key = state.next_key;
                state.next_key += 1;
                state.waiting.push_back(Waiting {
                    key,
                    want: this.want,
                    waker: cx.waker().clone(),
                });
                this.step = Step::Waits(key);
                Poll::Pending
            }
            Step::Waits(key) => {
                if let Ok(at) = state.find(key) {
                    let known = &mut state.waiting[at].waker;
                    if !known.will_wake(cx.waker()) {
                        let old = std::mem::replace(known, cx.waker().clone());
                        drop(state);
                        drop(old);
                    }
                    return Poll::Pending;
                }
                this.step = Step::Done;
                Poll::Ready(state.outcome(key))
            }
            Step::Done => panic!("a wait for a lock or channel was polled after it ended"),
        }
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let Step::Waits(key) = self.step else { return };
        let mut state = self.semaphore.lock();
        match state.find(key) {
            Ok(at) => {
                let gone = state.waiting.remove(at);
                // It may have stood in the way of one that wants less.
                let served = state.serve();
                drop(state);
                drop(gone);
                wake(served);
            }
            Err(_) => {
                let outcome = state.outcome(key);
                drop(state);
                if outcome.is_ok() {
                    self.semaphore.release(self.want);
                }
            }
        }
    }
}
