//! Locks and channels: who waits, who is served, and who is dropped while it waits.

mod common;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use common::{poll_once, tokio_one_thread, tokio_threads, yield_now};
use verdigris_await::sync::{
    Condvar, Mutex, RecvError, RwLock, SendError, TryLockError, TryRecvError, TrySendError,
    channel, sync_channel,
};
use verdigris_await::{async_def, await_, join, join_all, scope};

/// Takes turns at a counter under a lock, and hands results through a channel.
fn works() {
    let lock = Mutex::new(0);
    let (sender, receiver) = sync_channel(2);
    let (sum, _) = join(
        || receiver.iter().sum::<u32>(),
        || {
            let sender = sender; // dropped at the end, or the receiver waits for ever
            join_all((0..20).map(|_| {
                || {
                    let mut count = lock.lock().unwrap();
                    let before = *count;
                    await_(yield_now());
                    *count = before + 1;
                    drop(count);
                    sender.send(1).unwrap();
                }
            }))
        },
    );
    assert_eq!((sum, lock.into_inner().unwrap()), (20, 20));
}

#[test]
fn on_every_executor() {
    pollster::block_on(async_def(works));
    futures::executor::block_on(async_def(works));
    smol::block_on(async_def(works));
    tokio_one_thread().block_on(async_def(works));
    tokio_threads().block_on(async_def(works));
    let local = tokio::task::LocalSet::new();
    let task = local.spawn_local(async_def(works));
    tokio_threads().block_on(local);
    tokio_one_thread().block_on(task).unwrap();
}

#[test]
fn threads_with_functions_share_a_lock_and_a_channel_with_async_code() {
    let lock = Arc::new(Mutex::new(0_u32));
    let (sender, receiver) = channel();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (lock, sender) = (lock.clone(), sender.clone());
            std::thread::spawn(move || {
                pollster::block_on(async_def(move || {
                    for _ in 0..200 {
                        let mut count = lock.lock().unwrap();
                        let before = *count;
                        await_(yield_now());
                        *count = before + 1;
                        sender.send(*count).unwrap();
                    }
                }));
            })
        })
        .collect();
    drop(sender);
    let mut seen = pollster::block_on(async {
        let mut seen = Vec::new();
        while let Ok(count) = receiver.recv_async().await {
            seen.push(count);
            *lock.lock_async().await.unwrap() += 0;
        }
        seen
    });
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(*lock.try_lock().unwrap(), 800);
    seen.sort_unstable();
    assert_eq!(seen, (1..=800).collect::<Vec<_>>());
}

#[test]
fn without_a_context_what_is_free_is_taken_and_a_wait_is_a_panic() {
    let lock = Mutex::new(1);
    *lock.lock().unwrap() += 1;
    let held = lock.lock().unwrap();
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    let caught = catch_unwind(AssertUnwindSafe(|| drop(lock.lock())));
    assert!(
        caught
            .unwrap_err()
            .downcast_ref::<String>()
            .unwrap()
            .contains("await_ outside of async_def")
    );
    drop(held);
    assert_eq!(*lock.lock().unwrap(), 2);

    let (sender, receiver) = sync_channel(1);
    sender.send(1).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| sender.send(2))).is_err());
    assert_eq!(receiver.recv(), Ok(1));
    assert!(catch_unwind(AssertUnwindSafe(|| receiver.recv())).is_err());
    // The end is known without waiting.
    drop(sender);
    assert_eq!(receiver.recv(), Err(RecvError));
}

#[test]
fn a_lock_is_given_in_the_order_of_asking() {
    let order = RefCell::new(Vec::new());
    let order = Rc::new(order);
    pollster::block_on(async_def({
        let order = order.clone();
        move || {
            let lock = Mutex::new(());
            let held = lock.lock().unwrap();
            scope(|s| {
                for n in 0..5 {
                    let (order, lock) = (&order, &lock);
                    s.spawn(move || {
                        let _held = lock.lock().unwrap();
                        await_(yield_now());
                        order.borrow_mut().push(n);
                    });
                }
                await_(yield_now());
                drop(held);
                // Handed over: nobody gets in between.
                assert!(lock.try_lock().is_err());
            });
        }
    }));
    assert_eq!(*order.borrow(), [0, 1, 2, 3, 4]);
}

#[test]
fn one_that_is_dropped_while_it_waits_leaves_the_queue() {
    let lock = Rc::new(Mutex::new(()));
    let held = lock.lock().unwrap();
    let waits = || {
        let lock = lock.clone();
        async_def(move || drop(lock.lock().unwrap()))
    };
    let (mut first, mut second) = (waits(), waits());
    assert!(poll_once(&mut first).is_pending());
    assert!(poll_once(&mut second).is_pending());
    drop(first);
    drop(held);
    assert!(poll_once(&mut second).is_ready());
    assert!(lock.try_lock().is_ok());
    assert!(!lock.is_poisoned());
}

#[test]
fn one_that_is_dropped_after_it_was_served_gives_the_lock_on() {
    let lock = Rc::new(Mutex::new(()));
    let held = lock.lock().unwrap();
    let waits = || {
        let lock = lock.clone();
        async_def(move || drop(lock.lock().unwrap()))
    };
    let (mut first, mut second) = (waits(), waits());
    assert!(poll_once(&mut first).is_pending());
    assert!(poll_once(&mut second).is_pending());
    drop(held); // promised to the first
    drop(first);
    assert!(poll_once(&mut second).is_ready());
    assert!(lock.try_lock().is_ok());
}

struct Counts(AtomicU32);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn one_unlock_is_one_wake_of_one_waiter() {
    let wakes: [_; 2] = std::array::from_fn(|_| Arc::new(Counts(AtomicU32::new(0))));
    let count = |at: usize| wakes[at].0.load(Ordering::SeqCst);
    let lock = Mutex::new(());
    let held = lock.lock().unwrap();
    let mut first = pin!(lock.lock_async());
    let mut second = pin!(lock.lock_async());
    let wakers = wakes.clone().map(Waker::from);
    let mut contexts = wakers.each_ref().map(Context::from_waker);
    // Polled twice: the second poll changes nothing.
    for _ in 0..2 {
        assert!(first.as_mut().poll(&mut contexts[0]).is_pending());
        assert!(second.as_mut().poll(&mut contexts[1]).is_pending());
    }
    drop(held);
    assert_eq!((count(0), count(1)), (1, 0));
    let Poll::Ready(Ok(guard)) = first.as_mut().poll(&mut contexts[0]) else {
        panic!("served")
    };
    drop(guard);
    assert_eq!((count(0), count(1)), (1, 1));
}

#[test]
fn the_waker_of_the_last_poll_is_woken() {
    let wakes: [_; 2] = std::array::from_fn(|_| Arc::new(Counts(AtomicU32::new(0))));
    let lock = Mutex::new(());
    let held = lock.lock().unwrap();
    let mut waits = pin!(lock.lock_async());
    for wakes in &wakes {
        let waker = Waker::from(wakes.clone());
        let mut context = Context::from_waker(&waker);
        assert!(waits.as_mut().poll(&mut context).is_pending());
    }
    drop(held);
    let counts = wakes.map(|wakes| wakes.0.load(Ordering::SeqCst));
    assert_eq!(counts, [0, 1]);
}

#[test]
fn a_function_dropped_under_the_lock_poisons_it_and_gives_it_on() {
    let lock = Rc::new(Mutex::new(1));
    let mut function = async_def({
        let lock = lock.clone();
        move || {
            let mut value = lock.lock().unwrap();
            *value = 2;
            await_(pending::<()>());
        }
    });
    assert!(poll_once(&mut function).is_pending());
    assert!(!lock.is_poisoned());
    drop(function);
    assert!(lock.is_poisoned());
    let guard = lock.lock().unwrap_err().into_inner();
    assert_eq!(*guard, 2);
    drop(guard);
    lock.clear_poison();
    assert_eq!(*lock.lock().unwrap(), 2);
}

#[test]
fn a_panic_poisons_as_in_std() {
    let lock = RwLock::new(1);
    let read = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.read().unwrap();
        panic!();
    }));
    assert!(read.is_err() && !lock.is_poisoned());
    let written = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.write().unwrap();
        panic!();
    }));
    assert!(written.is_err() && lock.is_poisoned());
    assert!(lock.read().is_err());
    assert_eq!(lock.into_inner().unwrap_err().into_inner(), 1);
}

#[test]
fn readers_share_and_queue_behind_a_writer_that_waits() {
    let lock = Rc::new(RwLock::new(0));
    let reads = || {
        let lock = lock.clone();
        async_def(move || *lock.read().unwrap())
    };
    let held = (lock.read().unwrap(), lock.read().unwrap());
    let mut writer = async_def({
        let lock = lock.clone();
        move || *lock.write().unwrap() += 1
    });
    assert!(poll_once(&mut writer).is_pending());
    let mut reader = reads();
    assert!(poll_once(&mut reader).is_pending());
    assert!(lock.try_read().is_err());
    drop(held);
    assert!(poll_once(&mut reader).is_pending());
    assert!(poll_once(&mut writer).is_ready());
    assert_eq!(poll_once(&mut reader), Poll::Ready(1));
}

#[test]
fn readers_behind_a_writer_that_is_dropped_go_on() {
    let lock = Rc::new(RwLock::new(0));
    let held = lock.read().unwrap();
    let mut writer = async_def({
        let lock = lock.clone();
        move || *lock.write().unwrap() += 1
    });
    let mut reader = async_def({
        let lock = lock.clone();
        move || *lock.read().unwrap()
    });
    assert!(poll_once(&mut writer).is_pending());
    assert!(poll_once(&mut reader).is_pending());
    drop(writer);
    assert_eq!(poll_once(&mut reader), Poll::Ready(0));
    drop(held);
    assert!(lock.try_write().is_ok());
}

#[test]
fn a_condition_variable_wakes_one_or_all() {
    pollster::block_on(async_def(|| {
        let (tickets, changed) = (Mutex::new(0), Condvar::new());
        let served = Cell::new(0);
        scope(|s| {
            for _ in 0..5 {
                s.spawn(|| {
                    let tickets = tickets.lock().unwrap();
                    let mut tickets = changed.wait_while(tickets, |count| *count == 0).unwrap();
                    *tickets -= 1;
                    served.set(served.get() + 1);
                });
            }
            await_(yield_now());
            changed.notify_one(); // in vain: the condition does not hold
            await_(yield_now());
            assert_eq!(served.get(), 0);
            *tickets.lock().unwrap() = 1;
            changed.notify_one();
            await_(yield_now());
            await_(yield_now());
            assert_eq!(served.get(), 1);
            *tickets.lock().unwrap() = 4;
            changed.notify_all();
        });
        assert_eq!(served.get(), 5);
        // A notification that nobody waits for is gone.
        changed.notify_one();
        let waits = changed.wait_async(tickets.lock().unwrap());
        assert!(poll_once(&mut Box::pin(waits)).is_pending());
    }));
}

#[test]
fn a_notification_of_one_that_is_dropped_goes_to_the_next() {
    let shared = Rc::new((Mutex::new(()), Condvar::new()));
    let waits = || {
        let shared = shared.clone();
        async_def(move || drop(shared.1.wait(shared.0.lock().unwrap()).unwrap()))
    };
    // Dropped before it was polled again, and dropped while it waits for the lock again.
    for polled in [false, true] {
        let (mut first, mut second) = (waits(), waits());
        assert!(poll_once(&mut first).is_pending());
        assert!(poll_once(&mut second).is_pending());
        let held = shared.0.try_lock().unwrap();
        shared.1.notify_one();
        if polled {
            assert!(poll_once(&mut first).is_pending());
        }
        drop(first);
        drop(held);
        assert!(poll_once(&mut second).is_ready());
        assert!(!shared.0.is_poisoned());
    }
}

#[test]
fn a_channel_ends_with_its_senders_after_the_last_value() {
    let (sender, receiver) = channel();
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    sender.send(1).unwrap();
    let other = sender.clone();
    drop(sender);
    other.send(2).unwrap();
    drop(other);
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(receiver.into_iter().next(), None);
}

#[test]
fn a_receiver_that_waits_learns_that_the_senders_are_gone() {
    let (sender, receiver) = channel::<()>();
    let mut function = async_def(move || receiver.recv());
    assert!(poll_once(&mut function).is_pending());
    drop(sender);
    assert_eq!(poll_once(&mut function), Poll::Ready(Err(RecvError)));
}

#[test]
fn senders_learn_that_the_receiver_is_gone_and_have_their_value_back() {
    let (sender, receiver) = sync_channel(1);
    sender.send(1).unwrap();
    assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
    let mut function = async_def({
        let sender = sender.clone();
        move || sender.send(2)
    });
    assert!(poll_once(&mut function).is_pending());
    drop(receiver);
    assert_eq!(poll_once(&mut function), Poll::Ready(Err(SendError(2))));
    assert_eq!(sender.try_send(3), Err(TrySendError::Disconnected(3)));
    assert!(pollster::block_on(sender.send_async(4)).is_err());
    let (sender, receiver) = channel();
    drop(receiver);
    assert_eq!(sender.send(5), Err(SendError(5)));
}

#[test]
fn values_that_hold_their_own_sender_are_dropped_with_the_receiver() {
    struct Own(#[allow(dead_code)] verdigris_await::sync::Sender<Own>);
    let (sender, receiver) = channel();
    sender.send(Own(sender.clone())).unwrap();
    drop(sender);
    drop(receiver);
}

#[test]
fn a_receiver_dropped_while_it_waits_or_after_it_was_served_loses_no_value() {
    let (sender, receiver) = channel();
    let receiver = Rc::new(receiver);
    let receives = || {
        let receiver = receiver.clone();
        async_def(move || receiver.recv().unwrap())
    };
    for polled_after in [false, true] {
        let (mut first, mut second) = (receives(), receives());
        assert!(poll_once(&mut first).is_pending());
        assert!(poll_once(&mut second).is_pending());
        if polled_after {
            drop(first);
            sender.send(1).unwrap();
        } else {
            sender.send(1).unwrap();
            drop(first);
        }
        assert_eq!(poll_once(&mut second), Poll::Ready(1));
    }
}

#[test]
fn a_sender_dropped_while_it_waits_has_not_sent_and_its_room_is_the_next_ones() {
    let (sender, receiver) = sync_channel(1);
    sender.send(0).unwrap();
    let sends = |value| {
        let sender = sender.clone();
        async_def(move || sender.send(value).unwrap())
    };
    let (mut first, mut second) = (sends(1), sends(2));
    assert!(poll_once(&mut first).is_pending());
    assert!(poll_once(&mut second).is_pending());
    assert_eq!(receiver.try_recv(), Ok(0)); // its room is promised to the first
    drop(first);
    assert!(poll_once(&mut second).is_ready());
    assert_eq!(receiver.try_recv(), Ok(2));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
}

#[test]
#[should_panic = "bound of a sync_channel is 0"]
fn a_rendezvous_is_refused() {
    let _ = sync_channel::<()>(0);
}

#[test]
fn locks_and_channels_cross_threads_as_stds_do() {
    fn shared<T: Send + Sync>() {}
    shared::<Mutex<Cell<u8>>>();
    shared::<RwLock<u8>>();
    shared::<Condvar>();
    shared::<verdigris_await::sync::Sender<Cell<u8>>>();
    shared::<verdigris_await::sync::SyncSender<Cell<u8>>>();
    shared::<verdigris_await::sync::Receiver<Cell<u8>>>();
}

#[test]
fn debug_shows_the_value_unless_it_is_locked() {
    let lock = Mutex::new(1);
    assert_eq!(
        format!("{lock:?}"),
        "Mutex { data: 1, poisoned: false, .. }"
    );
    let guard = lock.lock().unwrap();
    assert!(format!("{lock:?}").contains("<locked>"));
    assert_eq!(format!("{guard:?} {guard}"), "1 1");
    let _ = Pin::new(&guard);
}
