//! Functions on threads of their own, for callers that are `Send`.
//!
//! A closure crosses to a thread once, before it has a stack. Its stack is made there, runs there,
//! and ends there. What comes back is its result.
//!
//! ```text
//!   any thread                         │ one of PinnedThreads
//!                                      │
//!   spawn(f) ───────── start ────────> │ async_def(f), polled here only
//!   waker of what it awaits ── wake ─> │   │
//!   JoinHandle dropped ───── cancel ─> │   │ unwound here
//!   JoinHandle <────── result ──────── │ <─┘
//! ```

mod inbox;
mod join;
mod threads;

pub use join::JoinHandle;
pub use threads::{PinnedThreads, PinnedThreadsBuilder, spawn_pinned};
