//! The threads, and the executor that each of them runs.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread;

use super::inbox::{Id, Inbox, Running, Wakes};
use super::join::{JoinHandle, Promise, Slot};
use crate::Builder;

/// What runs around the work of each thread, from its start to its end.
type Around = Arc<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

/// Runs a function that waits on one of a few threads kept for that, for callers that must be
/// `Send`: tasks of tokio's multi-thread runtime, of `smol::spawn`, of any work-stealing executor.
///
/// The closure crosses to its thread once; its stack is made there and never moves. There are as
/// many threads as processors, started with the first call. They belong to no runtime: sockets and
/// timers that need one want [`PinnedThreads`] with [`around`](PinnedThreadsBuilder::around).
///
/// ```
/// use verdigris_await::{await_, spawn_pinned};
///
/// # let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
/// # runtime.block_on(async {
/// let task = tokio::spawn(async {
///     let (sender, receiver) = tokio::sync::oneshot::channel();
///     let function = spawn_pinned(move || await_(receiver).unwrap() + 1);
///     sender.send(41).unwrap();
///     function.await
/// });
/// assert_eq!(task.await.unwrap(), 42);
/// # });
/// ```
///
/// What the closure captures, and what it returns, must be `Send`. What it makes need not be.
///
/// ```compile_fail,E0277
/// let not_send = std::rc::Rc::new(1);
/// let _handle = verdigris_await::spawn_pinned(move || *not_send);
/// ```
/// ```compile_fail,E0277
/// let _handle = verdigris_await::spawn_pinned(|| std::rc::Rc::new(1));
/// ```
///
/// # Panics
///
/// The system refuses to start the threads.
pub fn spawn_pinned<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    static THREADS: OnceLock<PinnedThreads> = OnceLock::new();
    THREADS
        .get_or_init(|| {
            let started = PinnedThreads::builder().build();
            started.unwrap_or_else(|error| panic!("spawn_pinned has no threads: {error}"))
        })
        .spawn(f)
}

/// Threads that run functions that wait. Each function stays on the thread that it began on.
///
/// Dropping it takes no function away: each thread ends with its last one.
///
/// ```
/// use std::time::Duration;
/// use verdigris_await::{PinnedThreads, await_};
///
/// let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
/// // Timers and sockets of this runtime work in the functions.
/// let handle = runtime.handle().clone();
/// let threads = PinnedThreads::builder()
///     .threads(2)
///     .around(move |work| {
///         let _entered = handle.enter();
///         work();
///     })
///     .build()?;
/// let slept = threads.spawn(|| {
///     await_(tokio::time::sleep(Duration::from_millis(1)));
///     "slept"
/// });
/// assert_eq!(runtime.block_on(slept), "slept");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct PinnedThreads {
    inboxes: Box<[Arc<Inbox>]>,
    /// Whose turn it is. Any order will do, so `Relaxed`.
    turn: AtomicUsize,
}

/// Makes [`PinnedThreads`].
#[derive(Default)]
pub struct PinnedThreadsBuilder {
    threads: Option<NonZeroUsize>,
    around: Option<Around>,
    stack_size: Option<usize>,
}

impl PinnedThreads {
    /// Begins with as many threads as processors.
    pub fn builder() -> PinnedThreadsBuilder {
        PinnedThreadsBuilder::default()
    }

    /// Runs a function on one of the threads, each thread in turn.
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.inboxes.len();
        let inbox = &self.inboxes[turn];
        let slot = Arc::new(Slot::new());
        let promise = Promise(slot.clone());
        let id = inbox.start(Box::new(move |builder| {
            let function = builder.async_def(f);
            Box::pin(async move { promise.keep(caught(function).await) })
        }));
        JoinHandle::new(slot, inbox.clone(), id)
    }
}

/// Awaits a future, with its panic as an error.
async fn caught<F: Future>(future: F) -> thread::Result<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let poll = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        match poll {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await
}

impl Drop for PinnedThreads {
    fn drop(&mut self) {
        self.inboxes.iter().for_each(|inbox| inbox.close());
    }
}

impl fmt::Debug for PinnedThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedThreads")
            .field("threads", &self.inboxes.len())
            .finish()
    }
}

impl PinnedThreadsBuilder {
    /// How many threads.
    ///
    /// # Panics
    ///
    /// None is not enough.
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = Some(NonZeroUsize::new(count).expect("at least one thread"));
        self
    }

    /// Address space of one function's stack, as [`Builder::stack_size`].
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// What runs around the work of each thread, from its start to its end: it calls its argument,
    /// once. For what a runtime keeps in thread-locals, like tokio's `Handle::enter`. If it does not,
    /// or panics, the functions of the thread end, and their handles panic.
    pub fn around(mut self, around: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static) -> Self {
        self.around = Some(Arc::new(around));
        self
    }

    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// The system refuses one. Those that were started end again.
    pub fn build(self) -> io::Result<PinnedThreads> {
        let count = self
            .threads
            .or_else(|| thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get);
        let threads = PinnedThreads {
            inboxes: (0..count).map(|_| Arc::default()).collect(),
            turn: AtomicUsize::new(0),
        };
        for inbox in &threads.inboxes {
            let (inbox, around) = (inbox.clone(), self.around.clone());
            let stack_size = self.stack_size;
            thread::Builder::new()
                .name("verdigris-pinned".to_owned())
                .spawn(move || {
                    let _ends = Ends(&inbox);
                    let mut work = || work(&inbox, stack_size);
                    match around {
                        Some(around) => around(&mut work),
                        None => work(),
                    }
                })?;
        }
        Ok(threads)
    }
}

impl fmt::Debug for PinnedThreadsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedThreadsBuilder")
            .field("threads", &self.threads)
            .field("stack_size", &self.stack_size)
            .finish_non_exhaustive()
    }
}

/// Ends an inbox with its thread, even if what is around the work panics or never works.
struct Ends<'a>(&'a Inbox);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A thread's work: polls what was woken, until nothing will come.
fn work(inbox: &Arc<Inbox>, stack_size: Option<usize>) {
    let builder = stack_size.map_or_else(Builder::new, |bytes| Builder::new().stack_size(bytes));
    let mut running: HashMap<Id, (Running, Waker)> = HashMap::new();
    while let Some(letters) = inbox.next(running.is_empty()) {
        for (id, start) in letters.starts {
            let waker = Waker::from(Arc::new(Wakes {
                inbox: inbox.clone(),
                id,
            }));
            running.insert(id, (start(&builder), waker));
            poll(&mut running, id);
        }
        for id in letters.cancels {
            end(running.remove(&id));
        }
        for id in letters.wakes {
            poll(&mut running, id);
        }
    }
}

/// Polls a function, if it has not ended: wakers may be late.
fn poll(running: &mut HashMap<Id, (Running, Waker)>, id: Id) {
    let Some((function, waker)) = running.get_mut(&id) else {
        return;
    };
    let mut cx = Context::from_waker(waker);
    // Its own panic is in its result. What is caught here is one of a destructor in the future that
    // wraps it, or of the waker that it woke.
    let poll = catch_unwind(AssertUnwindSafe(|| Pin::new(function).poll(&mut cx)));
    if !matches!(poll, Ok(Poll::Pending)) {
        end(running.remove(&id));
    }
}

/// Drops a function. A panic on the way was told by the hook, and others of the thread go on.
fn end(function: Option<(Running, Waker)>) {
    let _told = catch_unwind(AssertUnwindSafe(|| drop(function)));
}
