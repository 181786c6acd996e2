//! A lock of many readers or one writer, whose waits suspend the function.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, TryLockError, TryLockResult};

use super::poison::{Before, Poison};
use super::semaphore::Semaphore;
use crate::await_;

/// All permits: what a writer takes. A reader takes one of them.
const ALL: usize = usize::MAX >> 3;

/// [`std::sync::RwLock`], whose waits suspend the function instead of the thread.
///
/// Readers that come after a writer that waits, wait for that writer.
///
/// ```
/// use verdigris_await::{async_def, sync::RwLock};
///
/// let future = async_def(|| {
///     let lock = RwLock::new(1);
///     {
///         let (one, other) = (lock.read().unwrap(), lock.read().unwrap());
///         assert_eq!(*one + *other, 2);
///     }
///     *lock.write().unwrap() += 1;
///     lock.into_inner().unwrap()
/// });
/// assert_eq!(pollster::block_on(future), 2);
/// ```
pub struct RwLock<T: ?Sized> {
    permits: Semaphore,
    poison: Poison,
    data: UnsafeCell<T>,
}

// SAFETY: as std's: a writer may take the data out on its thread.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: as std's: readers of many threads see the data at once.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

/// A reader's share of a [`RwLock`], held until this is dropped.
#[must_use = "if unused the RwLock will immediately unlock"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    one_thread: PhantomData<*mut ()>,
}

/// The whole of a [`RwLock`], held until this is dropped.
#[must_use = "if unused the RwLock will immediately unlock"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    before: Before,
    one_thread: PhantomData<*mut ()>,
}

// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: a shared guard gives `&T` only.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> RwLock<T> {
    /// A lock that is free.
    pub const fn new(value: T) -> Self {
        Self {
            permits: Semaphore::new(ALL),
            poison: Poison::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// The lock is poisoned. The value is in the error.
    pub fn into_inner(self) -> LockResult<T> {
        self.poison.result(self.data.into_inner())
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes a reader's share, and suspends the function while there is a writer, or one that waits.
    ///
    /// # Errors
    ///
    /// The lock is poisoned. The guard is in the error.
    ///
    /// # Panics
    ///
    /// It has to wait, and [`await_`] panics here.
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.acquire(1);
        self.reader()
    }

    /// Takes the whole lock, and suspends the function while someone has a part of it.
    ///
    /// # Errors
    ///
    /// The lock is poisoned. The guard is in the error.
    ///
    /// # Panics
    ///
    /// It has to wait, and [`await_`] panics here.
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.acquire(ALL);
        self.writer()
    }

    /// As [`read`](RwLock::read), for async code.
    ///
    /// # Errors
    ///
    /// The lock is poisoned. The guard is in the error.
    pub async fn read_async(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        let acquired = self.permits.acquire(1).await;
        acquired.expect("a lock is never closed");
        self.reader()
    }

    /// As [`write`](RwLock::write), for async code.
    ///
    /// # Errors
    ///
    /// The lock is poisoned. The guard is in the error.
    pub async fn write_async(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        let acquired = self.permits.acquire(ALL).await;
        acquired.expect("a lock is never closed");
        self.writer()
    }

    /// Takes a reader's share if it has not to wait for it, anywhere.
    ///
    /// # Errors
    ///
    /// It would have to wait; or the lock is poisoned, and the guard is in the error.
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if !self.permits.try_acquire(1) {
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.reader()?)
    }

    /// Takes the whole lock if it is free, anywhere.
    ///
    /// # Errors
    ///
    /// It would have to wait; or the lock is poisoned, and the guard is in the error.
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if !self.permits.try_acquire(ALL) {
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.writer()?)
    }

    #[track_caller]
    fn acquire(&self, permits: usize) {
        if !self.permits.try_acquire(permits) {
            await_(self.permits.acquire(permits)).expect("a lock is never closed");
        }
    }

    /// One permit was taken.
    fn reader(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.poison.result(RwLockReadGuard {
            lock: self,
            one_thread: PhantomData,
        })
    }

    /// All permits were taken.
    fn writer(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.poison.result(RwLockWriteGuard {
            lock: self,
            before: Poison::before(),
            one_thread: PhantomData,
        })
    }

    /// Whether a guard that writes was dropped by unwinding.
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Forgets that a guard was dropped by unwinding.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value. Nobody else has the lock, so nothing is locked.
    ///
    /// # Errors
    ///
    /// The lock is poisoned. The reference is in the error.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.result(self.data.get_mut())
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard has a permit, so nobody has all.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard has all permits.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard has all permits, and is borrowed exclusively.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.permits.release(1);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.poison.guard_drops(self.before);
        self.lock.permits.release(ALL);
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => shown.field("data", &&*guard),
            Err(TryLockError::Poisoned(error)) => shown.field("data", &&**error.get_ref()),
            Err(TryLockError::WouldBlock) => shown.field("data", &format_args!("<locked>")),
        };
        shown.field("poisoned", &self.poison.get());
        shown.finish_non_exhaustive()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
