//! Native stacks for suspendable functions.
//!
//! Three things, each usable without the next:
//!
//! - a [`Pool`] hands out [`Stack`]s: address space reserved in slabs, guarded at the low end,
//!   reused last in first out, and given back to the kernel after a burst;
//! - a [`Fiber`] runs a closure on a stack and can be suspended from any depth of it;
//! - a [`Suspender`] is what the closure gets to suspend itself with.
//!
//! The switch is the `corosensei` crate's. What this crate adds is where stacks come from, what
//! they cost when idle, and the floating-point control words, which the switch does not save.
//!
//! ```
//! use verdigris_fiber::{Config, Fiber, Pool, Step, Suspender};
//!
//! let pool = Pool::new(Config::default())?;
//! let mut fiber = Fiber::new(pool.take()?, |suspender: &Suspender<u32, u32>, first| {
//!     // Runs on its own 8 MiB stack. `suspend` may be called from any function below.
//!     let second = suspender.suspend(first + 1);
//!     let third = suspender.suspend(second + 1);
//!     format!("{first} {second} {third}")
//! });
//!
//! assert_eq!(fiber.resume(10), Step::Yield(11));
//! assert_eq!(fiber.resume(20), Step::Yield(21));
//! assert_eq!(fiber.resume(30), Step::Return("10 20 30".to_string()));
//!
//! drop(fiber.into_stack()); // back to the pool
//! assert_eq!(pool.stats().pooled, 1);
//! # Ok::<(), verdigris_fiber::StackError>(())
//! ```
//!
//! # One thread, always
//!
//! A pool belongs to the thread that made it, and so does everything that comes out of it. Code on
//! a stack may hold addresses of thread-locals across a suspension, so a stack must not wake up
//! elsewhere. The compiler enforces it:
//!
//! ```compile_fail,E0277
//! fn send<T: Send>() {}
//! send::<verdigris_fiber::Pool>();
//! ```
//! ```compile_fail,E0277
//! fn send<T: Send>() {}
//! send::<verdigris_fiber::Stack>();
//! ```
//! ```compile_fail,E0277
//! fn send<T: Send>() {}
//! send::<verdigris_fiber::Fiber<(), (), ()>>();
//! ```
//! ```compile_fail,E0277
//! fn sync<T: Sync>() {}
//! sync::<verdigris_fiber::Pool>();
//! ```
//!
//! # Platforms
//!
//! Linux on x86-64 and aarch64 is what it is made for. Other Unix systems take the `mprotect` path
//! for guards. On other processors the switch works, but the floating-point control words are the
//! thread's, not the fiber's. It does not compile for Windows.

#[cfg(not(unix))]
compile_error!("verdigris-fiber makes its stacks with mmap and mprotect, and works on Unix only");

mod config;
mod error;
mod fiber;
mod float_control;
mod guard;
mod pool;
mod slab;
mod stack;
#[cfg(feature = "valgrind")]
mod valgrind;

pub use config::Config;
pub use error::StackError;
pub use fiber::{Fiber, Step, Suspender};
pub use guard::GuardKind;
pub use pool::{Pool, Stats};
pub use stack::Stack;

/// The README's example, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
