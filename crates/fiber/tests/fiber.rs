//! Running, suspending, ending: what a fiber does with the code on it.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use verdigris_fiber::{Config, Fiber, Pool, Step, Suspender};

fn pool() -> Pool {
    Pool::new(Config::default()).unwrap()
}

/// Notes in a list that it was dropped.
struct Noted(&'static str, Rc<RefCell<Vec<&'static str>>>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0);
    }
}

#[test]
fn values_larger_than_a_register_pass_both_ways() {
    let pool = pool();
    let mut fiber = Fiber::new(
        pool.take().unwrap(),
        |suspender: &Suspender<[u64; 9], String>, first| {
            let second = suspender.suspend(format!("{first:?}"));
            [first, second].concat()
        },
    );
    assert!(!fiber.started());
    assert_eq!(fiber.resume([1; 9]), Step::Yield(format!("{:?}", [1; 9])));
    assert!(fiber.started() && !fiber.is_done());
    assert_eq!(
        fiber.resume([2; 9]),
        Step::Return([[1; 9], [2; 9]].concat())
    );
    assert!(fiber.is_done());
}

#[test]
fn suspends_from_any_depth() {
    fn down(suspender: &Suspender<u64, u64>, depth: u64) -> u64 {
        if depth == 0 {
            return suspender.suspend(0);
        }
        down(suspender, depth - 1) + 1
    }
    let pool = pool();
    let mut fiber = Fiber::new(pool.take().unwrap(), down);
    assert_eq!(fiber.resume(10_000), Step::Yield(0));
    assert_eq!(fiber.resume(5), Step::Return(10_005));
}

#[test]
fn fibers_nest_and_interleave() {
    let pool = pool();
    let inner_pool = pool.clone();
    let mut outer = Fiber::new(
        pool.take().unwrap(),
        move |suspender: &Suspender<u32, u32>, first| {
            let mut inner = Fiber::new(inner_pool.take().unwrap(), |s: &Suspender<u32, u32>, n| {
                s.suspend(n * 2) * 3
            });
            let Step::Yield(doubled) = inner.resume(first) else {
                panic!("the inner fiber suspends first")
            };
            let second = suspender.suspend(doubled);
            inner.resume(second)
        },
    );
    assert_eq!(outer.resume(4), Step::Yield(8));
    assert_eq!(outer.resume(5), Step::Return(Step::Return(15)));
    drop(outer);
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn runs_between_limit_and_base() {
    let pool = Pool::new(Config {
        reserve: 1000,
        ..Config::default()
    })
    .unwrap();
    let stack = pool.take().unwrap();
    let (limit, base, reserved) = (stack.limit(), stack.base(), stack.reserved());
    assert_eq!(reserved.as_ptr() as usize, base + 64, "behind the header");
    assert_eq!(base % 64, 0);
    let mut fiber = Fiber::new(stack, |_: &Suspender<(), ()>, ()| {
        let local = 0_u8;
        std::ptr::from_ref(&local) as usize
    });
    let Step::Return(address) = fiber.resume(()) else {
        panic!("the closure does not suspend")
    };
    assert!(limit < address && address < base);
    assert!(base - address < 4096, "starts {} below", base - address);
}

#[test]
fn reserved_bytes_are_the_owners_while_code_runs() {
    let pool = Pool::new(Config {
        reserve: 1000,
        ..Config::default()
    })
    .unwrap();
    let stack = pool.take().unwrap();
    let reserved = stack.reserved();
    // SAFETY: the test owns the stack, and 1000 is what it reserved.
    unsafe { reserved.write_bytes(0x5a, 1000) };
    let mut fiber = Fiber::new(stack, |suspender: &Suspender<(), ()>, ()| {
        suspender.suspend(())
    });
    assert_eq!(fiber.resume(()), Step::Yield(()));
    assert_eq!(fiber.resume(()), Step::Return(()));
    let stack = fiber.into_stack();
    // SAFETY: as above; the stack was not given back in between.
    let bytes = unsafe { std::slice::from_raw_parts(stack.reserved().as_ptr(), 1000) };
    assert!(bytes.iter().all(|byte| *byte == 0x5a));
}

#[test]
fn panics_propagate_to_the_resumer_and_the_stack_comes_back() {
    let pool = pool();
    let dropped = Rc::new(RefCell::new(Vec::new()));
    let noted = Noted("local", dropped.clone());
    let mut fiber = Fiber::new(
        pool.take().unwrap(),
        move |suspender: &Suspender<(), ()>, ()| {
            let _noted = noted;
            suspender.suspend(());
            std::panic::resume_unwind(Box::new("out of the fiber"));
        },
    );
    let _: Step<(), ()> = fiber.resume(());
    let payload = catch_unwind(AssertUnwindSafe(|| fiber.resume(()))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"out of the fiber"));
    assert!(fiber.is_done());
    assert_eq!(*dropped.borrow(), ["local"]);

    drop(fiber.into_stack());
    assert_eq!((pool.stats().in_use, pool.stats().pooled), (0, 1));
}

#[test]
fn a_panic_caught_inside_stays_inside() {
    let pool = pool();
    let mut fiber = Fiber::new(pool.take().unwrap(), |suspender: &Suspender<(), ()>, ()| {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            suspender.suspend(());
            std::panic::resume_unwind(Box::new(7));
        }));
        caught.unwrap_err().downcast_ref() == Some(&7)
    });
    assert_eq!(fiber.resume(()), Step::Yield(()));
    assert_eq!(fiber.resume(()), Step::Return(true));
}

#[test]
fn dropping_a_suspended_fiber_unwinds_it() {
    let pool = pool();
    let dropped = Rc::new(RefCell::new(Vec::new()));
    let list = dropped.clone();
    let mut fiber = Fiber::new(
        pool.take().unwrap(),
        move |suspender: &Suspender<(), ()>, ()| {
            let _outer = Noted("outer", list.clone());
            let _inner = Noted("inner", list);
            suspender.suspend(());
            unreachable!("it is never resumed");
        },
    );
    let _: Step<(), ()> = fiber.resume(());
    assert!(dropped.borrow().is_empty());
    drop(fiber);
    assert_eq!(*dropped.borrow(), ["inner", "outer"]);
    assert_eq!((pool.stats().in_use, pool.stats().pooled), (0, 1));
}

#[test]
fn code_that_suspends_again_while_unwound_is_unwound_again() {
    let pool = pool();
    let attempts = Rc::new(Cell::new(0));
    let counted = attempts.clone();
    let mut fiber = Fiber::new(
        pool.take().unwrap(),
        move |suspender: &Suspender<(), ()>, ()| {
            for _ in 0..3 {
                let unwound = catch_unwind(AssertUnwindSafe(|| suspender.suspend(())));
                assert!(unwound.is_err());
                counted.set(counted.get() + 1);
            }
        },
    );
    assert_eq!(fiber.resume(()), Step::Yield(()));
    drop(fiber);
    assert_eq!(attempts.get(), 3);
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn dropping_a_fiber_that_never_ran_drops_its_closure() {
    let pool = pool();
    let dropped = Rc::new(RefCell::new(Vec::new()));
    let noted = Noted("captured", dropped.clone());
    let fiber: Fiber<(), (), ()> = Fiber::new(pool.take().unwrap(), move |_, ()| drop(noted));
    drop(fiber);
    assert_eq!(*dropped.borrow(), ["captured"]);
    assert_eq!((pool.stats().in_use, pool.stats().pooled), (0, 1));
}

#[test]
fn a_leaked_fiber_drops_nothing_and_its_frames_stay() {
    let pool = pool();
    let dropped = Rc::new(RefCell::new(Vec::new()));
    let list = dropped.clone();
    let mut fiber = Fiber::new(
        pool.take().unwrap(),
        move |suspender: &Suspender<(), *const u64>, ()| {
            let _noted = Noted("never", list);
            let local = std::hint::black_box(0x1234_5678_9abc_def0_u64);
            suspender.suspend(&local);
            local
        },
    );
    let Step::Yield(local) = fiber.resume(()) else {
        panic!("it suspends first")
    };
    fiber.leak();
    assert_eq!((pool.stats().in_use, pool.stats().leaked), (0, 1));
    // Others use the pool, and it ends.
    for _ in 0..100 {
        drop(pool.take().unwrap());
    }
    drop(pool);
    // SAFETY: a leaked stack keeps its memory, which is what this test is about.
    assert_eq!(unsafe { local.read() }, 0x1234_5678_9abc_def0);
    assert!(dropped.borrow().is_empty());
}

#[test]
#[should_panic(expected = "has not ended")]
fn into_stack_refuses_a_fiber_that_has_not_ended() {
    let pool = pool();
    let mut fiber = Fiber::new(pool.take().unwrap(), |suspender: &Suspender<(), ()>, ()| {
        suspender.suspend(());
    });
    assert_eq!(fiber.resume(()), Step::Yield(()));
    drop(fiber.into_stack());
}

#[test]
fn resuming_a_fiber_that_has_ended_panics() {
    let pool = pool();
    let mut fiber = Fiber::new(pool.take().unwrap(), |_: &Suspender<(), ()>, ()| ());
    assert_eq!(fiber.resume(()), Step::Return(()));
    assert!(catch_unwind(AssertUnwindSafe(|| fiber.resume(()))).is_err());
}

#[test]
fn a_closure_too_large_for_its_stack_is_refused() {
    let pool = Pool::new(Config {
        stack_size: 128 << 10,
        ..Config::default()
    })
    .unwrap();
    let ballast = [1_u8; 64 << 10];
    let refused = catch_unwind(AssertUnwindSafe(|| {
        Fiber::new(pool.take().unwrap(), move |_: &Suspender<(), ()>, ()| {
            ballast[0]
        })
    }));
    let payload = refused.err().expect("64 KiB do not fit");
    assert!(
        payload
            .downcast_ref::<String>()
            .unwrap()
            .contains("box them")
    );
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn a_closure_may_borrow_by_a_promise() {
    let mut seen = Vec::new();
    let pool = Pool::new(Config::default()).unwrap();
    // SAFETY: the fiber runs to its end before `seen` does.
    let mut fiber = unsafe {
        Fiber::new_unchecked(
            pool.take().unwrap(),
            |suspender: &Suspender<u32, ()>, first| {
                seen.push(first);
                seen.push(suspender.suspend(()));
            },
        )
    };
    assert_eq!(fiber.resume(1), Step::Yield(()));
    assert_eq!(fiber.resume(2), Step::Return(()));
    drop(fiber);
    assert_eq!(seen, [1, 2]);
}
