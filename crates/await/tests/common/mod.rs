//! What the tests share.
#![allow(dead_code)]

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Pending once, and wakes its task at once.
#[derive(Default)]
pub struct YieldNow(bool);

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

pub fn yield_now() -> YieldNow {
    YieldNow::default()
}

/// Polls once with a waker that does nothing.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts its drops.
pub struct Counted(pub Rc<Cell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// A counter and a value that counts its drops in it.
pub fn counted() -> (Rc<Cell<u32>>, Counted) {
    let count = Rc::new(Cell::new(0));
    (count.clone(), Counted(count))
}

/// Runs the test that calls this in a process of its own, which must end by `signal`, or well for
/// None. Returns true in the child: there the test goes on.
pub fn in_child(test: &str, signal: Option<i32>, stderr: &str) -> bool {
    use std::os::unix::process::ExitStatusExt;

    if std::env::var_os("VERDIGRIS_CHILD").is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("VERDIGRIS_CHILD", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), signal, "{said}");
    assert!(signal.is_some() || output.status.success(), "{said}");
    assert!(said.contains(stderr), "{said}");
    false
}

pub fn tokio_one_thread() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

pub fn tokio_threads() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}
