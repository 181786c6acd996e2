//! What the parts cost on this machine: `cargo run --release -p verdigris-fiber --example switch_cost`.
//!
//! Prints nanoseconds, the median and the best of several rounds.

use std::hint::black_box;
use std::time::Instant;

use verdigris_fiber::{Config, Fiber, Pool, Stack, StackError, Step, Suspender};

const ROUNDS: usize = 21;
const TURNS: u32 = 200_000;

fn main() -> Result<(), StackError> {
    let pool = Pool::new(Config {
        reserve: 1024,
        ..Config::default()
    })?;
    println!("{:<44}{:>8}{:>8}", "ns", "median", "best");

    row("take a warm stack and give it back", TURNS, || {
        for _ in 0..TURNS {
            drop(black_box(take(&pool)));
        }
    });
    row("enter and leave: take, new, run, drop", TURNS, || {
        for _ in 0..TURNS {
            enter(&pool);
        }
    });
    row("the same through into_stack", TURNS, || {
        for _ in 0..TURNS {
            enter_into_stack(&pool);
        }
    });

    let mut fiber = Fiber::new(pool.take()?, |suspender: &Suspender<(), ()>, ()| {
        loop {
            suspender.suspend(());
        }
    });
    row("resume and suspend", TURNS, || {
        for _ in 0..TURNS {
            black_box(fiber.resume(()));
        }
    });
    let _: Step<(), ()> = fiber.resume(());
    drop(fiber);

    let many = 20_000;
    let mut held = Vec::with_capacity(many as usize);
    row("take a stack without memory, first page", many, || {
        held.clear();
        held.extend((0..many).map(|_| take(&pool)));
    });
    drop(held);
    Ok(())
}

#[inline(never)]
fn enter(pool: &Pool) {
    let mut fiber = Fiber::new(take(pool), |_: &Suspender<(), ()>, ()| ());
    black_box(fiber.resume(()));
}

#[inline(never)]
fn enter_into_stack(pool: &Pool) {
    let mut fiber = Fiber::new(take(pool), |_: &Suspender<(), ()>, ()| ());
    black_box(fiber.resume(()));
    drop(fiber.into_stack());
}

#[inline(always)]
fn take(pool: &Pool) -> Stack {
    pool.take().expect("room for the benchmark's stacks")
}

fn row(what: &str, turns: u32, mut round: impl FnMut()) {
    round();
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_secs_f64() * 1e9 / f64::from(turns)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{what:<44}{:>8.1}{:>8.1}", times[ROUNDS / 2], times[0]);
}
