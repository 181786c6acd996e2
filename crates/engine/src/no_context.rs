//! What `await_` says when there is nothing to wait in: the cause, and the next
//! step. This is where most first mistakes end, so it looks around well.

use pyo3::ffi::PyObject;
use pyo3::prelude::*;

use crate::places::{Place, call_stack};
use crate::{errors, portal};

/// Raises `NoAwaitContext`; returns null.
///
/// # Safety
///
/// The GIL is held.
#[cold]
pub unsafe fn raise() -> *mut PyObject {
    // Counted by PyO3, so that what it drops here is dropped at once. Nothing
    // below switches stacks.
    let text = Python::attach(|py| {
        describe(py).unwrap_or_else(|_| {
            // Looking around failed; the plain cause remains.
            "await_() has nothing to wait in; run the function through \
             `await async_def(fn, ...)`"
                .to_owned()
        })
    });
    // SAFETY: the GIL is held.
    unsafe { errors::raise_no_await_context(text) }
}

fn describe(py: Python<'_>) -> PyResult<String> {
    let places = call_stack(py)?;
    let entered = places.iter().position(|place| place.is_async);
    if !loop_is_running(py)? {
        let hint = match places.first() {
            Some(place) if !place.function.starts_with('<') => place.function.as_str(),
            _ => "fn",
        };
        return Ok(format!(
            "await_() has nothing to wait in: no event loop is running in this thread. \
             Start one, e.g. asyncio.run(async_def({hint}))."
        ));
    }
    if let Some(library) = portal_to_come(py)? {
        return Ok(format!(
            "await_() can't wait yet: a portal was set for the current task while the task runs, \
             and it works from the task's next step on. Write `await ensure_portal()`, which takes \
             that step, or `await {library}.sleep(0)`."
        ));
    }
    Ok(match entered {
        Some(0) => {
            let Place {
                function,
                file,
                line,
                ..
            } = &places[0];
            format!(
                "await_() was called in the coroutine '{function}' itself ({file}:{line}): \
                 write `await` there; await_() is for synchronous functions. (In a task with a \
                 portal it works there too: `await ensure_portal()`.)"
            )
        }
        Some(index) => {
            let Place { function, .. } = &places[index - 1];
            let Place {
                function: caller,
                file,
                line,
                ..
            } = &places[index];
            format!(
                "await_() has nothing to wait in: '{function}' was entered without async_def, \
                 from '{caller}' at {file}:{line}. Call it there as \
                 `await async_def({function}, ...)`, or give the task a portal before, by \
                 `await ensure_portal()`."
            )
        }
        None => match places.last() {
            Some(Place {
                function,
                file,
                line,
                ..
            }) => format!(
                "await_() has nothing to wait in: '{function}' ({file}:{line}) was entered \
                 without async_def, by the event loop or another callback. Start it as a task \
                 of its own, e.g. asyncio.create_task(async_def({function}, ...))."
            ),
            None => "await_() has nothing to wait in: it was called by C code outside \
                     async_def(). Run the function through `await async_def(fn, ...)`."
                .to_owned(),
        },
    })
}

/// The library whose current task has a portal that it did not step through yet:
/// it was set while the task runs.
fn portal_to_come(py: Python<'_>) -> PyResult<Option<&'static str>> {
    let modules = py.import("sys")?.getattr("modules")?;
    let mut coroutine = None;
    if let Ok(trio) = modules.get_item("trio.lowlevel")
        && trio.call_method0("in_trio_task")?.extract()?
    {
        let task = trio.call_method0("current_task")?;
        coroutine = Some(("trio", task.getattr("coro")?));
    } else if let Ok(asyncio) = modules.get_item("asyncio") {
        let task = asyncio.call_method0("current_task")?;
        if !task.is_none() {
            coroutine = Some(("asyncio", task.call_method0("get_coro")?));
        }
    }
    Ok(coroutine
        .filter(|(_, coroutine)| portal::check_exact(coroutine.as_ptr()))
        .map(|(library, _)| library))
}

/// Whether asyncio or Trio runs in this thread. Imports neither.
fn loop_is_running(py: Python<'_>) -> PyResult<bool> {
    let modules = py.import("sys")?.getattr("modules")?;
    if let Ok(events) = modules.get_item("asyncio.events")
        && !events.call_method0("_get_running_loop")?.is_none()
    {
        return Ok(true);
    }
    if let Ok(lowlevel) = modules.get_item("trio.lowlevel") {
        return lowlevel.call_method0("in_trio_run")?.extract();
    }
    Ok(false)
}
