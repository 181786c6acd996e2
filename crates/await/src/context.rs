//! Which task context code may wait with: one word a thread.
//!
//! ```text
//!   executor   poll(cx) ──> AsyncDef::poll            Scope { cx }, on this frame
//!                             │  CURRENT = scope
//!                             ▼
//!              stack        f() ─> ... ─> await_(g)   CURRENT = none
//!                                           └─ g.poll(cx)
//!                                         pending:    CURRENT = scope, suspend
//!                             ┌───────────────┘
//!              AsyncDef::poll ▼                       CURRENT = what it was before
//!   executor   Pending
//! ```
//!
//! Three rules:
//!
//! - A scope lives on the frame of the poll that made it, and `CURRENT` points to it only while
//!   that poll runs. So the `Context` that it holds is always the one of the poll at hand, never
//!   one of an earlier poll.
//! - While a future is polled, there is no scope. The future's code holds the `Context` that it was
//!   given. Were the stack suspended below it, that reference would dangle when the stack goes on
//!   in a later poll.
//! - Whoever changes `CURRENT` puts it back, on unwinding too. So a poll within a poll, by another
//!   executor's `block_on` or by hand, leaves the outer one as it was.
//!
//! From the second rule follows that a stack which suspends itself has no change of `CURRENT`
//! pending: `await_` ended its own before, and a poll of another function, which is still going on
//! further up this stack, would have made that function's scope the thread's. So changes begin and
//! end in nested order, though stacks do not.

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::task::Context;

use verdigris_fiber::Suspender;

thread_local! {
    static CURRENT: Cell<*const Scope> = const { Cell::new(ptr::null()) };
}

/// What a function on a stack needs to wait: the context of the poll at hand, and how to leave.
pub(crate) struct Scope {
    /// None while the function is being dropped: there is nobody to wake.
    context: Option<NonNull<Context<'static>>>,
    /// Set by the function's first frame, and again by each later poll.
    suspender: Cell<*const Suspender<(), ()>>,
}

impl Scope {
    /// A scope for the poll that has `context`.
    #[inline(always)]
    pub(crate) fn of_poll(context: &mut Context<'_>, suspender: *const Suspender<(), ()>) -> Self {
        Self {
            // The lifetime is erased: see `Scope::context`.
            context: Some(NonNull::from(context).cast()),
            suspender: Cell::new(suspender),
        }
    }

    /// A scope for a function that has to end.
    pub(crate) fn of_drop(suspender: *const Suspender<(), ()>) -> Self {
        Self {
            context: None,
            suspender: Cell::new(suspender),
        }
    }

    /// The context, if the function may wait.
    #[inline(always)]
    pub(crate) fn context(&self) -> Option<NonNull<Context<'static>>> {
        self.context
    }

    #[inline(always)]
    pub(crate) fn suspender(&self) -> *const Suspender<(), ()> {
        self.suspender.get()
    }

    /// Tells how to suspend the stack that was just entered.
    #[inline(always)]
    pub(crate) fn set_suspender(&self, suspender: &Suspender<(), ()>) {
        self.suspender.set(suspender);
    }
}

/// Changes the thread's scope, and puts it back when dropped.
pub(crate) struct Entered {
    before: *const Scope,
}

impl Entered {
    /// Makes `scope` the thread's. The null pointer is none.
    ///
    /// # Safety
    ///
    /// `scope` stays where it is until this is dropped.
    #[inline(always)]
    pub(crate) unsafe fn new(scope: *const Scope) -> Self {
        Self {
            before: CURRENT.replace(scope),
        }
    }
}

impl Drop for Entered {
    #[inline(always)]
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// The thread's scope, null for none.
#[inline(always)]
pub(crate) fn current() -> *const Scope {
    CURRENT.get()
}

/// Whether [`await_`](crate::await_) can wait here.
///
/// False outside of [`async_def`](crate::async_def), in the poll of a future that is being awaited,
/// and in a function whose future was dropped. While a panic unwinds the function it is true: what
/// is ready can be had then, see [`AwaitError::Unwinding`](crate::AwaitError::Unwinding).
///
/// ```
/// use verdigris_await::{async_def, await_, has_context};
///
/// assert!(!has_context());
/// pollster::block_on(async_def(|| {
///     assert!(has_context());
///     // An async block has its own way to wait.
///     assert!(!await_(async { has_context() }));
///     assert!(has_context());
/// }));
/// ```
#[inline]
pub fn has_context() -> bool {
    let scope = current();
    // SAFETY: a scope is the thread's only while its frame lives, see `Entered::new`.
    !scope.is_null() && unsafe { &*scope }.context().is_some()
}
