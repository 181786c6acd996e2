//! Sync functions side by side in one task, which borrow as scoped threads do.
//!
//! ```text
//!   task     poll ──> AsyncDef of the caller
//!                       └ scope() awaits the driver ──> body      a stack
//!                                                  ├──> child 0   a stack
//!                                                  └──> child 1   a stack
//! ```
//!
//! The driver polls the body and those children that were woken. Each has a waker of its own, which
//! lists it as ready and wakes the task, once until the task is polled.
//!
//! What makes borrowing sound is where things are. The body and the children belong to the frame of
//! `scope()`, and are gone when that frame ends, whether it returns or unwinds. That frame is on a
//! stack, so it can be forgotten only together with the frames that they borrow from. The data that
//! outlives them all is what the outermost `async_def` owns, or what the caller of
//! `async_def_unchecked` promised for.

mod children;
mod wakes;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;

use children::Children;

use crate::{AsyncDef, async_def_unchecked, await_};

/// Where functions can be spawned that borrow: what [`scope`] gives its closure.
pub struct Scope<'scope, 'env: 'scope> {
    children: Children,
    /// Whether a child panicked whose handle was not joined.
    child_panicked: Rc<Cell<bool>>,
    /// Invariant, as for [`std::thread::Scope`].
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// A function that runs in a [`Scope`].
///
/// Dropping it changes nothing: the function runs on, and the scope waits for it.
pub struct ScopedJoinHandle<'scope, T> {
    packet: Rc<Packet<T>>,
    scope: PhantomData<&'scope ()>,
}

/// What a child leaves for its handle.
struct Packet<T> {
    result: RefCell<Option<thread::Result<T>>>,
    ended: Cell<bool>,
    joiner: RefCell<Option<Waker>>,
    /// If the result is a panic that nobody took, this is set when the packet goes.
    unseen_panic: Rc<Cell<bool>>,
}

/// Runs sync functions side by side, in the task that calls this.
///
/// It has the shape of [`std::thread::scope`]. The closure, and each function that it spawns, runs
/// on a stack of its own, on this thread, and while one waits the others run. They may borrow
/// whatever lives longer than this call, which returns when all of them ended.
///
/// ```
/// use verdigris_await::{async_def, await_, scope};
///
/// let future = async_def(|| {
///     let names = vec!["a", "b", "c"];
///     let mut total = 0;
///     scope(|s| {
///         let handles: Vec<_> = names
///             .iter()
///             .map(|name| s.spawn(move || await_(async move { name.len() })))
///             .collect();
///         for handle in handles {
///             total += handle.join().unwrap();
///         }
///     });
///     total
/// });
/// assert_eq!(pollster::block_on(future), 3);
/// ```
///
/// What they borrow has to outlive the scope:
///
/// ```compile_fail,E0373
/// verdigris_await::scope(|s| {
///     let short = String::new();
///     s.spawn(|| short.len());
/// });
/// ```
/// ```compile_fail,E0597
/// verdigris_await::scope(|s| {
///     let short = String::new();
///     let borrowed = &short;
///     s.spawn(move || borrowed.len());
/// });
/// ```
/// ```compile_fail,E0499
/// let mut count = 0;
/// verdigris_await::scope(|s| {
///     s.spawn(|| count += 1);
///     s.spawn(|| count += 1);
/// });
/// ```
///
/// Neither the scope nor a handle leaves it, and none of them leaves its thread:
///
/// ```compile_fail
/// let handle = verdigris_await::scope(|s| s.spawn(|| 1));
/// ```
/// ```compile_fail,E0277
/// verdigris_await::scope(|s| {
///     std::thread::scope(|threads| {
///         threads.spawn(|| s.spawn(|| 1).is_finished());
///     });
/// });
/// ```
///
/// # Dropping
///
/// If the function that called this is dropped while it waits here, the closure and the functions
/// are unwound, each once, before the caller's frames are.
///
/// # Panics
///
/// Where [`await_`] does. If the closure panics, or a function panics whose handle was not joined,
/// the others run to their end, and then this panics.
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let child_panicked = Rc::new(Cell::new(false));
    let scope = Scope {
        children: Children::new(),
        child_panicked: child_panicked.clone(),
        scope: PhantomData,
        env: PhantomData,
    };
    // Dropped in reverse order: the body, what is left of the children, the scope.
    let children = EndChildren(&scope.children);
    // SAFETY: it is dropped with this frame, before `scope` and before what `f` borrows. It is not
    // forgotten, unless this frame is, with its stack: see the head of this file. That includes
    // panic = "abort", where this frame never unwinds, and returns only when the body ended.
    let mut body = unsafe { async_def_unchecked(|| f(&scope)) };
    let mut result = None;
    await_(poll_fn(|cx| {
        scope.children.drive(cx, |cx| {
            if result.is_none() {
                let poll = catch(|| Pin::new(&mut body).poll(cx));
                if let Poll::Ready(value) = poll {
                    result = Some(value);
                }
            }
            result.is_some()
        })
    }));
    drop((body, children));
    match result.expect("the driver ends after the body") {
        Ok(_) if child_panicked.get() => {
            panic!("a function in a scope panicked, and its handle was not joined")
        }
        Ok(value) => value,
        Err(payload) => panic::resume_unwind(payload),
    }
}

/// Ends all children when dropped.
struct EndChildren<'a>(&'a Children);

impl Drop for EndChildren<'_> {
    fn drop(&mut self) {
        if let Some(payload) = self.0.end() {
            if !thread::panicking() {
                panic::resume_unwind(payload);
            }
        }
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Runs a function beside the others of this scope. It starts when the caller waits.
    ///
    /// See [`scope`].
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let packet = Rc::new(Packet {
            result: RefCell::new(None),
            ended: Cell::new(false),
            joiner: RefCell::new(None),
            unseen_panic: self.child_panicked.clone(),
        });
        let child: Pin<Box<dyn Future<Output = ()> + 'scope>> = Box::pin(Child {
            // SAFETY: `Children` ends it within `scope()`, which 'scope outlives, and does not
            // forget it, unless that frame is forgotten too: see the head of this file.
            function: unsafe { async_def_unchecked(f) },
            packet: packet.clone(),
        });
        // SAFETY: only the lifetime changes. `scope()` ends all children before it returns or
        // unwinds, and 'scope is not over before that. Nothing else holds them.
        let child = unsafe {
            std::mem::transmute::<
                Pin<Box<dyn Future<Output = ()> + 'scope>>,
                Pin<Box<dyn Future<Output = ()> + 'static>>,
            >(child)
        };
        self.children.add(child);
        ScopedJoinHandle {
            packet,
            scope: PhantomData,
        }
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits until the function ended, and returns what it did.
    ///
    /// # Errors
    ///
    /// The function panicked; the error is its payload.
    ///
    /// # Panics
    ///
    /// Where [`await_`] does.
    #[track_caller]
    pub fn join(self) -> thread::Result<T> {
        await_(poll_fn(|cx| {
            if let Some(result) = self.packet.result.borrow_mut().take() {
                return Poll::Ready(result);
            }
            *self.packet.joiner.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        }))
    }

    /// Whether the function ended.
    pub fn is_finished(&self) -> bool {
        self.packet.ended.get()
    }
}

/// A child: its function, and where the result goes.
struct Child<F, T> {
    function: AsyncDef<F, T>,
    packet: Rc<Packet<T>>,
}

impl<F: FnOnce() -> T, T> Future for Child<F, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(result) = catch(|| Pin::new(&mut self.function).poll(cx)) else {
            return Poll::Pending;
        };
        *self.packet.result.borrow_mut() = Some(result);
        self.packet.ended.set(true);
        if let Some(joiner) = self.packet.joiner.take() {
            joiner.wake();
        }
        Poll::Ready(())
    }
}

impl<T> Drop for Packet<T> {
    fn drop(&mut self) {
        // As std does: the result goes before the scope ends, since it may borrow. A handle that is
        // still there holds the packet, and 'scope holds the handle.
        if matches!(self.result.get_mut(), Some(Err(_))) {
            self.unseen_panic.set(true);
        }
    }
}

/// Polls, with a panic as a result. What panicked is not used again.
fn catch<T>(poll: impl FnOnce() -> Poll<T>) -> Poll<thread::Result<T>> {
    match panic::catch_unwind(AssertUnwindSafe(poll)) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err::<T, Box<dyn Any + Send>>(payload)),
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
