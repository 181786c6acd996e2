//! Sync functions that await, on any executor.
//!
//! A callback deep in a sync library, an `Iterator`, a `std::io::Read`, a trait that someone else
//! owns: none of them can be `async`, and all of them may have to wait. Here they wait as an `async`
//! function does. The thread goes on with other tasks.
//!
//! ```
//! use std::io::{self, BufRead, BufReader, Read};
//! use verdigris_await::{AwaitExt, async_def};
//!
//! /// A `Read` over an async channel.
//! struct Chunks(tokio::sync::mpsc::Receiver<&'static [u8]>);
//!
//! impl Read for Chunks {
//!     fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
//!         let Some(chunk) = self.0.recv().await_() else { return Ok(0) };
//!         buffer[..chunk.len()].copy_from_slice(chunk);
//!         Ok(chunk.len())
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let (sender, receiver) = tokio::sync::mpsc::channel(1);
//! let lines = async_def(move || BufReader::new(Chunks(receiver)).lines().collect());
//! let send = async move {
//!     for chunk in [&b"one\ntw"[..], b"o\nthr", b"ee"] {
//!         sender.send(chunk).await.unwrap();
//!     }
//! };
//! let (lines, ()): (io::Result<Vec<String>>, _) = tokio::join!(lines, send);
//! assert_eq!(lines?, ["one", "two", "three"]);
//! # io::Result::Ok(()) })?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! # The two functions
//!
//! [`async_def`] makes a sync closure a future. Each poll of it runs the closure, on a stack of its
//! own, until it waits or ends. [`await_`], or the method [`AwaitExt::await_`], waits for a future
//! in any function below. It polls the future where it stands, with the [`Context`] of the task, and
//! while the future is pending the stack is suspended.
//!
//! So the awaited future is part of the task: its timers and sockets belong to the task's runtime,
//! it spends the task's budget, and it is cancelled with the task.
//!
//! They nest: an `async` block that is awaited may await an `async_def`, and so on.
//!
//! # Where it can wait
//!
//! In the closure of an `async_def`, and in whatever that calls. Not in an `async` block or in a
//! hand-written `poll`, even if an `async_def` awaits it: there `.await` is the way, or an
//! `async_def` of its own. [`has_context`] tells, [`try_await`] is an error where it can't, and
//! `await_` panics. It never blocks the thread instead.
//!
//! ```
//! use verdigris_await::{async_def, await_};
//!
//! fn sync(n: u32) -> u32 {
//!     await_(async move { n + 1 })
//! }
//!
//! let outer = async_def(|| {
//!     let a = sync(1);
//!     // In the async block there is no context. Another async_def makes one.
//!     let b = await_(async { async_def(|| sync(10)).await });
//!     (a, b)
//! });
//! assert_eq!(pollster::block_on(outer), (2, 11));
//! ```
//!
//! The `block_on` of another executor, called in such a function, blocks the thread as anywhere.
//! Sync functions in the future that it runs find the outer function's context.
//!
//! # Threads
//!
//! A suspended stack never moves to another thread, so [`AsyncDef`] is not `Send`. It runs under
//! any `block_on`, in a `LocalSet`, a `LocalExecutor`, a `LocalPool`. A task that has to be `Send`
//! uses [`spawn_pinned`]: the closure crosses to a thread once, its result comes back.
//!
//! # Dropping and panics
//!
//! A suspended function that is dropped, as the loser of a `select!` is, unwinds its stack: see
//! [`AsyncDef`]. A panic goes on in whoever polls, with its payload; its backtrace shows the stack
//! and who polled it.
//!
//! While a stack unwinds, it is never suspended. In a `Drop` use [`try_await`]: it still gets what is
//! ready, unless the function was dropped, and an error otherwise.
//!
//! ```
//! use verdigris_await::{AwaitError, async_def, try_await};
//!
//! struct Session;
//! impl Drop for Session {
//!     fn drop(&mut self) {
//!         let goodbye = async { /* send it */ };
//!         match try_await(goodbye) {
//!             Ok(()) => {}
//!             // Dropped, or a panic: the other side finds the connection closed.
//!             Err(AwaitError::Dropped | AwaitError::Unwinding) => {}
//!             Err(error) => eprintln!("{error}"),
//!         }
//!     }
//! }
//! pollster::block_on(async_def(|| drop(Session)));
//! ```
//!
//! # What the compiler does not see
//!
//! In an `async` block the compiler knows what lives across an `.await`. Here it does not:
//!
//! - A `RefCell` borrow, a `MutexGuard` or a `LocalKey::with` around [`await_`] lasts while other
//!   tasks of the thread run. They find it borrowed, or deadlock.
//! - A value that is kept in a thread-local for the time of a call, like a tracing span that was
//!   entered or a runtime's `enter()` guard, is seen by the other tasks. Leave it before waiting.
//! - Unsafe code that puts the address of a frame into a thread-local, and trusts that frames of a
//!   thread end in the reverse of the order in which they began, must not be on a stack that waits.
//!
//! # Stacks
//!
//! A stack is 8 MiB of address space with a guard at its end, from a pool that the thread keeps. It
//! takes memory by the page, as it is touched: 8 KiB for a simple suspended function, page tables
//! counted. [`Builder`] chooses other sizes, and other pools. An overflow is SIGSEGV.

mod async_def;
mod await_here;
mod builder;
mod context;
mod error;
#[cfg(any(feature = "futures-io", feature = "tokio"))]
pub mod io;
mod join;
mod pinned;
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
pub use pinned::{JoinHandle, PinnedThreads, PinnedThreadsBuilder, spawn_pinned};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use verdigris_fiber::{Config, GuardKind, Pool, StackError};

#[cfg(doc)]
use std::task::Context;

/// The README's example, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
