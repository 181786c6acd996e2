//! What stacks cost, and that it goes back. Linux only: the figures are read from /proc.
// Miri knows neither the switch, which is assembly, nor mprotect and madvise.
#![cfg(not(miri))]
#![cfg(target_os = "linux")]

mod child;

use std::hint::black_box;

use verdigris_fiber::{Config, Fiber, GuardKind, Pool, Stack, StackError, Step, Suspender};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A figure of this process in bytes, by its name in /proc/self/status.
fn figure(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .expect("the kernel tells this figure");
    let number = line.split_whitespace().next().expect("a number");
    number.parse::<usize>().expect("a number") * KIB
}

/// Uses `bytes` of the stack it is called on, and no more in a debug build either.
fn use_stack(bytes: usize) -> u8 {
    let here = 0_u8;
    go_down(std::ptr::from_ref(&here) as usize - bytes)
}

fn go_down(to: usize) -> u8 {
    let mut frame = [1_u8; 512];
    if black_box(&mut frame).as_ptr() as usize <= to {
        return frame[9];
    }
    go_down(to).max(frame[7])
}

fn run_deep(pool: &Pool, bytes: usize) {
    let mut fiber = Fiber::new(pool.take().unwrap(), move |_: &Suspender<(), ()>, ()| {
        use_stack(bytes)
    });
    assert_eq!(fiber.resume(()), Step::Return(1));
}

#[test]
fn a_suspended_function_costs_one_page_and_one_page_table() {
    let test = "a_suspended_function_costs_one_page_and_one_page_table";
    child::succeeds(test, || {
        let count = 5_000;
        let pool = Pool::new(Config {
            reserve: 1024,
            ..Config::default()
        })
        .unwrap();
        let mut fibers = Vec::with_capacity(count);
        let (rss, tables) = (figure("VmRSS"), figure("VmPTE"));
        for _ in 0..count {
            let mut fiber = Fiber::new(pool.take().unwrap(), |s: &Suspender<(), ()>, ()| {
                s.suspend(())
            });
            assert_eq!(fiber.resume(()), Step::Yield(()));
            fibers.push(fiber);
        }
        let each = (figure("VmRSS") - rss) / count;
        assert!(each < 4500, "{each} bytes of memory each");
        let each = (figure("VmPTE") - tables) / count;
        assert!(each < 4500, "{each} bytes of page tables each");
    });
}

#[test]
fn memory_and_page_tables_go_back_after_a_burst() {
    let test = "memory_and_page_tables_go_back_after_a_burst";
    child::succeeds(test, || {
        let pool = Pool::new(Config::default()).unwrap();
        // What the pool keeps anyway: warm stacks and its lists.
        drop((0..256).map(|_| pool.take().unwrap()).collect::<Vec<_>>());
        let (rss, tables) = (figure("VmRSS"), figure("VmPTE"));

        for round in 0..2 {
            let mut stacks: Vec<Stack> = (0..20_000).map(|_| pool.take().unwrap()).collect();
            assert!(
                figure("VmRSS") > rss + 19_000 * 4 * KIB,
                "each costs a page"
            );
            // Given back in an order that mixes the slabs.
            stacks
                .sort_by_key(|stack| (stack.base() / (8 * MIB)).wrapping_mul(2_654_435_761) % 9973);
            drop(stacks);

            let (grown, tables_grown) = (
                figure("VmRSS").saturating_sub(rss),
                figure("VmPTE").saturating_sub(tables),
            );
            assert!(grown < 3 * MIB, "round {round}: {grown} bytes kept");
            assert!(
                tables_grown < 5 * MIB,
                "round {round}: {tables_grown} of tables kept"
            );
            let stats = pool.stats();
            assert_eq!((stats.in_use, stats.warm), (0, 256));
            assert!(stats.slabs < 6, "{} slabs kept", stats.slabs);
        }
    });
}

#[test]
fn memory_goes_back_when_the_pool_ends() {
    let test = "memory_goes_back_when_the_pool_ends";
    child::succeeds(test, || {
        let before = figure("VmSize");
        let pool = Pool::new(Config::default()).unwrap();
        let stacks: Vec<Stack> = (0..1000).map(|_| pool.take().unwrap()).collect();
        drop(pool);
        assert!(figure("VmSize") > before + 1000 * 8 * MIB);
        drop(stacks);
        assert!(figure("VmSize") < before + 16 * MIB);
    });
}

#[test]
fn deep_use_is_trimmed_on_release() {
    child::succeeds("deep_use_is_trimmed_on_release", || {
        let pool = Pool::new(Config::default()).unwrap();
        run_deep(&pool, 4 * KIB);
        let before = figure("VmRSS");
        for _ in 0..3 {
            run_deep(&pool, 4 * MIB);
            let kept = figure("VmRSS").saturating_sub(before);
            assert!(kept < 256 * KIB, "{kept} bytes kept of 4 MiB");
        }
        assert_eq!(pool.stats().warm, 1, "trimmed, and still warm");
    });
}

#[test]
fn a_fiber_tells_that_it_went_deep() {
    let pool = Pool::new(Config::default()).unwrap();
    let mut fiber = Fiber::new(pool.take().unwrap(), |suspender: &Suspender<(), ()>, ()| {
        use_stack(KIB);
        suspender.rest(());
        use_stack(MIB);
        suspender.rest(());
    });
    assert_eq!(fiber.resume(()), Step::Yield(()));
    assert!(!fiber.went_deep());
    assert_eq!(fiber.resume(()), Step::Yield(()));
    assert!(fiber.went_deep());
    assert_eq!(fiber.resume(()), Step::Return(()));
}

#[test]
fn reserved_bytes_far_above_the_base_are_trimmed_too() {
    let test = "reserved_bytes_far_above_the_base_are_trimmed_too";
    child::succeeds(test, || {
        let pool = Pool::new(Config {
            reserve: MIB,
            ..Config::default()
        })
        .unwrap();
        run_deep(&pool, 4 * KIB);
        let before = figure("VmRSS");
        let stack = pool.take().unwrap();
        // SAFETY: the test owns the stack and reserved that many bytes.
        unsafe { stack.reserved().write_bytes(1, MIB) };
        assert!(figure("VmRSS") > before + 900 * KIB);
        let mut fiber = Fiber::new(stack, move |_: &Suspender<(), ()>, ()| use_stack(MIB));
        assert_eq!(fiber.resume(()), Step::Return(1));
        drop(fiber);
        let kept = figure("VmRSS").saturating_sub(before);
        assert!(kept < 256 * KIB, "{kept} bytes kept of 1 MiB");
        assert_eq!(pool.stats().warm, 1, "trimmed, and still warm");
    });
}

#[test]
fn what_the_canary_misses_the_sweep_finds() {
    child::succeeds("what_the_canary_misses_the_sweep_finds", || {
        let pool = Pool::new(Config::default()).unwrap();
        drop(pool.take().unwrap());
        let before = figure("VmRSS");
        let stack = pool.take().unwrap();
        let limit = stack.limit();
        let mut fiber = Fiber::new(stack, move |_: &Suspender<(), ()>, ()| {
            // As a frame does that jumps over the canary page.
            // SAFETY: the low half of the stack this runs on, far below its frames.
            unsafe { (limit as *mut u8).write_bytes(1, 4 * MIB) };
        });
        assert_eq!(fiber.resume(()), Step::Return(()));
        drop(fiber);
        assert!(figure("VmRSS") > before + 3 * MIB, "missed");
        for _ in 0..1100 {
            drop(pool.take().unwrap());
        }
        assert!(figure("VmRSS") < before + MIB, "found");
    });
}

/// Takes stacks until the pool refuses, at most `most`.
fn take_all(pool: &Pool, most: usize) -> (Vec<Stack>, Option<StackError>) {
    let mut stacks = Vec::new();
    while stacks.len() < most {
        match pool.take() {
            Ok(stack) => stacks.push(stack),
            Err(error) => return (stacks, Some(error)),
        }
    }
    (stacks, None)
}

/// Whether the kernel would give that much address space.
fn can_map(len: usize) -> bool {
    // SAFETY: a mapping of nobody's, which goes again at once.
    unsafe {
        let start = libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        );
        start != libc::MAP_FAILED && libc::munmap(start, len) == 0
    }
}

#[test]
fn without_address_space_a_clear_error_and_nothing_lost() {
    let test = "without_address_space_a_clear_error_and_nothing_lost";
    child::succeeds(test, || {
        let pool = Pool::new(Config::default()).unwrap();
        let room = 300 * MIB;
        let limit = libc::rlimit {
            rlim_cur: (figure("VmSize") + room) as libc::rlim_t,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: lowers a limit of this child process.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        if can_map(2 * room) {
            println!("skipped: an emulator, which sets no limit");
            return;
        }

        let (mut stacks, error) = take_all(&pool, 1000);
        let error = error.expect("1000 stacks of 8 MiB do not fit in 300 MiB");
        assert!(matches!(error, StackError::Map(_)), "{error:?}");
        assert!(error.to_string().contains("RLIMIT_AS"), "{error}");
        // Smaller slabs were tried: the second one of 64 stacks does not fit.
        assert!(stacks.len() >= 24, "only {} stacks", stacks.len());

        assert!(pool.take().is_err(), "it stays an error");
        drop(stacks.pop());
        let mut fiber = Fiber::new(pool.take().unwrap(), |_: &Suspender<(), ()>, ()| 7);
        assert_eq!(fiber.resume(()), Step::Return(7));
    });
}

#[test]
fn without_data_memory_the_error_is_that_of_memory() {
    let test = "without_data_memory_the_error_is_that_of_memory";
    child::succeeds(test, || {
        let pool = Pool::new(Config::default()).unwrap();
        // Nothing at all is left, not one page: as at the limit of mappings. (0 would be no limit
        // to the kernel, for Valgrind's sake.)
        let limit = libc::rlimit {
            rlim_cur: 1,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: lowers a limit of this child process.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) }, 0);
        let refused = pool.take();
        // First of all: without memory a failed assertion could not even be told.
        let unlimited = libc::rlimit {
            rlim_cur: libc::RLIM_INFINITY,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &unlimited) }, 0);
        let Err(error) = refused else {
            panic!("a stack of 8 MiB fits into nothing");
        };
        assert!(matches!(error, StackError::Map(_)), "{error:?}");
        assert!(error.to_string().contains("RLIMIT_DATA"), "{error}");
        let mut fiber = Fiber::new(pool.take().unwrap(), |_: &Suspender<(), ()>, ()| 7);
        assert_eq!(fiber.resume(()), Step::Return(7));
    });
}

#[test]
fn at_the_limit_of_mappings_a_clear_error_and_nothing_lost() {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("/proc is mounted");
    if limit.trim().parse::<usize>().expect("a number") > 100_000 {
        println!("skipped: vm.max_map_count is raised here, the test would take too much memory");
        return;
    }
    let test = "at_the_limit_of_mappings_a_clear_error_and_nothing_lost";
    child::succeeds(test, || {
        let pool = Pool::new(Config {
            stack_size: 128 * KIB,
            guard: GuardKind::Mprotect,
            ..Config::default()
        })
        .unwrap();
        let (mut stacks, error) = take_all(&pool, 60_000);
        let error = error.expect("60,000 stacks take 120,000 mappings");
        assert!(matches!(error, StackError::MapLimit), "{error:?}");
        assert!(error.to_string().contains("vm.max_map_count"), "{error}");
        assert!(stacks.len() > 20_000, "only {} stacks", stacks.len());
        assert_eq!(pool.stats().in_use, stacks.len());

        // The process can still map for other ends.
        let thread = std::thread::spawn(|| 7);
        assert_eq!(thread.join().unwrap(), 7);

        let most = stacks.len();
        stacks.truncate(10);
        let (again, _) = take_all(&pool, most - 10);
        assert_eq!(again.len(), most - 10, "all can be had again");
    });
}

#[test]
fn locked_memory_gets_mprotect_guards() {
    child::succeeds("locked_memory_gets_mprotect_guards", || {
        // SAFETY: asks for a number. Other users may lock a few MiB only, less than one stack.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: only root may lock enough memory");
            return;
        }
        // SAFETY: a flag for this child process. MCL_ONFAULT: locked when touched, not at once.
        let locked = unsafe { libc::mlockall(libc::MCL_FUTURE | libc::MCL_ONFAULT) };
        assert_eq!(locked, 0, "{}", std::io::Error::last_os_error());
        if !can_map(32 * MIB) {
            println!("skipped: root of a namespace, who may not lock more than other users");
            return;
        }
        let pool = Pool::new(Config {
            warm: 0,
            ..Config::default()
        })
        .unwrap();
        for _ in 0..3 {
            let mut fiber = Fiber::new(pool.take().unwrap(), |_: &Suspender<(), ()>, ()| 7);
            assert_eq!(fiber.resume(()), Step::Return(7));
        }
        assert_eq!(pool.stats().guard, GuardKind::Mprotect);
    });
}
