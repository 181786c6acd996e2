//! Sync functions that await, on any executor.

mod async_def;
mod await_here;
mod builder;
mod context;
mod error;
mod pinned;
mod stacks;

pub use async_def::{AsyncDef, async_def, async_def_unchecked};
pub use await_here::{AwaitExt, await_, try_await};
pub use builder::Builder;
pub use context::has_context;
pub use error::AwaitError;
pub use pinned::{JoinHandle, PinnedThreads, PinnedThreadsBuilder, spawn_pinned};
pub use verdigris_fiber::{Config, GuardKind, Pool, StackError};
