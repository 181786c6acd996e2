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

use std::io;

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

/// A reader promised bytes and then had none, which the traits do not allow.
#[cold]
fn took_back() -> io::Error {
    io::Error::other("poll_fill_buf was ready, and then was not; it must keep what it has read")
}
