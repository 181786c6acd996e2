//! `AsyncDef`: a sync closure as a future. Each poll runs it on its stack until it waits or ends.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll};
use std::thread;

use verdigris_fiber::{Fiber, Stack, StackError, Step, Suspender};

use crate::await_here::Dropped;
use crate::builder::Source;
use crate::context::{Entered, Scope, current};
use crate::stacks;

/// The fiber of a function. What it returns holds its panic, if it had one: nothing unwinds across
/// the switch.
type FunctionFiber<T> = Fiber<(), (), thread::Result<T>>;

/// A sync closure as a future: what [`async_def`] returns.
///
/// Nothing runs before the first poll. Each poll runs the closure on its own stack, until it waits
/// in [`await_`](crate::await_) or ends. It can be moved between polls: the stack stays where it is.
///
/// # Threads
///
/// It is not `Send`: code on a stack may hold addresses of thread-locals, guards of locks and `Rc`s
/// that the compiler does not see. Run it where futures may stay on one thread: `block_on`, a
/// `LocalSet`, a `LocalExecutor`; or hand the closure to [`spawn_pinned`](crate::spawn_pinned).
///
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// send(verdigris_await::async_def(|| ()));
/// ```
/// ```compile_fail,E0277
/// fn sync<T: Sync>(_: T) {}
/// sync(verdigris_await::async_def(|| ()));
/// ```
///
/// # Dropping
///
/// Dropping it while it is suspended unwinds the stack, once: the pending `await_` does not return,
/// and everything on the stack is dropped. No panic hook runs. Code that catches the unwinding with
/// `catch_unwind` and waits again is unwound again; code that loops so for ever hangs the drop. A
/// panic of a destructor on the stack aborts the process, as in any unwinding. A panic after the
/// unwinding was caught goes on from the drop, unless the thread is panicking already.
///
/// Where nothing can be unwound the stack is leaked as it is: nothing on it is dropped, and its
/// memory is never used again. That is so with `panic = "abort"`, and when a thread ends and drops
/// a function that one of its thread-locals holds.
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct AsyncDef<F, T> {
    state: State<F, T>,
    /// Not `Send` and not `Sync` in any state, even for a closure that is.
    one_thread: PhantomData<*mut ()>,
}

enum State<F, T> {
    New(F, Source),
    Suspended(FunctionFiber<T>, *const Suspender<(), ()>),
    /// It runs, or it ended.
    Done,
}

// The closure is moved to the stack before it runs, and no pointer leads into the future itself.
impl<F, T> Unpin for AsyncDef<F, T> {}

/// Makes a sync closure a future, in which every function below can wait with
/// [`await_`](crate::await_).
///
/// ```
/// use verdigris_await::{async_def, await_};
///
/// fn deep(n: u32) -> u32 {
///     if n == 0 { await_(async { 1 }) } else { deep(n - 1) + 1 }
/// }
/// assert_eq!(pollster::block_on(async_def(|| deep(100))), 101);
/// ```
///
/// The closure borrows nothing: a future can be forgotten, and then its frames never end, which
/// functions like [`std::thread::scope`] rely on. See [`async_def_unchecked`].
///
/// ```compile_fail,E0597
/// let text = String::from("gone");
/// let future: verdigris_await::AsyncDef<_, usize> = {
///     let text = String::from("gone");
///     let borrowed = &text;
///     verdigris_await::async_def(move || borrowed.len())
/// };
/// pollster::block_on(future);
/// ```
/// ```compile_fail,E0597
/// // Not even for a value that outlives the future.
/// let text = String::from("here");
/// let borrowed = &text;
/// pollster::block_on(verdigris_await::async_def(move || borrowed.len()));
/// ```
///
/// # Panics
///
/// The future panics when polled if there is no memory for a stack (see
/// [`Builder::try_async_def`](crate::Builder::try_async_def) for an error instead), if it is polled
/// after it ended, and with the closure's own panic.
#[inline]
pub fn async_def<F, T>(f: F) -> AsyncDef<F, T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    AsyncDef::new(f, Source::Thread)
}

/// As [`async_def`], for a closure that borrows.
///
/// # Safety
///
/// The future, once polled, is polled to its end or dropped, before anything that `f` or its result
/// borrows ends, and it is not forgotten. In a program built with `panic = "abort"` it must be
/// polled to its end. Otherwise a frame on its stack may be gone without having ended, and frames
/// may rely on that: [`std::thread::scope`] waits in one for threads that borrow.
///
/// ```
/// use verdigris_await::{async_def_unchecked, await_};
///
/// let text = String::from("borrowed");
/// // SAFETY: `block_on` polls it to its end, or drops it.
/// let future = unsafe { async_def_unchecked(|| await_(async { text.len() })) };
/// assert_eq!(pollster::block_on(future), 8);
/// ```
#[inline]
pub unsafe fn async_def_unchecked<F, T>(f: F) -> AsyncDef<F, T>
where
    F: FnOnce() -> T,
{
    AsyncDef::new(f, Source::Thread)
}

impl<F, T> AsyncDef<F, T> {
    #[inline]
    pub(crate) fn new(f: F, source: Source) -> Self {
        Self {
            state: State::New(f, source),
            one_thread: PhantomData,
        }
    }
}

impl<F: FnOnce() -> T, T> Future for AsyncDef<F, T> {
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        match &mut this.state {
            State::New(..) => this.begin(cx),
            State::Suspended(fiber, suspender) => {
                if stacks::thread_exit_began() {
                    polled_at_thread_exit();
                }
                let scope = Scope::of_poll(cx, *suspender);
                match run(fiber, &scope) {
                    Step::Yield(()) => Poll::Pending,
                    Step::Return(result) => {
                        this.state = State::Done;
                        Poll::Ready(result.unwrap_or_else(|payload| panic::resume_unwind(payload)))
                    }
                }
            }
            State::Done => polled_after_end(),
        }
    }
}

impl<F: FnOnce() -> T, T> AsyncDef<F, T> {
    /// The first poll: puts the closure on a stack and runs it.
    #[inline(always)]
    fn begin(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let State::New(f, source) = std::mem::replace(&mut self.state, State::Done) else {
            unreachable!("the caller saw State::New");
        };
        let stack = source.take().unwrap_or_else(|error| no_stack(&error));
        let mut fiber = put(stack, f);
        let scope = Scope::of_poll(cx, ptr::null());
        match run(&mut fiber, &scope) {
            Step::Yield(()) => {
                self.state = State::Suspended(fiber, scope.suspender());
                Poll::Pending
            }
            Step::Return(result) => {
                // Before the result goes on, so that the stack is back even if it is a panic.
                drop(fiber);
                Poll::Ready(result.unwrap_or_else(|payload| panic::resume_unwind(payload)))
            }
        }
    }
}

#[inline(always)]
fn put<F: FnOnce() -> T, T>(stack: Stack, f: F) -> FunctionFiber<T> {
    let first_frame = move |suspender: &Suspender<(), ()>, ()| {
        // SAFETY: `run` entered a scope before it resumed this stack.
        unsafe { &*current() }.set_suspender(suspender);
        panic::catch_unwind(AssertUnwindSafe(f))
    };
    // SAFETY: `f` is 'static, or the caller of `async_def_unchecked` promised the same as is asked
    // for here. The result is 'static or under the same promise.
    unsafe { Fiber::new_unchecked(stack, first_frame) }
}

/// Runs the function until it waits or ends, with `scope` to wait in.
#[inline(always)]
fn run<T>(fiber: &mut FunctionFiber<T>, scope: &Scope) -> Step<(), thread::Result<T>> {
    // SAFETY: `scope` is borrowed for longer than this frame.
    let _entered = unsafe { Entered::new(scope) };
    fiber.resume(())
}

impl<F, T> Drop for AsyncDef<F, T> {
    #[inline]
    fn drop(&mut self) {
        if let State::Suspended(..) = self.state {
            self.end_suspended();
        }
    }
}

impl<F, T> AsyncDef<F, T> {
    #[cold]
    #[inline(never)]
    fn end_suspended(&mut self) {
        let State::Suspended(mut fiber, suspender) =
            std::mem::replace(&mut self.state, State::Done)
        else {
            return;
        };
        if cfg!(panic = "abort") || stacks::thread_exit_began() {
            fiber.leak();
            return;
        }
        let scope = Scope::of_drop(suspender);
        let result = run(&mut fiber, &scope);
        debug_assert!(
            fiber.is_done(),
            "await_ never suspends in a scope of a drop"
        );
        drop(fiber);
        if let Step::Return(Err(payload)) = result {
            // Its hook ran where it was thrown. A second panic would abort the process.
            if !payload.is::<Dropped>() && !thread::panicking() {
                panic::resume_unwind(payload);
            }
        }
    }
}

impl<F, T> fmt::Debug for AsyncDef<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::New(..) => "new",
            State::Suspended(..) => "suspended",
            State::Done => "done",
        };
        f.debug_tuple("AsyncDef").field(&state).finish()
    }
}

#[cold]
#[inline(never)]
fn no_stack(error: &StackError) -> ! {
    panic!("async_def has no stack: {error}");
}

#[cold]
#[inline(never)]
fn polled_after_end() -> ! {
    panic!("`AsyncDef` polled after it ended");
}

#[cold]
#[inline(never)]
fn polled_at_thread_exit() -> ! {
    panic!(
        "`AsyncDef` polled by a destructor of a thread-local: what it refers to may be gone. End \
         it before its thread ends"
    );
}
