//! Where code can wait, and with which context.

// Miri does not know the instructions that switch stacks.
#![cfg(not(miri))]

mod common;

use std::future::{pending, poll_fn, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use common::{poll_once, yield_now};
use verdigris_await::{AwaitError, Builder, async_def, await_, has_context, try_await};

#[test]
fn the_future_gets_the_very_context_of_the_poll_at_hand() {
    let mut future = async_def(|| {
        let seen = || await_(poll_fn(|cx| Poll::Ready(std::ptr::from_ref(cx).addr())));
        let first = (seen(), seen());
        await_(yield_now());
        (first, seen())
    });
    let mut future = pin!(&mut future);
    let mut one = Context::from_waker(Waker::noop());
    let mut two = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut one).is_pending());
    let Poll::Ready(((a, b), c)) = future.as_mut().poll(&mut two) else {
        panic!("it is ready")
    };
    let addresses = (
        std::ptr::from_ref(&one).addr(),
        std::ptr::from_ref(&two).addr(),
    );
    assert_eq!((a, b, c), (addresses.0, addresses.0, addresses.1));
}

#[test]
fn the_poll_of_an_awaited_future_has_no_context() {
    pollster::block_on(async_def(|| {
        await_(async {
            assert!(!has_context());
            assert_eq!(try_await(ready(())), Err(AwaitError::NoContext));
            yield_now().await;
            assert!(!has_context());
        });
        assert!(has_context());
    }));
}

#[test]
fn a_function_in_an_awaited_future_in_a_function_waits() {
    fn nested(depth: u32) -> u32 {
        await_(yield_now());
        if depth == 0 {
            return 0;
        }
        let below = await_(async move {
            yield_now().await;
            async_def(move || nested(depth - 1)).await
        });
        await_(yield_now());
        below + 1
    }
    assert_eq!(pollster::block_on(async_def(|| nested(20))), 20);
}

#[test]
fn after_a_panic_in_the_poll_of_an_awaited_future_the_context_is_back() {
    pollster::block_on(async_def(|| {
        let caught = std::panic::catch_unwind(|| await_(async { panic!("in the poll") }));
        assert!(caught.is_err());
        await_(yield_now());
    }));
    assert!(!has_context());
}

#[test]
fn a_function_polled_by_hand_in_a_function_suspends_itself_only() {
    pollster::block_on(async_def(|| {
        let mut inner = async_def(|| {
            await_(yield_now());
            7
        });
        assert!(poll_once(&mut inner).is_pending());
        assert!(has_context());
        await_(yield_now());
        assert_eq!(poll_once(&mut inner), Poll::Ready(7));
        await_(yield_now());
    }));
}

#[test]
fn block_on_of_another_executor_in_a_function_waits_with_the_outer_task() {
    let mut outer = async_def(|| {
        // The future is polled by pollster, and the sync code in it stands on the outer stack.
        pollster::block_on(async {
            ready(()).await;
            await_(yield_now());
        });
        // One level more: this one is pollster's own.
        pollster::block_on(async_def(|| await_(yield_now())));
        assert!(has_context());
    });
    assert!(poll_once(&mut outer).is_pending());
    assert!(!has_context());
    assert!(poll_once(&mut outer).is_ready());
}

#[test]
fn a_context_does_not_leave_its_poll() {
    let mut future = async_def(|| await_(pending::<()>()));
    assert!(poll_once(&mut future).is_pending());
    assert!(!has_context());
    drop(future);
    assert!(!has_context());
}

#[test]
fn a_future_can_be_moved_between_polls() {
    let mut future = Box::new(async_def(|| {
        let local = [1_u8; 100];
        let at = local.as_ptr();
        await_(yield_now());
        at == local.as_ptr()
    }));
    assert!(poll_once(&mut *future).is_pending());
    let mut moved = *future;
    assert_eq!(poll_once(&mut moved), Poll::Ready(true));
}

#[test]
#[should_panic = "polled after it ended"]
fn a_future_that_ended_can_not_be_polled() {
    let mut future = async_def(|| ());
    assert!(poll_once(&mut future).is_ready());
    let _ = poll_once(&mut future);
}

#[test]
fn builders_choose_the_stack() {
    let pool = verdigris_await::Pool::new(verdigris_await::Config::default()).unwrap();
    let mut future = Builder::new()
        .pool(pool.clone())
        .async_def(|| await_(yield_now()));
    assert_eq!(pool.stats().in_use, 0);
    assert!(poll_once(&mut future).is_pending());
    assert_eq!(pool.stats().in_use, 1);
    assert!(poll_once(&mut future).is_ready());
    assert_eq!(pool.stats().in_use, 0);

    let early = Builder::new()
        .pool(pool.clone())
        .try_async_def(|| ())
        .unwrap();
    assert_eq!(pool.stats().in_use, 1);
    drop(early);
    assert_eq!(pool.stats().in_use, 0);

    let error = Builder::new()
        .stack_size(5)
        .try_async_def(|| ())
        .unwrap_err();
    assert!(error.to_string().contains("stack_size"), "{error}");
}

#[test]
#[cfg_attr(
    feature = "sanitizer",
    ignore = "stacker tells AddressSanitizer of no switch"
)]
fn code_that_stacker_runs_on_another_stack_waits_and_is_unwound() {
    let grown = || {
        async_def(|| {
            stacker::grow(1 << 20, || {
                await_(yield_now());
                await_(yield_now());
                7
            })
        })
    };
    let (mut one, mut other, mut dropped) = (grown(), grown(), grown());
    for future in [&mut one, &mut other, &mut dropped] {
        assert!(poll_once(future).is_pending());
    }
    drop(dropped);
    assert!(poll_once(&mut one).is_pending());
    assert!(poll_once(&mut other).is_pending());
    assert_eq!(poll_once(&mut one), Poll::Ready(7));
    assert_eq!(poll_once(&mut other), Poll::Ready(7));
}
