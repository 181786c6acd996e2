//! Panics go from the function to whoever polls it, whole.

// Miri does not know the instructions that switch stacks.
#![cfg(not(miri))]

mod common;

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::task::Poll;

use common::{counted, in_child, poll_once, yield_now};
use verdigris_await::{Builder, Config, Pool, async_def, await_};

#[derive(Debug, PartialEq)]
struct Payload(Vec<u8>);

#[test]
fn a_panic_keeps_its_payload_and_the_stack_comes_back() {
    let pool = Pool::new(Config::default()).unwrap();
    let (count, value) = counted();
    let future = Builder::new().pool(pool.clone()).async_def(move || {
        let _value = value;
        await_(yield_now());
        panic_any(Payload(vec![1, 2, 3]));
    });
    let caught = catch_unwind(AssertUnwindSafe(|| pollster::block_on(future))).unwrap_err();
    assert_eq!(caught.downcast_ref(), Some(&Payload(vec![1, 2, 3])));
    assert_eq!((count.get(), pool.stats().in_use), (1, 0));
}

#[test]
fn a_panic_before_the_first_wait_keeps_its_payload() {
    let mut future = async_def(|| panic_any(5_u64));
    let caught = catch_unwind(AssertUnwindSafe(|| poll_once(&mut future))).unwrap_err();
    assert_eq!(caught.downcast_ref(), Some(&5_u64));
}

#[test]
fn a_panic_of_the_awaited_future_unwinds_the_function() {
    let (count, value) = counted();
    let future = async_def(move || {
        let _value = value;
        await_(async {
            yield_now().await;
            panic_any("below");
        });
    });
    let caught = catch_unwind(AssertUnwindSafe(|| pollster::block_on(future))).unwrap_err();
    assert_eq!((caught.downcast_ref(), count.get()), (Some(&"below"), 1));
}

#[test]
fn a_panic_can_be_caught_in_the_function_and_it_goes_on() {
    let future = async_def(|| {
        let caught = catch_unwind(|| {
            await_(yield_now());
            panic_any(1);
        });
        await_(yield_now());
        caught.is_err()
    });
    assert!(pollster::block_on(future));
}

#[test]
fn a_panic_of_one_function_is_not_seen_by_another() {
    let mut other = async_def(|| {
        await_(yield_now());
        std::thread::panicking()
    });
    assert!(poll_once(&mut other).is_pending());
    let mut fails = async_def(|| panic_any(1));
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut fails))).is_err());
    assert_eq!(poll_once(&mut other), Poll::Ready(false));
}

thread_local!(static TRACE: RefCell<String> = const { RefCell::new(String::new()) });

#[inline(never)]
fn in_the_function() {
    await_(yield_now());
    panic!("to be traced");
}

#[inline(never)]
fn polls_the_function() {
    let _ = catch_unwind(|| pollster::block_on(async_def(in_the_function)));
}

#[test]
#[cfg_attr(
    feature = "sanitizer",
    ignore = "its words at the base hide the way to the executor"
)]
fn a_backtrace_goes_through_the_stack_to_the_executor() {
    // The hook is the process's.
    if !in_child(
        "a_backtrace_goes_through_the_stack_to_the_executor",
        None,
        "",
    ) {
        return;
    }
    std::panic::set_hook(Box::new(|_| {
        TRACE.set(Backtrace::force_capture().to_string());
    }));
    polls_the_function();
    let _ = std::panic::take_hook();
    let trace = TRACE.take();
    assert!(trace.contains("in_the_function"), "{trace}");
    assert!(trace.contains("polls_the_function"), "{trace}");
}

#[test]
#[cfg_attr(
    feature = "sanitizer",
    ignore = "AddressSanitizer reports the signal itself"
)]
fn an_overflow_hits_the_guard() {
    const SIGSEGV: i32 = 11;
    if !in_child("an_overflow_hits_the_guard", Some(SIGSEGV), "deep") {
        return;
    }
    #[allow(unconditional_recursion)]
    fn deeper(n: u64) -> u64 {
        let room = std::hint::black_box([n; 64]);
        deeper(n + 1) + room[5]
    }
    eprintln!("deep");
    let _ = poll_once(&mut Builder::new().stack_size(256 << 10).async_def(|| deeper(0)));
}

#[test]
fn a_deep_recursion_fits_on_a_default_stack() {
    fn deep(n: u64) -> u64 {
        let room = std::hint::black_box([n; 128]);
        if n == 0 {
            await_(yield_now());
            return 0;
        }
        deep(n - 1) + 1 + room[5] - n
    }
    // More than a test's own thread has, with 1 KiB of locals in each frame.
    assert_eq!(pollster::block_on(async_def(|| deep(2500))), 2500);
}
