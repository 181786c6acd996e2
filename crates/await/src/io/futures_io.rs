//! `std::io` over the traits of the futures crate.

use std::future::poll_fn;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::pin::Pin;

use ::futures_io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite};

use super::{fill_buf, wait};

/// [`std::io`]'s traits over those of the `futures` crate: sync code reads and writes, and its task
/// waits.
///
/// What is not `Unpin` is wrapped as `FuturesIo::new(Box::pin(io))`, and what others go on using as
/// `FuturesIo::new(&mut io)`.
///
/// ```
/// use std::io::{Read, Write};
/// use verdigris_await::{async_def, io::FuturesIo};
///
/// let (near, far) = smol::net::unix::UnixStream::pair()?;
/// let echoes = async_def(move || {
///     let mut far = FuturesIo::new(far);
///     let mut bytes = [0; 5];
///     far.read_exact(&mut bytes)?;
///     far.write_all(&bytes)
/// });
/// let asks = async_def(move || {
///     let mut near = FuturesIo::new(near);
///     near.write_all(b"hello")?;
///     std::io::read_to_string(near)
/// });
/// let (echoed, answer) = smol::block_on(smol::future::zip(echoes, asks));
/// echoed?;
/// assert_eq!(answer?, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// See the [module](super#errors).
#[derive(Clone, Debug, Default)]
pub struct FuturesIo<T> {
    io: T,
}

impl<T> FuturesIo<T> {
    /// Wraps something that implements the traits of the futures crate.
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

impl<T: AsyncWrite + Unpin> FuturesIo<T> {
    /// Ends the writing side: flushes, and tells the peer that no more will come.
    ///
    /// # Errors
    ///
    /// What `poll_close` says; and see the [module](super#errors).
    pub fn close(&mut self) -> io::Result<()> {
        wait(poll_fn(|cx| Pin::new(&mut self.io).poll_close(cx)))
    }
}

impl<T: AsyncRead + Unpin> Read for FuturesIo<T> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait(poll_fn(|cx| Pin::new(&mut self.io).poll_read(cx, buffer)))
    }

    #[inline]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        wait(poll_fn(|cx| {
            Pin::new(&mut self.io).poll_read_vectored(cx, buffers)
        }))
    }
}

impl<T: AsyncWrite + Unpin> Write for FuturesIo<T> {
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

impl<T: AsyncBufRead + Unpin> BufRead for FuturesIo<T>
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

impl<T: AsyncSeek + Unpin> Seek for FuturesIo<T> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        wait(poll_fn(|cx| Pin::new(&mut self.io).poll_seek(cx, to)))
    }
}
