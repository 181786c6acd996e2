//! What entering, waiting and suspending cost, beside every other way: `make bench-rust`.
//!
//! All rows of a table run in one process, in turns: each round runs every row once, so that a
//! machine that is busy for a while slows all of them. Printed are the medians of the rounds, and
//! what each row adds to the first one. Where valgrind is installed, a second table counts
//! instructions, which no other process disturbs.

use std::future::{poll_fn, ready};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use verdigris_await::{async_def, await_, spawn_pinned};

const ROUNDS: usize = 31;

/// One way to do the thing that its table measures: runs it so many times.
struct Row {
    name: &'static str,
    turns: u32,
    /// None counts no instructions: other threads or system calls take part.
    key: Option<&'static str>,
    run: fn(u32),
}

struct Table {
    title: &'static str,
    rows: &'static [Row],
}

const TABLES: &[Table] = &[
    Table {
        title: "enter and leave a function that does nothing",
        rows: &[
            Row {
                name: "async {}",
                turns: 100_000,
                key: Some("enter-async"),
                run: enter_async,
            },
            Row {
                name: "async_def(|| ())",
                turns: 100_000,
                key: Some("enter"),
                run: enter,
            },
            Row {
                name: "stackful",
                turns: 20_000,
                key: Some("enter-stackful"),
                run: enter_stackful,
            },
            Row {
                name: "block_in_place + block_on",
                turns: 2_000,
                key: None,
                run: enter_in_place,
            },
            Row {
                name: "spawn_pinned",
                turns: 500,
                key: None,
                run: enter_spawn_pinned,
            },
            Row {
                name: "spawn_blocking",
                turns: 500,
                key: None,
                run: enter_spawn_blocking,
            },
        ],
    },
    Table {
        title: "wait for a future that is ready",
        rows: &[
            Row {
                name: "poll it",
                turns: 500_000,
                key: Some("ready-poll"),
                run: ready_poll,
            },
            Row {
                name: "await_",
                turns: 500_000,
                key: Some("ready"),
                run: ready_await,
            },
            Row {
                name: "stackful",
                turns: 500_000,
                key: Some("ready-stackful"),
                run: ready_stackful,
            },
            Row {
                name: "block_in_place + block_on",
                turns: 2_000,
                key: None,
                run: ready_in_place,
            },
            Row {
                name: "spawn_blocking + block_on",
                turns: 500,
                key: None,
                run: ready_spawn_blocking,
            },
        ],
    },
    Table {
        title: "suspend and resume, polled in a loop",
        rows: &[
            Row {
                name: "async, .await",
                turns: 200_000,
                key: Some("yield-async"),
                run: yield_async,
            },
            Row {
                name: "await_",
                turns: 200_000,
                key: Some("yield"),
                run: yield_await,
            },
            Row {
                name: "stackful",
                turns: 200_000,
                key: Some("yield-stackful"),
                run: yield_stackful,
            },
        ],
    },
    Table {
        title: "suspend and resume, tokio's current_thread runtime",
        rows: &[
            Row {
                name: "async, .await",
                turns: 20_000,
                key: None,
                run: tokio_async,
            },
            Row {
                name: "await_",
                turns: 20_000,
                key: None,
                run: tokio_await,
            },
            Row {
                name: "stackful",
                turns: 20_000,
                key: None,
                run: tokio_stackful,
            },
            Row {
                name: "block_in_place + block_on",
                turns: 500,
                key: None,
                run: tokio_in_place,
            },
            Row {
                name: "spawn_blocking + block_on",
                turns: 500,
                key: None,
                run: tokio_spawn_blocking,
            },
        ],
    },
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [count, key, turns] = &arguments[..] {
        if count == "count" {
            let row = rows()
                .find(|row| row.key == Some(key))
                .expect("a known row");
            return (row.run)(turns.parse().expect("a number of turns"));
        }
    }
    for table in TABLES {
        measure(table);
    }
    measure_memory();
    count_instructions();
}

fn rows() -> impl Iterator<Item = &'static Row> {
    TABLES.iter().flat_map(|table| table.rows)
}

fn measure(table: &Table) {
    let mut times = vec![Vec::with_capacity(ROUNDS); table.rows.len()];
    for row in table.rows {
        (row.run)(row.turns);
    }
    for _ in 0..ROUNDS {
        for (row, times) in table.rows.iter().zip(&mut times) {
            let start = Instant::now();
            (row.run)(row.turns);
            times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(row.turns));
        }
    }
    println!(
        "\n{:<54}{:>10}{:>10}{:>10}",
        table.title, "median ns", "best", "added"
    );
    let mut first = None;
    for (row, times) in table.rows.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let median = times[ROUNDS / 2];
        let added = median - *first.get_or_insert(median);
        println!(
            "  {:<52}{median:>10.1}{:>10.1}{added:>10.1}",
            row.name, times[0]
        );
    }
}

/// Memory of one suspended function: resident pages and page tables, over 10,000 of them.
fn measure_memory() {
    const MANY: usize = 10_000;
    let kib = || -> Option<i64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let field = |name: &str| -> Option<i64> {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        Some(field("VmRSS:")? + field("VmPTE:")?)
    };
    let before = kib();
    let mut suspended = Vec::with_capacity(MANY);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..MANY {
        let mut function = async_def(|| await_(Yield(false)));
        assert!(Pin::new(&mut function).poll(&mut cx).is_pending());
        suspended.push(function);
    }
    if let (Some(before), Some(after)) = (before, kib()) {
        let each = (after - before) as f64 / MANY as f64;
        println!("\n{:<54}{each:>10.1}", "KiB of one suspended function");
    }
}

/// Instructions of one turn: a run of 20,000 less one of 10,000.
fn count_instructions() {
    let collected = |key: &str, turns: &str| -> Option<u64> {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().ok()?)
            .args(["count", key, turns])
            .output()
            .ok()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = said.lines().find(|line| line.contains("Collected :"))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    println!("\n{:<54}{:>10}", "instructions", "a turn");
    for row in rows() {
        let Some(key) = row.key else { continue };
        match (collected(key, "20000"), collected(key, "10000")) {
            (Some(more), Some(less)) => {
                println!("  {key:<52}{:>10.1}", (more - less) as f64 / 10_000.0);
            }
            _ => return println!("  not counted: valgrind is not installed"),
        }
    }
}

/// Pending once, and wakes nobody: the loop polls again anyway.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        // Opaque, or the compiler sees through the whole loop of the async block.
        if std::mem::replace(black_box(&mut self.0), true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// The smallest executor: polls until the future is done.
#[inline(always)]
fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
    }
}

fn threads() -> &'static tokio::runtime::Runtime {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).build().expect("a runtime")
    })
}

/// Runs a task on a worker thread of tokio's multi-thread runtime.
fn on_worker<F: Future<Output = ()> + Send + 'static>(task: F) {
    threads().block_on(threads().spawn(task)).expect("no panic");
}

// Entering.

fn enter_async(turns: u32) {
    for _ in 0..turns {
        run(black_box(async {}));
    }
}

fn enter(turns: u32) {
    for _ in 0..turns {
        run(black_box(async_def(|| ())));
    }
}

fn enter_stackful(turns: u32) {
    for _ in 0..turns {
        run(black_box(stackful::stackful(|| ())));
    }
}

fn enter_in_place(turns: u32) {
    on_worker(async move {
        for _ in 0..turns {
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(async {}));
        }
    });
}

fn enter_spawn_blocking(turns: u32) {
    on_worker(async move {
        for _ in 0..turns {
            tokio::task::spawn_blocking(|| ()).await.expect("no panic");
        }
    });
}

fn enter_spawn_pinned(turns: u32) {
    on_worker(async move {
        for _ in 0..turns {
            spawn_pinned(|| ()).await;
        }
    });
}

// Waiting for what is ready.

fn ready_poll(turns: u32) {
    let mut turn = 0;
    run(poll_fn(move |cx| {
        while turn < turns {
            let mut future = pin!(ready(black_box(turn)));
            black_box(future.as_mut().poll(cx).is_ready());
            turn += 1;
        }
        Poll::Ready(())
    }));
}

fn ready_await(turns: u32) {
    run(async_def(move || {
        for turn in 0..turns {
            black_box(await_(ready(black_box(turn))));
        }
    }));
}

fn ready_stackful(turns: u32) {
    run(stackful::stackful(move || {
        for turn in 0..turns {
            black_box(stackful::wait(ready(black_box(turn))));
        }
    }));
}

fn ready_in_place(turns: u32) {
    on_worker(async move {
        for turn in 0..turns {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(ready(black_box(turn)))
            });
        }
    });
}

fn ready_spawn_blocking(turns: u32) {
    on_worker(async move {
        for turn in 0..turns {
            let handle = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || handle.block_on(ready(black_box(turn))))
                .await
                .expect("no panic");
        }
    });
}

// Suspending.

fn yield_async(turns: u32) {
    run(async move {
        for _ in 0..turns {
            Yield(false).await;
        }
    });
}

fn yield_await(turns: u32) {
    run(async_def(move || {
        for _ in 0..turns {
            await_(Yield(false));
        }
    }));
}

fn yield_stackful(turns: u32) {
    run(stackful::stackful(move || {
        for _ in 0..turns {
            stackful::wait(Yield(false));
        }
    }));
}

fn on_one_thread(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future);
}

fn tokio_async(turns: u32) {
    on_one_thread(async move {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    });
}

fn tokio_await(turns: u32) {
    on_one_thread(async_def(move || {
        for _ in 0..turns {
            await_(tokio::task::yield_now());
        }
    }));
}

fn tokio_stackful(turns: u32) {
    on_one_thread(stackful::stackful(move || {
        for _ in 0..turns {
            stackful::wait(tokio::task::yield_now());
        }
    }));
}

fn tokio_in_place(turns: u32) {
    on_worker(async move {
        for _ in 0..turns {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(tokio::task::yield_now());
            });
        }
    });
}

fn tokio_spawn_blocking(turns: u32) {
    on_worker(async move {
        for _ in 0..turns {
            let handle = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || handle.block_on(tokio::task::yield_now()))
                .await
                .expect("no panic");
        }
    });
}
