//! Where the Python code is that called: for messages.

use pyo3::ffi;
use pyo3::prelude::*;

const CO_COROUTINE: i32 = 0x80;
const CO_ASYNC_GENERATOR: i32 = 0x200;

/// A Python frame, as far as a message needs it.
pub struct Place {
    pub function: String,
    pub file: String,
    pub line: i32,
    pub is_async: bool,
}

/// The Python frames of this thread, innermost first, up to the first coroutine,
/// or up to the event loop that called the outermost of them.
pub fn call_stack(py: Python<'_>) -> PyResult<Vec<Place>> {
    let mut places = Vec::new();
    // SAFETY: the GIL is held; both calls return new references or null.
    let mut frame = unsafe {
        Bound::from_owned_ptr_or_opt(
            py,
            ffi::PyThreadState_GetFrame(ffi::PyThreadState_Get()).cast(),
        )
    };
    while let Some(current) = frame {
        let code = current.getattr("f_code")?;
        let flags: i32 = code.getattr("co_flags")?.extract()?;
        let module: Option<String> = current
            .getattr("f_globals")?
            .get_item("__name__")
            .ok()
            .and_then(|name| name.extract().ok());
        let package = module.as_deref().and_then(|name| name.split('.').next());
        if !places.is_empty() && matches!(package, Some("asyncio" | "trio" | "uvloop")) {
            break;
        }
        if !matches!(package, Some("verdigris")) {
            let is_async = flags & (CO_COROUTINE | CO_ASYNC_GENERATOR) != 0;
            places.push(Place {
                function: code.getattr("co_name")?.extract()?,
                file: code.getattr("co_filename")?.extract()?,
                line: current.getattr("f_lineno")?.extract().unwrap_or(0),
                is_async,
            });
            if is_async {
                break;
            }
        }
        let back = current.getattr("f_back")?;
        frame = if back.is_none() { None } else { Some(back) };
    }
    Ok(places)
}
