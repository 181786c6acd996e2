//! A closure on a stack of its own, that can be suspended and resumed.
//!
//! What one switch saves, and who does it:
//!
//! | what | by |
//! |---|---|
//! | stack pointer, return address, callee-saved general registers | `corosensei` |
//! | caller-saved and vector registers | the compiler, as around any call |
//! | floating-point control words | `float_control.rs`, on both sides |
//! | signal mask, thread-locals, `errno` | nobody: they are the thread's |

use std::mem::ManuallyDrop;
use std::ptr;

use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::float_control::Restore;
use crate::stack::{RawStack, Stack};

/// What [`Fiber::resume`] came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step<Yield, Return> {
    /// The fiber suspended itself and can be resumed.
    Yield(Yield),
    /// The closure returned.
    Return(Return),
}

/// A closure that runs on a [`Stack`] of its own.
///
/// # Dropping
///
/// Dropping a fiber that is suspended unwinds its stack, so that everything on it is dropped: the
/// pending [`Suspender::suspend`] panics with a payload of its own, which ends at the fiber's root.
/// Code that catches it and suspends again is unwound again, until the closure has ended.
///
/// That is right for pure Rust only. If there are frames on the stack that must not be unwound
/// (`extern "C"` ones, another runtime's), let the fiber finish, or [`leak`](Fiber::leak) it. A
/// `Drop` on the stack that panics itself aborts the process, and so does a suspended fiber dropped
/// in a program built with `panic = "abort"`.
///
/// Dropping a fiber that never ran drops its closure. In all cases the stack goes back to its pool.
#[must_use = "a fiber does nothing until it is resumed"]
pub struct Fiber<Input, Yield, Return> {
    /// Runs on `stack` without owning it, so that `leak` can keep the stack and forget the frames.
    coroutine: ManuallyDrop<Coroutine<Input, Yield, Return, RawStack>>,
    /// After the coroutine, so dropped after it.
    stack: Stack,
}

impl<Input: 'static, Yield: 'static, Return: 'static> Fiber<Input, Yield, Return> {
    /// Puts `f` on `stack`. Nothing runs before the first [`resume`](Fiber::resume), whose input
    /// `f` gets as its second argument.
    ///
    /// # Panics
    ///
    /// What `f` captures takes more than half of the stack.
    #[inline(always)]
    pub fn new<F>(stack: Stack, f: F) -> Self
    where
        F: FnOnce(&Suspender<Input, Yield>, Input) -> Return + 'static,
    {
        // SAFETY: nothing that `f` captures can end.
        unsafe { Self::new_unchecked(stack, f) }
    }
}

impl<Input, Yield, Return> Fiber<Input, Yield, Return> {
    /// As [`new`](Fiber::new), for a closure that borrows.
    ///
    /// # Safety
    ///
    /// The fiber ends before what `f` borrows does: `f` returns, or the fiber is dropped and its
    /// stack is unwound. Forgetting or [leaking](Fiber::leak) a suspended fiber is not an end: a
    /// frame on it may have lent the borrowed values to another thread (`std::thread::scope`), and
    /// relies on being there until that thread is done.
    ///
    /// # Panics
    ///
    /// What `f` captures takes more than half of the stack.
    #[inline(always)]
    pub unsafe fn new_unchecked<F>(stack: Stack, f: F) -> Self
    where
        F: FnOnce(&Suspender<Input, Yield>, Input) -> Return,
    {
        // The closure is copied to the stack without looking at the guard. Known at compile time
        // for all but absurd closures.
        if size_of::<F>() > 1024 {
            assert!(
                size_of::<F>() <= (stack.base() - stack.limit()) / 2,
                "the closure captures {} bytes, too many for this stack; box them",
                size_of::<F>()
            );
        }
        // SAFETY: what `f` borrows is good until the fiber ends, by the caller's promise.
        let coroutine = unsafe {
            Coroutine::with_stack_unchecked(stack.raw(), move |yielder, input| {
                f(Suspender::of(yielder), input)
            })
        };
        Self {
            coroutine: ManuallyDrop::new(coroutine),
            stack,
        }
    }

    /// Runs the fiber until it suspends itself or its closure returns.
    ///
    /// A fiber that starts begins with the caller's floating-point control words; after that each
    /// side keeps its own.
    ///
    /// # Panics
    ///
    /// The closure has already ended. A panic of the closure goes on here, and the fiber is done.
    #[inline(always)]
    pub fn resume(&mut self, input: Input) -> Step<Yield, Return> {
        let _float_control = Restore::on_return();
        match self.coroutine.resume(input) {
            CoroutineResult::Yield(value) => Step::Yield(value),
            CoroutineResult::Return(value) => Step::Return(value),
        }
    }

    /// Takes the stack back out. To give it back to its pool, dropping the fiber where it is does
    /// the same without moving it, and saves 4 of 16 ns.
    ///
    /// # Panics
    ///
    /// The closure has not ended.
    #[inline]
    pub fn into_stack(self) -> Stack {
        assert!(
            self.is_done(),
            "the fiber has not ended; resume it to its end, drop it, or leak it"
        );
        let mut this = ManuallyDrop::new(self);
        if cfg!(feature = "sanitizer") {
            // SAFETY: dropped once: `this` is forgotten.
            unsafe { ManuallyDrop::drop(&mut this.coroutine) };
        }
        // SAFETY: the fiber is forgotten, so the stack is not used twice. Its coroutine has ended
        // and owns nothing.
        unsafe { ptr::read(&this.stack) }
    }

    /// Forgets the fiber where it stands: nothing on its stack is dropped, nothing of it ever runs
    /// again, and the stack is never reused, so what points into it stays valid.
    pub fn leak(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is forgotten, so the stack is not used twice. The coroutine is forgotten
        // with it, as by mem::forget, and its frames stay where they are.
        unsafe { ptr::read(&this.stack) }.leak();
    }
}

impl<Input, Yield, Return> Fiber<Input, Yield, Return> {
    /// Whether the closure has ended, by returning or by a panic.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.coroutine.done()
    }

    /// Whether code went deep on the stack since its memory was last given back. Then the memory
    /// should go back to the pool, and from there to the system, rather than wait for more work.
    /// A hint, which costs a look at two cache lines.
    #[inline]
    pub fn went_deep(&self) -> bool {
        self.stack.went_deep()
    }

    /// Whether the fiber was ever resumed.
    #[inline]
    pub fn started(&self) -> bool {
        self.coroutine.started()
    }
}

impl<Input, Yield, Return> Drop for Fiber<Input, Yield, Return> {
    #[inline]
    fn drop(&mut self) {
        // With AddressSanitizer the coroutine has marks of its frames to remove, even then.
        if self.is_done() && !cfg!(feature = "sanitizer") {
            return;
        }
        // Unwinding runs code of the fiber.
        let _float_control = Restore::on_return();
        // SAFETY: dropped once, here. One that has ended owns nothing and may be skipped.
        unsafe { ManuallyDrop::drop(&mut self.coroutine) };
    }
}

/// What the closure of a [`Fiber`] suspends itself with.
#[repr(transparent)]
pub struct Suspender<Input, Yield> {
    yielder: Yielder<Input, Yield>,
}

impl<Input, Yield> Suspender<Input, Yield> {
    #[inline]
    fn of(yielder: &Yielder<Input, Yield>) -> &Self {
        // SAFETY: `repr(transparent)` over the very type, and the lifetime is carried over.
        unsafe { &*std::ptr::from_ref(yielder).cast() }
    }

    /// Suspends the fiber: [`Fiber::resume`] returns `Step::Yield(value)`, and this call returns
    /// with the input of the next one.
    ///
    /// # Panics
    ///
    /// The fiber is dropped instead of resumed: see [`Fiber`].
    #[inline(always)]
    pub fn suspend(&self, value: Yield) -> Input {
        let _float_control = Restore::on_return();
        self.yielder.suspend(value)
    }

    /// Suspends the fiber between two pieces of work: as [`suspend`](Suspender::suspend), but the
    /// floating-point control words are not kept. What runs next begins with those of whoever
    /// resumes the fiber, as a new fiber would.
    ///
    /// # Panics
    ///
    /// As for `suspend`.
    #[inline(always)]
    pub fn rest(&self, value: Yield) -> Input {
        self.yielder.suspend(value)
    }
}
