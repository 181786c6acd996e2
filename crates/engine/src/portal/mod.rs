//! `PortalCoroutine`: a coroutine whose every step runs on a native stack, so
//! that synchronous code anywhere below it can wait.
//!
//! It stands between a loop and a task's own coroutine. Both sides see what they
//! would see without it: what the coroutine yields goes up, what the loop sends
//! or throws comes down.
//!
//! ```text
//!            step without a wait in sync code      step in which sync code waits
//!  loop      send(x)                 <- y          send(x)           <- y
//!  portal    take a stack            give it back  take a stack      keep it
//!  stack     coroutine.send(x) yields y            coroutine.send(x) -> f() -> await_(...)
//! ```
//!
//! So a task that waits by itself holds no stack, only the portal object, and
//! one whose synchronous code waits holds one, like any function of `async_def`.
//! A step is a [`GreenCoroutine`] of its own ([`GreenCoroutine::of_step`]), made
//! out of spare parts; nearly always it ends before anybody could look at it.

mod class;
mod inspection;
mod stepping;

use core::ptr;

use pyo3::ffi::{self, PyObject, PySendResult, PyThreadState};

use crate::activation::{Activation, AwaitRecord, Outcome};
use crate::coroutine::{GreenCoroutine, State, Work};
use crate::eager;
use crate::errors::{self, raise};
use crate::greenlet::{self, carrier};
use crate::protocol;
use crate::runtime::Runtime;

pub use class::{make_type, new};

/// The object in the place of a task's coroutine.
#[repr(C)]
pub struct Portal {
    ob_base: PyObject,
    /// The coroutine whose steps it runs.
    coroutine: *mut PyObject,
    /// The step in which synchronous code waits, or null.
    waiting: *mut GreenCoroutine,
    /// The stack on which greenlets of the last step live, or null: the next step
    /// must run there.
    bound: *mut Activation,
    /// What takes one step through the loop of the task, or None; the package
    /// keeps it here.
    checkpoint: *mut PyObject,
    weak_references: *mut PyObject,
    running: bool,
}

/// Whether `object` is a `PortalCoroutine`.
#[inline]
pub fn check_exact(object: *mut PyObject) -> bool {
    // SAFETY: `object` is live.
    unsafe { ffi::Py_TYPE(object) == class::get() }
}

/// What a step does. Both are borrowed references.
#[derive(Clone, Copy)]
enum Input {
    /// Sends a value.
    Value(*mut PyObject),
    /// Throws an exception instance.
    Exception(*mut PyObject),
    /// Closes the coroutine. Not while synchronous code waits.
    Close,
}

impl Portal {
    /// One step of the coroutine, on a stack.
    #[inline(always)]
    unsafe fn step(this: *mut Self, thread: *mut PyThreadState, input: Input) -> Outcome {
        // SAFETY: the GIL is held, the objects are live, `thread` is current.
        unsafe {
            if (*this).running {
                return Outcome::Ended(raise(
                    ffi::PyExc_ValueError,
                    c"coroutine already executing",
                ));
            }
            (*this).running = true;
            // A task that puts its own coroutine back meanwhile drops this one.
            ffi::Py_INCREF(this.cast());
            let waiting = (*this).waiting;
            let outcome = if waiting.is_null() {
                Self::begin_step(this, thread, input)
            } else {
                let outcome = match input {
                    Input::Value(value) => GreenCoroutine::send(waiting, thread, value),
                    Input::Exception(exception) => {
                        GreenCoroutine::throw(waiting, ffi::Py_NewRef(exception))
                    }
                    Input::Close => unreachable!("what waits is closed by an exception"),
                };
                Self::after_step(this, waiting, outcome)
            };
            (*this).running = false;
            ffi::Py_DECREF(this.cast());
            outcome
        }
    }

    #[inline(always)]
    unsafe fn begin_step(this: *mut Self, thread: *mut PyThreadState, input: Input) -> Outcome {
        // SAFETY: as for `step`.
        unsafe {
            let (work, object) = match input {
                Input::Value(value) => (Work::Send, value),
                Input::Exception(exception) => (Work::Throw, exception),
                Input::Close => (Work::Close, ffi::Py_None()),
            };
            let step = GreenCoroutine::of_step(this, (*this).coroutine, work, object);
            if step.is_null() {
                return Outcome::Ended(ptr::null_mut());
            }
            let outcome = GreenCoroutine::begin(step, thread, Self::take_bound(this, thread));
            if (*step).state == State::Created {
                // No stack was to be had. Nobody shall miss that it was not awaited.
                (*step).state = State::Ended;
                ffi::Py_DECREF(step.cast());
                return outcome;
            }
            Self::after_step(this, step, outcome)
        }
    }

    /// The stack to begin a step on, or null: any.
    #[inline(always)]
    unsafe fn take_bound(this: *mut Self, thread: *mut PyThreadState) -> *mut Activation {
        // SAFETY: as for `step`.
        unsafe {
            let bound = (*this).bound;
            if bound.is_null() || !Activation::belongs_to(bound, thread) {
                return ptr::null_mut();
            }
            (*this).bound = ptr::null_mut();
            bound
        }
    }

    /// Keeps the stack of a step that has ended, because greenlets on it live.
    ///
    /// # Safety
    ///
    /// The GIL is held, `this` is live, and nobody else refers to `stack`.
    pub unsafe fn bind(this: *mut Self, stack: *mut Activation) {
        // SAFETY: as above.
        unsafe {
            Self::unbind(this);
            (*this).bound = stack;
        }
    }

    /// Gives that stack back to its thread, if that is this one. Another thread's
    /// stays as it is, for ever: nothing on it can be ended from here.
    unsafe fn unbind(this: *mut Self) {
        // SAFETY: the GIL is held and `this` is live.
        unsafe {
            let bound = Self::take_bound(this, ffi::PyThreadState_Get());
            if !bound.is_null()
                && let Some(runtime) = Runtime::get()
            {
                if (*bound).carrier.is_null() {
                    runtime.pin(bound);
                } else {
                    carrier::dismiss(bound, runtime);
                }
            }
        }
    }

    /// Keeps a step that waits, and drops one that has ended.
    #[inline(always)]
    unsafe fn after_step(this: *mut Self, step: *mut GreenCoroutine, outcome: Outcome) -> Outcome {
        // SAFETY: as for `step`; the reference to `step` is the portal's.
        unsafe {
            (*this).waiting = step;
            match outcome {
                Outcome::Yielded(value) => Outcome::Yielded(value),
                // It was refused, by the wrong thread, and waits as before.
                Outcome::Ended(result) if (*step).state != State::Ended => Outcome::Ended(result),
                Outcome::Ended(result) => {
                    (*this).waiting = ptr::null_mut();
                    let yielded = (*step).yielded;
                    (*step).portal = ptr::null_mut();
                    if result.is_null() {
                        let exception = errors::take();
                        GreenCoroutine::drop_step(step);
                        errors::restore(exception);
                    } else {
                        GreenCoroutine::drop_step(step);
                    }
                    if yielded {
                        Outcome::Yielded(result)
                    } else {
                        Outcome::Ended(result)
                    }
                }
            }
        }
    }

    /// Ends the coroutine as `coroutine.close` does. False with an exception set
    /// when it could not be ended, or ended with another exception.
    unsafe fn close(this: *mut Self) -> bool {
        // SAFETY: the GIL is held; the caller holds `this`.
        unsafe {
            let thread = ffi::PyThreadState_Get();
            let outcome = if (*this).waiting.is_null() {
                Self::step(this, thread, Input::Close)
            } else {
                let exit = ffi::PyObject_CallNoArgs(ffi::PyExc_GeneratorExit);
                if exit.is_null() {
                    return false;
                }
                let outcome = Self::step(this, thread, Input::Exception(exit));
                ffi::Py_DECREF(exit);
                outcome
            };
            protocol::is_closed_by(outcome)
        }
    }
}

/// Steps or closes a portal's coroutine, on `stack`, which was taken for it. `yielded`
/// tells whether the result is what it yields, and not what it returns.
///
/// # Safety
///
/// The GIL is held, `stack` runs now, and all objects are live.
#[inline(always)]
pub unsafe fn step_coroutine(
    stack: *mut Activation,
    coroutine: *mut PyObject,
    work: Work,
    object: *mut PyObject,
    yielded: &mut bool,
) -> *mut PyObject {
    // SAFETY: as above. The portal holds the coroutine, and the step the object.
    unsafe {
        // A function that the coroutine awaits may share the stack: nobody else
        // stands between the two.
        let record = AwaitRecord {
            awaited: coroutine,
            args: ptr::null(),
            awaiter: ptr::null_mut(),
            owned: 0,
            outer: (*stack).awaits,
        };
        let kept = greenlet::keep(stack, &record);
        let mut result = ptr::null_mut();
        let status = if work == Work::Throw {
            throw_into(coroutine, object, &mut result)
        } else if work == Work::Close {
            close(coroutine, &mut result)
        } else {
            let methods = (*ffi::Py_TYPE(coroutine)).tp_as_async;
            let send = if methods.is_null() {
                None
            } else {
                (*methods).am_send
            };
            send.unwrap_or(ffi::PyIter_Send)(coroutine, object, &raw mut result)
        };
        greenlet::release(stack, &record, kept);
        *yielded = matches!(status, PySendResult::PYGEN_NEXT);
        result
    }
}

#[cold]
unsafe fn throw_into(
    coroutine: *mut PyObject,
    exception: *mut PyObject,
    result: &mut *mut PyObject,
) -> PySendResult {
    // SAFETY: the GIL is held and both objects are live.
    unsafe {
        let method = ffi::PyObject_GetAttrString(coroutine, c"throw".as_ptr());
        if method.is_null() {
            return PySendResult::PYGEN_ERROR;
        }
        *result = ffi::PyObject_CallOneArg(method, exception);
        ffi::Py_DECREF(method);
        if !result.is_null() {
            return PySendResult::PYGEN_NEXT;
        }
        *result = errors::take_stop_iteration();
        if result.is_null() {
            PySendResult::PYGEN_ERROR
        } else {
            PySendResult::PYGEN_RETURN
        }
    }
}

#[cold]
unsafe fn close(coroutine: *mut PyObject, result: &mut *mut PyObject) -> PySendResult {
    // SAFETY: the GIL is held and the object is live.
    unsafe {
        let method = ffi::PyObject_GetAttrString(coroutine, c"close".as_ptr());
        if !method.is_null() {
            *result = ffi::PyObject_CallNoArgs(method);
            ffi::Py_DECREF(method);
        }
        if result.is_null() {
            PySendResult::PYGEN_ERROR
        } else {
            PySendResult::PYGEN_RETURN
        }
    }
}

/// `current_portal()`: the innermost portal that drives the caller, or None.
pub unsafe extern "C" fn current_portal(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held; running stacks are live.
    unsafe {
        let mut found = ffi::Py_None();
        if let Some(runtime) = Runtime::get() {
            let mut stack = runtime.here();
            if !stack.is_null() && eager::is_foreign_step(stack) {
                stack = ptr::null_mut();
            }
            while !stack.is_null() {
                let portal = (*stack).portal();
                if !portal.is_null() {
                    found = portal.cast();
                    break;
                }
                stack = (*stack).driver;
            }
        }
        ffi::Py_NewRef(found)
    }
}

/// `can_withdraw(portal)`: whether the task's own coroutine can take the place of
/// the portal again. Not while synchronous code waits below the portal, or called
/// the caller: the coroutine is in the middle of a step then.
pub unsafe extern "C" fn can_withdraw(
    _module: *mut PyObject,
    portal: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held and a live object; running
    // stacks and their records are live.
    unsafe {
        if !check_exact(portal) {
            return raise(ffi::PyExc_TypeError, c"expected a PortalCoroutine");
        }
        let portal: *mut Portal = portal.cast();
        let can = if !(*portal).running {
            (*portal).waiting.is_null()
        } else {
            // The caller runs in the step itself, and nothing but `await`
            // statements lies between: the step's own record is the innermost.
            Runtime::get().is_some_and(|runtime| {
                let stack = runtime.here();
                !stack.is_null()
                    && (*stack).portal() == portal
                    && !(*stack).awaits.is_null()
                    && (*(*stack).awaits).awaited == (*portal).coroutine
            })
        };
        ffi::PyBool_FromLong(can.into())
    }
}
