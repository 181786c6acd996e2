//! The low end of a stack: an overflow ends in SIGSEGV, on the guard, and nowhere else.
// Miri knows neither the switch, which is assembly, nor mprotect and madvise.
#![cfg(not(miri))]

mod child;

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use verdigris_fiber::{Config, Fiber, GuardKind, Pool, Stack, StackError, Step, Suspender};

const SMALL: usize = 256 << 10;

fn pool(guard: GuardKind) -> Pool {
    Pool::new(Config {
        stack_size: SMALL,
        guard,
        ..Config::default()
    })
    .unwrap()
}

/// Calls itself for ever, on frames of about 1 KiB.
#[allow(unconditional_recursion)]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 128]);
    overflow(depth + 1) + frame[(depth % 128) as usize]
}

fn run_overflow(stack: Stack) {
    let mut fiber = Fiber::new(stack, |_: &Suspender<(), ()>, ()| {
        black_box(overflow(black_box(0)))
    });
    black_box(fiber.resume(()));
}

/// Where the guard must be hit, and what of the neighbour must not change: for the handler.
static GUARD: AtomicUsize = AtomicUsize::new(0);
static NEIGHBOUR: AtomicUsize = AtomicUsize::new(0);
const NEIGHBOUR_BYTES: usize = 1024;

/// Exits with 42 if the fault is where it should be and the neighbour is unharmed.
extern "C" fn on_fault(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo of a SIGSEGV.
    let address = unsafe { (*info).si_addr() } as usize;
    let limit = GUARD.load(Ordering::Relaxed);
    let neighbour = NEIGHBOUR.load(Ordering::Relaxed) as *const u8;
    let in_guard = (limit - (64 << 10)..limit).contains(&address);
    // SAFETY: the test wrote these bytes, which are the neighbour's reserved ones.
    let unharmed = (0..NEIGHBOUR_BYTES).all(|at| unsafe { neighbour.add(at).read() } == 0x5a);
    // SAFETY: _exit may be called in a signal handler.
    unsafe {
        libc::_exit(match (in_guard, unharmed) {
            (true, true) => 42,
            (false, _) => 43,
            (_, false) => 44,
        })
    }
}

fn handle_faults_on_another_stack() {
    let stack = Box::leak(vec![0_u8; 64 << 10].into_boxed_slice());
    // SAFETY: the alternate stack is leaked, so it lives long enough, and `on_fault` has the
    // signature that SA_SIGINFO asks for.
    unsafe {
        let alternate = libc::stack_t {
            ss_sp: stack.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: stack.len(),
        };
        assert_eq!(libc::sigaltstack(&alternate, std::ptr::null_mut()), 0);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(
            libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()),
            0
        );
    }
}

/// Overflows a stack whose lower neighbour is in use, after each stack was used and given back.
fn overflow_beside_a_neighbour(kind: GuardKind) {
    let pool = Pool::new(Config {
        stack_size: SMALL,
        reserve: NEIGHBOUR_BYTES,
        guard: kind,
        warm: 0, // so that the guard must survive the memory going back
        ..Config::default()
    })
    .unwrap();
    let mut stacks: Vec<Stack> = (0..8).map(|_| pool.take().unwrap()).collect();
    stacks.clear();
    stacks.extend((0..8).map(|_| pool.take().unwrap()));
    stacks.sort_by_key(Stack::limit);
    let upper = stacks.pop().unwrap();
    let lower = stacks.pop().unwrap();
    assert_eq!(upper.limit() - lower.limit(), SMALL, "they are neighbours");
    // SAFETY: the test owns the stack and reserved that many bytes.
    unsafe { lower.reserved().write_bytes(0x5a, NEIGHBOUR_BYTES) };
    GUARD.store(upper.limit(), Ordering::Relaxed);
    NEIGHBOUR.store(lower.reserved().as_ptr() as usize, Ordering::Relaxed);
    handle_faults_on_another_stack();
    run_overflow(upper);
}

#[test]
fn an_overflow_is_sigsegv() {
    child::dies_of("an_overflow_is_sigsegv", libc::SIGSEGV, || {
        run_overflow(pool(GuardKind::Auto).take().unwrap());
    });
}

#[test]
fn an_overflow_hits_the_guard_and_not_the_neighbour() {
    let test = "an_overflow_hits_the_guard_and_not_the_neighbour";
    if let Some(status) = child::run(test, || overflow_beside_a_neighbour(GuardKind::Auto)) {
        assert_eq!(status.code(), Some(42), "43: not in the guard, 44: harm");
    }
}

#[test]
#[cfg(target_os = "linux")] // elsewhere giving memory back maps anew, which is tested by Auto
fn an_overflow_hits_an_mprotect_guard_and_not_the_neighbour() {
    let test = "an_overflow_hits_an_mprotect_guard_and_not_the_neighbour";
    if let Some(status) = child::run(test, || overflow_beside_a_neighbour(GuardKind::Mprotect)) {
        assert_eq!(status.code(), Some(42), "43: not in the guard, 44: harm");
    }
}

#[test]
fn a_stack_can_be_used_down_to_its_limit() {
    for kind in [GuardKind::Auto, GuardKind::Mprotect] {
        let pool = pool(kind);
        let stack = pool.take().unwrap();
        let limit = stack.limit();
        let mut fiber = Fiber::new(stack, move |_: &Suspender<(), ()>, ()| {
            // SAFETY: the lowest bytes of the stack this runs on, far below its frames.
            unsafe { (limit as *mut u8).write_bytes(1, 64) };
        });
        assert_eq!(fiber.resume(()), Step::Return(()));
    }
}

#[test]
fn auto_takes_madvise_where_it_can_be_had_and_mprotect_else() {
    let auto = pool(GuardKind::Auto).stats().guard;
    match Pool::new(Config {
        guard: GuardKind::Madvise,
        ..Config::default()
    }) {
        Ok(_) => assert_eq!(auto, GuardKind::Madvise),
        Err(StackError::Guard(cause)) => {
            assert_eq!(cause.raw_os_error(), Some(libc::EINVAL));
            assert_eq!(auto, GuardKind::Mprotect);
        }
        Err(other) => panic!("unexpected: {other}"),
    }
}

#[test]
fn mprotect_can_be_asked_for() {
    let pool = pool(GuardKind::Mprotect);
    assert_eq!(pool.stats().guard, GuardKind::Mprotect);
    assert_eq!(pool.stats().guard.as_str(), "mprotect");
    let stacks: Vec<Stack> = (0..100).map(|_| pool.take().unwrap()).collect();
    for stack in stacks {
        let mut fiber = Fiber::new(stack, |_: &Suspender<(), ()>, ()| 7);
        assert_eq!(fiber.resume(()), Step::Return(7));
    }
    assert_eq!(pool.stats().pooled, 100);
}
