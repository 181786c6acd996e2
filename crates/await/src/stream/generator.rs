//! A sync function as a stream: it yields items, and waits in between as it likes.
//!
//! The function and its consumer are one task. They meet at a queue, which holds more than one item
//! only when functions that the generator runs side by side yield at once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_core::{FusedStream, Stream};

use crate::{AsyncDef, async_def, await_};

/// A stream of what a function yields: what [`generate`] returns.
///
/// Dropping it unwinds the function, as dropping an [`AsyncDef`] does.
#[must_use = "streams do nothing unless they are polled"]
pub struct Generator<T> {
    /// None once the function ended.
    function: Option<Pin<Box<dyn Future<Output = ()>>>>,
    meeting: Rc<Meeting<T>>,
}

/// By which the function of a [`Generator`] yields.
pub struct Yielder<T> {
    meeting: Rc<Meeting<T>>,
}

struct Meeting<T> {
    yielded: RefCell<VecDeque<T>>,
    /// How many items were ever put into `yielded`, and taken from it.
    put: Cell<u64>,
    taken: Cell<u64>,
    /// Of functions that yielded from another task than the generator's own.
    elsewhere: RefCell<Vec<Waker>>,
}

/// Makes a sync function a stream: each item that it yields, at any depth, is one of the stream's.
///
/// The function runs on a stack of its own, with the first poll, and from one item to the next only
/// when the next is asked for.
///
/// ```
/// use futures::{StreamExt, executor::block_on};
/// use verdigris_await::{await_, stream::{Yielder, generate}};
///
/// fn walk(depth: u32, to: &Yielder<u32>) {
///     if depth > 0 {
///         walk(depth - 1, to);
///         to.emit(await_(async { depth })); // it can wait, too
///         walk(depth - 1, to);
///     }
/// }
/// let stream = generate(|to| walk(3, to));
/// assert_eq!(block_on(stream.collect::<Vec<_>>()), [1, 2, 1, 3, 1, 2, 1]);
/// ```
///
/// It is not `Send`, for the reasons of [`AsyncDef`]:
///
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// send(verdigris_await::stream::generate(|to| to.emit(1)));
/// ```
///
/// And the function borrows nothing, for those of [`async_def`]:
///
/// ```compile_fail,E0597
/// let text = String::from("here");
/// let borrowed = &text;
/// let stream = verdigris_await::stream::generate(move |to| to.emit(borrowed.len()));
/// ```
///
/// # Panics
///
/// Polling it panics with the function's own panic.
pub fn generate<T: 'static>(f: impl FnOnce(&Yielder<T>) + 'static) -> Generator<T> {
    let meeting = Rc::new(Meeting {
        yielded: RefCell::default(),
        put: Cell::new(0),
        taken: Cell::new(0),
        elsewhere: RefCell::default(),
    });
    let yielder = Yielder {
        meeting: meeting.clone(),
    };
    let function: AsyncDef<_, ()> = async_def(move || f(&yielder));
    Generator {
        function: Some(Box::pin(function)),
        meeting,
    }
}

impl<T> Yielder<T> {
    /// Yields an item, and waits until it was taken and the next is asked for.
    ///
    /// # Panics
    ///
    /// Where [`await_`] does. The item may have been yielded.
    pub fn emit(&self, item: T) {
        let meeting = &*self.meeting;
        let mut item = Some(item);
        let mut last = 0;
        await_(poll_fn(|cx| {
            if let Some(item) = item.take() {
                meeting.yielded.borrow_mut().push_back(item);
                meeting.put.set(meeting.put.get() + 1);
                last = meeting.put.get();
            } else if meeting.taken.get() >= last {
                return Poll::Ready(());
            }
            // The generator polls its function with the next request, and no wake is needed. That
            // is, unless the function waits for an executor in it, which polls what was woken.
            meeting.elsewhere.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        }));
    }
}

impl<T> Meeting<T> {
    fn take(&self) -> Option<T> {
        let item = self.yielded.borrow_mut().pop_front()?;
        self.taken.set(self.taken.get() + 1);
        Some(item)
    }

    /// Wakes whoever waits in `emit`, except by the waker of the poll at hand.
    fn wake_others(&self, cx: &Context<'_>) {
        let waiting = self.elsewhere.take();
        for waker in waiting {
            if !waker.will_wake(cx.waker()) {
                waker.wake();
            }
        }
    }
}

impl<T> Stream for Generator<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        if let Some(item) = this.meeting.take() {
            return Poll::Ready(Some(item));
        }
        // Taken out: if it panics it must not be polled again.
        let Some(mut function) = this.function.take() else {
            return Poll::Ready(None);
        };
        this.meeting.wake_others(cx);
        let ended = function.as_mut().poll(cx).is_ready();
        if !ended {
            this.function = Some(function);
        }
        match this.meeting.take() {
            Some(item) => Poll::Ready(Some(item)),
            None if ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<T> FusedStream for Generator<T> {
    fn is_terminated(&self) -> bool {
        self.function.is_none() && self.meeting.yielded.borrow().is_empty()
    }
}

impl<T> fmt::Debug for Generator<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator")
            .field("ended", &self.function.is_none())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Yielder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}
