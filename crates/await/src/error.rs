//! Why a function could not wait.

use std::fmt;

/// Why [`try_await`](crate::try_await) did not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AwaitError {
    /// The code does not run in an [`async_def`](crate::async_def), or it runs in the poll of a
    /// future that such a function awaits. The future was not polled.
    NoContext,
    /// The function is being dropped while it was suspended: its stack unwinds, and nobody is left
    /// to wake it. The future was not polled.
    Dropped,
    /// The future was polled once and is not ready, and a panic is unwinding this thread. A stack
    /// that unwinds is never suspended.
    Unwinding,
    /// The future was polled once and is not ready, and the destructors of this thread's
    /// thread-locals run. What is suspended by then can't go on.
    ThreadExit,
}

impl fmt::Display for AwaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoContext => {
                "await_ outside of async_def: nothing here can be suspended. Run the calling \
                 function as `async_def(|| ...).await`; inside an async block use `.await`"
            }
            Self::Dropped => {
                "await_ in a function whose future was dropped: its stack is being unwound and \
                 nothing can wake it. In a Drop use try_await, or end without waiting"
            }
            Self::Unwinding => {
                "await_ would have to wait while a panic unwinds this thread, and a stack that \
                 unwinds is never suspended. In a Drop use try_await, or end without waiting"
            }
            Self::ThreadExit => {
                "await_ would have to wait in a destructor of a thread-local, and its thread ends. \
                 Use try_await there, or end without waiting"
            }
        })
    }
}

impl std::error::Error for AwaitError {}
