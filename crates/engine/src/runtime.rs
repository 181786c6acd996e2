//! What the engine keeps for each thread: its pool of stacks, the function
//! that runs on one of them now, and those it was asked to unwind.
//!
//! A stack never leaves its thread. Other threads reach a [`Runtime`] only
//! through its [`Mailbox`], which outlives it.

use core::cell::Cell;
use core::ffi::{c_int, c_void};
use core::ptr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use verdigris_fiber::{Config, Pool, Stack, StackError};

use crate::activation::{self, Activation, RESERVED};
use crate::coroutine::GreenCoroutine;
use crate::greenlet::{self, carrier};
use crate::reactor::Reactor;
use crate::thread_state;
use crate::watch;

/// Native stacks are as deep as the main thread's, so that every recursion
/// that ends in `RecursionError` there ends in it here.
const STACK_SIZE: usize = 8 << 20;

/// How many stacks may rest. A call that waits inside a call that waits takes two.
const MOST_RESTING: usize = 4;

/// After so many functions one stack goes to the pool although it could rest, so
/// that the pool's sweep comes to it.
const REST_IN_TURN: u32 = 256;

/// The engine's state of one thread.
pub struct Runtime {
    pool: Pool,
    /// Stacks whose functions have ended, ready for others: beginning on one of
    /// them is a resumption, which saves taking a stack and making a fiber.
    resting: [Cell<*mut Activation>; MOST_RESTING],
    count_resting: Cell<usize>,
    until_sweep: Cell<u32>,
    has_pinned: Cell<bool>,
    /// Stacks whose functions have ended, with greenlets on them that live.
    pinned: Cell<Vec<*mut Activation>>,
    pub greenlet: greenlet::OfThread,
    pub carried: carrier::OfThread,
    /// The reactor of the loop that ran last, borrowed, or null: see
    /// [`reactor::here`](crate::reactor::here).
    pub reactor: Cell<*mut Reactor>,
    /// The function whose native stack this thread runs on, or null on its own
    /// stack, and always where greenlets carry functions. Ask [`Runtime::here`].
    pub current: Cell<*mut Activation>,
    /// Never reused, unlike the address of a thread or of its stacks.
    pub id: u64,
    mailbox: Arc<Mailbox>,
    /// Whether what is in there is being unwound.
    unwinds: Cell<bool>,
}

/// What other threads know of the runtime of a thread that lives.
struct Known {
    id: u64,
    mailbox: Arc<Mailbox>,
    /// Only for a thread that holds the GIL: the runtime's own is not in the
    /// engine then, or is this one.
    runtime: *const Runtime,
}

// SAFETY: the pointer is not followed without the GIL, and taken off the list
// before the runtime ends.
unsafe impl Send for Known {}

static RUNTIMES: Mutex<Vec<Known>> = Mutex::new(Vec::new());

fn runtimes() -> MutexGuard<'static, Vec<Known>> {
    RUNTIMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `f` with every stack of every thread that runs, or drives one that does.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn for_each_running(f: impl Fn(*mut Activation)) {
    for known in runtimes().iter() {
        // SAFETY: a runtime leaves the list before it ends. With the GIL held, its
        // thread is at a place where its stacks are in order.
        unsafe {
            let mut stack = (*known.runtime).current.get();
            while !stack.is_null() {
                f(stack);
                stack = (*stack).driver;
            }
        }
    }
}

/// Calls `f` with the runtime of every thread that has one.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn for_each(f: impl Fn(&Runtime)) {
    for known in runtimes().iter() {
        // SAFETY: as in `for_each_running`.
        unsafe { f(&*known.runtime) };
    }
}

/// How many native stacks of all threads have a function on them.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn count_native_in_use() -> usize {
    // SAFETY: as in `for_each_running`.
    let in_use = |known: &Known| unsafe { (*known.runtime).stats().in_use };
    runtimes().iter().map(in_use).sum()
}

/// Hands `coroutine`, a counted reference, to the thread that can unwind it.
/// False when that thread has ended: the reference stays the caller's.
pub fn post_abandoned(runtime: u64, coroutine: *mut GreenCoroutine) -> bool {
    let found = runtimes()
        .iter()
        .find(|known| known.id == runtime)
        .map(|known| Arc::clone(&known.mailbox));
    let posted = found.is_some_and(|mailbox| mailbox.post(coroutine));
    // Put off while the thread unwinds what it has: asked again from its answer, the main thread
    // would do nothing else.
    let is_put_off = Runtime::get().is_some_and(|here| here.id == runtime && here.unwinds.get());
    if posted && !is_put_off {
        // Others look when they next use the engine; the main thread can be asked.
        ask_main_thread();
    }
    posted
}

/// What was in the mailboxes of threads when they ended.
static ORPHANS: Mutex<Vec<Abandoned>> = Mutex::new(Vec::new());

/// Has the main thread run [`look_around`] soon. Works without the GIL. A full
/// queue means that it is about to look anyway.
fn ask_main_thread() {
    // SAFETY: has no preconditions; the function below takes no argument.
    unsafe { pyo3::ffi::Py_AddPendingCall(Some(look_around), ptr::null_mut()) };
}

/// Runs on the main thread: unwinds what belongs to it, and says what was lost.
extern "C" fn look_around(_: *mut c_void) -> c_int {
    if let Some(runtime) = Runtime::get() {
        runtime.unwind_abandoned();
    }
    let orphans = core::mem::take(&mut *ORPHANS.lock().unwrap_or_else(PoisonError::into_inner));
    for Abandoned(coroutine) in orphans {
        // SAFETY: the GIL is held; the reference was posted and is given away.
        unsafe { GreenCoroutine::leak_with_its_thread(coroutine) };
    }
    0
}

/// Something is in the mailbox.
const MAIL: u8 = 1;
/// Steps are watched (`watch`).
const WATCHED: u8 = 2;

/// Has the steps of all threads watched, or no longer.
pub fn watch_all(on: bool) {
    for known in runtimes().iter() {
        if on {
            known.mailbox.attention.fetch_or(WATCHED, Ordering::Relaxed);
        } else {
            known
                .mailbox
                .attention
                .fetch_and(!WATCHED, Ordering::Relaxed);
        }
    }
}

/// Where other threads leave suspended functions that only this thread may unwind.
struct Mailbox {
    /// [`MAIL`] and [`WATCHED`]: why a step must not begin just so.
    attention: AtomicU8,
    state: Mutex<MailboxState>,
}

struct MailboxState {
    open: bool,
    abandoned: Vec<Abandoned>,
}

/// A strong reference to a suspended coroutine nobody else holds any more.
struct Abandoned(*mut GreenCoroutine);

// SAFETY: the pointer is a counted reference. Any thread may move it, also one
// that ends and has no GIL; only a thread that holds the GIL looks behind it.
unsafe impl Send for Abandoned {}

impl Mailbox {
    fn new() -> Self {
        Self {
            attention: AtomicU8::new(if watch::is_on() { WATCHED } else { 0 }),
            state: Mutex::new(MailboxState {
                open: true,
                abandoned: Vec::new(),
            }),
        }
    }

    fn post(&self, coroutine: *mut GreenCoroutine) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.open {
            state.abandoned.push(Abandoned(coroutine));
            self.attention.fetch_or(MAIL, Ordering::Release);
        }
        state.open
    }

    fn take(&self) -> Vec<Abandoned> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.attention.fetch_and(!MAIL, Ordering::Relaxed);
        core::mem::take(&mut state.abandoned)
    }
}

impl Drop for Runtime {
    /// The thread ends. What still waits on its stacks can never be unwound:
    /// the pool leaves those stacks mapped.
    fn drop(&mut self) {
        // SAFETY: this thread's own variable; from here on it has no runtime.
        unsafe { thread_state::set_runtime(ptr::null()) };
        self.dismiss_resting();
        runtimes().retain(|known| known.id != self.id);
        let mut state = self
            .mailbox
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.open = false;
        if !state.abandoned.is_empty() {
            // The GIL is not held here, so another thread must speak of them.
            ORPHANS
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(&mut state.abandoned);
            ask_main_thread();
        }
    }
}

thread_local! {
    // Frees the runtime when the thread ends. It is found through
    // `thread_state::runtime`, which needs no check whether it still lives.
    static OWNER: Cell<Option<Box<Runtime>>> = const { Cell::new(None) };
}

impl Runtime {
    /// This thread's runtime, if it ever ran a function on a stack of its own.
    #[inline]
    pub fn get() -> Option<&'static Runtime> {
        // SAFETY: the pointer is null or this thread's boxed runtime, which is
        // freed only when the thread ends, and null from then on. The reference
        // never leaves the thread: `Runtime` is not `Sync`.
        unsafe { thread_state::runtime().cast::<Runtime>().as_ref() }
    }

    /// This thread's runtime, made on first use.
    ///
    /// # Errors
    ///
    /// When the first slab of stacks can't be mapped.
    #[inline]
    pub fn get_or_init() -> Result<&'static Runtime, StackError> {
        match Self::get() {
            Some(runtime) => Ok(runtime),
            None => Self::init(),
        }
    }

    #[cold]
    fn init() -> Result<&'static Runtime, StackError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let config = Config {
            stack_size: STACK_SIZE,
            reserve: RESERVED,
            ..Config::default()
        };
        let runtime = Box::new(Runtime {
            pool: Pool::new(config)?,
            resting: [const { Cell::new(ptr::null_mut()) }; MOST_RESTING],
            count_resting: Cell::new(0),
            until_sweep: Cell::new(REST_IN_TURN),
            has_pinned: Cell::new(false),
            pinned: Cell::default(),
            greenlet: greenlet::OfThread::default(),
            carried: carrier::OfThread::default(),
            reactor: Cell::new(ptr::null_mut()),
            current: Cell::new(ptr::null_mut()),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            mailbox: Arc::new(Mailbox::new()),
            unwinds: Cell::new(false),
        });
        let address = &raw const *runtime;
        runtimes().push(Known {
            id: runtime.id,
            mailbox: Arc::clone(&runtime.mailbox),
            runtime: address,
        });
        OWNER.set(Some(runtime));
        // SAFETY: this thread's own variable, and a box that stays where it is.
        unsafe {
            thread_state::set_runtime(address.cast());
            Ok(&*address)
        }
    }

    /// The function that runs here, whose stack a wait would suspend; or null.
    #[inline(always)]
    pub fn here(&self) -> *mut Activation {
        let stack = self.current.get();
        if stack.is_null() && carrier::is_chosen() {
            // SAFETY: the GIL is held.
            return unsafe { carrier::here(self) };
        }
        stack
    }

    /// A stack to make an activation on.
    pub fn take_stack(&self) -> Result<Stack, StackError> {
        self.pool.take()
    }

    /// A stack that rests, or null.
    #[inline(always)]
    pub fn take_resting(&self) -> *mut Activation {
        if self.has_pinned.get() {
            return self.take_pinned();
        }
        let count = self.count_resting.get();
        if count == 0 {
            return ptr::null_mut();
        }
        self.count_resting.set(count - 1);
        self.resting[count - 1].get()
    }

    /// Takes a stack whose function has ended. One that went deep goes to the
    /// pool, which takes its memory away.
    #[inline(always)]
    pub fn rest(&self, activation: *mut Activation, went_deep: impl FnOnce() -> bool) {
        let count = self.count_resting.get();
        let left = self.until_sweep.get();
        // Asked last: the answer may have to be faulted in.
        if count < MOST_RESTING && left > 0 && !went_deep() {
            self.resting[count].set(activation);
            self.count_resting.set(count + 1);
            self.until_sweep.set(left - 1);
        } else {
            self.dismiss(activation);
        }
    }

    /// Takes a stack whose function has ended while greenlets on it live. It keeps
    /// its memory, and is the first to be used again: that may end them.
    #[cold]
    pub fn pin(&self, activation: *mut Activation) {
        let mut pinned = self.pinned.take();
        pinned.push(activation);
        self.pinned.set(pinned);
        self.has_pinned.set(true);
    }

    #[cold]
    fn take_pinned(&self) -> *mut Activation {
        let mut pinned = self.pinned.take();
        let activation = pinned.pop().unwrap_or(ptr::null_mut());
        self.has_pinned.set(!pinned.is_empty());
        self.pinned.set(pinned);
        activation
    }

    #[cold]
    fn dismiss(&self, activation: *mut Activation) {
        self.until_sweep.set(REST_IN_TURN);
        // SAFETY: its function has ended on this thread, and nobody else knows it.
        unsafe { activation::dismiss(activation) };
    }

    /// Of those that are pinned nothing can run any more: all their greenlets are
    /// on the heap, and belong to a thread that is gone.
    fn dismiss_resting(&self) {
        loop {
            let activation = self.take_resting();
            if activation.is_null() {
                return;
            }
            self.dismiss(activation);
        }
    }

    /// The state of this thread's pool of stacks. Those that rest count as pooled.
    pub fn stats(&self) -> verdigris_fiber::Stats {
        let mut stats = self.pool.stats();
        let pinned = self.pinned.take();
        let resting = self.count_resting.get() + pinned.len();
        self.pinned.set(pinned);
        stats.in_use += self.carried.in_use();
        stats.leaked += self.carried.leaked();
        stats.in_use -= resting;
        stats.pooled += resting;
        stats
    }

    /// Whether a step of this thread must look into the mailbox first, or is watched:
    /// one question for all that is rare.
    #[inline]
    pub fn needs_attention(&self) -> bool {
        self.mailbox.attention.load(Ordering::Relaxed) != 0
    }

    /// Unwinds what other threads abandoned, if anything.
    pub fn unwind_abandoned(&self) {
        if carrier::collecting::is_here() {
            return; // asked again when that is over
        }
        if self.mailbox.attention.load(Ordering::Relaxed) & MAIL != 0 {
            self.unwind_abandoned_now();
        }
    }

    #[cold]
    fn unwind_abandoned_now(&self) {
        let outer = self.unwinds.replace(true);
        self.unwind_each();
        self.unwinds.set(outer);
    }

    fn unwind_each(&self) {
        for Abandoned(coroutine) in self.mailbox.take() {
            // SAFETY: the GIL is held, and the reference was posted to us. Its
            // finalizer has run, on the wrong thread; this is the right one.
            unsafe {
                GreenCoroutine::abandon(coroutine);
                pyo3::ffi::Py_DECREF(coroutine.cast());
            }
        }
    }
}
