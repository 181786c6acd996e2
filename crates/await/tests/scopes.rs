//! Functions side by side, and functions that are stopped: who ends when, and who is woken.

mod common;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::{counted, poll_once, tokio_one_thread, tokio_threads, yield_now};
use verdigris_await::time::{Elapsed, timeout_with};
use verdigris_await::{AwaitExt, async_def, await_, join, join_all, scope};

fn side_by_side() {
    let turns = RefCell::new(Vec::new());
    let log = |who, times| {
        for turn in 0..times {
            turns.borrow_mut().push((who, turn));
            await_(yield_now());
        }
        who
    };
    let result = scope(|s| {
        let one = s.spawn(|| log('a', 3));
        let two = s.spawn(|| log('b', 2));
        assert!(!one.is_finished());
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_eq!(result, ('a', 'b'));
    let turns = turns.into_inner();
    assert_eq!(turns, [('a', 0), ('b', 0), ('a', 1), ('b', 1), ('a', 2)]);
}

#[test]
fn on_every_executor() {
    pollster::block_on(async_def(side_by_side));
    futures::executor::block_on(async_def(side_by_side));
    smol::block_on(async_def(side_by_side));
    tokio_one_thread().block_on(async_def(side_by_side));
    tokio_threads().block_on(async_def(side_by_side));
    let local = tokio::task::LocalSet::new();
    let task = local.spawn_local(async_def(side_by_side));
    tokio_threads().block_on(local);
    tokio_one_thread().block_on(task).unwrap();
}

#[test]
fn timers_of_the_executor_run_in_children() {
    let sleeps = || {
        join_all((0..10_u64).map(|n| {
            move || {
                tokio::time::sleep(Duration::from_millis(n)).await_();
                n
            }
        }))
    };
    let all = tokio_one_thread().block_on(async_def(sleeps));
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    tokio_threads().block_on(async_def(sleeps));
}

#[test]
fn wakes_from_other_threads_reach_the_child() {
    let sum = pollster::block_on(async_def(|| {
        let received = join_all((0..50_u32).map(|n| {
            move || {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                let thread = std::thread::spawn(move || sender.send(n).unwrap());
                let got = await_(receiver).unwrap();
                thread.join().unwrap();
                got
            }
        }));
        received.into_iter().sum::<u32>()
    }));
    assert_eq!(sum, (0..50).sum());
}

#[test]
fn a_scope_waits_for_children_that_were_not_joined() {
    let done = Cell::new(0);
    let done_ref = &done;
    // SAFETY: block_on polls it to its end here.
    pollster::block_on(unsafe {
        verdigris_await::async_def_unchecked(|| {
            scope(|s| {
                s.spawn(move || {
                    await_(yield_now());
                    // A child of a child.
                    s.spawn(move || {
                        await_(yield_now());
                        done_ref.set(done_ref.get() + 1);
                    });
                    done_ref.set(done_ref.get() + 1);
                });
            });
            assert_eq!(done_ref.get(), 2);
        })
    });
}

#[test]
#[should_panic = "await_ outside of async_def"]
fn without_a_context_a_scope_panics_and_runs_nothing() {
    scope(|_| unreachable!());
}

#[test]
fn a_panic_of_a_child_is_its_handles_and_the_others_run_on() {
    pollster::block_on(async_def(|| {
        let result = scope(|s| {
            let bad = s.spawn(|| {
                await_(yield_now());
                panic_any(5);
            });
            let good = s.spawn(|| {
                await_(yield_now());
                await_(yield_now());
                6
            });
            (bad.join(), good.join())
        });
        assert_eq!(result.0.unwrap_err().downcast_ref(), Some(&5));
        assert_eq!(result.1.unwrap(), 6);
    }));
}

#[test]
fn a_panic_that_nobody_joined_is_the_scopes_after_all_ended() {
    let ended = Rc::new(Cell::new(false));
    let future = async_def({
        let ended = ended.clone();
        move || {
            scope(|s| {
                s.spawn(|| panic_any(5));
                s.spawn(|| {
                    await_(yield_now());
                    ended.set(true);
                });
            });
        }
    });
    let caught = catch_unwind(AssertUnwindSafe(|| pollster::block_on(future)));
    let payload = caught.unwrap_err();
    assert!(
        payload
            .downcast_ref::<&str>()
            .unwrap()
            .contains("not joined")
    );
    assert!(ended.get());
}

#[test]
fn a_panic_of_the_body_waits_for_the_children() {
    let ended = Rc::new(Cell::new(false));
    let future = async_def({
        let ended = ended.clone();
        move || {
            scope(|s| {
                s.spawn(|| {
                    await_(yield_now());
                    ended.set(true);
                });
                panic_any(8);
            });
        }
    });
    let caught = catch_unwind(AssertUnwindSafe(|| pollster::block_on(future)));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&8));
    assert!(ended.get());
}

#[test]
fn join_panics_with_the_payload_after_the_other_ended() {
    let ended = Rc::new(Cell::new(false));
    let future = async_def({
        let ended = ended.clone();
        move || {
            join(
                || panic_any(9),
                || {
                    await_(yield_now());
                    ended.set(true);
                },
            )
        }
    });
    let caught = catch_unwind(AssertUnwindSafe(|| pollster::block_on(future)));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&9));
    assert!(ended.get());
}

/// Reads what it borrows when it is dropped, and says so.
struct Reads<'a>(&'a String, &'a Rc<RefCell<Vec<String>>>);

impl Drop for Reads<'_> {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0.clone());
    }
}

#[test]
fn a_dropped_function_unwinds_body_and_children_before_what_they_borrow() {
    let (count, value) = counted();
    let order = Rc::new(RefCell::new(Vec::new()));
    let mut future = async_def({
        let order = order.clone();
        move || {
            let _value = value;
            let (child, body) = ("child".to_owned(), "body".to_owned());
            let order = order;
            scope(|s| {
                for _ in 0..2 {
                    s.spawn(|| {
                        let _reads = Reads(&child, &order);
                        await_(pending::<()>());
                    });
                }
                let _reads = Reads(&body, &order);
                await_(pending::<()>());
            });
        }
    });
    assert!(poll_once(&mut future).is_pending());
    assert_eq!(count.get(), 0);
    drop(future);
    assert_eq!(*order.borrow(), ["body", "child", "child"]);
    assert_eq!(count.get(), 1);
}

#[test]
fn children_that_unwind_may_spawn_and_those_never_run() {
    struct Spawns<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Spawns<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let (count, value) = counted();
    let mut future = async_def(move || {
        let value = Cell::new(Some(value));
        scope(|s| {
            s.spawn(|| {
                let _spawns = Spawns(|| {
                    let value = value.take();
                    s.spawn(move || {
                        let _value = value;
                        unreachable!("the scope is being dropped");
                    });
                });
                await_(pending::<()>());
            });
            await_(pending::<()>());
        });
    });
    assert!(poll_once(&mut future).is_pending());
    drop(future);
    assert_eq!(count.get(), 1);
}

#[test]
fn a_panic_in_a_destructor_of_a_dropped_child_lets_the_others_end() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic_any(3);
            }
        }
    }
    let (count, value) = counted();
    let mut future = async_def(move || {
        let value = Cell::new(Some(value));
        scope(|s| {
            s.spawn(|| {
                let _value = value.take();
                await_(pending::<()>());
            });
            s.spawn(|| {
                let caught = catch_unwind(|| await_(pending::<()>()));
                assert!(caught.is_err());
                drop(Panics);
            });
            await_(pending::<()>());
        });
    });
    assert!(poll_once(&mut future).is_pending());
    // The scope unwinds already when its children are dropped, so that panic is not seen.
    drop(future);
    assert_eq!(count.get(), 1);
}

#[test]
fn a_forgotten_function_forgets_its_children_with_what_they_borrow() {
    let mut future = async_def(|| {
        let text = String::from("stays");
        scope(|s| {
            s.spawn(|| {
                await_(yield_now());
                text.len()
            });
            await_(pending::<()>());
        });
    });
    assert!(poll_once(&mut future).is_pending());
    std::mem::forget(future);
}

struct Counts(AtomicU32);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn many_wakes_of_children_are_one_of_the_task_and_only_those_are_polled() {
    let wakes = Arc::new(Counts(AtomicU32::new(0)));
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..10)
        .map(|_| tokio::sync::oneshot::channel::<()>())
        .unzip();
    let polls = Rc::new(Cell::new(0));
    let mut future = async_def({
        let polls = polls.clone();
        move || {
            join_all(receivers.into_iter().map(|mut receiver| {
                let polls = &polls;
                move || {
                    await_(std::future::poll_fn(|cx| {
                        polls.set(polls.get() + 1);
                        Pin::new(&mut receiver).poll(cx)
                    }))
                }
            }))
            .len()
        }
    });
    assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
    assert_eq!(polls.get(), 10);
    let mut senders = senders.into_iter();
    for sender in senders.by_ref().take(3) {
        sender.send(()).unwrap();
    }
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
    assert_eq!(polls.get(), 13);
    drop(future);
    // Wakers that outlive the scope wake nobody.
    let before = wakes.0.load(Ordering::SeqCst);
    senders.for_each(drop);
    assert_eq!(wakes.0.load(Ordering::SeqCst), before);
}

#[test]
fn a_thousand_children() {
    let sum = pollster::block_on(async_def(|| {
        let all = join_all((0..1000_u32).map(|n| {
            move || {
                for _ in 0..n % 7 {
                    await_(yield_now());
                }
                n
            }
        }));
        all.into_iter().sum::<u32>()
    }));
    assert_eq!(sum, (0..1000).sum());
}

#[test]
fn a_timeout_unwinds_the_function_and_what_it_borrowed_is_back() {
    pollster::block_on(async_def(|| {
        let (count, value) = counted();
        let mut list = vec![1];
        let result = timeout_with(yield_now(), || {
            let _value = value;
            list.push(2);
            await_(pending::<()>());
            list.push(3);
        });
        assert!(result.is_err());
        assert_eq!(count.get(), 1);
        list.push(4);
        assert_eq!(list, [1, 2, 4]);
    }));
}

#[test]
fn what_is_done_in_time_counts_even_if_the_timer_ended_too() {
    let result = pollster::block_on(async_def(|| {
        timeout_with(yield_now(), || {
            await_(yield_now());
            1
        })
    }));
    assert_eq!(result, Ok(1));
}

#[test]
fn a_timeout_within_a_timeout() {
    let result = pollster::block_on(async_def(|| {
        timeout_with(pending::<()>(), || {
            let inner: Result<(), Elapsed> = timeout_with(yield_now(), || await_(pending::<()>()));
            inner.is_err()
        })
    }));
    assert_eq!(result, Ok(true));
}

#[test]
fn a_function_dropped_in_a_timeout_is_unwound_once() {
    let (count, value) = counted();
    let mut future = async_def(move || {
        timeout_with(pending::<()>(), || {
            let _value = value;
            await_(pending::<()>());
        })
        .is_ok()
    });
    assert!(poll_once(&mut future).is_pending());
    drop(future);
    assert_eq!(count.get(), 1);
}

#[test]
fn a_panic_in_a_timeout_goes_through_it() {
    let future = async_def(|| {
        let _: Result<(), _> = timeout_with(pending::<()>(), || panic_any(4));
    });
    let caught = catch_unwind(AssertUnwindSafe(|| pollster::block_on(future)));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&4));
}

#[cfg(feature = "tokio-time")]
#[test]
fn sleep_and_timeout_of_tokio() {
    use verdigris_await::time::{sleep, timeout};

    let waits = || {
        let soon = Duration::from_millis(1);
        let far = Duration::from_secs(3600);
        assert_eq!(timeout(far, || sleep(soon)), Ok(()));
        let late = timeout(soon, || sleep(far)).unwrap_err();
        assert_eq!(
            std::io::Error::from(late).kind(),
            std::io::ErrorKind::TimedOut
        );
    };
    tokio_one_thread().block_on(async_def(waits));
    tokio_threads().block_on(async_def(waits));
}
