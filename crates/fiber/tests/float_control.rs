//! Each side of a switch keeps its own floating-point control words.
// Miri knows neither the switch, which is assembly, nor mprotect and madvise.
#![cfg(not(miri))]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::arch::asm;
use std::panic::{AssertUnwindSafe, catch_unwind};

use verdigris_fiber::{Config, Fiber, Pool, Step, Suspender};

/// The control words, and a value of each that differs from the default.
#[cfg(target_arch = "x86_64")]
mod words {
    use super::asm;

    pub type Words = (u32, u16);

    /// Rounding towards zero in both units.
    pub const CHANGED: Words = (0x1f80 | 0x6000, 0x037f | 0x0c00);

    pub fn get() -> Words {
        let (mut mxcsr, mut x87) = (0_u32, 0_u16);
        // SAFETY: both instructions store to locals.
        unsafe { asm!("stmxcsr [{}]", "fnstcw [{}]", in(reg) &mut mxcsr, in(reg) &mut x87) };
        // The low bits are sticky status, which is nobody's.
        (mxcsr & !0x3f, x87)
    }

    pub fn set((mxcsr, x87): Words) {
        // SAFETY: the values are valid, and the tests do no arithmetic that depends on them.
        unsafe { asm!("ldmxcsr [{}]", "fldcw [{}]", in(reg) &mxcsr, in(reg) &x87) };
    }
}

#[cfg(target_arch = "aarch64")]
mod words {
    use super::asm;

    pub type Words = u64;

    /// Rounding towards zero.
    pub const CHANGED: Words = 0b11 << 22;

    pub fn get() -> Words {
        let fpcr;
        // SAFETY: reads a register that user code may read.
        unsafe { asm!("mrs {}, fpcr", out(reg) fpcr) };
        fpcr
    }

    pub fn set(fpcr: Words) {
        // SAFETY: the value is valid, and the tests do no arithmetic that depends on it.
        unsafe { asm!("msr fpcr, {}", in(reg) fpcr) };
    }
}

use words::{CHANGED, Words, get, set};

fn pool() -> Pool {
    Pool::new(Config::default()).unwrap()
}

#[test]
fn what_a_fiber_sets_is_its_own() {
    let pool = pool();
    let usual = get();
    assert_ne!(usual, CHANGED);
    let mut fiber = Fiber::new(
        pool.take().unwrap(),
        |suspender: &Suspender<(), Words>, ()| {
            set(CHANGED);
            suspender.suspend(get());
            get()
        },
    );
    assert_eq!(fiber.resume(()), Step::Yield(CHANGED));
    assert_eq!(get(), usual, "the resumer has its own after a suspension");
    assert_eq!(fiber.resume(()), Step::Return(CHANGED));
    assert_eq!(get(), usual, "and after the end");
}

#[test]
fn what_the_resumer_sets_is_its_own_and_a_new_fiber_starts_with_it() {
    let pool = pool();
    let usual = get();
    let read_twice = |suspender: &Suspender<(), Words>, ()| {
        suspender.suspend(get());
        get()
    };
    let mut before = Fiber::new(pool.take().unwrap(), read_twice);
    let mut after = Fiber::new(pool.take().unwrap(), read_twice);
    let first = before.resume(());
    set(CHANGED);
    let second = before.resume(());
    let started = after.resume(());
    set(usual);
    let ended = after.resume(());
    assert_eq!((first, second), (Step::Yield(usual), Step::Return(usual)));
    assert_eq!(
        (started, ended),
        (Step::Yield(CHANGED), Step::Return(CHANGED))
    );
}

#[test]
fn after_a_rest_a_fiber_goes_on_with_the_resumers() {
    let pool = pool();
    let usual = get();
    let mut fiber = Fiber::new(
        pool.take().unwrap(),
        |suspender: &Suspender<(), Words>, ()| {
            set(CHANGED);
            suspender.rest(get());
            get()
        },
    );
    assert_eq!(fiber.resume(()), Step::Yield(CHANGED));
    assert_eq!(get(), usual, "the resumer has its own");
    assert_eq!(fiber.resume(()), Step::Return(usual));
}

#[test]
fn the_resumer_has_its_own_after_a_panic_and_after_an_unwinding() {
    let pool = pool();
    let usual = get();
    let mut panics: Fiber<(), (), ()> = Fiber::new(pool.take().unwrap(), |_, ()| {
        set(CHANGED);
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(catch_unwind(AssertUnwindSafe(|| panics.resume(()))).is_err());
    assert_eq!(get(), usual);

    struct Sets;
    impl Drop for Sets {
        fn drop(&mut self) {
            set(CHANGED);
        }
    }
    let mut unwound = Fiber::new(pool.take().unwrap(), |suspender: &Suspender<(), ()>, ()| {
        let _sets = Sets;
        suspender.suspend(());
    });
    assert_eq!(unwound.resume(()), Step::Yield(()));
    drop(unwound);
    assert_eq!(get(), usual);
}
