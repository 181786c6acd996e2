//! `await_`: polls a future where it stands, and suspends the stack while it is pending.

use std::panic;
use std::pin::{Pin, pin};
use std::ptr;
use std::task::{Context, Poll};
use std::thread;

use crate::context::{Entered, current};
use crate::error::AwaitError;
use crate::stacks;

/// The payload that ends a function whose future was dropped. Private, so nobody else throws it.
pub(crate) struct Dropped;

/// Waits for a future, in a sync function at any depth below an [`async_def`](crate::async_def).
///
/// The future is polled with the [`Context`] of the task that runs the function. While it is
/// pending the function's stack is suspended, and the thread does other work.
///
/// # Panics
///
/// There is no task to wait with, see [`AwaitError`]: outside of `async_def`, in the poll of a
/// future that is itself awaited, or when a future is pending during unwinding. It never blocks
/// the thread instead. Where that can happen, as in a `Drop`, use [`try_await`]: a panic in a
/// `Drop` that runs during unwinding aborts the process.
///
/// ```
/// use verdigris_await::{async_def, await_};
///
/// fn total(prices: &mut dyn Iterator<Item = u32>) -> u32 {
///     prices.sum() // knows nothing of async
/// }
///
/// let future = async_def(|| {
///     let mut prices = (1..=3).map(|id| await_(async move { id * 100 }));
///     total(&mut prices)
/// });
/// assert_eq!(pollster::block_on(future), 600);
/// ```
///
/// The context is the awaited future's for the time of one poll. It can't be kept for later:
///
/// ```compile_fail,E0521
/// use verdigris_await::{async_def, await_};
///
/// let future = async_def(|| {
///     let mut kept = None;
///     await_(std::future::poll_fn(|cx| {
///         kept = Some(cx);
///         std::task::Poll::Ready(())
///     }));
/// });
/// ```
#[inline(always)]
#[track_caller]
pub fn await_<F: IntoFuture>(future: F) -> F::Output {
    match wait(pin!(future.into_future())) {
        Ok(value) => value,
        Err(error) => refuse(error),
    }
}

/// As [`await_`], with an error in place of a panic.
///
/// # Errors
///
/// See [`AwaitError`]. The future is dropped; to keep it, pass a pinned reference to it.
///
/// ```
/// use std::pin::pin;
/// use verdigris_await::{AwaitError, try_await};
///
/// let mut future = pin!(async { 7 });
/// assert_eq!(try_await(future.as_mut()), Err(AwaitError::NoContext));
/// assert_eq!(pollster::block_on(future), 7); // it was not touched
/// ```
#[inline(always)]
pub fn try_await<F: IntoFuture>(future: F) -> Result<F::Output, AwaitError> {
    wait(pin!(future.into_future()))
}

/// [`await_`] as a method of every future.
///
/// ```
/// use verdigris_await::{AwaitExt, async_def};
///
/// let future = async_def(|| async { 20 }.await_() + 1);
/// assert_eq!(pollster::block_on(future), 21);
/// ```
pub trait AwaitExt: IntoFuture + Sized {
    /// Waits for this future, as [`await_`] does.
    ///
    /// # Panics
    ///
    /// As for [`await_`].
    #[inline(always)]
    #[track_caller]
    fn await_(self) -> Self::Output {
        await_(self)
    }

    /// Waits for this future, as [`try_await`] does.
    ///
    /// # Errors
    ///
    /// As for [`try_await`].
    #[inline(always)]
    fn try_await(self) -> Result<Self::Output, AwaitError> {
        try_await(self)
    }
}

impl<F: IntoFuture> AwaitExt for F {}

#[inline(always)]
fn wait<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, AwaitError> {
    loop {
        // Each turn may be in another poll of the task, which has another scope.
        let scope = current();
        if scope.is_null() {
            return Err(AwaitError::NoContext);
        }
        // SAFETY: a scope is the thread's only while its frame lives.
        let Some(context) = (unsafe { &*scope }).context() else {
            return Err(AwaitError::Dropped);
        };
        let poll = {
            // SAFETY: null is always good.
            let _no_scope = unsafe { Entered::new(ptr::null()) };
            // SAFETY: the poll that holds the context waits below this frame, and lent it to the
            // scope. Nobody else can reach it: there is no scope while this borrow lasts. The
            // lifetime that was erased is replaced by one that ends with this statement.
            future
                .as_mut()
                .poll(unsafe { context.cast::<Context<'_>>().as_mut() })
        };
        match poll {
            Poll::Ready(value) => return Ok(value),
            Poll::Pending => suspend()?,
        }
    }
}

/// Suspends the stack until its task is polled again.
#[inline]
fn suspend() -> Result<(), AwaitError> {
    // A count of the thread, not of the stack: so a function that is polled from a Drop during
    // unwinding can't wait either. It could not be told from one that unwinds itself.
    if thread::panicking() {
        return Err(AwaitError::Unwinding);
    }
    if !stacks::watch_thread_exit() {
        return Err(AwaitError::ThreadExit);
    }
    let scope = current();
    debug_assert!(!scope.is_null());
    // SAFETY: the caller saw a scope, and the poll of the future put it back. Its suspender is the
    // one of the stack that runs: each stack has a scope of its own while it runs, so this is its.
    unsafe { (*(*scope).suspender()).suspend(()) };
    // The scope of the poll, or the drop, that resumed the stack.
    // SAFETY: `AsyncDef` enters one before it resumes.
    if unsafe { &*current() }.context().is_none() {
        // No hook runs and no message is printed: nothing went wrong.
        panic::resume_unwind(Box::new(Dropped));
    }
    Ok(())
}

#[cold]
#[inline(never)]
#[track_caller]
fn refuse(error: AwaitError) -> ! {
    if error == AwaitError::Dropped && !thread::panicking() {
        // Code that caught the unwinding and waits again: it goes on unwinding.
        panic::resume_unwind(Box::new(Dropped));
    }
    panic!("{error}");
}
