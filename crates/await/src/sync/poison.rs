//! Whether a guard was dropped by unwinding: the flag, and how it is set.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};
use std::thread;

/// The flag of a lock. Relaxed: the lock itself orders what happens under it.
#[derive(Default)]
pub(super) struct Poison(AtomicBool);

/// What a guard remembers from when it was made.
#[derive(Clone, Copy)]
pub(super) struct Before {
    panicking: bool,
}

impl Poison {
    pub(super) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub(super) fn before() -> Before {
        Before {
            panicking: thread::panicking(),
        }
    }

    /// Called as a guard is dropped.
    pub(super) fn guard_drops(&self, before: Before) {
        if !before.panicking && thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn result<G>(&self, guard: G) -> LockResult<G> {
        if self.get() {
            Err(PoisonError::new(guard))
        } else {
            Ok(guard)
        }
    }
}
