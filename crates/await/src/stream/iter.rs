//! An iterator that waits for a stream's items.

use std::future::poll_fn;
use std::iter::FusedIterator;
use std::pin::Pin;

use futures_core::{FusedStream, Stream};

use crate::await_;

/// Iterates over a stream: what [`iter`] returns.
#[derive(Clone, Debug)]
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Iter<S> {
    stream: S,
}

/// Makes a stream an iterator, for sync code that runs in an [`async_def`](crate::async_def).
///
/// A stream that is not `Unpin` is passed as `iter(pin!(stream))` or `iter(Box::pin(stream))`.
/// Where a function is dropped while it waits for an item, no item is lost.
///
/// # Panics
///
/// Its `next` panics where [`await_`] does.
///
/// ```
/// use futures::stream;
/// use verdigris_await::{async_def, stream::iter};
///
/// let numbers = stream::iter([1, 2, 3]);
/// let future = async_def(move || iter(numbers).map(|n| n * n).sum::<i32>());
/// assert_eq!(pollster::block_on(future), 14);
/// ```
pub const fn iter<S: Stream + Unpin>(stream: S) -> Iter<S> {
    Iter { stream }
}

impl<S> Iter<S> {
    /// The stream, less what was taken from it.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: Stream + Unpin> Iterator for Iter<S> {
    type Item = S::Item;

    #[inline]
    fn next(&mut self) -> Option<S::Item> {
        await_(poll_fn(|cx| Pin::new(&mut self.stream).poll_next(cx)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

impl<S: FusedStream + Unpin> FusedIterator for Iter<S> {}
