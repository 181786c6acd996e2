//! What happens before there is a stack: all that Miri can run.

mod common;

use std::future::ready;
use std::pin::pin;

use common::counted;
use verdigris_await::{AwaitError, AwaitExt, async_def, await_, has_context, try_await};

#[test]
fn without_a_context_try_await_is_an_error_and_touches_nothing() {
    let mut future = pin!(async { 1 });
    assert_eq!(try_await(future.as_mut()), Err(AwaitError::NoContext));
    assert_eq!(future.as_mut().try_await(), Err(AwaitError::NoContext));
    assert_eq!(pollster::block_on(future), 1);
}

#[test]
#[should_panic = "await_ outside of async_def"]
fn without_a_context_await_panics() {
    await_(ready(()));
}

#[test]
#[should_panic = "await_ outside of async_def"]
fn in_an_async_block_await_panics() {
    pollster::block_on(async { await_(ready(())) });
}

#[test]
fn a_future_that_was_never_polled_drops_its_closure() {
    let (count, value) = counted();
    drop(async_def(move || drop(value)));
    assert_eq!(count.get(), 1);
}

#[test]
fn nothing_has_a_context() {
    assert!(!has_context());
    pollster::block_on(async { assert!(!has_context()) });
}
