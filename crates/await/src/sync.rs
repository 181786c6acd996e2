//! Locks and channels with the shape of std's, whose waits suspend the function and not the thread.
//!
//! They are for functions in [`async_def`](crate::async_def)s and for async code, of one task or
//! many, on one thread or many: each blocking method has an async one beside it, which needs no
//! `async_def`. They are `Send` and `Sync` as std's are.
//!
//! What is free is taken at once, anywhere. What has to wait needs a context, and panics without
//! one: it never blocks the thread instead. Those that wait are served in the order in which they
//! came; one that is dropped while it waits hands its turn to the next.
//!
//! # Poisoning
//!
//! As std's, a [`Mutex`] is poisoned when a guard is dropped by unwinding, and a [`RwLock`] when one
//! that writes is. A function whose future is dropped unwinds, too: what it was about to do under
//! the lock is done by half. Where that is fine, use
//! [`PoisonError::into_inner`] or `clear_poison`.

mod channel;
mod condvar;
mod mutex;
mod poison;
mod rwlock;
mod semaphore;

pub use channel::{IntoIter, Iter, Receiver, Sender, SyncSender, TryIter, channel, sync_channel};
pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use std::sync::mpsc::{RecvError, SendError, TryRecvError, TrySendError};
pub use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
