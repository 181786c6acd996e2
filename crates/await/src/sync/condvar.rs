//! A condition variable whose `wait` suspends the function.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::LockResult;

use super::mutex::MutexGuard;
use super::semaphore::Semaphore;
use crate::await_;

/// [`std::sync::Condvar`], whose [`wait`](Condvar::wait) suspends the function instead of the
/// thread. It wakes first who waited longest.
///
/// A notification is not lost: if the function that it woke is dropped before it has the lock
/// again, the next one is woken. So, as with std's, one can be woken and find nothing to do.
///
/// ```
/// use verdigris_await::{async_def, join, sync::{Condvar, Mutex}};
///
/// let future = async_def(|| {
///     let (full, arrived) = (Mutex::new(None), Condvar::new());
///     let (got, ()) = join(
///         || {
///             let mut full = arrived.wait_while(full.lock().unwrap(), |it| it.is_none()).unwrap();
///             full.take()
///         },
///         || {
///             *full.lock().unwrap() = Some(7);
///             arrived.notify_one();
///         },
///     );
///     got
/// });
/// assert_eq!(pollster::block_on(future), Some(7));
/// ```
pub struct Condvar {
    notified: Semaphore,
}

/// Wakes the next one if it is dropped.
struct PassOn<'a>(&'a Condvar);

impl Condvar {
    /// A condition variable that nobody waits for.
    pub const fn new() -> Self {
        Self {
            notified: Semaphore::for_notifications(),
        }
    }

    /// Gives up the lock, suspends the function until it is notified, and takes the lock again.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned. The guard is in the error.
    ///
    /// # Panics
    ///
    /// Where [`await_`] does. The guard is dropped then, which poisons the mutex.
    #[track_caller]
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        await_(self.wait_async(guard))
    }

    /// As [`wait`](Condvar::wait), for async code.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned. The guard is in the error.
    pub async fn wait_async<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
    ) -> LockResult<MutexGuard<'a, T>> {
        let mutex = guard.mutex();
        let mut guard = Some(guard);
        let mut notified = self.notified.acquire(1);
        let woken = poll_fn(|cx| {
            let poll = Pin::new(&mut notified).poll(cx);
            // In the queue first: nobody who takes the lock now can notify in vain.
            guard = None;
            poll
        });
        woken.await.expect("a condition variable is never closed");
        let pass_on = PassOn(self);
        let guard = mutex.lock_async().await;
        std::mem::forget(pass_on);
        guard
    }

    /// Waits as long as `condition` holds.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned. The guard is in the error.
    ///
    /// # Panics
    ///
    /// As [`wait`](Condvar::wait), if it has to.
    #[track_caller]
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut *guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Wakes the one that waited longest, if there is one. It can be called anywhere.
    pub fn notify_one(&self) {
        self.notified.release(1);
    }

    /// Wakes all that wait. It can be called anywhere.
    pub fn notify_all(&self) {
        self.notified.release(usize::MAX);
    }
}

impl Drop for PassOn<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
