//! `GreenCoroutine`: what `async_def` returns. A native awaitable and a full
//! `collections.abc.Coroutine`.
//!
//! The type is made with `PyType_FromSpec`, because a `#[pyclass]` has no
//! `am_send` slot, and its entry points are raw `extern "C"` functions, because
//! a `PyO3` trampoline must not stay open across a switch of stacks.

mod class;
mod collection;
mod creation;
mod inspection;
mod spare;
mod stepping;

use core::ptr;

use pyo3::ffi::{self, PyObject, PyThreadState};

use crate::activation::{self, Activation, AwaitRecord, Incoming, Outcome};
use crate::eager;
use crate::errors::{self, raise};
use crate::greenlet::{self, carrier};
use crate::portal::Portal;
use crate::protocol;
use crate::runtime::{self, Runtime};
use crate::thread_state;
use crate::watch;

pub use class::make_type;
pub use creation::async_def;

/// Arguments up to this many lie in the object itself.
const INLINE_ARGS: usize = 4;

/// How often an abandoned function may wait again before its stack is given up:
/// once for each finally block that waits, and some more.
const MOST_REFUSALS: u32 = 100;

/// Where a coroutine is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not begun: it has its function and arguments, and no stack.
    Created,
    /// It waits on its stack.
    Suspended,
    /// Its function runs now, or drives something that does.
    Running,
    /// It returned, raised, was closed or was given up.
    Ended,
}

/// What it puts on its stack.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Work {
    /// A call of its function.
    Call,
    /// A portal's step: its first argument is sent to the coroutine that stands
    /// in place of the function.
    Send,
    /// The same, and its first argument is thrown.
    Throw,
    /// The same, and the coroutine is closed; its first argument is None.
    Close,
}

/// The object behind `async_def(fn, ...)`.
#[repr(C)]
pub struct GreenCoroutine {
    ob_base: PyObject,
    pub state: State,
    work: Work,
    /// For a portal's step that has ended: the portal's coroutine has not, but
    /// yielded to the loop by itself.
    pub yielded: bool,
    assert_await_occurs: bool,
    /// Whether its function ever called `await_`.
    pub awaited: bool,
    /// Whether the garbage collector knows of it.
    tracked: bool,
    /// Whether its finalizer was called, after which the collector's header
    /// carries a mark.
    finalized: bool,
    /// Nobody ends it any more: see `leave_behind`.
    pub left_behind: bool,
    nargs: u32,
    /// The stack its function is on, while suspended or running: its own, or the
    /// one it shares (`run_on_this_stack`).
    activation: *mut Activation,
    /// The coroutine that awaits this one through the `await` statement on the
    /// stack it may share, borrowed, only compared (`run_on_this_stack`).
    awaiter: *mut PyObject,
    /// For a portal's step: which portal, borrowed, null when that is gone.
    pub portal: *mut Portal,
    /// What is called, or, for a portal's step, the coroutine that is stepped.
    function: *mut PyObject,
    /// Names of the keyword arguments, which are the last of `args`, or null.
    keywords: *mut PyObject,
    /// `args[0]` is scratch space that the vectorcall protocol asks for; the
    /// arguments follow. Points to `inline_args` or to memory of its own.
    args: *mut *mut PyObject,
    inline_args: [*mut PyObject; 1 + INLINE_ARGS],
    name: *mut PyObject,
    qualname: *mut PyObject,
    origin: *mut PyObject,
    weak_references: *mut PyObject,
}

/// `leave_behind(coroutine)`: for a thread that goes on when its loop ends. It is kept,
/// and not ended when the interpreter ends.
pub unsafe extern "C" fn leave_behind(
    _module: *mut PyObject,
    coroutine: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held, and with a live object.
    unsafe {
        if check_exact(coroutine) {
            (*coroutine.cast::<GreenCoroutine>()).left_behind = true;
        }
        ffi::Py_INCREF(coroutine);
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// Whether `object` is a `GreenCoroutine`.
#[inline]
pub fn check_exact(object: *mut PyObject) -> bool {
    // SAFETY: `object` is live.
    unsafe { ffi::Py_TYPE(object) == class::get() }
}

impl GreenCoroutine {
    // ---- stepping -----------------------------------------------------------

    /// One step: begin or resume with `value`, a borrowed reference.
    ///
    /// # Safety
    ///
    /// The GIL is held, `thread` is current, the caller holds `this`.
    #[inline(always)]
    pub unsafe fn send(
        this: *mut Self,
        thread: *mut PyThreadState,
        value: *mut PyObject,
    ) -> Outcome {
        // SAFETY: the GIL is held; `this` is held by the caller.
        unsafe {
            match (*this).state {
                State::Created => {
                    if value != ffi::Py_None() {
                        return Outcome::Ended(raise(
                            ffi::PyExc_TypeError,
                            c"can't send non-None value to a just-started coroutine",
                        ));
                    }
                    Self::begin(this, thread, ptr::null_mut())
                }
                State::Suspended => {
                    Self::resume(this, thread, Incoming::Value(ffi::Py_NewRef(value)))
                }
                State::Running | State::Ended => Outcome::Ended(Self::refuse_step(this)),
            }
        }
    }

    /// The first step.
    ///
    /// # Safety
    ///
    /// As for `send`, and it has not begun; `bound` as for [`activation::start`].
    #[inline(always)]
    pub unsafe fn begin(
        this: *mut Self,
        thread: *mut PyThreadState,
        bound: *mut Activation,
    ) -> Outcome {
        // SAFETY: the GIL is held and the coroutine has not begun.
        unsafe {
            let runtime = match Runtime::get_or_init() {
                Ok(runtime) => runtime,
                Err(error) => return Outcome::Ended(errors::raise_no_stack(&error)),
            };
            if let Err(refusal) = greenlet::check(runtime) {
                return Outcome::Ended(refusal);
            }
            match activation::start(runtime, thread, this, bound) {
                Ok(activation) => {
                    (*this).activation = activation;
                    // Nobody reads what a function is begun with.
                    Self::run(this, runtime, thread, Incoming::Value(ptr::null_mut()))
                }
                // The coroutine stays as it was and can be awaited again.
                Err(refusal) => Outcome::Ended(refusal),
            }
        }
    }

    #[inline(always)]
    unsafe fn resume(this: *mut Self, thread: *mut PyThreadState, incoming: Incoming) -> Outcome {
        // SAFETY: the GIL is held and the coroutine is suspended.
        unsafe {
            match Self::runtime_to_resume(this, thread) {
                Ok(runtime) => Self::run(this, runtime, thread, incoming),
                Err(refusal) => {
                    let (Incoming::Value(object) | Incoming::Exception(object)) = incoming;
                    ffi::Py_DECREF(object);
                    Outcome::Ended(refusal)
                }
            }
        }
    }

    /// This thread's runtime, if the function can be resumed here; if not, null with
    /// an exception set.
    #[inline(always)]
    unsafe fn runtime_to_resume(
        this: *mut Self,
        thread: *mut PyThreadState,
    ) -> Result<&'static Runtime, *mut PyObject> {
        // SAFETY: the GIL is held and the coroutine is suspended.
        unsafe {
            let activation = (*this).activation;
            let runtime = match Runtime::get() {
                Some(runtime) if Activation::belongs_to(activation, thread) => runtime,
                _ => return Err(errors::raise_wrong_thread(Self::qualname(this))),
            };
            greenlet::check(runtime)?;
            if !(*activation).carrier.is_null() {
                if carrier::collecting::is_here() {
                    return Err(carrier::collecting::refuse());
                }
                if !carrier::adopt(activation) {
                    return Err(ptr::null_mut());
                }
            }
            Ok(runtime)
        }
    }

    #[inline(always)]
    unsafe fn run(
        this: *mut Self,
        runtime: &Runtime,
        thread: *mut PyThreadState,
        incoming: Incoming,
    ) -> Outcome {
        // SAFETY: the activation belongs to this thread and is not running.
        unsafe {
            (*this).state = State::Running;
            if runtime.needs_attention() {
                return Self::run_with_attention(this, runtime, thread, incoming);
            }
            Self::run_now(this, runtime, thread, incoming)
        }
    }

    /// The same, where there is something to do first, or the step is watched.
    #[cold]
    #[inline(never)]
    unsafe fn run_with_attention(
        this: *mut Self,
        runtime: &Runtime,
        thread: *mut PyThreadState,
        incoming: Incoming,
    ) -> Outcome {
        // SAFETY: as for `run`. What runs code of others must find this one taken.
        unsafe {
            runtime.unwind_abandoned();
            if !watch::is_on() {
                return Self::run_now(this, runtime, thread, incoming);
            }
            watch::goes(this);
            let outcome = Self::run_now(this, runtime, thread, incoming);
            watch::went(this, &outcome);
            outcome
        }
    }

    #[inline(always)]
    unsafe fn run_now(
        this: *mut Self,
        runtime: &Runtime,
        thread: *mut PyThreadState,
        incoming: Incoming,
    ) -> Outcome {
        // SAFETY: as for `run`.
        unsafe {
            eager::note_resumer((*this).activation, thread);
            match Activation::resume((*this).activation, runtime, thread, incoming) {
                Outcome::Yielded(value) => {
                    (*this).state = State::Suspended;
                    if !(*this).tracked {
                        Self::track(this);
                    }
                    Outcome::Yielded(value)
                }
                Outcome::Ended(result) => {
                    (*this).activation = ptr::null_mut();
                    Outcome::Ended(Self::finish(this, result))
                }
            }
        }
    }

    /// Tells the garbage collector of it.
    unsafe fn track(this: *mut Self) {
        // SAFETY: the GIL is held, all fields are written, it is not tracked yet.
        unsafe {
            (*this).tracked = true;
            ffi::PyObject_GC_Track(this.cast());
        }
    }

    /// The function has ended with `result`, or with an exception if null.
    #[inline(always)]
    unsafe fn finish(this: *mut Self, mut result: *mut PyObject) -> *mut PyObject {
        // SAFETY: the GIL is held; an exception is set if `result` is null.
        unsafe {
            (*this).state = State::Ended;
            if result.is_null() {
                errors::replace_stop_iteration(|| Self::qualname(this));
                // Releasing may run code that must not see the exception.
                let exception = errors::take();
                Self::release_call(this);
                errors::restore(exception);
            } else {
                Self::release_call(this);
                if (*this).assert_await_occurs && !(*this).awaited {
                    ffi::Py_DECREF(result);
                    result = errors::raise_no_await_occurred();
                }
            }
            result
        }
    }

    /// Runs the function of a coroutine that is awaited on `stack` right on
    /// that stack: there is nobody between the two who could see it suspend.
    /// Either `args` or `awaiter` tells who awaits it (`AwaitRecord`).
    unsafe fn run_on_this_stack(
        this: *mut Self,
        stack: *mut Activation,
        args: *const *mut PyObject,
        awaiter: *mut PyObject,
    ) -> *mut PyObject {
        // SAFETY: the GIL is held; `stack` runs now, and `this` has not begun
        // and is held by the frame that awaits it.
        unsafe {
            (*this).state = State::Running;
            (*this).activation = stack;
            let outer = core::mem::replace(&mut (*stack).innermost, this);
            let record = AwaitRecord {
                awaited: this.cast(),
                args,
                awaiter,
                owned: 0,
                outer: (*stack).awaits,
            };
            let kept = greenlet::keep(stack, &record);
            let result = Self::run_work(this);
            greenlet::release(stack, &record, kept);
            (*stack).innermost = outer;
            (*this).activation = ptr::null_mut();
            Self::finish(this, result)
        }
    }

    #[cold]
    unsafe fn refuse_step(this: *mut Self) -> *mut PyObject {
        // SAFETY: the GIL is held.
        unsafe {
            if (*this).state == State::Running {
                raise(ffi::PyExc_ValueError, c"coroutine already executing")
            } else {
                raise(
                    ffi::PyExc_RuntimeError,
                    c"cannot reuse already awaited coroutine",
                )
            }
        }
    }

    /// Throws `exception` (a new reference, an exception instance) in.
    ///
    /// # Safety
    ///
    /// The GIL is held; the caller holds `this`.
    pub unsafe fn throw(this: *mut Self, exception: *mut PyObject) -> Outcome {
        // SAFETY: the GIL is held; `this` is held by the caller.
        unsafe {
            match (*this).state {
                State::Created => {
                    (*this).state = State::Ended;
                    Self::release_call(this);
                    errors::restore(exception);
                    errors::replace_stop_iteration(|| Self::qualname(this));
                    Outcome::Ended(ptr::null_mut())
                }
                State::Suspended => Self::resume(
                    this,
                    ffi::PyThreadState_Get(),
                    Incoming::Exception(exception),
                ),
                State::Running | State::Ended => {
                    ffi::Py_DECREF(exception);
                    Outcome::Ended(Self::refuse_step(this))
                }
            }
        }
    }

    /// Ends the coroutine as `coroutine.close` does. False with an exception
    /// set when it could not be ended, or ended with another exception.
    pub unsafe fn close(this: *mut Self) -> bool {
        // SAFETY: the GIL is held; `this` is held by the caller.
        unsafe {
            match (*this).state {
                State::Created => {
                    (*this).state = State::Ended;
                    Self::release_call(this);
                    true
                }
                State::Ended => true,
                State::Running => {
                    Self::refuse_step(this);
                    false
                }
                State::Suspended => {
                    let exit = ffi::PyObject_CallNoArgs(ffi::PyExc_GeneratorExit);
                    if exit.is_null() {
                        return false;
                    }
                    protocol::is_closed_by(Self::throw(this, exit))
                }
            }
        }
    }

    // ---- being awaited -------------------------------------------------------

    /// What `await_(this)` returns on `stack`: nobody can see the function
    /// suspend there, so it runs on that stack.
    ///
    /// # Safety
    ///
    /// The GIL is held, `stack` runs now, `this` is held by the caller.
    #[inline]
    pub unsafe fn await_here(
        this: *mut Self,
        stack: *mut Activation,
        args: *const *mut PyObject,
    ) -> *mut PyObject {
        // SAFETY: as above.
        unsafe {
            match (*this).state {
                State::Created => Self::run_on_this_stack(this, stack, args, ptr::null_mut()),
                State::Suspended | State::Running => raise(
                    ffi::PyExc_RuntimeError,
                    c"coroutine is being awaited already",
                ),
                State::Ended => Self::refuse_step(this),
            }
        }
    }

    /// The thread it waits on, and new references to what it awaits, the outermost
    /// first.
    ///
    /// # Safety
    ///
    /// The GIL is held, and it is suspended on a stack of its own.
    pub unsafe fn wait(this: *mut Self) -> (u64, Vec<*mut PyObject>) {
        // SAFETY: a suspended stack does not change; its records are in C frames that
        // stay where they are.
        unsafe { Activation::wait((*this).activation) }
    }

    /// What it awaits, borrowed: None if that is nothing but its next turn.
    ///
    /// # Safety
    ///
    /// The GIL is held, and it is suspended.
    pub unsafe fn awaits(this: *mut Self) -> *mut PyObject {
        // SAFETY: as for `wait`.
        unsafe {
            let record = (*(*this).activation).awaits;
            if record.is_null() {
                ffi::Py_None()
            } else {
                (*record).awaited
            }
        }
    }

    // ---- the end -----------------------------------------------------------------

    /// Nobody holds the coroutine any more, but its function waits: unwind it
    /// here, or on its own thread, or give it up and say so. One that does not
    /// wait is left alone: garbage that was kept for its thread may have been
    /// stepped by other garbage of the same cycle meanwhile.
    ///
    /// # Safety
    ///
    /// The GIL is held; `this` is kept alive by the caller.
    #[cold]
    pub unsafe fn abandon(this: *mut Self) {
        // SAFETY: the GIL is held; `this` is alive for the time of the call.
        unsafe {
            if (*this).state != State::Suspended {
                return;
            }
            let activation = (*this).activation;
            if !Activation::belongs_to(activation, ffi::PyThreadState_Get()) {
                if !Self::leave_to_its_thread(this) {
                    ffi::Py_INCREF(this.cast()); // for ever
                    Self::leak_with_its_thread(this);
                }
                return;
            }
            let room = thread_state::has_room(ffi::PyThreadState_Get(), (*activation).state());
            if room == 0 && Self::leave_to_its_thread(this) {
                return; // at the recursion limit; there is room later
            }
            if Self::close(this) {
                return;
            }
            // It waited again, most likely in a finally block, and CPython would
            // now drop its frame. A native stack can't be dropped, so each further
            // wait is ended the same way; what is reported is the first.
            let reported = errors::take();
            for _ in 0..MOST_REFUSALS {
                if (*this).state != State::Suspended || Self::close(this) {
                    break;
                }
                ffi::PyErr_Clear();
            }
            if (*this).state != State::Suspended {
                errors::restore(reported);
                ffi::PyErr_WriteUnraisable(this.cast());
                return;
            }
            ffi::Py_DECREF(reported);
            ffi::Py_INCREF(this.cast());
            Self::give_up(this, true);
            errors::warn_leaked(
                Self::qualname(this),
                c"function '%V' was abandoned and goes on waiting after GeneratorExit: its native stack is leaked. Let GeneratorExit pass, or await the function to its end.",
            );
        }
    }

    /// Keeps it alive and has its thread unwind it, the next time that it uses the engine.
    /// False if that thread has ended.
    unsafe fn leave_to_its_thread(this: *mut Self) -> bool {
        // SAFETY: the GIL is held, and the function is suspended.
        unsafe {
            let activation = (*this).activation;
            if !Activation::thread_lives(activation) {
                return false;
            }
            ffi::Py_INCREF(this.cast());
            let posted = runtime::post_abandoned((*activation).runtime, this);
            if !posted {
                ffi::Py_DECREF(this.cast());
            }
            posted
        }
    }

    /// In a collection: leaves a function that a greenlet carries to be unwound after it, and
    /// tells whether that is so (`carrier::collecting`).
    ///
    /// # Safety
    ///
    /// The GIL is held, and the function is suspended.
    pub unsafe fn abandon_later(this: *mut Self) -> bool {
        // SAFETY: by contract.
        unsafe {
            !(*(*this).activation).carrier.is_null()
                && carrier::collecting::is_here()
                && Self::leave_to_its_thread(this)
        }
    }

    /// Gives up a function whose thread has ended. Takes the reference.
    ///
    /// # Safety
    ///
    /// The GIL is held; the thread has ended, so nothing steps the coroutine.
    pub unsafe fn leak_with_its_thread(this: *mut Self) {
        // SAFETY: by contract; the pool is the ended thread's and not touched.
        unsafe {
            if (*this).state != State::Suspended {
                return ffi::Py_DECREF(this.cast());
            }
            Self::give_up(this, false);
            errors::warn_leaked(
                Self::qualname(this),
                c"function '%V' was abandoned while it waited, and the thread it waited on has ended: its finally blocks can't run and its native stack is leaked. Let functions end, or close them, before their thread ends.",
            );
        }
    }

    /// Its function goes on living on a stack that nobody drives any more: keeps
    /// alive what that may use.
    ///
    /// # Safety
    ///
    /// The GIL is held, and the function runs.
    #[cold]
    pub unsafe fn tear(this: *mut Self) {
        // SAFETY: as above. Whoever resumed it ends it next, and finds nothing to drop.
        unsafe {
            ffi::Py_INCREF(this.cast());
            ffi::Py_INCREF((*this).function);
            (*this).nargs = 0;
            (*this).keywords = ptr::null_mut();
            (*this).args = (&raw mut (*this).inline_args).cast();
        }
    }

    unsafe fn give_up(this: *mut Self, same_thread: bool) {
        // SAFETY: suspended. The frames on the stack borrow function and
        // arguments from this object, which the caller has leaked.
        unsafe {
            watch::forget(this);
            Activation::leak((*this).activation, same_thread);
            (*this).activation = ptr::null_mut();
            (*this).state = State::Ended;
        }
    }
}
