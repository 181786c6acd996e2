//! `Builder`: on which stack a function runs.

use std::fmt;

use verdigris_fiber::{Pool, Stack, StackError};

use crate::async_def::AsyncDef;
use crate::stacks;

/// Chooses the stack for [`async_def`](crate::async_def)s.
///
/// ```
/// use verdigris_await::{Builder, await_};
///
/// let small = Builder::new().stack_size(256 << 10);
/// let future = small.async_def(|| await_(async { "on 256 KiB" }));
/// assert_eq!(pollster::block_on(future), "on 256 KiB");
/// ```
#[derive(Clone, Default)]
pub struct Builder {
    choice: Choice,
}

#[derive(Clone, Default)]
enum Choice {
    #[default]
    Default,
    Size(usize),
    Pool(Pool),
}

/// Where a new future gets its stack from.
pub(crate) enum Source {
    /// The pool of the thread that polls first.
    Thread,
    Size(usize),
    Pool(Pool),
    Taken(Stack),
}

impl Source {
    #[inline(always)]
    pub(crate) fn take(self) -> Result<Stack, StackError> {
        match self {
            Self::Thread => stacks::take(),
            other => other.take_chosen(),
        }
    }

    #[cold]
    fn take_chosen(self) -> Result<Stack, StackError> {
        match self {
            Self::Thread => stacks::take(),
            Self::Size(size) => stacks::pool_of(size)?.take(),
            Self::Pool(pool) => pool.take(),
            Self::Taken(stack) => Ok(stack),
        }
    }
}

impl Builder {
    /// A builder for what [`async_def`](crate::async_def) uses: 8 MiB of address space a stack,
    /// from a pool that the thread keeps. Only pages that are touched cost memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Address space of one stack in bytes, its guard of 64 KiB included. A multiple of the page
    /// size. The thread keeps one pool for each size.
    pub fn stack_size(self, bytes: usize) -> Self {
        Self {
            choice: Choice::Size(bytes),
        }
    }

    /// Takes stacks from this pool.
    pub fn pool(self, pool: Pool) -> Self {
        Self {
            choice: Choice::Pool(pool),
        }
    }

    /// As the function [`async_def`](crate::async_def). The stack is taken with the first poll.
    pub fn async_def<F, T>(&self, f: F) -> AsyncDef<F, T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        AsyncDef::new(f, self.source())
    }

    /// As [`async_def`](Builder::async_def), with the stack taken here and now.
    ///
    /// # Errors
    ///
    /// There is no memory for a stack, or its size makes no sense.
    pub fn try_async_def<F, T>(&self, f: F) -> Result<AsyncDef<F, T>, StackError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        Ok(AsyncDef::new(f, Source::Taken(self.source().take()?)))
    }

    fn source(&self) -> Source {
        match &self.choice {
            Choice::Default => Source::Thread,
            Choice::Size(size) => Source::Size(*size),
            Choice::Pool(pool) => Source::Pool(pool.clone()),
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Builder");
        match &self.choice {
            Choice::Default => debug.finish(),
            Choice::Size(size) => debug.field("stack_size", size).finish(),
            Choice::Pool(pool) => debug.field("pool", &pool.stats()).finish(),
        }
    }
}
