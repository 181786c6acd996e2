//! The pool of one thread's stacks.
//!
//! A free stack is in one of three states, and `take` prefers them in this order:
//!
//! - **warm**: its memory is as the last user left it. A plain last-in-first-out list of at most
//!   `Config::warm`; taking and releasing one is a few loads and stores and no system call.
//! - **cold**: its memory went back to the kernel the moment it was released, because the warm list
//!   was full. Listed in its slab.
//! - **fresh**: never used. Its slab installs the guard when it is first taken.
//!
//! Three rules keep an idle pool small, without a timer:
//!
//! - A warm stack that went deep is trimmed on release (see `RawStack::went_deep`), and every
//!   [`SWEEP_EVERY`]th release trims one warm stack in turn, whatever its canary says.
//! - When the warm list is full, the stack from the youngest slab goes cold. So after a burst the
//!   warm stacks sit in few, old slabs, and cold and fresh ones are taken from old slabs first.
//! - A slab with no stack out, warm or leaked is unmapped, but for one. Its page tables go with it:
//!   4 KiB a stack that no `madvise` gives back.

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::config::{Config, Layout};
use crate::error::StackError;
use crate::guard::{self, GuardKind};
use crate::slab::Slab;
use crate::stack::{RawStack, Stack};

/// How many stacks the first slab holds.
const FIRST_SLAB: usize = 16;

/// How much larger than the last one a new slab is.
const SLAB_GROWTH: usize = 4;

/// One warm stack is trimmed every so many releases. Measured: 1.5 us with the canary's next fault
/// when there was nothing to trim, so 1.5 ns a release.
const SWEEP_EVERY: u32 = 1024;

/// A pool of stacks for one thread. Clones are handles to the same pool.
///
/// When the last handle and the last stack that is out are gone, all mappings end, save those that
/// hold a leaked stack.
pub struct Pool {
    shared: NonNull<Shared>,
    /// Frees what it points to, which is not Send.
    owns: PhantomData<Shared>,
}

/// What a pool holds at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Stacks that are out.
    pub in_use: usize,
    /// Free stacks, warm and cold. Stacks that were never used do not count.
    pub pooled: usize,
    /// Those of `pooled` that kept their memory.
    pub warm: usize,
    /// Stacks given up with [`Stack::leak`].
    pub leaked: usize,
    /// Mappings that hold the stacks.
    pub slabs: usize,
    /// How stacks are guarded. Never [`GuardKind::Auto`].
    pub guard: GuardKind,
    /// Address space of one stack in bytes, guard included.
    pub stack_size: usize,
}

/// The pool itself, on the heap, shared by handles and stacks.
///
/// The count of those that refer to it is one number: stacks that are out are counted anyway, so a
/// reference count of its own would be a second counter on the path that has to be fastest.
pub(crate) struct Shared {
    /// Handles plus stacks that are out. At 0 the pool ends.
    users: Cell<usize>,
    /// Those of `users` that are handles.
    handles: Cell<usize>,
    layout: Layout,
    free: UnsafeCell<Free>,
}

/// The free stacks and where they come from.
struct Free {
    warm: Vec<Warm>,
    warm_limit: usize,
    /// Releases left until the next sweep.
    until_sweep: u32,
    /// Whose turn it is in the sweep.
    turn: usize,
    slabs: Vec<Option<Slab>>,
    /// No slab below this index has a free stack.
    first_with_free: usize,
    /// The slab kept although idle, if it still is.
    spare: Option<usize>,
    next_slab: usize,
    largest_slab: usize,
    leaked: usize,
    guard: GuardKind,
    guard_wanted: GuardKind,
}

/// A warm stack, with its slab beside it: whoever looks for the youngest slab reads 6 KB in a row
/// and not 256 headers, each in a page of its own.
struct Warm {
    raw: RawStack,
    slab: u32,
}

impl Warm {
    #[inline]
    fn of(raw: RawStack) -> Self {
        Self {
            raw,
            slab: raw.header().slab,
        }
    }
}

impl Shared {
    #[inline]
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Runs `f` on the free lists.
    #[inline]
    fn with_free<R>(&self, f: impl FnOnce(&mut Free) -> R) -> R {
        // SAFETY: a pool stays on one thread (it is neither Send nor Sync) and every `f` here is
        // code of this file that calls nothing of a user's, so no second borrow can begin.
        f(unsafe { &mut *self.free.get() })
    }
}

impl Pool {
    /// Makes a pool. It maps nothing before the first [`Pool::take`].
    ///
    /// # Errors
    ///
    /// [`StackError::BadConfig`] if the sizes do not fit together, [`StackError::Guard`] if
    /// [`GuardKind::Madvise`] is asked for and the kernel does not have it.
    pub fn new(config: Config) -> Result<Self, StackError> {
        let layout = Layout::new(&config)?;
        let guard = guard::resolve(config.guard)?;
        let shared = Box::new(Shared {
            users: Cell::new(1),
            handles: Cell::new(1),
            layout,
            free: UnsafeCell::new(Free {
                warm: Vec::new(),
                warm_limit: config.warm,
                until_sweep: SWEEP_EVERY,
                turn: 0,
                slabs: Vec::new(),
                first_with_free: 0,
                spare: None,
                next_slab: FIRST_SLAB.min(config.stacks_per_slab),
                largest_slab: config.stacks_per_slab,
                leaked: 0,
                guard,
                guard_wanted: config.guard,
            }),
        });
        Ok(Self {
            shared: NonNull::from(Box::leak(shared)),
            owns: PhantomData,
        })
    }

    #[inline]
    fn shared(&self) -> &Shared {
        // SAFETY: this handle is one of `users`, so the pool has not ended.
        unsafe { self.shared.as_ref() }
    }

    /// Takes a stack.
    ///
    /// # Errors
    ///
    /// The kernel refuses memory or a guard. Nothing is lost: stacks that are out stay good, and
    /// when some have come back this works again.
    #[inline]
    pub fn take(&self) -> Result<Stack, StackError> {
        let shared = self.shared();
        let raw = match shared.with_free(|free| free.warm.pop()) {
            Some(warm) => warm.raw,
            None => shared.with_free(|free| free.take_without_memory(self.shared))?,
        };
        shared.users.set(shared.users.get() + 1);
        Ok(Stack::from_raw(raw))
    }

    /// What the pool holds at the moment.
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        shared.with_free(|free| {
            let slabs = || free.slabs.iter().flatten();
            let cold: usize = slabs().map(Slab::cold).sum();
            Stats {
                in_use: shared.users.get() - shared.handles.get(),
                pooled: free.warm.len() + cold,
                warm: free.warm.len(),
                leaked: free.leaked,
                slabs: slabs().count(),
                guard: free.guard,
                stack_size: shared.layout.size,
            }
        })
    }
}

impl Clone for Pool {
    fn clone(&self) -> Self {
        let shared = self.shared();
        shared.users.set(shared.users.get() + 1);
        shared.handles.set(shared.handles.get() + 1);
        Self {
            shared: self.shared,
            owns: PhantomData,
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let shared = self.shared();
        shared.handles.set(shared.handles.get() - 1);
        // SAFETY: this handle was counted and is not used again.
        unsafe { leave(self.shared) };
    }
}

/// Takes one user off and ends the pool with the last.
///
/// # Safety
///
/// The caller was counted in `users` and does not touch the pool afterwards.
#[inline]
unsafe fn leave(shared: NonNull<Shared>) {
    // SAFETY: the caller is still counted.
    let users = unsafe { shared.as_ref() }.users.get() - 1;
    // SAFETY: as above.
    unsafe { shared.as_ref() }.users.set(users);
    if users == 0 {
        // SAFETY: nobody else refers to it.
        unsafe { end(shared) };
    }
}

/// # Safety
///
/// `shared` came from `Pool::new`, and no handle and no stack refers to it any more.
#[cold]
#[inline(never)]
unsafe fn end(shared: NonNull<Shared>) {
    // SAFETY: it was leaked from a box, and this is the last reference.
    let Shared { layout, free, .. } = *unsafe { Box::from_raw(shared.as_ptr()) };
    for slab in free.into_inner().slabs.into_iter().flatten() {
        // SAFETY: no stack is out, and the warm list is gone.
        unsafe { slab.close(&layout) };
    }
}

/// Gives a stack back.
///
/// # Safety
///
/// `raw` was taken out of its pool and is not used again; no code is on it.
#[inline]
pub(crate) unsafe fn release(raw: RawStack) {
    let pool = raw.header().pool;
    // SAFETY: the stack that comes back is still counted as a user.
    let shared = unsafe { pool.as_ref() };
    shared.with_free(|free| {
        let full = free.warm.len() >= free.warm_limit;
        // `full` first: a stack that loses its memory anyway need not have its canary faulted in.
        if full || free.until_sweep == 0 || raw.went_deep() {
            // SAFETY: the caller's promise, passed on.
            return unsafe { free.release_slowly(&shared.layout, raw) };
        }
        free.until_sweep -= 1;
        free.warm.push(Warm::of(raw));
    });
    // SAFETY: counted when it was taken.
    unsafe { leave(pool) };
}

/// Gives a stack up.
///
/// # Safety
///
/// As for [`release`], but there may be code on the stack.
pub(crate) unsafe fn leak(raw: RawStack) {
    let header = raw.header();
    let pool = header.pool;
    // SAFETY: the stack is still counted as a user.
    unsafe { pool.as_ref() }.with_free(|free| {
        free.leaked += 1;
        free.slab(header.slab).leak(header.index);
    });
    // SAFETY: counted when it was taken.
    unsafe { leave(pool) };
}

impl Free {
    fn slab(&mut self, index: u32) -> &mut Slab {
        self.slabs[index as usize]
            .as_mut()
            .expect("a slab with a stack out or warm is never unmapped")
    }

    /// A cold or fresh stack, from the oldest slab that has one.
    #[cold]
    #[inline(never)]
    fn take_without_memory(&mut self, pool: NonNull<Shared>) -> Result<RawStack, StackError> {
        // SAFETY: called through a handle, which keeps the pool.
        let layout = unsafe { pool.as_ref() }.layout();
        let has_free = |slab: &Option<Slab>| slab.as_ref().is_some_and(Slab::has_free);
        let known = self.slabs[self.first_with_free..].iter().position(has_free);
        let at = match known {
            Some(offset) => self.first_with_free + offset,
            None => self.add_slab(layout)?,
        };
        self.first_with_free = at;

        let kind = self.guard;
        let slab = self.slab(at as u32);
        let index = match slab.take(layout, kind) {
            // Memory that the program has locked (mlockall) can not take guards by madvise. What
            // was guarded so far stays so.
            Err(StackError::Guard(_)) if kind == GuardKind::Madvise && self.may_fall_back() => {
                self.guard = GuardKind::Mprotect;
                self.slab(at as u32).take(layout, GuardKind::Mprotect)?
            }
            other => other?,
        };
        let slot = self.slab(at as u32).slot(layout, index);
        // SAFETY: just taken, so guarded, mapped and unused.
        Ok(unsafe { RawStack::init(layout, pool, slot, at as u32, index) })
    }

    fn may_fall_back(&self) -> bool {
        self.guard_wanted == GuardKind::Auto
    }

    /// Maps a slab and returns where it stands in the list.
    fn add_slab(&mut self, layout: &Layout) -> Result<usize, StackError> {
        let slab = Slab::new(layout, self.next_slab)?;
        self.next_slab = (slab.count() * SLAB_GROWTH).min(self.largest_slab);
        Ok(match self.slabs.iter().position(Option::is_none) {
            Some(vacant) => {
                self.slabs[vacant] = Some(slab);
                vacant
            }
            None => {
                self.slabs.push(Some(slab));
                self.slabs.len() - 1
            }
        })
    }

    /// The part of a release that makes system calls: trims, and chooses what goes cold.
    ///
    /// # Safety
    ///
    /// As for [`release`].
    #[cold]
    #[inline(never)]
    unsafe fn release_slowly(&mut self, layout: &Layout, raw: RawStack) {
        if self.warm.len() < self.warm_limit {
            if raw.went_deep() {
                // SAFETY: free by the caller's promise.
                unsafe { self.trim(layout, raw) };
            }
            self.warm.push(Warm::of(raw));
        } else {
            // The stack of the youngest slab goes, so that young slabs can be unmapped.
            let mut colder = Warm::of(raw);
            let youngest = self.warm.iter_mut().max_by_key(|warm| warm.slab);
            if let Some(youngest) = youngest.filter(|youngest| youngest.slab > colder.slab) {
                std::mem::swap(youngest, &mut colder);
            }
            // SAFETY: `raw` by the caller's promise; one from the warm list is free.
            unsafe { self.go_cold(layout, colder.raw) };
        }
        match self.until_sweep.checked_sub(1) {
            Some(left) => self.until_sweep = left,
            None => {
                self.until_sweep = SWEEP_EVERY;
                if let Some(turn) = self.next_turn() {
                    // SAFETY: stacks of the warm list are free.
                    unsafe { self.trim(layout, self.warm[turn].raw) };
                }
            }
        }
    }

    /// Goes round the warm list.
    fn next_turn(&mut self) -> Option<usize> {
        if self.warm.is_empty() {
            return None;
        }
        self.turn = (self.turn + 1) % self.warm.len();
        Some(self.turn)
    }

    /// # Safety
    ///
    /// `raw` is free.
    unsafe fn trim(&mut self, layout: &Layout, raw: RawStack) {
        let (slab, index) = (raw.header().slab, raw.header().index);
        // SAFETY: the caller's promise, passed on.
        unsafe { self.slab(slab).trim(layout, index) };
    }

    /// Takes the memory of a stack and lists it in its slab.
    ///
    /// # Safety
    ///
    /// `raw` is free and in no list; the handle is not used again.
    unsafe fn go_cold(&mut self, layout: &Layout, raw: RawStack) {
        // Read before the memory that holds them goes.
        let (at, index) = (raw.header().slab, raw.header().index);
        let slab = self.slab(at);
        // SAFETY: the caller's promise, passed on.
        unsafe { slab.put(layout, index) };
        let idle = slab.is_idle();
        let at = at as usize;
        self.first_with_free = self.first_with_free.min(at);
        if idle {
            self.keep_one_idle_slab(layout, at);
        }
    }

    /// Unmaps an idle slab if there is another. One is kept so that a pool that goes back and
    /// forth over a slab's edge does not map and unmap all the time.
    fn keep_one_idle_slab(&mut self, layout: &Layout, at: usize) {
        let is_idle = |at: &usize| self.slabs[*at].as_ref().is_some_and(Slab::is_idle);
        let Some(spare) = self.spare.filter(|spare| *spare != at && is_idle(spare)) else {
            self.spare = Some(at);
            return;
        };
        self.spare = Some(spare.min(at));
        if let Some(slab) = self.slabs[spare.max(at)].take() {
            // SAFETY: idle: no stack of it is out, warm or leaked.
            unsafe { slab.close(layout) };
        }
    }
}
