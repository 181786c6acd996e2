//! Where stacks come from and go to.
// Miri knows neither the switch, which is assembly, nor mprotect and madvise.
#![cfg(not(miri))]

use verdigris_fiber::{Config, Fiber, Pool, Stack, StackError, Step, Suspender};

fn small(warm: usize) -> Config {
    Config {
        stack_size: 256 << 10,
        warm,
        ..Config::default()
    }
}

#[test]
fn stacks_come_back_last_in_first_out() {
    let pool = Pool::new(small(256)).unwrap();
    let stacks: Vec<Stack> = (0..10).map(|_| pool.take().unwrap()).collect();
    let bases: Vec<usize> = stacks.iter().map(Stack::base).collect();
    stacks.into_iter().for_each(drop);
    let again: Vec<Stack> = (0..10).map(|_| pool.take().unwrap()).collect();
    let order: Vec<usize> = again.iter().rev().map(Stack::base).collect();
    assert_eq!(order, bases);
}

#[test]
fn stacks_do_not_overlap() {
    let pool = Pool::new(small(4)).unwrap();
    let mut stacks: Vec<Stack> = (0..1000).map(|_| pool.take().unwrap()).collect();
    stacks.sort_by_key(Stack::base);
    for pair in stacks.windows(2) {
        assert!(pair[0].base() < pair[1].limit());
    }
}

#[test]
fn an_idle_pool_maps_nothing_and_the_first_slab_is_small() {
    let pool = Pool::new(Config::default()).unwrap();
    assert_eq!(pool.stats().slabs, 0);
    let stacks: Vec<Stack> = (0..16).map(|_| pool.take().unwrap()).collect();
    assert_eq!(pool.stats().slabs, 1);
    let next = pool.take().unwrap();
    assert_eq!(pool.stats().slabs, 2);
    drop((stacks, next));
}

#[test]
fn stats_tell_what_is_where() {
    let pool = Pool::new(small(3)).unwrap();
    let mut stacks: Vec<Stack> = (0..10).map(|_| pool.take().unwrap()).collect();
    stacks.pop().unwrap().leak();
    stacks.truncate(2);
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.leaked), (2, 1));
    assert_eq!((stats.pooled, stats.warm), (7, 3));
    assert_eq!(stats.stack_size, 256 << 10);
}

#[test]
fn warm_stacks_are_taken_before_those_without_memory() {
    let pool = Pool::new(small(2)).unwrap();
    let stacks: Vec<Stack> = (0..5).map(|_| pool.take().unwrap()).collect();
    let warm = [stacks[1].base(), stacks[0].base()];
    stacks.into_iter().for_each(drop);
    let again: Vec<Stack> = (0..2).map(|_| pool.take().unwrap()).collect();
    assert_eq!([again[0].base(), again[1].base()], warm);
    assert_eq!((pool.stats().warm, pool.stats().pooled), (0, 3));
}

#[test]
fn reserved_bytes_of_a_stack_without_memory_read_as_zero() {
    let pool = Pool::new(Config {
        reserve: 500,
        ..small(0)
    })
    .unwrap();
    let stack = pool.take().unwrap();
    let base = stack.base();
    // SAFETY: the test owns the stack and reserved that many bytes.
    unsafe { stack.reserved().write_bytes(0xff, 500) };
    drop(stack);
    let stack = pool.take().unwrap();
    assert_eq!(stack.base(), base);
    // SAFETY: as above.
    let bytes = unsafe { std::slice::from_raw_parts(stack.reserved().as_ptr(), 500) };
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn a_stack_outlives_the_last_handle() {
    let pool = Pool::new(Config::default()).unwrap();
    let mut fiber = Fiber::new(pool.take().unwrap(), |suspender: &Suspender<u8, u8>, n| {
        suspender.suspend(n) + 1
    });
    let other = pool.take().unwrap();
    drop(pool);
    assert_eq!(fiber.resume(1), Step::Yield(1));
    drop(other);
    assert_eq!(fiber.resume(2), Step::Return(3));
}

#[test]
fn clones_are_one_pool() {
    let pool = Pool::new(Config::default()).unwrap();
    let clone = pool.clone();
    let stack = clone.take().unwrap();
    drop(clone);
    assert_eq!(pool.stats().in_use, 1);
    drop(stack);
    assert_eq!(pool.stats().pooled, 1);
}

#[test]
fn leaked_stacks_keep_their_memory_when_the_pool_ends() {
    let pool = Pool::new(Config {
        reserve: 64,
        ..small(8)
    })
    .unwrap();
    let mut stacks: Vec<Stack> = (0..40).map(|_| pool.take().unwrap()).collect();
    let leaked = stacks.swap_remove(20);
    let bytes = leaked.reserved();
    // SAFETY: the test owns the stack and reserved that many bytes.
    unsafe { bytes.write_bytes(0x5a, 64) };
    leaked.leak();
    drop(stacks);
    assert_eq!(pool.stats().leaked, 1);
    drop(pool);
    // SAFETY: a leaked stack keeps its memory, which is what this test is about.
    let kept = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), 64) };
    assert!(kept.iter().all(|byte| *byte == 0x5a));
}

#[test]
fn threads_have_pools_of_their_own() {
    let threads: Vec<_> = (0..8_u64)
        .map(|thread| {
            std::thread::spawn(move || {
                let pool = Pool::new(small(16)).unwrap();
                let mut fibers: Vec<_> = (0..200)
                    .map(|n| {
                        let closure = move |suspender: &Suspender<u64, u64>, first| {
                            suspender.suspend(first + n) + thread
                        };
                        Fiber::new(pool.take().unwrap(), closure)
                    })
                    .collect();
                let mut sum = 0;
                for fiber in &mut fibers {
                    let Step::Yield(n) = fiber.resume(1) else {
                        panic!("it suspends first")
                    };
                    sum += n;
                }
                for fiber in &mut fibers {
                    assert_eq!(fiber.resume(2), Step::Return(2 + thread));
                }
                drop(fibers);
                assert_eq!(pool.stats().in_use, 0);
                sum
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), (0..200).map(|n| n + 1).sum());
    }
}

#[test]
fn configurations_that_make_no_sense_are_refused_with_the_field_named() {
    let refused = |config: Config| match Pool::new(config) {
        Err(StackError::BadConfig(text)) => text,
        Err(other) => panic!("unexpected: {other}"),
        Ok(_) => panic!("accepted"),
    };
    let sizes = [0, 1, 8000, 64 << 10];
    for stack_size in sizes {
        let text = refused(Config {
            stack_size,
            ..Config::default()
        });
        assert!(text.contains("stack_size"), "{stack_size}: {text}");
    }
    for reserve in [8 << 20, usize::MAX] {
        let text = refused(Config {
            reserve,
            ..Config::default()
        });
        assert!(text.contains("reserve"));
    }
    for stacks_per_slab in [0, usize::MAX] {
        let text = refused(Config {
            stacks_per_slab,
            ..Config::default()
        });
        assert!(text.contains("stacks_per_slab"));
    }
}
