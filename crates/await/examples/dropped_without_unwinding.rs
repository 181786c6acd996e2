//! A program built with `panic = "abort"`: a suspended function that is dropped is leaked as it is.
//!
//! `cargo run -p verdigris-await --example dropped_without_unwinding`. This workspace's profiles
//! have `panic = "abort"`; tests never do, so this one is an example.

use std::pin::Pin;
use std::task::{Context, Waker};

use verdigris_await::{Builder, Config, Pool, StackError, await_};

struct Dropped;

impl Drop for Dropped {
    fn drop(&mut self) {
        unreachable!("nothing unwinds the stack");
    }
}

fn main() -> Result<(), StackError> {
    if cfg!(panic = "unwind") {
        println!("built with panic = \"unwind\": nothing to see");
        return Ok(());
    }
    let pool = Pool::new(Config::default())?;
    let mut future = Builder::new().pool(pool.clone()).async_def(|| {
        let _dropped = Dropped;
        await_(std::future::pending::<()>());
    });
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
    drop(future);
    assert_eq!((pool.stats().leaked, pool.stats().in_use), (1, 0));
    println!("one stack is leaked, and nothing on it was dropped");
    Ok(())
}
