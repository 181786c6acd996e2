//! `std::io`'s traits over async I/O, for sync code that runs in an [`async_def`](crate::async_def).
//!
//! [`TokioIo`] adapts tokio's traits, [`FuturesIo`] those of the `futures` crate, by which smol and
//! async-std work too. Each implements as many of [`Read`](std::io::Read), [`Write`](std::io::Write),
//! [`BufRead`](std::io::BufRead) and [`Seek`](std::io::Seek) as what it wraps does. The usual
//! [`BufReader`](std::io::BufReader) and [`BufWriter`](std::io::BufWriter) go around them.
//!
//! # Errors
//!
//! Where nothing can wait, each operation is an error whose inner error is an
//! [`AwaitError`], and touches nothing. So a `BufWriter` that is dropped by
//! unwinding, and flushes, does no harm.
//!
//! # Dropping
//!
//! An operation is one call of the async traits, which either moves bytes or leaves everything as
//! it was. Where a function is dropped while it waits in one, no bytes are lost: who kept the
//! stream (say, by wrapping `&mut stream`, or a shared reference where that is enough) finds it
//! after the last whole operation. Loops over operations, as `read_exact` is, end in between, and
//! what they had read is lost with their buffer, as with the async ones.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::AwaitError;

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "tokio")]
mod tokio_io;

#[cfg(feature = "futures-io")]
pub use futures_io::FuturesIo;
#[cfg(feature = "tokio")]
pub use tokio_io::TokioIo;

/// Waits for an operation.
#[inline]
fn wait<T>(operation: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    crate::try_await(operation).unwrap_or_else(|error| Err(cannot_wait(error)))
}

#[cold]
fn cannot_wait(error: AwaitError) -> io::Error {
    io::Error::other(error)
}

/// Waits for bytes of a reader, whose `poll_fill_buf` this is.
fn fill_buf<'a, R, P>(reader: &'a mut R, poll: P) -> io::Result<&'a [u8]>
where
    R: Unpin,
    P: for<'b> Fn(Pin<&'b mut R>, &mut Context<'_>) -> Poll<io::Result<&'b [u8]>>,
{
    let mut reader = Some(reader);
    wait(poll_fn(|cx| {
        let known = reader.as_mut().expect("not polled after it was ready");
        if ready!(poll(Pin::new(&mut **known), cx))?.is_empty() {
            return Poll::Ready(Ok(&[][..]));
        }
        // Asked twice: the borrow checker does not let the first answer out of a loop.
        let taken = reader.take().expect("it was there above");
        match poll(Pin::new(taken), cx) {
            Poll::Ready(bytes) => Poll::Ready(bytes),
            Poll::Pending => Poll::Ready(Err(took_back())),
        }
    }))
}

/// A reader promised bytes and then had none, which the traits do not allow.
#[cold]
fn took_back() -> io::Error {
    io::Error::other("poll_fill_buf was ready, and then was not; it must keep what it has read")
}
