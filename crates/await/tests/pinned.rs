//! Functions on threads of their own.

// Miri does not know the instructions that switch stacks.
#![cfg(not(miri))]

mod common;

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, ThreadId};

use common::yield_now;
use verdigris_await::{JoinHandle, PinnedThreads, await_, spawn_pinned};

fn one_thread() -> PinnedThreads {
    PinnedThreads::builder().threads(1).build().unwrap()
}

/// Tells when it is dropped, and where.
struct Tells(mpsc::Sender<ThreadId>);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

#[test]
fn a_handle_is_send_and_a_function_stays_on_its_thread() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let threads = PinnedThreads::builder().threads(3).build().unwrap();
    for _ in 0..20 {
        let function = send(threads.spawn(|| {
            let local = Rc::new(thread::current().id());
            for _ in 0..20 {
                await_(yield_now());
                assert_eq!(*local, thread::current().id());
            }
            *local
        }));
        assert_ne!(pollster::block_on(function), thread::current().id());
    }
}

#[test]
fn functions_of_one_thread_take_turns() {
    let threads = one_thread();
    let (to_first, first_gets) = tokio::sync::oneshot::channel();
    let (to_second, second_gets) = tokio::sync::oneshot::channel();
    let first = threads.spawn(move || {
        to_second.send(1).unwrap();
        await_(first_gets).unwrap() + 10
    });
    let second = threads.spawn(move || {
        let got = await_(second_gets).unwrap();
        to_first.send(got + 1).unwrap();
        got
    });
    assert_eq!(
        pollster::block_on(async { (first.await, second.await) }),
        (12, 1)
    );
}

#[test]
fn a_task_of_the_multi_thread_runtime_waits_for_one() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let sum = runtime.block_on(async {
        let tasks: Vec<_> = (0..100_u32)
            .map(|n| {
                tokio::spawn(async move {
                    spawn_pinned(move || {
                        await_(yield_now());
                        n
                    })
                    .await
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 4950);
}

#[test]
fn a_panic_goes_on_where_it_is_awaited_and_the_thread_lives() {
    let threads = one_thread();
    let fails: JoinHandle<()> = threads.spawn(|| {
        await_(yield_now());
        panic_any(9_u8);
    });
    let payload = catch_unwind(AssertUnwindSafe(|| pollster::block_on(fails))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&9_u8));
    assert_eq!(pollster::block_on(threads.spawn(|| 5)), 5);
}

#[test]
fn a_dropped_handle_unwinds_the_function_on_its_thread() {
    let threads = one_thread();
    let id = pollster::block_on(threads.spawn(|| thread::current().id()));
    let (sender, receiver) = mpsc::channel();
    let (started, starts) = mpsc::channel();
    let function = threads.spawn(move || {
        let _tells = Tells(sender);
        started.send(()).unwrap();
        await_(pending::<()>());
    });
    starts.recv().unwrap();
    assert!(!function.is_finished());
    drop(function);
    assert_eq!(receiver.recv().unwrap(), id);
}

#[test]
fn a_detached_function_goes_on_after_its_threads_were_dropped() {
    let threads = one_thread();
    let (go, goes) = tokio::sync::oneshot::channel::<()>();
    let (sender, receiver) = mpsc::channel();
    threads
        .spawn(move || {
            await_(goes).unwrap();
            sender.send("went on").unwrap();
        })
        .detach();
    drop(threads);
    go.send(()).unwrap();
    assert_eq!(receiver.recv().unwrap(), "went on");
}

#[test]
fn threads_end_with_their_last_function() {
    let (sender, receiver) = mpsc::channel();
    let threads = PinnedThreads::builder()
        .threads(2)
        .around(move |work| {
            let _tells = Tells(sender.clone());
            work();
        })
        .build()
        .unwrap();
    assert_eq!(pollster::block_on(threads.spawn(|| 1)), 1);
    drop(threads);
    // Both ended, and the closure with its sender.
    assert_eq!(receiver.iter().count(), 2);
}

#[test]
fn a_waker_that_comes_late_wakes_nobody() {
    let threads = one_thread();
    let (sender, receiver) = mpsc::channel();
    let function = threads.spawn(move || {
        await_(std::future::poll_fn(|cx| {
            sender.send(cx.waker().clone()).unwrap();
            std::task::Poll::Ready(())
        }));
    });
    pollster::block_on(function);
    let late = receiver.recv().unwrap();
    late.wake_by_ref();
    assert_eq!(pollster::block_on(threads.spawn(|| 2)), 2);
    drop(threads);
    late.wake();
}

#[test]
fn a_panic_of_a_cancelled_function_leaves_its_thread_alive() {
    let threads = one_thread();
    let (started, starts) = mpsc::channel();
    let function = threads.spawn(move || {
        started.send(()).unwrap();
        let _ = catch_unwind(|| await_(pending::<()>()));
        panic_any("while it ends");
    });
    starts.recv().unwrap();
    drop(function);
    assert_eq!(pollster::block_on(threads.spawn(|| 3)), 3);
}

#[test]
fn a_builder_chooses_the_size_of_stacks() {
    let threads = PinnedThreads::builder()
        .threads(1)
        .stack_size(128 << 10)
        .build()
        .unwrap();
    assert_eq!(pollster::block_on(threads.spawn(|| await_(async { 4 }))), 4);
}

#[test]
fn handles_of_a_thread_that_never_works_panic() {
    let threads = PinnedThreads::builder()
        .threads(1)
        .around(|_work| ())
        .build()
        .unwrap();
    // Before or after the thread has gone.
    for _ in 0..10 {
        let function = threads.spawn(|| 1);
        let payload = catch_unwind(AssertUnwindSafe(|| pollster::block_on(function))).unwrap_err();
        let told = payload.downcast_ref::<&str>().unwrap();
        assert!(told.contains("around"), "{told}");
    }
}
