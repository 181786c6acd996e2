//! Eager tasks of asyncio (3.12+), told apart from their parents.
//!
//! An eager task runs its first step inside `create_task`, on the stack of
//! whoever called that. If that is a green function and the new task's plain
//! coroutine reaches `await_`, the stack that would be suspended is not its
//! own: asyncio would be left in the middle of the task's first step.
//!
//! asyncio keeps a set of the tasks that are in such a step. It is empty nearly
//! always, and looking at its size costs a nanosecond; only when it is not are
//! current tasks compared.

use core::ptr;

use pyo3::ffi::{self, PyObject};

use crate::activation::Activation;

static mut EAGER_TASKS: *mut PyObject = ptr::null_mut();
static mut CURRENT_TASK: *mut PyObject = ptr::null_mut();

/// Whether some task is in its eager step.
#[inline]
unsafe fn any() -> bool {
    // SAFETY: the GIL is held; the set, once found, is never dropped.
    unsafe {
        if !cfg!(Py_3_12) {
            return false;
        }
        if EAGER_TASKS.is_null() && !find() {
            return false;
        }
        ffi::PySet_Size(EAGER_TASKS) > 0
    }
}

/// Finds asyncio's set, if asyncio is there. Never imports it, leaves no exception.
#[cold]
unsafe fn find() -> bool {
    // SAFETY: the GIL is held.
    unsafe {
        let modules = ffi::PyImport_GetModuleDict();
        let module = ffi::PyDict_GetItemString(modules, c"_asyncio".as_ptr());
        if module.is_null() {
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

/// The current task if it is in its eager step, borrowed from the loop, or null.
#[cold]
unsafe fn current() -> *mut PyObject {
    // SAFETY: the GIL is held; `any` has found both objects.
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

/// Notes that `stack` is resumed, perhaps by an eager task.
#[inline]
pub unsafe fn note_resumer(stack: *mut Activation) {
    // SAFETY: the GIL is held and the activation is live.
    unsafe { (*stack).eager_task = if any() { current() } else { ptr::null_mut() } }
}

/// Whether what wants to suspend `stack` now runs in an eager task that was
/// started on it, rather than in the task that resumed it.
#[inline]
pub unsafe fn is_foreign_step(stack: *mut Activation) -> bool {
    // SAFETY: the GIL is held and the activation is live.
    unsafe {
        if !any() {
            return false;
        }
        let task = current();
        !task.is_null() && task != (*stack).eager_task
    }
}
