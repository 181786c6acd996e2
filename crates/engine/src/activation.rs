//! A function on a native stack of its own: how it starts, is resumed, waits
//! and ends.
//!
//! The [`Activation`] lies at the base of the very stack it describes, followed
//! by the stack's first chunk of Python frames. C frames grow down from the
//! base and Python frames up, so that a simple suspended function touches one
//! page, and one with deep Python recursion just touches more:
//!
//! ```text
//!   high   +---------------------------+ <- end of the stack's slot, page-aligned
//!          | ...                       |
//!          | root data-stack chunk     |    (Python frames grow upwards)
//!          +---------------------------+ <- HOT bytes above the base, one page
//!          | Activation                |    boundary; all below shares a page
//!          | the pool's header         |    with the first C frames
//!          +---------------------------+ <- base: where the C stack begins
//!          | C frames (grow downwards) |
//!          | ...                       |
//!   low    +---------------------------+ <- guard
//! ```
//!
//! What lies between a switch and the interpreter's loop is inlined, all of it:
//! after a switch the processor's stack of return addresses is the other side's,
//! so every function that returns then is a misprediction, about 7 ns. Four such
//! functions fewer made a step by hand 155 ns in place of 185.
//!
//! Everything here runs with the GIL held, on the thread the stack belongs to.

use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr;

use pyo3::ffi::{self, PyObject, PyThreadState};
use verdigris_fiber::{Fiber, StackError, Step, Suspender};

use crate::coroutine::GreenCoroutine;
use crate::errors;
use crate::greenlet::{self, Carrier, carrier};
use crate::portal::Portal;
use crate::reactor::Reactor;
use crate::runtime::Runtime;
use crate::thread_state::{self, DriverState, StackState};

/// What the engine and the pool take of the page that the first C frames are on:
/// the pool's header, the activation, and about ten Python frames of 80 to 150
/// bytes. The rest, 2.4 KB, holds the C frames of a simple wait.
const HOT: usize = 1664;

/// Room for Python frames beyond that, in whole pages that cost nothing until
/// they are touched: about 500 frames. When a chunk is full `CPython` maps
/// another one, and unmaps it as soon as the frames are gone; with room for ten
/// frames only, that cost 5 us in every call through eleven functions.
const DEEP: usize = 64 << 10;

/// The pool's words between base and reserved bytes.
const POOL_HEADER: usize = 64;

/// Bytes above the base of each stack that belong to the engine.
pub const RESERVED: usize = DEEP + HOT - POOL_HEADER;

/// The part of [`RESERVED`] for Python frames.
const CHUNK: usize = RESERVED - size_of::<Activation>();

/// One wait in progress on a stack, kept in the C frame that waits. The garbage
/// collector reads it (`vg_wait` in `wait.h`).
#[repr(C)]
pub struct AwaitRecord {
    /// What is driven: a coroutine, an iterator, or a `GreenCoroutine` that
    /// shares the stack.
    pub awaited: *mut PyObject,
    /// The arguments of the `await_` call; in `CPython`'s evaluation stack as a
    /// rule. Null for an `await` statement.
    pub args: *const *mut PyObject,
    /// The coroutine with the `await` statement, if it is one.
    pub awaiter: *mut PyObject,
    /// Whether this frame holds a reference to `awaited`.
    pub owned: core::ffi::c_int,
    /// The wait further out on the same stack.
    pub outer: *const AwaitRecord,
}

/// What a resumed function is given.
pub enum Incoming {
    /// The value that was sent: a new reference.
    Value(*mut PyObject),
    /// The exception that was thrown: a new reference.
    Exception(*mut PyObject),
}

/// The control block of a function that has begun and not yet ended.
#[repr(C, align(64))]
pub struct Activation {
    state: StackState,
    /// What takes the place of a native stack, or null. The fields about the stack
    /// mean nothing then.
    pub carrier: *mut Carrier,
    fiber: MaybeUninit<Fiber<(), (), ()>>,
    suspender: *const Suspender<(), ()>,
    /// The coroutine object this stack was started for. It outlives the
    /// activation: whoever resumes it holds it, and finalizing it ends this.
    pub coroutine: *mut GreenCoroutine,
    /// The coroutine whose function runs innermost on this stack: `coroutine`,
    /// or one that was started by an await on this stack and shares it.
    pub innermost: *mut GreenCoroutine,
    /// The stack of the same thread that drives this one, or null.
    pub driver: *mut Activation,
    /// The innermost wait on this stack, or null.
    pub awaits: *const AwaitRecord,
    /// The value to yield, or the function's result (null: an exception is set).
    outgoing: *mut PyObject,
    incoming: MaybeUninit<Incoming>,
    /// The thread state this stack belongs to.
    thread: u64,
    /// The runtime of the thread this stack belongs to.
    pub runtime: u64,
    /// How often it was resumed.
    pub steps: u32,
    /// greenlet's state of this stack.
    pub greenlet: greenlet::OfStack,
    /// Whether the function has ended, and the stack rests until it gets another.
    ended: bool,
    /// Whether a resting stack shall end instead.
    dismissed: bool,
    /// The task that resumed this stack, borrowed, or null (`eager`).
    pub resumer: *mut PyObject,
    /// The reactor that was found here last, borrowed, and in which step: that of the
    /// loop which drives the stack cannot change within one.
    reactor: *mut Reactor,
    reactor_step: u32,
    /// Set while the function runs an event loop of its own: the package's account of
    /// the loop outside (`reactor::inner_loop`), a counted reference; or null.
    pub inner_loop: *mut PyObject,
    /// How many `atomic()` blocks the function is in: it must not wait.
    pub atomic: u32,
}

const _: () = assert!(
    HOT - POOL_HEADER >= size_of::<Activation>() + 768,
    "HOT leaves no room for Python frames"
);

/// What a resumed function did.
pub enum Outcome {
    /// It waits: a new reference to what it yields to the loop.
    Yielded(*mut PyObject),
    /// It ended: a new reference to its result, or null with an exception set.
    Ended(*mut PyObject),
}

/// Takes a stack, or `bound` if that is not null, and puts `coroutine`'s function
/// on it, ready to be resumed.
///
/// # Errors
///
/// Null with an exception set: no stack is to be had.
///
/// # Safety
///
/// The GIL is held, `thread` is the current thread state, and `coroutine` has
/// not begun. A stack in `bound` is this thread's, its function has ended, and
/// nobody else refers to it.
#[inline(always)]
pub unsafe fn start(
    runtime: &Runtime,
    thread: *mut PyThreadState,
    coroutine: *mut GreenCoroutine,
    bound: *mut Activation,
) -> Result<*mut Activation, *mut PyObject> {
    if carrier::is_chosen() {
        // SAFETY: by contract.
        return unsafe { carrier::start(runtime, thread, coroutine, bound) };
    }
    if !thread_state::IS_KNOWN {
        // The package has chosen greenlets, unless somebody goes past it.
        // SAFETY: the GIL is held.
        return Err(unsafe {
            errors::raise(
                ffi::PyExc_RuntimeError,
                c"this build of verdigris does not know the thread state of this CPython, and so functions run on greenlets only; import verdigris, which chooses them",
            )
        });
    }
    let resting = if bound.is_null() {
        runtime.take_resting()
    } else {
        bound
    };
    let this = if resting.is_null() {
        // SAFETY: by contract; the GIL is held.
        unsafe { make(runtime, thread).map_err(|error| errors::raise_no_stack(&error))? }
    } else {
        resting
    };
    // SAFETY: `this` is ours: complete, and its stack runs nothing.
    unsafe {
        thread_state::begin(thread, &raw mut (*this).state);
        (*this).reset(coroutine);
        greenlet::begin(this);
    }
    Ok(this)
}

/// Takes a stack out of the pool and makes an activation on it.
#[inline(never)]
unsafe fn make(
    runtime: &Runtime,
    thread: *mut PyThreadState,
) -> Result<*mut Activation, StackError> {
    let stack = runtime.take_stack()?;
    let (low, top) = (stack.limit(), stack.base());
    let this: *mut Activation = stack.reserved().as_ptr().cast();
    // SAFETY: `this` points to RESERVED bytes, aligned to 64, that are ours as
    // long as the stack is; nobody reads a field before it is written here or by
    // `start`, but for the state's mark, which says whether the last user left
    // the state ready or the memory is fresh.
    // The chunk lies behind the activation, inside the reserved part.
    unsafe {
        thread_state::make(&raw mut (*this).state, this.add(1).cast(), CHUNK, low, top);
        (*this).carrier = ptr::null_mut();
        (*this).suspender = ptr::null();
        (*this).driver = ptr::null_mut();
        (*this).awaits = ptr::null();
        (*this).outgoing = ptr::null_mut();
        (*this).thread = thread_state::thread_id(thread);
        (*this).runtime = runtime.id;
        (*this).greenlet = greenlet::OfStack::new();
        (*this).dismissed = false;
        (*this).fiber.write(Fiber::new(
            stack,
            move |suspender: &Suspender<(), ()>, ()| {
                (*this).suspender = suspender;
                while !(*this).dismissed {
                    if (*this).greenlet.is_in_use() {
                        greenlet::tidy();
                    }
                    (*this).outgoing = GreenCoroutine::run_work((*this).coroutine);
                    (*this).ended = true;
                    suspender.rest(());
                }
            },
        ));
    }
    Ok(this)
}

/// Ends a stack that rests, and gives it back to the pool. Runs no Python code,
/// and needs no GIL.
///
/// # Safety
///
/// The stack rests, on this thread.
pub unsafe fn dismiss(this: *mut Activation) {
    // SAFETY: by contract the fiber waits in `rest`, from where it returns.
    // Dropped in place: it gives the stack it lies on back to the pool, with a
    // copy of the stack's handle, as its last act.
    unsafe {
        (*this).dismissed = true;
        let fiber = (*this).fiber.assume_init_mut();
        let Step::Return(()) = fiber.resume(()) else {
            unreachable!("a dismissed stack returns");
        };
        (*this).fiber.assume_init_drop();
    }
}

impl Activation {
    /// True when `thread` is the thread state this stack belongs to. Addresses
    /// are no proof: they are reused when a thread ends.
    ///
    /// # Safety
    ///
    /// `this` is live, and `thread` is the current thread state.
    #[inline]
    pub unsafe fn belongs_to(this: *mut Self, thread: *mut PyThreadState) -> bool {
        // SAFETY: both are live by contract.
        unsafe { (*this).thread == thread_state::thread_id(thread) }
    }

    /// The fields that say what runs there.
    #[inline(always)]
    pub fn reset(&mut self, coroutine: *mut GreenCoroutine) {
        self.coroutine = coroutine;
        self.innermost = coroutine;
        self.resumer = ptr::null_mut();
        self.inner_loop = ptr::null_mut();
        self.atomic = 0;
        self.reactor = ptr::null_mut();
        self.steps = 0;
        self.ended = false;
    }

    /// The reactor of the loop that drives this stack, if it was found in this step; or
    /// null.
    #[inline]
    pub fn reactor_in_this_step(&self) -> *mut Reactor {
        if self.reactor_step == self.steps {
            self.reactor
        } else {
            ptr::null_mut()
        }
    }

    /// Notes the reactor of the loop that drives this stack now.
    #[inline]
    pub fn remember_reactor(&mut self, reactor: *mut Reactor) {
        self.reactor = reactor;
        self.reactor_step = self.steps;
    }

    /// Whether the function has ended, and the stack waits for another.
    ///
    /// # Safety
    ///
    /// `this` is live, and not running.
    #[inline]
    pub unsafe fn has_ended(this: *mut Self) -> bool {
        // SAFETY: by contract.
        unsafe { (*this).ended }
    }

    /// Ends the chain of frames at the base of a stack that runs.
    ///
    /// # Safety
    ///
    /// `this` is live and running, and the GIL is held.
    pub unsafe fn unlink_frames(this: *mut Self) {
        // SAFETY: by contract.
        unsafe { thread_state::unlink_frames(&raw mut (*this).state) }
    }

    /// Whether the thread this stack belongs to still exists.
    ///
    /// # Safety
    ///
    /// `this` is live and the GIL is held.
    pub unsafe fn thread_lives(this: *mut Self) -> bool {
        // SAFETY: by contract.
        unsafe { thread_state::thread_lives((*this).thread) != 0 }
    }

    /// Lets the function run until it waits again or ends. When it ends, the
    /// stack goes back to the pool and `this` must not be used any more.
    ///
    /// # Safety
    ///
    /// The GIL is held, `thread` is the current thread state and the one the
    /// stack belongs to, `runtime` is its runtime, and the function is
    /// suspended or has not begun (`incoming` is then a value that nobody reads).
    #[inline(always)]
    pub unsafe fn resume(
        this: *mut Self,
        runtime: &Runtime,
        thread: *mut PyThreadState,
        incoming: Incoming,
    ) -> Outcome {
        let mut driver = DriverState::uninit();
        // SAFETY: by contract the stack is this thread's and not running. The
        // thread state is switched around the native switch, on this side, with
        // no Python code in between; `leave` and `end` undo all that `enter` did, also
        // when the function ends with an exception, which is only a null result.
        // A Rust panic can't cross: panics abort.
        unsafe {
            (*this).incoming.write(incoming);
            (*this).steps = (*this).steps.wrapping_add(1);
            if !(*this).carrier.is_null() {
                return carrier::resume(this, runtime, thread);
            }
            // `current` changes with the native stack, not with the thread state:
            // what `enter` and `leave` drop may run code that asks for it.
            thread_state::enter(thread, &raw mut (*this).state, driver.as_mut_ptr());
            greenlet::enter(this, runtime, thread);
            (*this).driver = runtime.current.replace(this);
            (*this).fiber.assume_init_mut().resume(());
            runtime.current.set((*this).driver);
            let dropped = greenlet::leave(this, runtime, thread);
            let outgoing = (*this).outgoing;
            if !(*this).ended {
                thread_state::leave(thread, &raw mut (*this).state, driver.as_ptr());
                ffi::Py_XDECREF(dropped);
                return Outcome::Yielded(outgoing);
            }
            thread_state::end(thread, &raw mut (*this).state, driver.as_ptr());
            ffi::Py_XDECREF(dropped);
            if (*this).greenlet.is_in_use() {
                Self::keep(this, runtime);
            } else {
                let fiber = (*this).fiber.assume_init_ref();
                runtime.rest(this, || fiber.went_deep());
            }
            Outcome::Ended(outgoing)
        }
    }

    /// Keeps a stack whose function has ended while greenlets on it live. Those of
    /// a portal's task must find it again in the task's next step.
    #[cold]
    unsafe fn keep(this: *mut Self, runtime: &Runtime) {
        // SAFETY: the function has ended, on this thread; its coroutine is held by
        // whoever resumes it.
        unsafe {
            let portal = (*(*this).coroutine).portal;
            if portal.is_null() {
                runtime.pin(this);
            } else {
                Portal::bind(portal, this);
            }
        }
    }

    /// Yields `value` (a new reference) to whoever drives this stack, and
    /// returns what it is resumed with.
    ///
    /// # Safety
    ///
    /// Called on the stack of `this`, which is the running one.
    #[inline(always)]
    pub unsafe fn suspend(this: *mut Self, value: *mut PyObject) -> Incoming {
        // SAFETY: the suspender lives in the fiber's root frame, below us. No
        // PyO3 frame that counts attachments is open: all callers are raw.
        unsafe {
            (*this).outgoing = value;
            if (*this).carrier.is_null() {
                (*(*this).suspender).suspend(());
            } else if let Err(incoming) = carrier::suspend(this) {
                return incoming;
            }
            (*this).incoming.assume_init_read()
        }
    }

    /// Gives up a function that can't be unwound: its stack is never reused,
    /// and what its frames own stays alive.
    ///
    /// # Safety
    ///
    /// The function is suspended. The pool is touched only when it is this
    /// thread's; otherwise `same_thread` is false.
    #[cold]
    pub unsafe fn leak(this: *mut Self, same_thread: bool) {
        // SAFETY: suspended by contract, so the fiber is initialized and not
        // running. It is moved out of memory that stays mapped.
        unsafe {
            if same_thread {
                thread_state::give_up(ffi::PyThreadState_Get(), &raw mut (*this).state);
            }
            if !(*this).carrier.is_null() {
                return carrier::leak(same_thread);
            }
            let fiber = ManuallyDrop::new((*this).fiber.assume_init_read());
            if same_thread {
                ManuallyDrop::into_inner(fiber).leak();
            }
        }
    }

    /// What the stack and its waits own, for the garbage collector.
    ///
    /// # Safety
    ///
    /// The function is suspended and the GIL is held.
    pub unsafe fn traverse(
        this: *mut Self,
        visit: ffi::visitproc,
        arg: *mut core::ffi::c_void,
    ) -> core::ffi::c_int {
        // greenlet visits frames of its own where their thread has ended.
        // SAFETY: the thread is the current one.
        unsafe {
            if !(*this).carrier.is_null()
                && !Self::belongs_to(this, ffi::PyThreadState_Get())
                && !Self::thread_lives(this)
            {
                return 0;
            }
        }
        // SAFETY: a suspended stack does not change; its records are linked
        // through C frames that stay where they are.
        unsafe { thread_state::visit_stack(&raw mut (*this).state, (*this).awaits, visit, arg) }
    }

    /// The innermost Python frame, a new reference, or null.
    ///
    /// # Safety
    ///
    /// The function is suspended, the GIL is held, `thread` is current.
    pub unsafe fn suspended_frame(this: *mut Self, thread: *mut PyThreadState) -> *mut PyObject {
        // SAFETY: as above.
        unsafe { thread_state::suspended_frame(thread, &raw mut (*this).state) }
    }

    /// The thread state it belongs to, and new references to what it awaits, the
    /// outermost first.
    ///
    /// # Safety
    ///
    /// The function is suspended and the GIL is held.
    pub unsafe fn wait(this: *mut Self) -> (u64, Vec<*mut PyObject>) {
        // SAFETY: as above.
        unsafe {
            let mut awaited = Vec::new();
            let mut record = (*this).awaits;
            while !record.is_null() {
                awaited.push(ffi::Py_NewRef((*record).awaited));
                record = (*record).outer;
            }
            awaited.reverse();
            ((*this).thread, awaited)
        }
    }

    /// The Python frame that drives this stack, a new reference, or null.
    ///
    /// # Safety
    ///
    /// The function is running, the GIL is held, `thread` is current.
    pub unsafe fn driving_frame(this: *mut Self, thread: *mut PyThreadState) -> *mut PyObject {
        // SAFETY: as above.
        unsafe { thread_state::driving_frame(thread, &raw mut (*this).state) }
    }
}

/// What [`carrier`] does with an activation that has no native stack.
impl Activation {
    /// One in memory of its own; its thread is still to be set.
    pub fn carried(carrier: *mut Carrier) -> Self {
        Self {
            state: StackState::zero(),
            carrier,
            fiber: MaybeUninit::uninit(),
            suspender: ptr::null(),
            coroutine: ptr::null_mut(),
            innermost: ptr::null_mut(),
            driver: ptr::null_mut(),
            awaits: ptr::null(),
            outgoing: ptr::null_mut(),
            incoming: MaybeUninit::uninit(),
            thread: 0,
            runtime: 0,
            steps: 0,
            greenlet: greenlet::OfStack::new(),
            ended: true,
            dismissed: false,
            resumer: ptr::null_mut(),
            inner_loop: ptr::null_mut(),
            atomic: 0,
            reactor: ptr::null_mut(),
            reactor_step: 0,
        }
    }

    /// Makes it a thread's.
    pub fn move_to(&mut self, thread: u64, runtime: u64) {
        self.thread = thread;
        self.runtime = runtime;
    }

    pub fn state(&mut self) -> *mut StackState {
        &raw mut self.state
    }

    /// What the function yields or returns.
    pub fn outgoing(&self) -> *mut PyObject {
        self.outgoing
    }

    /// Drops what the function was resumed with.
    pub fn drop_incoming(&mut self) {
        // SAFETY: it was written when the function was resumed, and is read once.
        unsafe {
            let (Incoming::Value(object) | Incoming::Exception(object)) =
                self.incoming.assume_init_read();
            ffi::Py_XDECREF(object);
        }
    }

    /// The function returned `result`; null if it raised.
    pub fn end_with(&mut self, result: *mut PyObject) {
        self.outgoing = result;
        self.ended = true;
    }

    /// Nothing runs there any more. References to waits that never end may be left.
    pub fn forget_coroutine(&mut self) {
        self.coroutine = ptr::null_mut();
        self.innermost = ptr::null_mut();
        self.awaits = ptr::null();
    }

    /// The portal whose step runs there, or null.
    pub fn portal(&self) -> *mut Portal {
        if self.coroutine.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: the coroutine outlives its activation, which forgets it then.
        unsafe { (*self.coroutine).portal }
    }
}
