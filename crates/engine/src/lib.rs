//! `verdigris._engine`: synchronous Python functions on native stacks of their
//! own, which can wait inside any event loop that drives coroutines.
//!
//! - [`coroutine`]: what `async_def` returns, a coroutine in every respect;
//! - [`portal`]: a coroutine whose steps run on such stacks, so that any task can
//!   wait from synchronous code; [`task_field`] puts it into a running task;
//! - [`protocol`]: the slots and methods that both have in common;
//! - [`await_`]: waiting from synchronous code; [`block`]: calling what may have to
//!   be waited for;
//! - [`activation`]: one function on one stack, from start to end;
//! - [`runtime`]: what is kept for each thread;
//! - [`thread_state`]: `CPython`'s thread state around a switch, in C;
//! - [`greenlet`]: living with the extension of that name, and the second engine on
//!   it;
//! - [`reactor`]: waiting for descriptors, times and each other in an event loop;
//!   [`green`]: the locks, sleep and sockets that wait with it;
//! - [`watch`]: what functions wait for, since when, and their steps;
//! - [`eager`], [`no_context`], [`errors`]: the cases that are refused, and how.

mod activation;
mod arguments;
mod atomic;
mod await_;
mod await_iterator;
mod block;
mod coroutine;
mod eager;
mod errno;
mod errors;
mod green;
mod greenlet;
mod no_context;
mod places;
mod portal;
mod protocol;
mod reactor;
mod runtime;
mod tables;
mod task_field;
mod thread_state;
mod watch;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use runtime::Runtime;
use tables::{Table, method};

/// The extension module.
#[pymodule(name = "_engine")]
fn engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // SAFETY: the GIL is held; each returned object is a new reference.
    unsafe {
        if thread_state::init() < 0 {
            return Err(PyErr::fetch(py));
        }
        let class = Bound::from_owned_ptr_or_err(py, coroutine::make_type())?;
        module.add("GreenCoroutine", class)?;
        let class = Bound::from_owned_ptr_or_err(py, portal::make_type())?;
        module.add("PortalCoroutine", class)?;
        // Kept alive by its static; nobody needs its name.
        Bound::from_owned_ptr_or_err(py, await_iterator::make_type())?
            .unbind()
            .into_ptr();
        Bound::from_owned_ptr_or_err(py, reactor::make_waiter_type())?
            .unbind()
            .into_ptr();
        let class = Bound::from_owned_ptr_or_err(py, reactor::make_type())?;
        module.add("Reactor", class)?;
        let class = Bound::from_owned_ptr_or_err(py, green::lock::make_type())?;
        module.add("Lock", class)?;
        let class = Bound::from_owned_ptr_or_err(py, green::rlock::make_type())?;
        module.add("RLock", class)?;
        reactor::count_forks();
        if !(green::sleep::init() && green::polled::init() && green::in_turn::make_type()) {
            return Err(PyErr::fetch(py));
        }
        let methods = Bound::from_owned_ptr_or_err(py, green::socket::make_methods())?;
        module.add("SOCKET_METHODS", methods)?;
        for (name, class) in errors::make_types().ok_or_else(|| PyErr::fetch(py))? {
            module.add(name, Bound::from_borrowed_ptr(py, class))?;
        }
        if ffi::PyModule_AddFunctions(module.as_ptr(), FUNCTIONS.0.as_ptr().cast_mut()) < 0 {
            return Err(PyErr::fetch(py));
        }
    }
    module.add_function(wrap_pyfunction!(stats, module)?)?;
    module.add("knows_thread_state", thread_state::IS_KNOWN)?;
    // PyO3 lists what was added through it, which is not all there is.
    module.delattr("__all__")
}

/// The functions that may switch stacks are raw: a `#[pyfunction]` would keep
/// `PyO3`'s attach count open across the switch.
static FUNCTIONS: Table<[ffi::PyMethodDef; 39]> = Table([
    method(c"async_def", ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: coroutine::async_def }, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, ASYNC_DEF_DOC),
    method(c"await_", ffi::PyMethodDefPointer { PyCFunctionFast: await_::await_ }, ffi::METH_FASTCALL, AWAIT_DOC),
    method(c"can_await", ffi::PyMethodDefPointer { PyCFunction: await_::can_await }, ffi::METH_NOARGS, CAN_AWAIT_DOC),
    method(c"block", ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: block::block }, ffi::METH_FASTCALL | ffi::METH_KEYWORDS, BLOCK_DOC),
    method(c"_register_block", ffi::PyMethodDefPointer { PyCFunctionFast: block::register_block }, ffi::METH_FASTCALL, c"_register_block(elsewhere, finish, /)\n--\n\nSet what block() calls where nothing can be awaited, with its own arguments; and\nwith the function and a result that is awaitable and no plain coroutine."),
    method(c"portal", ffi::PyMethodDefPointer { PyCFunction: portal::new }, ffi::METH_O, c"portal(coroutine, /)\n--\n\nMake a PortalCoroutine, which runs the steps of a coroutine on native stacks."),
    method(c"current_portal", ffi::PyMethodDefPointer { PyCFunction: portal::current_portal }, ffi::METH_NOARGS, c"current_portal()\n--\n\nReturn the innermost PortalCoroutine that drives the caller, or None."),
    method(c"can_withdraw", ffi::PyMethodDefPointer { PyCFunction: portal::can_withdraw }, ffi::METH_O, c"can_withdraw(portal, /)\n--\n\nReturn whether the coroutine of a portal can be stepped without it from now on."),
    method(c"find_field", ffi::PyMethodDefPointer { PyCFunctionFast: task_field::find_field }, ffi::METH_FASTCALL, c"find_field(task_type, task, coroutine, /)\n--\n\nReturn the index of the one word of a task that refers to its coroutine, or None."),
    method(c"swap_field", ffi::PyMethodDefPointer { PyCFunctionFast: task_field::swap_field }, ffi::METH_FASTCALL, c"swap_field(task_type, task, index, old, new, /)\n--\n\nPut another coroutine into that word, and return whether the old one was there."),
    method(c"_register_decorator", ffi::PyMethodDefPointer { PyCFunction: await_::register_decorator }, ffi::METH_O, c"_register_decorator(decorator, /)\n--\n\nSet what await_() calls with an object that is not awaitable: it wraps an\nasync function, or returns NotImplemented."),
    method(c"_register_other_waiter", ffi::PyMethodDefPointer { PyCFunction: await_::register_other_waiter }, ffi::METH_O, c"_register_other_waiter(waiter, /)\n--\n\nSet what await_() asks to wait, where no stack of the engine runs: it returns\nthe result or NotImplemented. With None it tells whether it could wait."),
    method(c"isolate_greenlet", ffi::PyMethodDefPointer { PyCFunction: greenlet::isolate }, ffi::METH_NOARGS, c"isolate_greenlet()\n--\n\nMake the extension greenlet, which was just loaded, see a thread in each native\nstack. Return whether that can be done."),
    method(c"use_greenlet", ffi::PyMethodDefPointer { PyCFunction: greenlet::carrier::choose }, ffi::METH_NOARGS, c"use_greenlet()\n--\n\nRun functions on greenlets from now on. The extension must be loaded, and no\nfunction run or wait on a native stack."),
    method(c"note_collection", ffi::PyMethodDefPointer { PyCFunctionFast: greenlet::carrier::collecting::note }, ffi::METH_FASTCALL, c"note_collection(phase, info, /)\n--\n\nOne of gc.callbacks: where greenlets carry functions nothing is switched in a collection."),
    method(
        c"unwind_waiting",
        ffi::PyMethodDefPointer {
            PyCFunction: greenlet::carrier::unwind_waiting,
        },
        ffi::METH_NOARGS,
        c"unwind_waiting()\n--\n\nEnd the functions that wait on greenlets of this thread.",
    ),
    method(c"reactor", ffi::PyMethodDefPointer { PyCFunctionFast: reactor::new }, ffi::METH_FASTCALL, c"reactor(backend, key, is_trio, clock, /)\n--\n\nMake the Reactor of the event loop that runs in this thread."),
    method(c"_register_reactor_finder", ffi::PyMethodDefPointer { PyCFunction: reactor::here::register_finder }, ffi::METH_O, c"_register_reactor_finder(finder, /)\n--\n\nSet what finds or makes the Reactor of the loop that runs, or returns None."),
    method(c"forget_fd", ffi::PyMethodDefPointer { PyCFunction: reactor::forget_fd }, ffi::METH_O, c"forget_fd(fd, /)\n--\n\nTo be called before a descriptor is closed: its waiters wake, and find it closed."),
    method(c"is_green", ffi::PyMethodDefPointer { PyCFunction: reactor::here::is_green }, ffi::METH_NOARGS, c"is_green()\n--\n\nReturn whether a wait here suspends a function, and not the thread."),
    method(c"starts_green_threads", ffi::PyMethodDefPointer { PyCFunction: reactor::here::starts_green_threads }, ffi::METH_NOARGS, c"starts_green_threads()\n--\n\nReturn whether a thread that is started here shall be a green one."),
    method(c"current", ffi::PyMethodDefPointer { PyCFunction: reactor::here::current }, ffi::METH_NOARGS, c"current()\n--\n\nReturn what stands for the function that runs green here, or None."),
    method(c"get_ident", ffi::PyMethodDefPointer { PyCFunction: reactor::here::get_ident }, ffi::METH_NOARGS, c"get_ident()\n--\n\nReturn a number of the function that runs green here, or of the thread."),
    method(c"enter_inner_loop", ffi::PyMethodDefPointer { PyCFunction: reactor::inner_loop::enter }, ffi::METH_O, c"enter_inner_loop(outside, /)\n--\n\nThe function that runs green here begins to run an event loop of its own."),
    method(c"leave_inner_loop", ffi::PyMethodDefPointer { PyCFunction: reactor::inner_loop::leave }, ffi::METH_NOARGS, c"leave_inner_loop()\n--\n\nThat loop has ended."),
    method(c"enter_atomic", ffi::PyMethodDefPointer { PyCFunction: atomic::enter }, ffi::METH_NOARGS, c"enter_atomic()\n--\n\nThe function that runs here must not wait from now on. Return whether one does."),
    method(c"leave_atomic", ffi::PyMethodDefPointer { PyCFunction: atomic::leave }, ffi::METH_NOARGS, c"leave_atomic()\n--\n\nIt may again, where this was called as often."),
    method(c"wait_fd", ffi::PyMethodDefPointer { PyCFunctionFast: reactor::wait::wait_fd }, ffi::METH_FASTCALL, c"wait_fd(fd, events, timeout=None, /)\n--\n\nWait until a descriptor is ready. Return its events, or 0 when the time is over."),
    method(c"wait_fds", ffi::PyMethodDefPointer { PyCFunctionFast: reactor::wait::wait_fds }, ffi::METH_FASTCALL, c"wait_fds(pairs, timeout=None, /)\n--\n\nWait until one of several descriptors is ready. Return False when the time is over."),
    method(c"give_way", ffi::PyMethodDefPointer { PyCFunction: reactor::wait::give_way_here }, ffi::METH_NOARGS, c"give_way()\n--\n\nTo be called where a function asks and need not wait: one that asks again and\nagain lets others run, once in a while. A checkpoint then."),
    method(c"retry", ffi::PyMethodDefPointer { PyCFunctionFast: green::retry }, ffi::METH_FASTCALL, c"retry(socket, events, function, /, *args)\n--\n\nCall a function of a socket until it need not wait."),
    method(c"poll_until_ready", ffi::PyMethodDefPointer { PyCFunction: green::polled::poll_until_ready }, ffi::METH_O, c"poll_until_ready(connection, /)\n--\n\nCall the connection's poll() until that is 0, and wait in between for its fileno():\nto read after 1, to write after 2. Return None, or the answer that says otherwise or\nthat can't be waited for here."),
    method(c"in_turn", ffi::PyMethodDefPointer { PyCFunctionFast: green::in_turn::in_turn }, ffi::METH_FASTCALL, c"in_turn(method, member, /)\n--\n\nReturn a method that holds a lock of its object while it calls another. The lock is\nkept in a member of the object's class, made with __slots__."),
    method(c"sleep", ffi::PyMethodDefPointer { PyCFunction: green::sleep::sleep }, ffi::METH_O, c"sleep(seconds, /)\n--\n\nWhat time.sleep does; in a green function the function sleeps, not the thread."),
    method(c"leave_behind", ffi::PyMethodDefPointer { PyCFunction: coroutine::leave_behind }, ffi::METH_O, c"leave_behind(coroutine, /)\n--\n\nKeep a coroutine to the end of the process, and do not end it then either."),
    method(c"_check_interpreter", ffi::PyMethodDefPointer { PyCFunction: check_interpreter }, ffi::METH_NOARGS, c"_check_interpreter()\n--\n\nRaise ImportError in a sub-interpreter."),
    method(c"watch", ffi::PyMethodDefPointer { PyCFunctionFast: watch::watch }, ffi::METH_FASTCALL, c"watch(watcher, keep_times, /)\n--\n\nHave a function called at each step of a function: with 0 when it goes on, 1 when\nit waits, 2 when it ends; its coroutine or portal; and what it awaits, or None.\nNone is no function. Keep since when\nfunctions wait, or not."),
    method(c"wait_of", ffi::PyMethodDefPointer { PyCFunction: watch::wait_of }, ffi::METH_O, c"wait_of(coroutine, /)\n--\n\nReturn the thread, portal, what is awaited and since when (time.monotonic) of a\nfunction that waits on a stack of its own; else None."),
    ffi::PyMethodDef::zeroed(),
]);

/// `_check_interpreter()`: a module that is loaded already is handed to a
/// sub-interpreter without asking, so the package asks.
unsafe extern "C" fn check_interpreter(
    _module: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        if thread_state::check_interpreter() < 0 {
            return core::ptr::null_mut();
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// Return the state of the calling thread's pool of native stacks.
///
/// Returns:
///     A dict with the ints `stacks_in_use`, `stacks_pooled`, `stacks_leaked`
///     and `stack_size` (bytes of address space each), and the str `guard`,
///     the kind of guard page: "madvise" or "mprotect".
#[pyfunction]
fn stats(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let runtime =
        Runtime::get_or_init().map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    let stats = runtime.stats();
    let dict = PyDict::new(py);
    dict.set_item("stacks_in_use", stats.in_use)?;
    dict.set_item("stacks_pooled", stats.pooled)?;
    dict.set_item("stacks_leaked", stats.leaked)?;
    dict.set_item("stack_size", stats.stack_size)?;
    dict.set_item("guard", stats.guard.as_str())?;
    Ok(dict)
}

const ASYNC_DEF_DOC: &core::ffi::CStr =
    c"async_def(fn, /, *args, assert_await_occurs=False, **kwargs)
--

Run a synchronous function so that it may wait.

Returns a coroutine. Awaited, it calls `fn(*args, **kwargs)` on a native stack of
its own; anywhere below that call, `await_` waits without blocking the event
loop. The function shares the caller's context variables. Awaiting it is a
checkpoint only if the function waits.

Args:
    fn: The function. Any callable.
    *args: Its positional arguments.
    assert_await_occurs: Raise `NoAwaitOccurred` if `fn` returns without having
        called `await_`.
    **kwargs: Its keyword arguments.

Returns:
    A `GreenCoroutine`; awaiting it gives what `fn` returns, or raises what `fn`
    raises.

Raises:
    TypeError: `fn` is not callable.
    MemoryError: When awaited: no native stack is to be had.

Example:
    >>> import asyncio
    >>> def add(a, b):
    ...     await_(asyncio.sleep(0))
    ...     return a + b
    >>> asyncio.run(async_def(add, 1, 2))
    3";

const AWAIT_DOC: &core::ffi::CStr = c"await_(awaitable, /)
--

Wait for an awaitable from synchronous code.

Must be called somewhere below a function that `async_def` runs, or in a task
that has a portal. Takes what the `await` statement takes. The awaitable is
driven right here; the event loop gets control only if it really suspends, so
this is a checkpoint exactly when the awaitable is one.

With an async function in place of an awaitable it is a decorator: the
function it returns calls and awaits, and can be used from synchronous code.

Args:
    awaitable: A coroutine, future, task, generator-based coroutine, or any
        object with `__await__`; or an async function.

Returns:
    The awaitable's result; or the decorated function.

Raises:
    NoAwaitContext: There is nothing to wait in. A coroutine is closed first.
    TypeError: It is neither awaitable nor an async function.
    BaseException: Whatever the awaitable raises.

Example:
    >>> import asyncio
    >>> def nap():
    ...     return await_(asyncio.sleep(0, \"rested\"))
    >>> asyncio.run(async_def(nap))
    'rested'";

const BLOCK_DOC: &core::ffi::CStr = c"block(fn, /, *args, **kwargs)
--

Calls a function from blocking code, whether it is async or blocking.

A blocking function is called. An async one is waited for as `to_blocking` tells: through the
green function or portal that this runs in, or on a loop of the thread. A checkpoint in a green
function and in a task with a portal, if the function waits.

Args:
    fn: The function.
    *args: Its positional arguments.
    **kwargs: Its keyword arguments.

Returns:
    What the function returns.

Raises:
    BaseException: Whatever the function raises.

Example:
    >>> import asyncio
    >>> from verdigris import block
    >>> block(asyncio.sleep, 0, \"rested\"), block(len, \"four\")
    ('rested', 4)
";

const CAN_AWAIT_DOC: &core::ffi::CStr = c"can_await()
--

Return whether `await_` can wait here: below `async_def`, or in a task with
a portal. Not a checkpoint.

Returns:
    True in a function that runs green.

Example:
    >>> import asyncio
    >>> can_await(), asyncio.run(async_def(can_await))
    (False, True)";
