//! Where stacks come from: the pools of a thread, and what happens when the thread ends.
//!
//! Destructors of thread-locals run when no function runs any more on the thread, so code may
//! believe that a reference from `LocalKey::with` outlives them. A suspended function can be stored
//! in a thread-local, and could be unwound or resumed among those destructors, after a value that
//! it refers to. So a thread-local of this module is initialised with the first suspension, and
//! destructors run in the reverse order of initialisation on the platforms we know: once ours
//! ran, suspended functions of the thread are neither resumed nor unwound. Their stacks stay.

use std::cell::{Cell, RefCell};

use verdigris_fiber::{Config, Pool, Stack, StackError};

thread_local! {
    /// The pool for functions that ask for nothing.
    static POOL: Result<Pool, StackError> = Pool::new(Config::default());

    /// Pools by size of stack, for builders that ask for one.
    static SIZED: RefCell<Vec<(usize, Pool)>> = const { RefCell::new(Vec::new()) };

    static EXIT: Cell<Exit> = const { Cell::new(Exit::Unwatched) };
    static WATCH: Watch = const { Watch };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// No function was suspended on this thread.
    Unwatched,
    /// `WATCH` is initialised.
    Watched,
    /// Destructors of thread-locals run.
    Begun,
}

struct Watch;

impl Drop for Watch {
    fn drop(&mut self) {
        EXIT.set(Exit::Begun);
    }
}

/// Takes a stack of the default size.
#[inline]
pub(crate) fn take() -> Result<Stack, StackError> {
    match POOL.try_with(|pool| match pool {
        Ok(pool) => pool.take(),
        Err(_) => Pool::new(Config::default())?.take(),
    }) {
        Ok(stack) => stack,
        // The thread ends, and its pool is gone. The stack keeps a pool of its own alive.
        Err(_) => Pool::new(Config::default())?.take(),
    }
}

/// The thread's pool of stacks of `size` bytes.
pub(crate) fn pool_of(size: usize) -> Result<Pool, StackError> {
    let make = || {
        Pool::new(Config {
            stack_size: size,
            ..Config::default()
        })
    };
    let known = SIZED.try_with(|pools| {
        let mut pools = pools.borrow_mut();
        if let Some((_, pool)) = pools.iter().find(|(of, _)| *of == size) {
            return Ok(pool.clone());
        }
        let pool = make()?;
        pools.push((size, pool.clone()));
        Ok(pool)
    });
    known.unwrap_or_else(|_| make())
}

/// Asked before every suspension: whether the thread has long enough to live.
#[inline(always)]
pub(crate) fn watch_thread_exit() -> bool {
    EXIT.get() == Exit::Watched || watch()
}

#[cold]
#[inline(never)]
fn watch() -> bool {
    if EXIT.get() == Exit::Begun || WATCH.try_with(|_| ()).is_err() {
        return false;
    }
    EXIT.set(Exit::Watched);
    true
}

/// Whether the thread's destructors run, so that what was suspended must stay so.
#[inline(always)]
pub(crate) fn thread_exit_began() -> bool {
    EXIT.get() == Exit::Begun
}
