//! Living with the extension greenlet in one process.
//!
//! greenlet takes one contiguous C stack per thread for granted: it copies
//! slices of that stack to the heap and back, and compares addresses. Greenlets
//! that lived on several native stacks would have the slices of one copied over
//! another. So to greenlet each native stack is a thread of its own. It keeps a
//! thread-local pointer to its state of the thread; that word is exchanged with
//! every switch of ours ([`enter`], [`leave`]), and a new stack begins with 1,
//! greenlet's own mark for "make one on first use".
//!
//! A greenlet that is used from a stack it does not belong to then gets
//! `greenlet.error`, as it would from another thread. One that is dropped there
//! is kept, and ended when its own stack next uses greenlet: also greenlet's own
//! way with threads.
//!
//! While greenlet is not loaded all this is one test of a static at each switch.

mod api;
pub mod carrier;
mod find;
mod records;

use core::cell::Cell;
use core::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::ffi::{self, PyObject, PyThreadState};

use crate::activation::Activation;
use crate::errors::raise;
use crate::runtime::{self, Runtime};
use crate::thread_state;

pub use carrier::Carrier;
pub use records::{keep, release};

/// What greenlet finds where it has made no state yet.
const NONE: usize = 1;

/// Whether greenlet is loaded beside native stacks. Guarded by the GIL.
static mut IS_LOADED: bool = false;

/// The same, or it carries the functions.
static mut IS_MET: bool = false;

/// States that no stack uses and no greenlet refers to, for any thread: a state
/// knows its greenlets and nothing of its thread. They are given back as soon as a
/// function ends, so that there are never more than were in use at one time.
static SPARE_STATES: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Guarded by the GIL.
static mut HAS_SPARE: bool = false;

fn spare_states() -> MutexGuard<'static, Vec<usize>> {
    SPARE_STATES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the engine keeps for each thread.
#[derive(Default)]
pub struct OfThread {
    /// The address of greenlet's word in this thread, once it was needed.
    word: Cell<*mut usize>,
}

/// What the engine keeps for each stack.
pub struct OfStack {
    /// greenlet's word while the stack is away.
    state: usize,
    /// The driver's word while the stack runs.
    driver_state: usize,
    /// greenlet gives each greenlet its own bottom of the handled exceptions, in
    /// the thread state. That of the greenlet that waits, counted, while the stack
    /// is away; the main one has the driver's.
    exception: *mut PyObject,
    /// Whether `exception` is the driver's, because the stack runs.
    exchanged: bool,
    /// The driver's bottom when the stack was entered, borrowed.
    driver_exception: *mut PyObject,
}

impl OfStack {
    pub const fn new() -> Self {
        Self {
            state: NONE,
            driver_state: NONE,
            exception: ptr::null_mut(),
            exchanged: false,
            driver_exception: ptr::null_mut(),
        }
    }

    /// Whether greenlets that live may lie on the stack.
    pub fn is_in_use(&self) -> bool {
        self.state != NONE
    }
}

/// The current and the main greenlet of a state, borrowed. They are its first
/// two fields: that is how it is found.
unsafe fn greenlets_of(state: usize) -> (*mut PyObject, *mut PyObject) {
    // SAFETY: a state of greenlet's, checked when the word was found.
    unsafe {
        let fields = state as *const *mut PyObject;
        (*fields.add(1), *fields)
    }
}

/// Whether another greenlet than the main one is the current one of a state.
#[inline]
unsafe fn is_inside(state: usize) -> bool {
    // SAFETY: a state of greenlet's.
    let (current, main) = unsafe { greenlets_of(state) };
    current != main
}

/// greenlet's word in this thread, or null: greenlet is not loaded.
#[inline(always)]
fn word(runtime: &Runtime) -> *mut usize {
    // SAFETY: the GIL is held.
    if !unsafe { IS_LOADED } {
        return ptr::null_mut();
    }
    let word = runtime.greenlet.word.get();
    if word.is_null() {
        find_word(runtime)
    } else {
        word
    }
}

#[cold]
fn find_word(runtime: &Runtime) -> *mut usize {
    // SAFETY: the GIL is held.
    let found = unsafe { find::word() }.unwrap_or(ptr::null_mut());
    runtime.greenlet.word.set(found);
    found
}

/// Called before a stack is entered.
///
/// # Safety
///
/// The GIL is held, the activation is live and this thread's.
#[inline(always)]
pub unsafe fn enter(stack: *mut Activation, runtime: &Runtime, thread: *mut PyThreadState) {
    let word = word(runtime);
    if !word.is_null() {
        // SAFETY: as above.
        unsafe { enter_isolated(stack, thread, word) };
    }
}

/// Called when a stack was left, before code of others can run: that would be on
/// the driver's stack with this one's greenlets. The stack may have been entered
/// before greenlet was loaded. Returns a reference to drop later, or null.
///
/// # Safety
///
/// As for [`enter`].
#[inline(always)]
pub unsafe fn leave(
    stack: *mut Activation,
    runtime: &Runtime,
    thread: *mut PyThreadState,
) -> *mut PyObject {
    let word = word(runtime);
    if word.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: as above.
    unsafe { leave_isolated(stack, thread, word) }
}

#[inline(always)]
unsafe fn enter_isolated(stack: *mut Activation, thread: *mut PyThreadState, word: *mut usize) {
    // SAFETY: as for `enter`; the word is this thread's.
    unsafe {
        let this = &mut (*stack).greenlet;
        this.driver_state = core::mem::replace(&mut *word, this.state);
        let bottom = thread_state::exception_bottom(thread);
        this.exchanged = this.state != NONE && is_inside(this.state);
        if this.exchanged {
            ptr::swap(bottom, &raw mut this.exception);
        } else {
            this.driver_exception = *bottom;
        }
    }
}

#[inline(always)]
unsafe fn leave_isolated(
    stack: *mut Activation,
    thread: *mut PyThreadState,
    word: *mut usize,
) -> *mut PyObject {
    // SAFETY: as for `enter`; the word is this thread's.
    unsafe {
        let this = &mut (*stack).greenlet;
        let driver_state = core::mem::replace(&mut this.driver_state, NONE);
        this.state = core::mem::replace(&mut *word, driver_state);
        if this.state == NONE {
            return ptr::null_mut();
        }
        leave_greenlets(stack, thread)
    }
}

/// The rest of leaving a stack that has greenlets.
unsafe fn leave_greenlets(stack: *mut Activation, thread: *mut PyThreadState) -> *mut PyObject {
    // SAFETY: as for `enter`.
    unsafe {
        let this = &mut (*stack).greenlet;
        let bottom = thread_state::exception_bottom(thread);
        let inside = is_inside(this.state);
        let mut dropped = ptr::null_mut();
        if core::mem::replace(&mut this.exchanged, false) {
            ptr::swap(bottom, &raw mut this.exception);
            if !inside {
                // The main greenlet's was the driver's of an earlier step.
                dropped = core::mem::replace(&mut this.exception, ptr::null_mut());
            }
        } else if inside {
            // The driver's went away with the main greenlet.
            this.exception = *bottom;
            *bottom = ffi::Py_XNewRef(this.driver_exception);
        }
        if Activation::has_ended(stack) {
            retire(stack);
        }
        dropped
    }
}

/// A function that used greenlets has ended. The state can serve other stacks,
/// unless a greenlet refers to its main one: then the stack keeps it, and serves
/// other functions with it.
#[cold]
unsafe fn retire(stack: *mut Activation) {
    // SAFETY: as for `enter`.
    unsafe {
        let this = &mut (*stack).greenlet;
        if is_unused(this.state) {
            spare_states().push(core::mem::replace(&mut this.state, NONE));
            HAS_SPARE = true;
        }
    }
}

/// Gives a stack that is about to begin a state that is there already.
///
/// # Safety
///
/// The GIL is held, the activation is live and this thread's.
#[inline(always)]
pub unsafe fn begin(stack: *mut Activation) {
    // SAFETY: as above.
    unsafe {
        if HAS_SPARE && (*stack).greenlet.state == NONE {
            reuse_state(stack);
        }
    }
}

#[cold]
unsafe fn reuse_state(stack: *mut Activation) {
    // SAFETY: as for `begin`.
    unsafe {
        let mut spare = spare_states();
        if let Some(state) = spare.pop() {
            (*stack).greenlet.state = state;
        }
        HAS_SPARE = !spare.is_empty();
    }
}

/// Whether greenlets may lie on the running stack, so that what its C frames
/// hold need not stay where it is.
#[inline(always)]
pub fn is_active(runtime: &Runtime) -> bool {
    // SAFETY: the GIL is held.
    if !unsafe { IS_MET } {
        return false;
    }
    if carrier::is_chosen() {
        // SAFETY: the GIL is held, and the current stack is this thread's.
        return unsafe { carrier::has_others(carrier::here(runtime)) };
    }
    // Also where greenlet was loaded since the stack was entered.
    let word = word(runtime);
    // SAFETY: the word is this thread's, or null, and holds a state or the mark.
    !word.is_null() && unsafe { *word != NONE && !is_unused(*word) }
}

/// Whether no greenlet but the main one can be on the stack of a state: nobody
/// refers to that but the state itself, which does so twice.
unsafe fn is_unused(state: usize) -> bool {
    // SAFETY: a state of greenlet's.
    unsafe {
        let (current, main) = greenlets_of(state);
        current == main && ffi::Py_REFCNT(main) == 2
    }
}

/// Ends the greenlets of the running stack that were dropped elsewhere.
///
/// # Safety
///
/// The GIL is held.
#[cold]
pub unsafe fn tidy() {
    // SAFETY: asking for the current greenlet does it.
    unsafe { ffi::Py_XDECREF(api::current()) };
}

/// Refuses to run a function where greenlet is loaded and can't be isolated: its
/// state of this thread is not found where that of another thread was.
///
/// # Errors
///
/// Null with `RuntimeError` set.
#[inline(always)]
pub fn check(runtime: &Runtime) -> Result<(), *mut PyObject> {
    // SAFETY: the GIL is held.
    if !unsafe { IS_LOADED } || !word(runtime).is_null() {
        return Ok(());
    }
    Err(refuse())
}

#[cold]
fn refuse() -> *mut PyObject {
    // SAFETY: the GIL is held.
    unsafe {
        raise(
            ffi::PyExc_RuntimeError,
            c"the extension greenlet is loaded, and verdigris could not find where it keeps its state of this thread; both would crash each other. Set VERDIGRIS_ENGINE=greenlet in the environment.",
        )
    }
}

/// `isolate_greenlet()`: called when greenlet is loaded. Returns whether it can be
/// isolated; if not, it must not be used while there are native stacks.
pub unsafe extern "C" fn isolate(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        if carrier::is_chosen() {
            return ffi::Py_NewRef(ffi::Py_True());
        }
        if !IS_LOADED {
            thread_state::stop_linking_frames();
            runtime::for_each_running(|stack| Activation::unlink_frames(stack));
            IS_LOADED = api::load() && find::word().is_some();
            IS_MET = IS_LOADED;
        }
        ffi::PyBool_FromLong(IS_LOADED.into())
    }
}
