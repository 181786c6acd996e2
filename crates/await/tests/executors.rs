//! The same function on every executor, with what each gives its tasks.

// Miri does not know the instructions that switch stacks.
#![cfg(not(miri))]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::{counted, tokio_one_thread, tokio_threads, yield_now};
use tokio::sync::oneshot;
use verdigris_await::{AwaitExt, async_def, await_};

/// Waits some times below a recursion, and tells how often.
fn waits(depth: u32) -> u32 {
    yield_now().await_();
    if depth == 0 { 1 } else { waits(depth - 1) + 1 }
}

#[test]
fn pollster() {
    assert_eq!(pollster::block_on(async_def(|| waits(9))), 10);
}

#[test]
fn futures_local_pool() {
    use futures::task::LocalSpawnExt;

    let seen = Rc::new(RefCell::new(Vec::new()));
    let mut pool = futures::executor::LocalPool::new();
    for _ in 0..10 {
        let seen = seen.clone();
        let function = async_def(move || {
            // Before the borrow: others would find it borrowed while this one waits.
            let count = waits(9);
            seen.borrow_mut().push(count);
        });
        pool.spawner().spawn_local(function).unwrap();
    }
    pool.run();
    assert_eq!(*seen.borrow(), [10; 10]);
}

#[test]
fn futures_block_on() {
    assert_eq!(futures::executor::block_on(async_def(|| waits(9))), 10);
}

#[test]
fn smol_block_on_with_timers() {
    let future = async_def(|| {
        smol::Timer::after(Duration::from_millis(1)).await_();
        waits(9)
    });
    assert_eq!(smol::block_on(future), 10);
}

#[test]
fn smol_local_executor() {
    let executor = smol::LocalExecutor::new();
    let tasks: Vec<_> = (0..10)
        .map(|_| executor.spawn(async_def(|| waits(9))))
        .collect();
    let all = async {
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        sum
    };
    assert_eq!(smol::block_on(executor.run(all)), 100);
}

#[test]
fn tokio_current_thread_block_on_with_timers_and_sockets() {
    tokio_one_thread().block_on(async_def(|| {
        tokio::time::sleep(Duration::from_millis(1)).await_();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await_()
            .unwrap();
        let address = listener.local_addr().unwrap();
        let (_there, accepted) = await_(async {
            tokio::join!(tokio::net::TcpStream::connect(address), listener.accept())
        });
        accepted.unwrap();
    }));
}

#[test]
fn tokio_block_on_of_the_multi_thread_runtime() {
    let mut seen = 0;
    tokio_threads().block_on(async {
        tokio::task::LocalSet::new()
            .run_until(async {
                let all = (0..10).map(|_| tokio::task::spawn_local(async_def(|| waits(9))));
                for task in all.collect::<Vec<_>>() {
                    seen += task.await.unwrap();
                }
            })
            .await;
    });
    assert_eq!(seen, 100);
}

#[test]
fn tokio_local_set_with_many_functions_that_meet() {
    let runtime = tokio_one_thread();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let barrier = Rc::new(tokio::sync::Barrier::new(100));
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let barrier = barrier.clone();
                tokio::task::spawn_local(async_def(move || barrier.wait().await_().is_leader()))
            })
            .collect();
        let mut leaders = 0;
        for task in tasks {
            leaders += u32::from(task.await.unwrap());
        }
        assert_eq!(leaders, 1);
    });
}

#[test]
fn tokio_budget_runs_out_in_a_function_as_in_an_async_block() {
    tokio_one_thread().block_on(async {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let other_ran = Rc::new(std::cell::Cell::new(false));
                let greedy = tokio::task::spawn_local(async_def({
                    let other_ran = other_ran.clone();
                    move || {
                        // Always ready, but for the budget. Without it the other never runs.
                        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
                        let mut turns = 0;
                        while !other_ran.get() {
                            sender.send(()).unwrap();
                            receiver.recv().await_().unwrap();
                            turns += 1;
                        }
                        turns
                    }
                }));
                let other = tokio::task::spawn_local(async move { other_ran.set(true) });
                other.await.unwrap();
                assert!(greedy.await.unwrap() > 1);
            })
            .await;
    });
}

#[test]
fn tokio_timeout_cancels_a_function() {
    let (count, value) = counted();
    tokio_one_thread().block_on(async {
        let function = async_def(move || {
            let _value = value;
            await_(std::future::pending::<()>());
        });
        let late = tokio::time::timeout(Duration::from_millis(1), function).await;
        assert!(late.is_err());
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn the_loser_of_a_select_is_unwound() {
    let (count, value) = counted();
    tokio_one_thread().block_on(async {
        let (sender, receiver) = oneshot::channel::<()>();
        tokio::select! {
            biased;
            () = async_def(move || {
                let _value = value;
                let _kept = sender;
                await_(std::future::pending::<()>());
            }) => unreachable!(),
            () = yield_now() => {}
        }
        assert_eq!(count.get(), 1);
        // What the function held went with it.
        assert!(receiver.await.is_err());
    });
}

#[test]
fn a_join_set_aborts_functions() {
    let (count, value) = counted();
    let local = tokio::task::LocalSet::new();
    local.block_on(&tokio_one_thread(), async {
        let mut set = tokio::task::JoinSet::new();
        set.spawn_local(async_def(move || {
            let _value = value;
            await_(std::future::pending::<()>());
        }));
        yield_now().await;
        set.abort_all();
        assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn a_runtime_that_ends_unwinds_what_waits() {
    let (count, value) = counted();
    let runtime = tokio_one_thread();
    let local = tokio::task::LocalSet::new();
    local.spawn_local(async_def(move || {
        let _value = value;
        tokio::time::sleep(Duration::from_secs(3600)).await_();
    }));
    local.block_on(&runtime, yield_now());
    assert_eq!(count.get(), 0);
    drop((local, runtime));
    assert_eq!(count.get(), 1);
}

#[test]
fn a_panic_of_a_function_is_a_join_error_with_its_payload() {
    let local = tokio::task::LocalSet::new();
    local.block_on(&tokio_one_thread(), async {
        let task = tokio::task::spawn_local(async_def(|| {
            yield_now().await_();
            std::panic::panic_any(17);
        }));
        let payload = task.await.unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref(), Some(&17));
    });
}

#[test]
fn ten_thousand_functions_wait_at_once() {
    let local = tokio::task::LocalSet::new();
    local.block_on(&tokio_one_thread(), async {
        let (sender, _) = tokio::sync::broadcast::channel(1);
        let tasks: Vec<_> = (0..10_000)
            .map(|_| {
                let mut receiver = sender.subscribe();
                tokio::task::spawn_local(async_def(move || receiver.recv().await_().unwrap()))
            })
            .collect();
        yield_now().await;
        assert_eq!(sender.send(1_u32).unwrap(), 10_000);
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        assert_eq!(sum, 10_000);
    });
}
