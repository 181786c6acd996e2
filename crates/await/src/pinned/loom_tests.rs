//! Every order of the locks of one pinned thread and one other.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::inbox::{Inbox, Wakes};
use super::join::Slot;

#[test]
fn no_wake_is_lost() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::default());
        let id = inbox.start(Box::new(|_| Box::pin(async {})));
        let waker = Waker::from(Arc::new(Wakes {
            inbox: inbox.clone(),
            id,
        }));
        let other = thread::spawn(move || {
            waker.wake_by_ref();
            waker.wake();
        });
        let (mut starts, mut wakes) = (0, 0);
        // Each would wait for ever for what was lost, which loom reports.
        while starts == 0 || wakes == 0 {
            let letters = inbox.next(false).expect("it is not closed");
            starts += letters.starts.len();
            wakes += letters.wakes.len();
        }
        assert!(wakes <= 2);
        other.join().unwrap();
    });
}

#[test]
fn a_close_ends_a_thread_that_waits() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::default());
        let other = thread::spawn({
            let inbox = inbox.clone();
            move || inbox.close()
        });
        assert!(inbox.next(true).is_none());
        other.join().unwrap();
    });
}

struct Notes(AtomicBool);

impl Wake for Notes {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_result_is_seen_or_its_waker_is_woken() {
    loom::model(|| {
        let slot = Arc::new(Slot::new());
        let other = thread::spawn({
            let slot = slot.clone();
            move || slot.fill(Ok(7))
        });
        let notes = Arc::new(Notes(AtomicBool::new(false)));
        let waker = Waker::from(notes.clone());
        let mut cx = Context::from_waker(&waker);
        let first = slot.poll(&mut cx);
        other.join().unwrap();
        match first {
            Poll::Ready(result) => assert_eq!(result.unwrap(), 7),
            Poll::Pending => {
                assert!(notes.0.load(Ordering::SeqCst));
                assert!(matches!(slot.poll(&mut cx), Poll::Ready(Ok(7))));
            }
        }
    });
}
