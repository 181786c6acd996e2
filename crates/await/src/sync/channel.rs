//! Channels of many senders and one receiver, whose waits suspend the function.
//!
//! Two semaphores do the waiting: one counts the values that are there, the other, in a channel that
//! is bounded, the room that is left.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvError, SendError, TryRecvError, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::semaphore::Semaphore;
use crate::await_;

struct Channel<T> {
    /// None once the receiver is gone.
    values: Mutex<Option<VecDeque<T>>>,
    /// As many permits as there are values. Closed with the last sender.
    there: Semaphore,
    /// As many as there is room for. Closed with the receiver. Without a bound it is not used.
    room: Option<Semaphore>,
    senders: AtomicUsize,
}

/// The sending side of a [`channel`]. It never waits.
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

/// The sending side of a [`sync_channel`].
pub struct SyncSender<T> {
    channel: Arc<Channel<T>>,
}

/// The receiving side of a [`channel`] or [`sync_channel`].
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
}

/// [`std::sync::mpsc::channel`], whose `recv` suspends the function instead of the thread.
///
/// ```
/// use verdigris_await::{async_def, join, sync::channel};
///
/// let future = async_def(|| {
///     let (sender, receiver) = channel();
///     let (sum, ()) = join(
///         || receiver.iter().sum::<u32>(),
///         move || (1..=3).for_each(|n| sender.send(n).unwrap()),
///     );
///     sum
/// });
/// assert_eq!(pollster::block_on(future), 6);
/// ```
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel::new(None));
    let receiver = Receiver {
        channel: channel.clone(),
    };
    (Sender { channel }, receiver)
}

/// [`std::sync::mpsc::sync_channel`], whose waits suspend the function instead of the thread.
///
/// # Panics
///
/// The bound is 0: a rendezvous is not built in.
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    assert!(
        bound > 0,
        "the bound of a sync_channel is 0; it holds one value at least"
    );
    let channel = Arc::new(Channel::new(Some(bound)));
    let receiver = Receiver {
        channel: channel.clone(),
    };
    (SyncSender { channel }, receiver)
}

impl<T> Channel<T> {
    fn new(bound: Option<usize>) -> Self {
        Self {
            values: Mutex::new(Some(VecDeque::new())),
            there: Semaphore::new(0),
            room: bound.map(Semaphore::new),
            senders: AtomicUsize::new(1),
        }
    }

    /// Puts a value in. There is room for it.
    fn put(&self, value: T) -> Result<(), SendError<T>> {
        match &mut *self.values() {
            Some(values) => values.push_back(value),
            None => return Err(SendError(value)),
        }
        self.there.release(1);
        Ok(())
    }

    /// Takes a value out. There is one.
    fn take(&self) -> T {
        let value = self.values().as_mut().and_then(VecDeque::pop_front);
        if let Some(room) = &self.room {
            room.release(1);
        }
        value.expect("a permit for each value")
    }

    fn values(&self) -> MutexGuard<'_, Option<VecDeque<T>>> {
        // Nothing but the queue's own code runs under it.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_sender(&self) {
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    fn drop_sender(&self) {
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.there.close();
        }
    }
}

impl<T> Sender<T> {
    /// Sends a value. It can be called anywhere.
    ///
    /// # Errors
    ///
    /// The receiver is gone. The value is in the error.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.channel.put(value)
    }
}

impl<T> SyncSender<T> {
    fn room(&self) -> &Semaphore {
        let room = self.channel.room.as_ref();
        room.expect("made by sync_channel")
    }

    /// Sends a value, and suspends the function until there is room for it.
    ///
    /// A function that is dropped while it waits has not sent the value.
    ///
    /// # Errors
    ///
    /// The receiver is gone. The value is in the error.
    ///
    /// # Panics
    ///
    /// There is no room, and [`await_`] panics here.
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if !self.room().try_acquire(1) && await_(self.room().acquire(1)).is_err() {
            return Err(SendError(value));
        }
        self.channel.put(value)
    }

    /// As [`send`](SyncSender::send), for async code.
    ///
    /// # Errors
    ///
    /// The receiver is gone. The value is in the error.
    pub async fn send_async(&self, value: T) -> Result<(), SendError<T>> {
        if self.room().acquire(1).await.is_err() {
            return Err(SendError(value));
        }
        self.channel.put(value)
    }

    /// Sends a value if there is room for it, anywhere.
    ///
    /// # Errors
    ///
    /// There is no room, or the receiver is gone. The value is in the error.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        if self.room().is_closed() {
            return Err(TrySendError::Disconnected(value));
        }
        if !self.room().try_acquire(1) {
            return Err(TrySendError::Full(value));
        }
        Ok(self.channel.put(value)?)
    }
}

impl<T> Receiver<T> {
    /// Takes a value, and suspends the function until there is one.
    ///
    /// A function that is dropped while it waits has taken none.
    ///
    /// # Errors
    ///
    /// There is none, and the senders are gone.
    ///
    /// # Panics
    ///
    /// There is none yet, and [`await_`] panics here.
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        let there = &self.channel.there;
        if !there.try_acquire(1) {
            let one = if there.is_closed() {
                // Nothing to wait for, so no context is needed. The last value may have come
                // between the two questions.
                there.try_acquire(1)
            } else {
                await_(there.acquire(1)).is_ok()
            };
            if !one {
                return Err(RecvError);
            }
        }
        Ok(self.channel.take())
    }

    /// As [`recv`](Receiver::recv), for async code.
    ///
    /// # Errors
    ///
    /// There is none, and the senders are gone.
    pub async fn recv_async(&self) -> Result<T, RecvError> {
        match self.channel.there.acquire(1).await {
            Ok(()) => Ok(self.channel.take()),
            Err(_) => Err(RecvError),
        }
    }

    /// Takes a value if there is one, anywhere.
    ///
    /// # Errors
    ///
    /// There is none, and either some senders are left or none.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let there = &self.channel.there;
        // In this order: what was sent before the last sender went is seen.
        let closed = there.is_closed();
        if there.try_acquire(1) {
            Ok(self.channel.take())
        } else if closed {
            Err(TryRecvError::Disconnected)
        } else {
            Err(TryRecvError::Empty)
        }
    }

    /// The values as they come, until the senders are gone. It waits as [`recv`](Receiver::recv).
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The values that are there.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }
}

/// What [`Receiver::iter`] returns.
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// What [`Receiver::try_iter`] returns.
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// An iterator that has its [`Receiver`].
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for Iter<'_, T> {}
impl<T> FusedIterator for IntoIter<T> {}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.add_sender();
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Clone for SyncSender<T> {
    fn clone(&self) -> Self {
        self.channel.add_sender();
        Self {
            channel: self.channel.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.drop_sender();
    }
}

impl<T> Drop for SyncSender<T> {
    fn drop(&mut self) {
        self.channel.drop_sender();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Dropped after the lock: a value may hold a sender of this channel.
        let values = self.channel.values().take();
        if let Some(room) = &self.channel.room {
            room.close();
        }
        drop(values);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SyncSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncSender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
