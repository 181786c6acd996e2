//! Rust futures for sync Python code in an asyncio program.
//!
//! Each function returns an awaitable, and a tokio runtime runs the future behind it. Nothing here
//! knows of verdigris: `verdigris.await_` waits for it as for any awaitable.

#![deny(missing_docs)]

use std::time::Duration;

use pyo3::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sleeps in Rust, and returns how long.
#[pyfunction]
fn sleep(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok(seconds)
    })
}

/// Sends a message to an address, and returns what comes back until the peer hangs up.
#[pyfunction]
fn ask(py: Python<'_>, address: String, message: String) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, async move {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(message.as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    })
}

/// The module.
#[pymodule]
fn rust_futures(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(sleep, module)?)?;
    module.add_function(wrap_pyfunction!(ask, module)?)
}
