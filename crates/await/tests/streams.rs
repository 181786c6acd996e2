//! Streams as iterators, and sync functions as streams.
#![cfg(feature = "stream")]

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use common::{counted, poll_once, tokio_one_thread, tokio_threads, yield_now};
use futures::stream::{FusedStream, FuturesUnordered};
use futures::{Stream, StreamExt, stream};
use verdigris_await::stream::{Generator, generate, iter};
use verdigris_await::{async_def, await_, join};

/// Numbers, each of which takes a while.
fn slow(upto: u32) -> impl Stream<Item = u32> {
    stream::iter(0..upto).then(|n| async move {
        yield_now().await;
        n
    })
}

fn sums() {
    let all: Vec<_> = iter(pin!(slow(4))).collect();
    assert_eq!(all, [0, 1, 2, 3]);
    let through = generate(|to| {
        for n in iter(Box::pin(slow(4))).filter(|n| n % 2 == 1) {
            await_(yield_now());
            to.emit(n);
        }
    });
    let again: Vec<_> = iter(through).collect();
    assert_eq!(again, [1, 3]);
}

#[test]
fn on_every_executor() {
    pollster::block_on(async_def(sums));
    futures::executor::block_on(async_def(sums));
    smol::block_on(async_def(sums));
    tokio_one_thread().block_on(async_def(sums));
    tokio_threads().block_on(async_def(sums));
    let local = tokio::task::LocalSet::new();
    let task = local.spawn_local(async_def(sums));
    tokio_threads().block_on(local);
    tokio_one_thread().block_on(task).unwrap();
}

#[test]
#[should_panic = "await_ outside of async_def"]
fn without_a_context_an_iterator_panics() {
    iter(stream::iter([1])).next();
}

#[test]
fn a_function_dropped_while_it_iterates_has_lost_no_item() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    struct Channel(tokio::sync::mpsc::UnboundedReceiver<u32>);
    impl Stream for Channel {
        type Item = u32;
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
            self.0.poll_recv(cx)
        }
    }
    let stream = Rc::new(std::cell::RefCell::new(Channel(receiver)));
    let seen = Rc::new(Cell::new(0));
    let mut function = async_def({
        let (stream, seen) = (stream.clone(), seen.clone());
        move || {
            for item in iter(&mut *stream.borrow_mut()) {
                seen.set(item);
            }
        }
    });
    sender.send(1).unwrap();
    assert!(poll_once(&mut function).is_pending());
    assert_eq!(seen.get(), 1);
    sender.send(2).unwrap();
    drop(function);
    assert_eq!(pollster::block_on(stream.borrow_mut().next()), Some(2));
}

#[test]
fn a_generator_runs_from_item_to_item_when_asked() {
    let steps = Rc::new(Cell::new(0));
    let mut generator = generate({
        let steps = steps.clone();
        move |to| {
            for n in 1..=2 {
                steps.set(n);
                to.emit(n);
            }
            steps.set(3);
        }
    });
    assert_eq!(steps.get(), 0);
    for n in 1..=2 {
        assert_eq!(pollster::block_on(generator.next()), Some(n));
        assert_eq!(steps.get(), n);
        assert!(!generator.is_terminated());
    }
    assert_eq!(pollster::block_on(generator.next()), None);
    assert_eq!(steps.get(), 3);
    assert!(generator.is_terminated());
    assert_eq!(pollster::block_on(generator.next()), None);
}

#[test]
fn a_dropped_generator_unwinds_its_function_once() {
    let (count, value) = counted();
    let mut generator = generate(move |to| {
        let _value = value;
        loop {
            to.emit(());
        }
    });
    assert_eq!(pollster::block_on(generator.next()), Some(()));
    assert_eq!(count.get(), 0);
    drop(generator);
    assert_eq!(count.get(), 1);
}

#[test]
fn a_panic_of_the_function_comes_out_of_the_poll_and_ends_the_stream() {
    let mut generator: Generator<u32> = generate(|_| panic!("of the function"));
    let caught = catch_unwind(AssertUnwindSafe(|| pollster::block_on(generator.next())));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"of the function"));
    assert_eq!(pollster::block_on(generator.next()), None);
}

#[test]
fn functions_side_by_side_in_a_generator_lose_no_item() {
    let generator = generate(|to| {
        join(
            || (0..3).for_each(|n| to.emit(n)),
            || (10..13).for_each(|n| to.emit(n)),
        );
    });
    let mut all: Vec<_> = pollster::block_on(generator.collect());
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 10, 11, 12]);
}

#[test]
fn a_function_that_yields_below_an_executor_in_the_generator_is_polled_again() {
    let generator = generate(|to| {
        // FuturesUnordered polls only what was woken. The yielder is shared on one thread.
        let all: FuturesUnordered<_> = (0..2)
            .map(|_| {
                // SAFETY: they end in this closure, which waits for them, or with its stack.
                unsafe { verdigris_await::async_def_unchecked(|| (0..3).for_each(|n| to.emit(n))) }
            })
            .collect();
        await_(all.collect::<Vec<()>>());
    });
    let mut all: Vec<_> = pollster::block_on(generator.collect());
    all.sort_unstable();
    assert_eq!(all, [0, 0, 1, 1, 2, 2]);
}

struct Counts(AtomicU32);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn to_take_an_item_wakes_nobody() {
    let wakes = Arc::new(Counts(AtomicU32::new(0)));
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let mut generator = generate(|to| (0..3).for_each(|n| to.emit(n)));
    for n in 0..3 {
        assert_eq!(generator.poll_next_unpin(&mut cx), Poll::Ready(Some(n)));
    }
    assert_eq!(generator.poll_next_unpin(&mut cx), Poll::Ready(None));
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
}
