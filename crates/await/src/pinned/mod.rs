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

#[cfg(all(test, verdigris_loom))]
mod loom_tests;

/// The locks, of `loom` in a build that checks all their orders.
mod sync {
    #[cfg(verdigris_loom)]
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
    #[cfg(not(verdigris_loom))]
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
}

pub use join::JoinHandle;
pub use threads::{PinnedThreads, PinnedThreadsBuilder, spawn_pinned};
