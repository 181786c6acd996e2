//! The deadlines of a reactor's waiters.
//!
//! A tree, not a heap: most deadlines are those of sockets that become ready long
//! before, and one that is left in a heap until it is due keeps its memory for the
//! thirty seconds of a usual timeout.

use std::collections::BTreeMap;

use super::waiter::Waiter;

/// Nanoseconds of the reactor's clock.
pub type Time = u64;

/// Where a waiter's deadline is in the tree; the number tells equal times apart.
pub type Key = (Time, u64);

#[derive(Default)]
pub struct Timers {
    tree: BTreeMap<Key, *mut Waiter>,
    next: u64,
}

impl Timers {
    pub fn insert(&mut self, deadline: Time, waiter: *mut Waiter) -> Key {
        self.next += 1;
        let key = (deadline, self.next);
        self.tree.insert(key, waiter);
        key
    }

    pub fn remove(&mut self, key: Key) {
        self.tree.remove(&key);
    }

    pub fn earliest(&self) -> Option<Time> {
        self.tree.first_key_value().map(|((time, _), _)| *time)
    }

    /// Takes out one waiter whose deadline has come.
    pub fn pop_due(&mut self, now: Time) -> Option<*mut Waiter> {
        let entry = self.tree.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    pub fn len(&self) -> usize {
        self.tree.len()
    }
}
