//! Sync functions that await, on any executor.

mod async_def;
mod await_here;
mod builder;
mod context;
mod error;
#[cfg(any(feature = "futures-io", feature = "tokio"))]
pub mod io;
mod join;
mod scope;
mod stacks;
#[cfg(feature = "stream")]
pub mod stream;
pub mod sync;
pub mod time;

pub use async_def::{AsyncDef, async_def, async_def_unchecked};
pub use await_here::{AwaitExt, await_, try_await};
pub use builder::Builder;
pub use context::has_context;
pub use error::AwaitError;
pub use join::{join, join_all};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use verdigris_fiber::{Config, GuardKind, Pool, StackError};
