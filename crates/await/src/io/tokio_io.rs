//! `std::io` over tokio's traits.

use std::future::poll_fn;
use std::io::{self, BufRead, IoSlice, Read, Seek, SeekFrom, Write};
use std::pin::Pin;
use std::task::{Poll, ready};

use ::tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use super::{fill_buf, wait};

/// [`std::io`]'s traits over tokio's: sync code reads and writes, and its task waits.
///
/// It may run on a thread of the runtime, unlike tokio's `SyncIoBridge`. What is not `Unpin` is
/// wrapped as `TokioIo::new(Box::pin(io))`, and what others go on using as
/// `TokioIo::new(&mut io)`.
///
/// ```
/// use std::io::{BufRead, BufReader, Write};
/// use verdigris_await::{async_def, io::TokioIo};
///
/// let (near, far) = tokio::io::duplex(64);
/// let greets = async_def(move || {
///     let mut far = TokioIo::new(far);
///     far.write_all(b"hello\nworld\n").unwrap();
/// });
/// let reads = async_def(move || {
///     let lines = BufReader::new(TokioIo::new(near)).lines();
///     lines.collect::<Result<Vec<_>, _>>()
/// });
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let (lines, ()) = tokio::join!(reads, greets);
/// assert_eq!(lines?, ["hello", "world"]);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// See the [module](super#errors).
#[derive(Clone, Debug, Default)]
pub struct TokioIo<T> {
    io: T,
}

impl<T> TokioIo<T> {
    /// Wraps something that implements tokio's traits.
    pub const fn new(io: T) -> Self {
        Self { io }
    }

    /// What it wraps.
    pub const fn get_ref(&self) -> &T {
        &self.io
    }

    /// What it wraps.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.io
    }

    /// Unwraps it. Nothing is buffered here.
    pub fn into_inner(self) -> T {
        self.io
    }
}

impl<T: AsyncWrite + Unpin> TokioIo<T> {
    /// Ends the writing side: flushes, and tells the peer that no more will come.
    ///
    /// # Errors
    ///
    /// What `poll_shutdown` says; and see the [module](super#errors).
    pub fn shutdown(&mut self) -> io::Result<()> {
        wait(poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)))
    }
}

impl<T: AsyncRead + Unpin> Read for TokioIo<T> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait(poll_fn(|cx| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(buffer.filled().len()))
        }))
    }
}

impl<T: AsyncWrite + Unpin> Write for TokioIo<T> {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        wait(poll_fn(|cx| Pin::new(&mut self.io).poll_write(cx, buffer)))
    }

    #[inline]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        wait(poll_fn(|cx| {
            Pin::new(&mut self.io).poll_write_vectored(cx, buffers)
        }))
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        wait(poll_fn(|cx| Pin::new(&mut self.io).poll_flush(cx)))
    }
}

impl<T: AsyncBufRead + Unpin> BufRead for TokioIo<T>
where
    Self: Read,
{
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        fill_buf(&mut self.io, T::poll_fill_buf)
    }

    fn consume(&mut self, count: usize) {
        Pin::new(&mut self.io).consume(count);
    }
}

impl<T: AsyncSeek + Unpin> Seek for TokioIo<T> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        // A seek that an earlier function was dropped in has to end before the next begins.
        wait(poll_fn(|cx| Pin::new(&mut self.io).poll_complete(cx)))?;
        Pin::new(&mut self.io).start_seek(to)?;
        wait(poll_fn(|cx| Pin::new(&mut self.io).poll_complete(cx)))
    }
}
