//! The children of a scope: who is polled when, and how they end.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::wakes::Wakes;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The place of the body in the list of who is ready. Children count from 1.
const BODY: usize = 0;

pub(super) struct Children {
    wakes: Arc<Wakes>,
    body_waker: Waker,
    /// By place less one. None while a child is polled, and where none is.
    places: RefCell<Vec<Option<Running>>>,
    free: RefCell<Vec<usize>>,
    /// Spawned and not polled yet.
    new: RefCell<Vec<Task>>,
    running: Cell<usize>,
    body_ended: Cell<bool>,
    began: Cell<bool>,
}

struct Running {
    future: Task,
    waker: Waker,
}

impl Children {
    pub(super) fn new() -> Self {
        let wakes = Arc::new(Wakes::default());
        Self {
            body_waker: wakes.waker(BODY),
            wakes,
            places: RefCell::default(),
            free: RefCell::default(),
            new: RefCell::default(),
            running: Cell::new(0),
            body_ended: Cell::new(false),
            began: Cell::new(false),
        }
    }

    pub(super) fn add(&self, child: Task) {
        self.new.borrow_mut().push(child);
    }

    /// Polls who is ready: the body, which tells whether it ended, and children. Ready once all
    /// ended.
    pub(super) fn drive(
        &self,
        cx: &mut Context<'_>,
        mut poll_body: impl FnMut(&mut Context<'_>) -> bool,
    ) -> Poll<()> {
        self.wakes.polled_by(cx.waker());
        let mut ready = Vec::new();
        self.wakes.take(&mut ready);
        if !self.began.replace(true) {
            ready.push(BODY);
        }
        for at in ready {
            if at == BODY {
                if !self.body_ended.get() {
                    let ended = poll_body(&mut Context::from_waker(&self.body_waker));
                    self.body_ended.set(ended);
                }
            } else {
                self.poll(at);
            }
        }
        // Once: children that spawn children for ever leave the thread to others in between.
        for child in self.new.take() {
            self.start(child);
        }
        if !self.new.borrow().is_empty() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.body_ended.get() && self.running.get() == 0 {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn start(&self, future: Task) {
        let at = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut places = self.places.borrow_mut();
            places.push(None);
            places.len()
        });
        let waker = self.wakes.waker(at);
        self.places.borrow_mut()[at - 1] = Some(Running { future, waker });
        self.running.set(self.running.get() + 1);
        self.poll(at);
    }

    fn poll(&self, at: usize) {
        // Out of its place: while it runs, it may spawn others.
        let Some(mut child) = self.places.borrow_mut()[at - 1].take() else {
            return;
        };
        let mut cx = Context::from_waker(&child.waker);
        if child.future.as_mut().poll(&mut cx).is_pending() {
            self.places.borrow_mut()[at - 1] = Some(child);
            return;
        }
        self.running.set(self.running.get() - 1);
        self.free.borrow_mut().push(at);
    }

    /// Drops all children, also those that others spawn as they are unwound. Returns the first
    /// panic.
    pub(super) fn end(&self) -> Option<Box<dyn Any + Send>> {
        let mut first = None;
        let mut drop_caught = |child: Task| {
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(child))) {
                if first.is_none() {
                    first = Some(payload);
                } else {
                    // Its destructor could panic, and leave children behind.
                    std::mem::forget(payload);
                }
            }
        };
        loop {
            let next = self.places.borrow_mut().pop();
            match next {
                Some(Some(child)) => drop_caught(child.future),
                Some(None) => {}
                None => break,
            }
        }
        loop {
            let next = self.new.borrow_mut().pop();
            match next {
                Some(child) => drop_caught(child),
                None => break,
            }
        }
        first
    }
}
