//! Whether the caller can wait without blocking a loop, and with which reactor.

use core::ptr;

use pyo3::ffi::{self, PyObject};

use super::{Reactor, inner_loop};
use crate::activation::Activation;
use crate::runtime::Runtime;
use crate::{coroutine, eager};

/// The package's function that finds or makes the reactor of the loop that runs: it
/// returns a reactor or None.
static mut FINDER: *mut PyObject = ptr::null_mut();

/// `asyncio._get_running_loop`, once asyncio is there.
static mut GET_RUNNING_LOOP: *mut PyObject = ptr::null_mut();
/// `trio.lowlevel.in_trio_task` and `current_trio_token`, once Trio is there.
static mut TRIO: [*mut PyObject; 2] = [ptr::null_mut(); 2];

static mut NAMES: [*mut PyObject; 2] = [ptr::null_mut(); 2];

/// `_register_reactor_finder(fn)`.
pub unsafe extern "C" fn register_finder(
    _module: *mut PyObject,
    finder: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        let old = FINDER;
        FINDER = ffi::Py_NewRef(finder);
        ffi::Py_XDECREF(old);
        NAMES = [c"_asyncio", c"trio.lowlevel"]
            .map(|name| ffi::PyUnicode_InternFromString(name.as_ptr()));
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// A function that waits, and the reactor of its loop.
pub struct Here {
    pub stack: *mut Activation,
    pub reactor: *mut Reactor,
}

impl Here {
    /// Whether the innermost code here is a function's, and not async code that one awaits.
    ///
    /// # Safety
    ///
    /// The GIL is held, and the caller is here.
    #[inline]
    pub unsafe fn is_in_sync_code(&self) -> bool {
        // SAFETY: by contract; records are live while the stack runs.
        unsafe {
            let awaits = (*self.stack).awaits;
            awaits.is_null() || coroutine::check_exact((*awaits).awaited)
        }
    }
}

/// Where the caller can wait, if it can. No exception is left set.
///
/// Which loop runs is asked once a step, if that: up to 3.11 asyncio makes a system call
/// to answer. After a wait of ours that is over the step was made by the same loop.
///
/// # Safety
///
/// The GIL is held.
#[inline]
pub unsafe fn find() -> Option<Here> {
    // SAFETY: by contract; a current stack is live.
    unsafe {
        let runtime = Runtime::get()?;
        let stack = runtime.here();
        if stack.is_null() {
            return None;
        }
        let reactor = if !(*stack).inner_loop.is_null() {
            inner_loop::reactor_outside(stack)
        } else if eager::is_foreign_step(stack) {
            return None;
        } else {
            let known = (*stack).reactor_in_this_step();
            // A fork's child goes on in the middle of a step.
            if !known.is_null() && (*known).is_open() {
                return Some(Here {
                    stack,
                    reactor: known,
                });
            }
            let found = find_reactor(runtime);
            (*stack).remember_reactor(found);
            found
        };
        (!reactor.is_null()).then_some(Here { stack, reactor })
    }
}

/// The reactor of the loop that runs, borrowed from the runtime, or null.
unsafe fn find_reactor(runtime: &Runtime) -> *mut Reactor {
    // SAFETY: the GIL is held.
    unsafe {
        let key = running();
        if key.is_null() {
            return ptr::null_mut();
        }
        let known = runtime.reactor.get();
        let found = if !known.is_null() && (*known).is_of(key) && (*known).is_open() {
            known
        } else {
            ask(runtime)
        };
        ffi::Py_DECREF(key);
        found
    }
}

/// The loop that runs, or the token of the Trio run that does: a new reference, or null.
unsafe fn running() -> *mut PyObject {
    // SAFETY: the GIL is held. Errors mean that nothing runs.
    unsafe {
        // Asked first: in guest mode Trio runs inside a running asyncio loop.
        if TRIO[0].is_null() && is_loaded(NAMES[1]) {
            TRIO = functions(NAMES[1], [c"in_trio_task", c"current_trio_token"]);
        }
        if !TRIO[0].is_null() {
            let inside = call_uninterrupted(TRIO[0]);
            if !inside.is_null() {
                let is_task = inside == ffi::Py_True();
                ffi::Py_DECREF(inside);
                if is_task {
                    return call_uninterrupted(TRIO[1]);
                }
            }
        }
        if GET_RUNNING_LOOP.is_null() {
            if !is_loaded(NAMES[0]) {
                return ptr::null_mut();
            }
            [GET_RUNNING_LOOP] = functions(NAMES[0], [c"_get_running_loop"]);
            if GET_RUNNING_LOOP.is_null() {
                return ptr::null_mut();
            }
        }
        let running = ffi::PyObject_CallNoArgs(GET_RUNNING_LOOP);
        if running.is_null() {
            ffi::PyErr_Clear();
        } else if running == ffi::Py_None() {
            ffi::Py_DECREF(running);
            return ptr::null_mut();
        }
        running
    }
}

/// Calls a function of Python's: a new reference, or null when it fails. A Ctrl-C that comes
/// meanwhile comes again, to be raised where the program is or waits.
unsafe fn call_uninterrupted(function: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held, and `function` is live.
    unsafe {
        let mut was_interrupted = false;
        let result = loop {
            let result = ffi::PyObject_CallNoArgs(function);
            if !result.is_null() {
                break result;
            }
            let interrupted = ffi::PyErr_ExceptionMatches(ffi::PyExc_KeyboardInterrupt) != 0;
            ffi::PyErr_Clear();
            if !interrupted {
                break result;
            }
            was_interrupted = true;
        };
        if was_interrupted {
            ffi::PyErr_SetInterrupt();
        }
        result
    }
}

unsafe fn is_loaded(name: *mut PyObject) -> bool {
    // SAFETY: the GIL is held; before the finder is registered there is no name.
    unsafe {
        !name.is_null()
            && !ffi::PyDict_GetItemWithError(ffi::PyImport_GetModuleDict(), name).is_null()
    }
}

/// Functions of a module that is loaded, or null for all. Never imports it.
unsafe fn functions<const N: usize>(
    module: *mut PyObject,
    names: [&core::ffi::CStr; N],
) -> [*mut PyObject; N] {
    // SAFETY: the GIL is held. Functions, once found, are never dropped.
    unsafe {
        let module = ffi::PyDict_GetItemWithError(ffi::PyImport_GetModuleDict(), module);
        let found = names.map(|name| ffi::PyObject_GetAttrString(module, name.as_ptr()));
        if found.iter().any(|function| function.is_null()) {
            // It is being imported right now.
            ffi::PyErr_Clear();
            for function in found {
                ffi::Py_XDECREF(function);
            }
            return [ptr::null_mut(); N];
        }
        found
    }
}

#[cold]
unsafe fn ask(runtime: &Runtime) -> *mut Reactor {
    // SAFETY: the GIL is held.
    unsafe {
        if FINDER.is_null() {
            return ptr::null_mut();
        }
        let mut was_interrupted = false;
        let found = loop {
            let found = ffi::PyObject_CallNoArgs(FINDER);
            if !found.is_null() {
                break found;
            }
            if ffi::PyErr_ExceptionMatches(ffi::PyExc_KeyboardInterrupt) == 0 {
                ffi::PyErr_WriteUnraisable(FINDER);
                return ptr::null_mut();
            }
            ffi::PyErr_Clear();
            was_interrupted = true;
        };
        if was_interrupted {
            // Who asked cannot raise it. It comes again, to be raised where the program
            // is or waits.
            ffi::PyErr_SetInterrupt();
        }
        let reactor: *mut Reactor = found.cast();
        if !super::check_exact(found) || !(*reactor).is_open() {
            ffi::Py_DECREF(found);
            return ptr::null_mut();
        }
        // Kept by the package, as long as the loop lives.
        runtime.reactor.set(reactor);
        ffi::Py_DECREF(found);
        reactor
    }
}

/// A reactor ends: no thread may find it again.
///
/// # Safety
///
/// The GIL is held.
pub unsafe fn forget_reactor(reactor: *mut Reactor) {
    // SAFETY: by contract.
    unsafe {
        crate::runtime::for_each(|runtime| {
            if runtime.reactor.get() == reactor {
                runtime.reactor.set(ptr::null_mut());
            }
        });
    }
}

/// `is_green()`.
pub unsafe extern "C" fn is_green(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe { ffi::PyBool_FromLong(find().is_some().into()) }
}

/// `starts_green_threads()`: whether the innermost code here is a sync function that
/// runs green. Async code that such a function awaits or runs in a loop of its own, or
/// that has a portal, is not: the threads that it starts are its loop's workers.
pub unsafe extern "C" fn starts_green_threads(
    _module: *mut PyObject,
    _: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held; records are live while the stack runs.
    unsafe {
        let starts = find().is_some_and(|here| {
            let stack = here.stack;
            (*(*stack).innermost).portal.is_null()
                && (*stack).inner_loop.is_null()
                && here.is_in_sync_code()
        });
        ffi::PyBool_FromLong(starts.into())
    }
}

/// What stands for the function that runs here: the coroutine at the base of its stack,
/// or the portal of its task, borrowed; null on a thread's own stack.
///
/// # Safety
///
/// The GIL is held.
#[inline]
pub unsafe fn identity() -> *mut PyObject {
    // SAFETY: by contract; a current stack is live, and so is what it runs.
    unsafe {
        let Some(runtime) = Runtime::get() else {
            return ptr::null_mut();
        };
        let stack = runtime.here();
        if stack.is_null() {
            return ptr::null_mut();
        }
        let coroutine = (*stack).coroutine;
        let portal = (*coroutine).portal;
        if portal.is_null() {
            coroutine.cast()
        } else {
            portal.cast()
        }
    }
}

/// The number that threads and functions are told apart by.
///
/// # Safety
///
/// The GIL is held.
#[inline]
pub unsafe fn ident() -> usize {
    // SAFETY: by contract.
    unsafe {
        let function = identity();
        if function.is_null() {
            ffi::PyThread_get_thread_ident() as usize
        } else {
            function as usize
        }
    }
}

/// `current()`.
pub unsafe extern "C" fn current(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        let function = identity();
        ffi::Py_NewRef(if function.is_null() {
            ffi::Py_None()
        } else {
            function
        })
    }
}

/// `get_ident()`.
pub unsafe extern "C" fn get_ident(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe { ffi::PyLong_FromSize_t(ident()) }
}
