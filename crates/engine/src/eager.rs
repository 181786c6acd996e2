//! Eager tasks of asyncio (3.12+), told apart from their parents.
//!
//! An eager task runs its first step inside `create_task`, on the stack of
//! whoever called that. If that is a green function and the new task's plain
//! coroutine reaches `await_`, the stack that would be suspended is not its
//! own: asyncio would be left in the middle of the task's first step. So what
//! suspends a stack must be the task that resumed it.
//!
//! From 3.14 on the current task is a field of the thread state: both sides
//! are compared at every switch. In 3.12 and 3.13 asking asyncio would cost
//! 18 ns, twice a step; but asyncio keeps a set of the tasks that are in such a
//! step, which is nearly always empty, and only when it is not are tasks
//! compared. 3.11 has no eager tasks. Where the thread state is not known neither
//! is asyncio's set, and asyncio is asked: greenlets cost more than that.

use pyo3::ffi::{self, PyThreadState};

use crate::activation::Activation;
use crate::greenlet::carrier;
use crate::runtime::Runtime;

/// Notes which task resumes `stack`.
///
/// # Safety
///
/// The GIL is held, `thread` is current, the activation is live.
#[inline]
pub unsafe fn note_resumer(stack: *mut Activation, thread: *mut PyThreadState) {
    // SAFETY: by contract. The task holds the stack's coroutine, and its loop
    // holds the task, for the time of the step.
    unsafe { (*stack).resumer = current_task(thread) }
}

/// Whether what wants to suspend `stack` now runs in another task than the one
/// that resumed the stack; or in a loop that the function runs itself; or, where
/// greenlets carry functions, in a greenlet that is none of this function's.
///
/// # Safety
///
/// The GIL is held and the activation is live.
#[inline]
pub unsafe fn is_foreign_step(stack: *mut Activation) -> bool {
    // SAFETY: by contract.
    unsafe {
        if !(*stack).inner_loop.is_null() {
            return true;
        }
        if carrier::is_chosen() && Runtime::get().is_none_or(|runtime| runtime.here() != stack) {
            return true;
        }
        // 3.11 has no eager tasks, and need not look up the thread.
        cfg!(Py_3_12) && current_task(ffi::PyThreadState_Get()) != (*stack).resumer
    }
}

#[cfg(all(Py_3_14, known_thread_state))]
use crate::thread_state::running_task as current_task;

#[cfg(not(Py_3_12))]
#[inline]
unsafe fn current_task(_thread: *mut PyThreadState) -> *mut pyo3::ffi::PyObject {
    core::ptr::null_mut()
}

#[cfg(all(Py_3_12, not(Py_3_14), known_thread_state))]
use by_set::current_task;

#[cfg(all(Py_3_12, not(known_thread_state)))]
use by_asking::current_task;

#[cfg(all(Py_3_12, not(Py_3_14), known_thread_state))]
mod by_set {
    use core::ptr;

    use pyo3::ffi::{self, PyObject, PyThreadState};

    static mut EAGER_TASKS: *mut PyObject = ptr::null_mut();
    static mut MODULE_NAME: *mut PyObject = ptr::null_mut();
    static mut CURRENT_TASK: *mut PyObject = ptr::null_mut();

    /// The current task if it is in its eager step, borrowed from its loop, or null.
    #[inline]
    pub unsafe fn current_task(_thread: *mut PyThreadState) -> *mut PyObject {
        // SAFETY: the GIL is held; the set, once found, is never dropped.
        unsafe {
            if (EAGER_TASKS.is_null() && !find()) || ffi::PySet_Size(EAGER_TASKS) == 0 {
                return ptr::null_mut();
            }
            ask()
        }
    }

    /// Finds asyncio's set, if asyncio is there. Never imports it, leaves no exception.
    #[cold]
    unsafe fn find() -> bool {
        // SAFETY: the GIL is held.
        unsafe {
            if MODULE_NAME.is_null() {
                MODULE_NAME = ffi::PyUnicode_InternFromString(c"_asyncio".as_ptr());
            }
            let modules = ffi::PyImport_GetModuleDict();
            let module = ffi::PyDict_GetItemWithError(modules, MODULE_NAME);
            if module.is_null() {
                ffi::PyErr_Clear();
                return false;
            }
            let tasks = ffi::PyObject_GetAttrString(module, c"_eager_tasks".as_ptr());
            let current = ffi::PyObject_GetAttrString(module, c"current_task".as_ptr());
            if tasks.is_null() || current.is_null() || ffi::PyAnySet_Check(tasks) == 0 {
                ffi::PyErr_Clear();
                ffi::Py_XDECREF(tasks);
                ffi::Py_XDECREF(current);
                return false;
            }
            CURRENT_TASK = current;
            EAGER_TASKS = tasks;
            true
        }
    }

    #[cold]
    unsafe fn ask() -> *mut PyObject {
        // SAFETY: the GIL is held; `find` has found both objects.
        unsafe {
            let task = ffi::PyObject_CallNoArgs(CURRENT_TASK);
            if task.is_null() {
                ffi::PyErr_Clear(); // no loop runs in this thread
                return task;
            }
            let eager = ffi::PySet_Contains(EAGER_TASKS, task);
            // The loop holds its current task for the time of the step.
            ffi::Py_DECREF(task);
            if eager < 0 {
                ffi::PyErr_Clear();
            }
            if eager == 1 { task } else { ptr::null_mut() }
        }
    }
}

#[cfg(all(Py_3_12, not(known_thread_state)))]
mod by_asking {
    use core::ptr;

    use pyo3::ffi::{self, PyObject, PyThreadState};

    /// `asyncio.events._get_running_loop` and `asyncio.current_task`, of the extension
    /// that has both.
    static mut FUNCTIONS: [*mut PyObject; 2] = [ptr::null_mut(); 2];

    /// The current task of the loop that runs, borrowed from that, or null.
    pub unsafe fn current_task(_thread: *mut PyThreadState) -> *mut PyObject {
        // SAFETY: the GIL is held; the functions, once found, are never dropped.
        unsafe {
            if FUNCTIONS[0].is_null() && !find() {
                return ptr::null_mut();
            }
            let [get_running_loop, get_current_task] = FUNCTIONS;
            let running = ffi::PyObject_CallNoArgs(get_running_loop);
            let mut task = ptr::null_mut();
            // Without a loop the other function would raise an error.
            if !running.is_null() && running != ffi::Py_None() {
                task = ffi::PyObject_CallOneArg(get_current_task, running);
            }
            ffi::Py_XDECREF(running);
            if task.is_null() {
                ffi::PyErr_Clear();
                return task;
            }
            // The loop holds its current task for the time of the step.
            ffi::Py_DECREF(task);
            if task == ffi::Py_None() {
                return ptr::null_mut();
            }
            task
        }
    }

    /// Never imports asyncio, leaves no exception.
    #[cold]
    unsafe fn find() -> bool {
        // SAFETY: the GIL is held.
        unsafe {
            let modules = ffi::PyImport_GetModuleDict();
            let module = ffi::PyDict_GetItemString(modules, c"_asyncio".as_ptr());
            if module.is_null() {
                return false;
            }
            let found = [c"_get_running_loop", c"current_task"]
                .map(|name| ffi::PyObject_GetAttrString(module, name.as_ptr()));
            if found.iter().any(|function| function.is_null()) {
                ffi::PyErr_Clear();
                for function in found {
                    ffi::Py_XDECREF(function);
                }
                return false;
            }
            FUNCTIONS = found;
            true
        }
    }
}
