//! A mutex whose `lock` suspends the function.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, TryLockError, TryLockResult};

use super::poison::{Before, Poison};
use super::semaphore::Semaphore;
use crate::await_;

/// [`std::sync::Mutex`], whose [`lock`](Mutex::lock) suspends the function instead of the thread.
///
/// A guard can be held while the function waits for something else.
///
/// ```
/// use std::rc::Rc;
/// use futures::future::join;
/// use verdigris_await::{async_def, await_, sync::Mutex};
///
/// let total = Rc::new(Mutex::new(0));
/// let add = |n: u32| {
///     let total = total.clone();
///     async_def(move || {
///         let mut total = total.lock().unwrap();
///         let before = *total;
///         await_(async { /* others run, and wait for the lock */ });
///         *total = before + n;
///     })
/// };
/// pollster::block_on(join(add(1), add(2)));
/// assert_eq!(*total.try_lock().unwrap(), 3);
/// ```
///
/// What it holds crosses threads only if it may, and a guard never does:
///
/// ```compile_fail,E0277
/// fn sync<T: Sync>(_: T) {}
/// sync(verdigris_await::sync::Mutex::new(std::ptr::null::<u8>()));
/// ```
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// send(verdigris_await::sync::Mutex::new(1).try_lock().unwrap());
/// ```
pub struct Mutex<T: ?Sized> {
    /// One permit.
    lock: Semaphore,
    poison: Poison,
    data: UnsafeCell<T>,
}

// SAFETY: as std's: the lock gives the data to one thread at a time, which may take it out.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

/// The lock of a [`Mutex`], held until this is dropped.
#[must_use = "if unused the Mutex will immediately unlock"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    before: Before,
    /// Not `Send`, as std's.
    one_thread: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    /// A mutex that is not locked.
    pub const fn new(value: T) -> Self {
        Self {
            lock: Semaphore::new(1),
            poison: Poison::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned. The value is in the error.
    pub fn into_inner(self) -> LockResult<T> {
        self.poison.result(self.data.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, and suspends the function until it is free.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned. The guard is in the error.
    ///
    /// # Panics
    ///
    /// The lock is held by someone else, and [`await_`] panics here. A function that holds it and
    /// locks it again waits for ever.
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        if !self.lock.try_acquire(1) {
            await_(self.lock.acquire(1)).expect("a mutex is never closed");
        }
        self.guard()
    }

    /// As [`lock`](Mutex::lock), for async code.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned. The guard is in the error.
    pub async fn lock_async(&self) -> LockResult<MutexGuard<'_, T>> {
        let acquired = self.lock.acquire(1).await;
        acquired.expect("a mutex is never closed");
        self.guard()
    }

    /// Takes the lock if it is free, anywhere.
    ///
    /// # Errors
    ///
    /// It is held, or was promised to one that waits; or the mutex is poisoned, and the guard is in
    /// the error.
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if !self.lock.try_acquire(1) {
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.guard()?)
    }

    /// The permit was taken.
    fn guard(&self) -> LockResult<MutexGuard<'_, T>> {
        self.poison.result(MutexGuard {
            mutex: self,
            before: Poison::before(),
            one_thread: PhantomData,
        })
    }

    /// Whether a guard was dropped by unwinding.
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Forgets that a guard was dropped by unwinding.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value. Nobody else has the mutex, so nothing is locked.
    ///
    /// # Errors
    ///
    /// The mutex is poisoned. The reference is in the error.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.result(self.data.get_mut())
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The mutex that it locks.
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard has the only permit.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard has the only permit, and is borrowed exclusively.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.poison.guard_drops(self.before);
        self.mutex.lock.release(1);
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => shown.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => shown.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => shown.field("data", &format_args!("<locked>")),
        };
        shown.field("poisoned", &self.poison.get());
        shown.finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
