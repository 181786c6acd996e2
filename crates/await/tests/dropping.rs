//! What happens to a suspended function whose future is dropped.

// Miri does not know the instructions that switch stacks.
#![cfg(not(miri))]

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;

use common::{counted, in_child, poll_once, yield_now};
use verdigris_await::{
    AsyncDef, AwaitError, Builder, Config, Pool, async_def, await_, has_context, try_await,
};

#[test]
fn a_suspended_function_is_unwound_once() {
    let (count, value) = counted();
    let went_on = Rc::new(Cell::new(false));
    let pool = Pool::new(Config::default()).unwrap();
    let mut future = Builder::new().pool(pool.clone()).async_def({
        let went_on = went_on.clone();
        move || {
            let _value = value;
            await_(pending::<()>());
            went_on.set(true);
        }
    });
    assert!(poll_once(&mut future).is_pending());
    assert_eq!(count.get(), 0);
    drop(future);
    assert_eq!((count.get(), went_on.get()), (1, false));
    assert_eq!((pool.stats().in_use, pool.stats().leaked), (0, 0));
}

#[test]
fn no_panic_hook_runs_for_a_dropped_function() {
    // The hook is the process's.
    if !in_child("no_panic_hook_runs_for_a_dropped_function", None, "") {
        return;
    }
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    let mut future = async_def(|| {
        let _ = catch_unwind(|| await_(pending::<()>()));
        await_(pending::<()>());
    });
    assert!(poll_once(&mut future).is_pending());
    drop(future);
    let _ = std::panic::take_hook();
}

#[test]
fn nested_functions_are_unwound_from_the_inside() {
    let order = Rc::new(RefCell::new(Vec::new()));
    struct Says(&'static str, Rc<RefCell<Vec<&'static str>>>);
    impl Drop for Says {
        fn drop(&mut self) {
            self.1.borrow_mut().push(self.0);
        }
    }
    let says = |what| Says(what, order.clone());
    let (outer, block, inner) = (says("outer"), says("block"), says("inner"));
    let mut future = async_def(move || {
        let _outer = outer;
        await_(async move {
            let _block = block;
            async_def(move || {
                let _inner = inner;
                await_(pending::<()>());
            })
            .await;
        });
    });
    assert!(poll_once(&mut future).is_pending());
    drop(future);
    assert_eq!(*order.borrow(), ["inner", "block", "outer"]);
}

#[test]
fn while_it_is_unwound_a_function_has_no_context() {
    struct Tries(Rc<Cell<Option<AwaitError>>>);
    impl Drop for Tries {
        fn drop(&mut self) {
            assert!(!has_context());
            self.0.set(try_await(ready(())).err());
        }
    }
    let seen = Rc::new(Cell::new(None));
    let tries = Tries(seen.clone());
    let mut future = async_def(move || {
        let _tries = tries;
        await_(pending::<()>());
    });
    assert!(poll_once(&mut future).is_pending());
    drop(future);
    assert_eq!(seen.get(), Some(AwaitError::Dropped));
}

#[test]
fn code_that_catches_the_unwinding_does_not_wait_again() {
    let seen = Rc::new(Cell::new(0));
    let mut future = async_def({
        let seen = seen.clone();
        move || {
            for _ in 0..3 {
                let caught = catch_unwind(|| await_(pending::<()>()));
                assert!(caught.is_err());
                seen.set(seen.get() + 1);
            }
            assert_eq!(try_await(ready(())), Err(AwaitError::Dropped));
            seen.set(seen.get() + 1);
        }
    });
    assert!(poll_once(&mut future).is_pending());
    drop(future);
    assert_eq!(seen.get(), 4);
}

#[test]
fn a_panic_after_the_unwinding_was_caught_goes_on_from_the_drop() {
    let mut future = async_def(|| {
        let _ = catch_unwind(|| await_(pending::<()>()));
        panic_any("its own");
    });
    assert!(poll_once(&mut future).is_pending());
    let payload = catch_unwind(AssertUnwindSafe(|| drop(future))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"its own"));
}

#[test]
fn a_function_dropped_by_a_panic_is_unwound_and_the_panic_goes_on() {
    let (count, value) = counted();
    let mut future = async_def(move || {
        let _value = value;
        let _ = catch_unwind(|| await_(pending::<()>()));
        // Swallowed: a second panic out of a drop would abort.
        panic!("a second one");
    });
    assert!(poll_once(&mut future).is_pending());
    let payload = catch_unwind(AssertUnwindSafe(move || {
        let _future = future;
        panic_any("the first");
    }))
    .unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"the first"));
    assert_eq!(count.get(), 1);
}

/// Waits in its drop with what is pending, and notes what came of it.
struct WaitsInDrop(Rc<RefCell<Vec<Result<(), AwaitError>>>>);

impl Drop for WaitsInDrop {
    fn drop(&mut self) {
        let mut seen = self.0.borrow_mut();
        seen.push(try_await(ready(())));
        seen.push(try_await(yield_now()));
    }
}

#[test]
fn in_a_drop_that_a_panic_runs_only_what_is_ready_is_awaited() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let waits = WaitsInDrop(seen.clone());
    let future = async_def(move || {
        let _waits = waits;
        panic_any("on");
    });
    let payload = catch_unwind(AssertUnwindSafe(|| pollster::block_on(future))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"on"));
    assert_eq!(*seen.borrow(), [Ok(()), Err(AwaitError::Unwinding)]);
}

#[test]
fn in_any_other_drop_it_waits() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let waits = WaitsInDrop(seen.clone());
    pollster::block_on(async_def(move || drop(waits)));
    assert_eq!(*seen.borrow(), [Ok(()), Ok(())]);
}

#[test]
fn a_forgotten_future_keeps_its_stack_for_ever() {
    let (count, value) = counted();
    let pool = Pool::new(Config::default()).unwrap();
    let mut future = Builder::new().pool(pool.clone()).async_def(move || {
        let _value = value;
        await_(pending::<()>());
    });
    assert!(poll_once(&mut future).is_pending());
    std::mem::forget(future);
    assert_eq!((count.get(), pool.stats().in_use), (0, 1));
}

#[test]
fn await_in_a_drop_of_a_dropped_function_says_why_it_aborts() {
    const SIGABRT: i32 = 6;
    let name = "await_in_a_drop_of_a_dropped_function_says_why_it_aborts";
    if !in_child(name, Some(SIGABRT), "a function whose future was dropped") {
        return;
    }
    struct Awaits;
    impl Drop for Awaits {
        fn drop(&mut self) {
            await_(ready(()));
        }
    }
    let mut future = async_def(|| {
        let _awaits = Awaits;
        await_(pending::<()>());
    });
    assert!(poll_once(&mut future).is_pending());
    drop(future);
}

type Stored = RefCell<Option<Box<dyn std::any::Any>>>;

thread_local! {
    /// Initialised before anything else of the thread, so destroyed last.
    static STORE: Stored = const { RefCell::new(None) };
    static VALUE: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn a_function_that_a_thread_local_holds_is_not_unwound_after_what_it_borrows_is_gone() {
    struct Pushes<'a>(&'a RefCell<Vec<u32>>);
    impl Drop for Pushes<'_> {
        fn drop(&mut self) {
            // Were it run: VALUE is destroyed by then.
            self.0.borrow_mut().push(2);
            std::process::abort();
        }
    }
    std::thread::spawn(|| {
        STORE.with(|store| store.borrow_mut().take());
        let mut future = async_def(|| {
            VALUE.with(|value| {
                value.borrow_mut().push(1);
                let _pushes = Pushes(value);
                await_(pending::<()>());
            });
        });
        assert!(poll_once(&mut future).is_pending());
        STORE.with(|store| *store.borrow_mut() = Some(Box::new(future)));
    })
    .join()
    .unwrap();
}

#[test]
fn a_function_runs_in_a_destructor_of_a_thread_local_if_it_need_not_wait() {
    struct Runs(std::sync::mpsc::Sender<(u32, Result<(), AwaitError>)>);
    impl Drop for Runs {
        fn drop(&mut self) {
            let (sender, mut future) = (
                self.0.clone(),
                async_def(|| (await_(ready(7)), try_await(yield_now()))),
            );
            let std::task::Poll::Ready(seen) = poll_once(&mut future) else {
                unreachable!("it is not suspended")
            };
            sender.send(seen).unwrap();
        }
    }
    thread_local!(static RUNS: RefCell<Option<Runs>> = const { RefCell::new(None) });
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        RUNS.set(Some(Runs(sender)));
        // Suspends, so that the end of the thread is watched, after RUNS.
        pollster::block_on(async_def(|| await_(yield_now())));
    })
    .join()
    .unwrap();
    assert_eq!(receiver.recv().unwrap(), (7, Err(AwaitError::ThreadExit)));
}

#[test]
fn the_type_of_a_future_can_be_named() {
    struct Holds<F: FnOnce() -> u32>(AsyncDef<F, u32>);
    let mut holds = Holds(async_def(|| 5));
    assert_eq!(poll_once(&mut holds.0), std::task::Poll::Ready(5));
}
