//! The second engine: functions on greenlets in place of native stacks.
//!
//! Slower, and right wherever greenlet itself is: chosen when greenlet can't be
//! told about native stacks (it is loaded, and its state of a thread was not
//! found), when the interpreter's thread state is not known, or by
//! `VERDIGRIS_ENGINE=greenlet`. All else stays as it is: an
//! [`Activation`], in memory of its own, is a function that runs or waits, and a
//! [`Carrier`] is what takes the place of its native stack.
//!
//! Each function has a greenlet, its base. Functions may make greenlets of their
//! own below it and wait in them; what waits, and is switched to next, is noted at
//! each wait. A switch of ours is announced by a flag on either side. When
//! somebody else's switch leads into a function that waits, or out of one that
//! runs, it is answered by `greenlet.error` where the running function is. So
//! greenlets of any origin can do no more harm than raise that.

pub mod collecting;
mod pool;

use core::cell::Cell;
use core::ffi::CStr;
use core::ptr;

use pyo3::ffi::{self, PyObject, PyThreadState};

use super::api::{self, Api};
use crate::activation::{Activation, Incoming, Outcome};
use crate::coroutine::{GreenCoroutine, State};
use crate::errors::{self, raise};
use crate::portal::Portal;
use crate::runtime::{self, Runtime};
use crate::thread_state::{self, DriverState};

pub use pool::OfThread;
use pool::{NAME, give, take};

/// Guarded by the GIL.
static mut CHOSEN: bool = false;

/// Whether functions run on greenlets.
#[inline(always)]
pub fn is_chosen() -> bool {
    // SAFETY: the GIL is held.
    unsafe { CHOSEN }
}

/// How often a driver answers switches of others before it gives the function up.
const MOST_ANSWERS: u32 = 3;

/// What carries one function after the other. It is never freed while its thread
/// lives: C frames of forgotten greenlets may still refer to it.
pub struct Carrier {
    /// Calls [`run`]: what new greenlets are made of.
    entry: *mut PyObject,
    /// The function's greenlet; null between two functions.
    base: *mut PyObject,
    /// How many references there were to that when the function began: with more,
    /// somebody has a greenlet below it.
    references: ffi::Py_ssize_t,
    /// The greenlet that waits, if the function does.
    waiting: *mut PyObject,
    /// The greenlet that resumed it, while it runs.
    driver: *mut PyObject,
    driver_state: DriverState,
    /// Announces a switch to the function.
    coming: Cell<bool>,
    /// Announces a switch to the driver.
    going: Cell<bool>,
    /// What the function raised.
    raised: *mut PyObject,
    /// The function has ended, and its greenlet is kept: others refer to it.
    rests: bool,
    /// A resting greenlet shall end.
    dismissed: bool,
}

/// `use_greenlet()`: functions run on greenlets from now on.
pub unsafe extern "C" fn choose(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        if !CHOSEN {
            if runtime::count_native_in_use() > 0 {
                return raise(
                    ffi::PyExc_RuntimeError,
                    c"functions run or wait on native stacks already; choose the engine before the first of them, by VERDIGRIS_ENGINE=greenlet in the environment",
                );
            }
            if !api::load() {
                return raise(
                    ffi::PyExc_ImportError,
                    c"the greenlet that is loaded has no C interface that verdigris knows; use a release of greenlet from 2.0.2 on",
                );
            }
            thread_state::stop_linking_frames();
            thread_state::carry_with(api().get_current);
            CHOSEN = true;
            super::IS_MET = true;
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// `unwind_waiting()`: ends the functions that wait on this thread, as if nobody held
/// them any more. greenlet switches no more while the interpreter ends.
pub unsafe extern "C" fn unwind_waiting(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held. A function that waits has a live
    // coroutine; ending one may end others, and start some.
    unsafe {
        if let Some(runtime) = Runtime::get() {
            let all = runtime.carried.all.take();
            runtime.carried.all.set(all.clone());
            for this in all {
                let coroutine = (*this).coroutine;
                if !coroutine.is_null()
                    && (*coroutine).state == State::Suspended
                    && !(*coroutine).left_behind
                {
                    ffi::Py_INCREF(coroutine.cast());
                    GreenCoroutine::abandon(coroutine);
                    ffi::Py_DECREF(coroutine.cast());
                }
            }
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

fn api() -> Api {
    // Looked up before the engine was chosen.
    api::get().unwrap_or_else(|| unreachable!("greenlet's functions were found"))
}

/// The function that runs in the current greenlet, or null. Switches of others may
/// lead from one function into another, and out of all of them.
///
/// # Safety
///
/// The GIL is held, and greenlets were chosen.
pub unsafe fn here(runtime: &Runtime) -> *mut Activation {
    let running = runtime.carried.running.take();
    let mut found = ptr::null_mut();
    if !running.is_empty() {
        // SAFETY: by contract; activations are never freed.
        unsafe {
            let api = api();
            let mut greenlet = (api.get_current)();
            while !greenlet.is_null() {
                ffi::Py_DECREF(greenlet); // held by those below it
                let runs = |this: &*mut Activation| (*(**this).carrier).base == greenlet;
                if let Some(this) = running.iter().copied().rfind(|this| runs(this)) {
                    found = this;
                    break;
                }
                greenlet = (api.get_parent)(greenlet);
            }
            if found.is_null() {
                ffi::PyErr_Clear();
            }
        }
    }
    runtime.carried.running.set(running);
    found
}

/// Whether other greenlets than its first one may be in the function that runs.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn has_others(stack: *mut Activation) -> bool {
    // SAFETY: activations are never freed, and a running one has a greenlet.
    unsafe {
        if stack.is_null() || (*(*stack).carrier).base.is_null() {
            return false;
        }
        let carrier = (*stack).carrier;
        ffi::Py_REFCNT((*carrier).base) > (*carrier).references
    }
}

/// Takes a greenlet for `coroutine`'s function, or the resting one in `bound`.
///
/// # Errors
///
/// Null with an exception set.
///
/// # Safety
///
/// As for `activation::start`.
#[cold]
pub unsafe fn start(
    runtime: &Runtime,
    thread: *mut PyThreadState,
    coroutine: *mut GreenCoroutine,
    bound: *mut Activation,
) -> Result<*mut Activation, *mut PyObject> {
    // SAFETY: by contract.
    unsafe {
        let this = if bound.is_null() {
            take(runtime, thread)?
        } else {
            bound
        };
        let carrier = (*this).carrier;
        if (*carrier).base.is_null() {
            (*carrier).base = (api().new)((*carrier).entry, ptr::null_mut());
            if (*carrier).base.is_null() {
                give(runtime, this);
                return Err(ptr::null_mut());
            }
            if cfg!(Py_3_15) {
                // There greenlet visits the frames of greenlets that wait, and counts these as
                // alive. The coroutine visits them: once is right, and lets the function go.
                ffi::PyObject_GC_UnTrack((*carrier).base.cast());
            }
        } else if !adopt(this) {
            Portal::bind((*coroutine).portal, this);
            return Err(ptr::null_mut());
        }
        (*this).reset(coroutine);
        (*carrier).rests = false;
        runtime.carried.count(1);
        Ok(this)
    }
}

/// Puts the function's greenlet below the current one, where it ends. False with an
/// exception set: the current one is below it.
///
/// # Safety
///
/// The GIL is held; the function waits, on this thread.
#[cold]
pub unsafe fn adopt(this: *mut Activation) -> bool {
    // SAFETY: by contract.
    unsafe {
        let api = api();
        let base = (*(*this).carrier).base;
        let current = (api.get_current)();
        if current.is_null() {
            return false;
        }
        let adopted = set_parent(api, base, current);
        ffi::Py_DECREF(current);
        adopted
    }
}

unsafe fn set_parent(api: Api, greenlet: *mut PyObject, parent: *mut PyObject) -> bool {
    // SAFETY: the GIL is held, and the objects are live.
    unsafe {
        let before = (api.get_parent)(greenlet);
        ffi::Py_XDECREF(before);
        before == parent || (api.set_parent)(greenlet, parent) == 0
    }
}

const WRONG_SWITCH: &CStr = c"a function of async_def() or a portal is left and resumed by await_() only: greenlet's switch() can't lead out of one that runs, or into one that waits";

/// Answers a switch that leads where only ours may lead: raises `greenlet.error` in
/// `target`. Returns what comes of it: the next switch to the caller.
#[cold]
unsafe fn answer(api: Api, target: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held, and `target` is live.
    unsafe {
        let text = ffi::PyUnicode_FromString(WRONG_SWITCH.as_ptr());
        let result = (api.throw)(target, api.error, text, ptr::null_mut());
        ffi::Py_XDECREF(text);
        result
    }
}

/// The thread's main greenlet: a new reference.
unsafe fn main_greenlet(api: Api) -> *mut PyObject {
    // SAFETY: the GIL is held; each greenlet holds its parent.
    unsafe {
        let mut greenlet = (api.get_current)();
        loop {
            let parent = (api.get_parent)(greenlet);
            if parent.is_null() {
                ffi::PyErr_Clear();
                return greenlet;
            }
            ffi::Py_DECREF(greenlet);
            greenlet = parent;
        }
    }
}

unsafe fn forget(result: *mut PyObject) {
    // SAFETY: the GIL is held; the reference is given away.
    unsafe {
        if result.is_null() {
            ffi::PyErr_Clear();
        } else {
            ffi::Py_DECREF(result);
        }
    }
}

/// As `Activation::resume`.
///
/// # Safety
///
/// As there; the function's greenlet was adopted.
#[cold]
pub unsafe fn resume(
    this: *mut Activation,
    runtime: &Runtime,
    thread: *mut PyThreadState,
) -> Outcome {
    // SAFETY: by contract. What both sides write lies in memory of its own, since
    // greenlet moves C frames. Values in this frame come back with it.
    unsafe {
        let api = api();
        let carrier = (*this).carrier;
        thread_state::carry_park(thread, (*this).state(), &raw mut (*carrier).driver_state);
        (*carrier).driver = (api.get_current)();
        (*this).driver = here(runtime);
        let mut running = runtime.carried.running.take();
        running.push(this);
        runtime.carried.running.set(running);
        (*carrier).coming.set(true);
        let waiting = core::mem::replace(&mut (*carrier).waiting, ptr::null_mut());
        let target = if waiting.is_null() {
            ffi::Py_NewRef((*carrier).base)
        } else {
            waiting
        };
        let mut result = (api.switch)(target, ptr::null_mut(), ptr::null_mut());
        ffi::Py_DECREF(target);
        let mut answers = 0;
        while !(*carrier).going.get() && !(*carrier).coming.get() {
            forget(result);
            if answers == MOST_ANSWERS {
                return give_up(this, runtime);
            }
            answers += 1;
            let base = ffi::Py_NewRef((*carrier).base);
            result = answer(api, base);
            ffi::Py_DECREF(base);
        }
        end_step(this, runtime);
        if (*carrier).coming.replace(false) {
            // It could not be switched to, and an exception says why.
            thread_state::carry_let_go((*this).state());
            thread_state::carry_back((*this).state());
            if !result.is_null() {
                ffi::Py_DECREF(result);
                raise(
                    ffi::PyExc_RuntimeError,
                    c"the greenlet of the function has ended",
                );
            }
            runtime.carried.count(-1);
            (*this).forget_coroutine();
            return Outcome::Ended(ptr::null_mut());
        }
        (*carrier).going.set(false);
        thread_state::carry_back((*this).state());
        forget(result);
        let outgoing = (*this).outgoing();
        if !Activation::has_ended(this) {
            return Outcome::Yielded(outgoing);
        }
        runtime.carried.count(-1);
        let raised = core::mem::replace(&mut (*carrier).raised, ptr::null_mut());
        if (*carrier).rests {
            Portal::bind((*(*this).coroutine).portal, this);
        } else {
            put_away(runtime, this);
        }
        if !raised.is_null() {
            errors::restore(raised);
        }
        Outcome::Ended(outgoing)
    }
}

unsafe fn end_step(this: *mut Activation, runtime: &Runtime) {
    let mut running = runtime.carried.running.take();
    running.retain(|other| *other != this);
    runtime.carried.running.set(running);
    // SAFETY: the GIL is held.
    unsafe {
        (*this).driver = ptr::null_mut();
        ffi::Py_CLEAR(&raw mut (*(*this).carrier).driver);
    }
}

/// A function that was left by others' switches, and does not come back. It stays
/// where it is, for ever.
#[cold]
unsafe fn give_up(this: *mut Activation, runtime: &Runtime) -> Outcome {
    // SAFETY: as for `resume`.
    unsafe {
        end_step(this, runtime);
        thread_state::carry_let_go((*this).state());
        thread_state::carry_back((*this).state());
        GreenCoroutine::tear((*this).coroutine);
        (*this).forget_coroutine();
        leak(true);
        Outcome::Ended(raise(api().error, WRONG_SWITCH))
    }
}

unsafe fn put_away(runtime: &Runtime, this: *mut Activation) {
    // SAFETY: the GIL is held; its function and its greenlet have ended.
    unsafe {
        (*this).forget_coroutine();
        ffi::Py_CLEAR(&raw mut (*(*this).carrier).base);
        give(runtime, this);
    }
}

/// As `Activation::suspend`.
///
/// # Safety
///
/// As there; `this` is the function that runs in the current greenlet.
#[cold]
pub unsafe fn suspend(this: *mut Activation) -> Result<(), Incoming> {
    // SAFETY: by contract.
    unsafe {
        if collecting::is_here() {
            collecting::refuse();
            return Err(Incoming::Exception(errors::take()));
        }
        let api = api();
        let thread = ffi::PyThreadState_Get();
        let carrier = (*this).carrier;
        let current = (api.get_current)();
        let is_base = (current == (*carrier).base).into();
        (*carrier).waiting = current;
        let driver_state = &raw mut (*carrier).driver_state;
        thread_state::carry_leave(thread, (*this).state(), driver_state, is_base);
        (*carrier).going.set(true);
        let result = (api.switch)((*carrier).driver, ptr::null_mut(), ptr::null_mut());
        if (*carrier).going.get() {
            // It could not be switched to. The function gets the reason.
            (*carrier).going.set(false);
            ffi::Py_CLEAR(&raw mut (*carrier).waiting);
            thread_state::carry_arrive(thread, (*this).state(), driver_state, is_base);
            return Err(Incoming::Exception(errors::take()));
        }
        if !wait_until_coming(this, result) {
            return Err(Incoming::Exception(errors::take()));
        }
        thread_state::carry_arrive(thread, (*this).state(), driver_state, is_base);
        Ok(())
    }
}

fn innermost_running() -> Option<*mut Activation> {
    let carried = &Runtime::get()?.carried;
    let running = carried.running.take();
    let last = running.last().copied();
    carried.running.set(running);
    last
}

/// Answers whatever else leads here. False with an exception set: the greenlet is
/// killed, and the function waits for it no more.
unsafe fn wait_until_coming(this: *mut Activation, result: *mut PyObject) -> bool {
    // SAFETY: the GIL is held; this greenlet is one of the function's.
    unsafe {
        let api = api();
        let carrier = (*this).carrier;
        let current = (api.get_current)();
        ffi::Py_XDECREF(current); // it is the current one, and thus held
        let mut result = result;
        let mut answered = false;
        while !(*carrier).coming.get() {
            if result.is_null() && (*carrier).waiting != current && (*carrier).base != current {
                return false;
            }
            forget(result);
            // Most likely it is the function that runs; if not, the main greenlet
            // listens, or gives up.
            let target = match innermost_running() {
                Some(running) if !answered && running != this => {
                    ffi::Py_NewRef((*(*running).carrier).base)
                }
                _ => main_greenlet(api),
            };
            answered = true;
            result = answer(api, target);
            ffi::Py_DECREF(target);
        }
        (*carrier).coming.set(false);
        forget(result);
        true
    }
}

// A thread that is ended inside of the function (`pthread_exit`, which CPython calls on
// daemon threads when it ends itself) is unwound. What lies outside of a greenlet's
// first frame is whatever was there last, so the unwinder is told that the stack
// ends here: a return address that is undefined. Elsewhere than on Linux a thread
// ends without unwinding.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
core::arch::global_asm!(
    ".pushsection .text.verdigris_enter_greenlet,\"ax\",@progbits",
    ".type verdigris_enter_greenlet, @function",
    "verdigris_enter_greenlet:",
    ".cfi_startproc",
    ".cfi_undefined rip",
    "push rbp",
    ".cfi_adjust_cfa_offset 8",
    "call {run}",
    "pop rbp",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".size verdigris_enter_greenlet, . - verdigris_enter_greenlet",
    ".popsection",
    run = sym run,
);

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
core::arch::global_asm!(
    ".pushsection .text.verdigris_enter_greenlet,\"ax\",@progbits",
    ".type verdigris_enter_greenlet, @function",
    "verdigris_enter_greenlet:",
    ".cfi_startproc",
    ".cfi_undefined x30",
    "stp x29, x30, [sp, #-16]!",
    ".cfi_adjust_cfa_offset 16",
    "mov x29, sp",
    "bl {run}",
    "ldp x29, x30, [sp], #16",
    ".cfi_adjust_cfa_offset -16",
    "ret",
    ".cfi_endproc",
    ".size verdigris_enter_greenlet, . - verdigris_enter_greenlet",
    ".popsection",
    run = sym run,
);

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
unsafe extern "C" {
    #[link_name = "verdigris_enter_greenlet"]
    fn enter(capsule: *mut PyObject, args: *mut PyObject) -> *mut PyObject;
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
use run as enter;

unsafe extern "C" fn run(capsule: *mut PyObject, _args: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by greenlet with the GIL held, when `resume` has switched to a
    // new greenlet; the activation outlives it.
    unsafe {
        let this: *mut Activation = ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()).cast();
        let carrier = (*this).carrier;
        let thread = ffi::PyThreadState_Get();
        let api = api();
        wait_until_coming(this, ffi::Py_NewRef(ffi::Py_None()));
        (*carrier).references = ffi::Py_REFCNT((*carrier).base);
        while !(*carrier).dismissed {
            let driver_state = &raw const (*carrier).driver_state;
            thread_state::carry_begin(thread, (*this).state(), driver_state);
            let result = GreenCoroutine::run_work((*this).coroutine);
            if result.is_null() {
                (*carrier).raised = errors::take();
            }
            if (*carrier).driver.is_null() {
                // It waits, in another greenlet, and was led to its end by somebody
                // else's switch. Its end must wait.
                let waiting =
                    core::mem::replace(&mut (*carrier).waiting, ffi::Py_NewRef((*carrier).base));
                thread_state::carry_note_frames(thread, (*this).state());
                ffi::Py_XDECREF(waiting);
                wait_until_coming(this, ffi::Py_NewRef(ffi::Py_None()));
                (*this).drop_incoming();
            }
            (*this).end_with(result);
            thread_state::carry_end(thread, (*this).state());
            (*carrier).going.set(true);
            // Greenlets that were made here come back here, in a later step of the
            // same task.
            (*carrier).rests = !(*(*this).coroutine).portal.is_null() && has_others(this);
            if !(*carrier).rests {
                break;
            }
            let result = (api.switch)((*carrier).driver, ptr::null_mut(), ptr::null_mut());
            wait_until_coming(this, result);
        }
        if (*carrier).dismissed {
            (*this).end_with(ptr::null_mut());
            (*carrier).going.set(true);
        }
        // The function may have put its greenlet elsewhere.
        if !set_parent(api, (*carrier).base, (*carrier).driver) {
            ffi::PyErr_Clear();
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// Ends a greenlet that rests, on this thread.
///
/// # Safety
///
/// The GIL is held.
#[cold]
pub unsafe fn dismiss(this: *mut Activation, runtime: &Runtime) {
    // SAFETY: nobody but the portal knew of it.
    unsafe {
        let carrier = (*this).carrier;
        if !adopt(this) {
            // It can't end below itself. Nothing runs on it any more.
            return ffi::PyErr_Clear();
        }
        (*this).reset(ptr::null_mut());
        (*carrier).rests = false;
        (*carrier).dismissed = true;
        runtime.carried.count(1);
        let ended = resume(this, runtime, ffi::PyThreadState_Get());
        debug_assert!(matches!(ended, Outcome::Ended(_)));
        (*carrier).dismissed = false;
    }
}

/// A function that can't be unwound stays as it is, for ever.
pub fn leak(same_thread: bool) {
    if same_thread && let Some(runtime) = Runtime::get() {
        runtime.carried.count_leaked();
    }
}
