//! Waiting for some time, and not longer.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
#[cfg(feature = "tokio-time")]
use std::time::Duration;

use crate::{async_def_unchecked, await_};

/// The time was over before the function was: what [`timeout_with`] returns then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time was over before the function ended; it was unwound where it waited")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Runs a sync function until it ends or `timer` does, which is any future.
///
/// The function runs on a stack of its own, in the task that calls this, and may borrow. If the
/// timer ends first, the function is unwound where it waits, as a dropped
/// [`AsyncDef`](crate::AsyncDef) is, and everything on its stack is dropped before this returns.
/// A function that never waits is never stopped.
///
/// ```
/// use std::time::Duration;
/// use verdigris_await::{async_def, await_, time::timeout_with};
///
/// let mut tried = 0;
/// let future = async_def(move || {
///     let timer = smol::Timer::after(Duration::from_millis(1));
///     let result = timeout_with(timer, || {
///         tried += 1;
///         await_(std::future::pending::<()>())
///     });
///     (tried, result.is_err())
/// });
/// assert_eq!(smol::block_on(future), (1, true));
/// ```
///
/// # Errors
///
/// The timer ended first.
///
/// # Panics
///
/// Where [`await_`] does, and with the function's own panic. In a program built with
/// `panic = "abort"` always: nothing can be unwound there. Await the executor's own timeout around
/// an [`async_def`](crate::async_def) in such a program.
#[track_caller]
pub fn timeout_with<R>(timer: impl IntoFuture, function: impl FnOnce() -> R) -> Result<R, Elapsed> {
    if cfg!(panic = "abort") {
        panic!(
            "a timeout in sync code stops the function by unwinding, and this program is built \
             with panic = \"abort\". Await the executor's timeout around an `async_def` instead"
        );
    }
    let mut timer = pin!(timer.into_future());
    // SAFETY: it is dropped with this frame, which ends before anything that `function` borrows.
    // It is not forgotten, unless this frame is, with the stack that it is on. Then the frames that
    // it borrows from are too: they are on the same stack, or on the ones that wait for it, and
    // those closures are 'static or under a promise like this. Dropping unwinds: `panic` is
    // "unwind". Where a thread that ends has stacks stay as they are, this one's does too.
    let mut function = unsafe { async_def_unchecked(function) };
    await_(poll_fn(|cx| {
        // The function first: what is done in time counts, however late the task is polled.
        if let Poll::Ready(value) = Pin::new(&mut function).poll(cx) {
            return Poll::Ready(Ok(value));
        }
        timer.as_mut().poll(cx).map(|_| Err(Elapsed(())))
    }))
}

/// Runs a sync function for at most `duration`, by tokio's timer. See [`timeout_with`].
///
/// ```
/// use std::time::Duration;
/// use verdigris_await::{async_def, time::{sleep, timeout}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(
/// async_def(|| {
///     let in_time = timeout(Duration::from_secs(60), || sleep(Duration::from_millis(1)));
///     assert_eq!(in_time, Ok(()));
///     let late = timeout(Duration::from_millis(1), || sleep(Duration::from_secs(60)));
///     assert!(late.is_err());
/// })
/// # );
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// The time was over first.
///
/// # Panics
///
/// As [`timeout_with`], and outside of a tokio runtime with timers.
#[cfg(feature = "tokio-time")]
#[track_caller]
pub fn timeout<R>(duration: Duration, function: impl FnOnce() -> R) -> Result<R, Elapsed> {
    timeout_with(::tokio::time::sleep(duration), function)
}

/// Waits for some time, by tokio's timer. With others, await theirs:
/// `await_(smol::Timer::after(duration))`.
///
/// # Panics
///
/// Where [`await_`] does, and outside of a tokio runtime with timers.
#[cfg(feature = "tokio-time")]
#[track_caller]
pub fn sleep(duration: Duration) {
    await_(::tokio::time::sleep(duration));
}
