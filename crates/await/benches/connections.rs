//! A sync reader over tokio's TCP at 10,000 connections, beside the same in async: `make bench-rust`.
//!
//! ```text
//!   this process                              its child
//!     one thread, tokio                         one thread, tokio
//!     10,000 tasks: read records,  <── TCP ──   10,000 tasks: send records,
//!     add them up, answer                       read answers
//! ```
//!
//! Each round serves the same connections once with async tasks and once with sync functions. Two
//! loads: each connection asks and waits for the answer, again and again, which suspends for each
//! request; and each sends many records at once, which are read from a buffer. Printed are medians:
//! the requests a second by the clock, and by the CPU time of the serving thread, which leaves out
//! the child. Memory is measured in processes of their own, with all connections waiting.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};
use verdigris_await::async_def;
use verdigris_await::io::TokioIo;

const CONNECTIONS: usize = 10_000;
const ROUNDS: usize = 9;
/// Bytes of a record after its head.
const RECORD: usize = 60;
/// In the head of a record, beside its length: answer this one.
const ANSWER: u32 = 1 << 31;
/// What each side reads at once.
const BUFFER: usize = 1024;

/// What each connection does in a round.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    /// How often it sends and waits.
    turns: usize,
    /// How many records it sends at once. The last is answered.
    records: usize,
}

const LOADS: [Load; 2] = [
    Load {
        name: "ask and answer",
        turns: 10,
        records: 1,
    },
    Load {
        name: "many records, one answer",
        turns: 1,
        records: 300,
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Async,
    Sync,
}

const WAYS: [(Way, &str); 2] = [(Way::Async, "async"), (Way::Sync, "sync")];

fn main() {
    raise_descriptors();
    let arguments: Vec<_> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["load", address, connections] => load(address, connections.parse().expect("a number")),
        ["memory", way, connections] => {
            let way = WAYS.iter().find(|(_, name)| *name == way).expect("a way").0;
            memory(way, connections.parse().expect("a number"));
        }
        // `cargo bench` adds --bench. Whatever else is asked for is not here.
        [] | ["--bench"] => measure(),
        _ => {}
    }
}

/// Each process needs one descriptor a connection.
fn raise_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a valid struct.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

fn connections() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: it gets a valid struct.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    CONNECTIONS.min(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) - 50)
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

// The reader, twice.

async fn serve_async(stream: TcpStream, answers: usize) -> io::Result<TcpStream> {
    let mut stream = tokio::io::BufReader::with_capacity(BUFFER, stream);
    let mut record = Vec::new();
    let mut sum = 0_u64;
    let mut answered = 0;
    while answered < answers {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let head = u32::from_le_bytes(head);
        record.resize((head & !ANSWER) as usize, 0);
        stream.read_exact(&mut record).await?;
        sum += add_up(&record);
        if head & ANSWER != 0 {
            stream.get_mut().write_all(&sum.to_le_bytes()).await?;
            answered += 1;
        }
    }
    Ok(stream.into_inner())
}

fn serve_sync<S: Read + Write>(stream: S, answers: usize) -> io::Result<S> {
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let mut record = Vec::new();
    let mut sum = 0_u64;
    let mut answered = 0;
    while answered < answers {
        let mut head = [0; 4];
        stream.read_exact(&mut head)?;
        let head = u32::from_le_bytes(head);
        record.resize((head & !ANSWER) as usize, 0);
        stream.read_exact(&mut record)?;
        sum += add_up(&record);
        if head & ANSWER != 0 {
            stream.get_mut().write_all(&sum.to_le_bytes())?;
            answered += 1;
        }
    }
    Ok(stream.into_inner())
}

fn add_up(record: &[u8]) -> u64 {
    record.iter().copied().map(u64::from).sum()
}

/// Starts a task for each stream.
fn serve(way: Way, streams: Vec<TcpStream>, answers: usize) -> JoinSet<io::Result<TcpStream>> {
    let mut tasks = JoinSet::new();
    for stream in streams {
        match way {
            Way::Async => tasks.spawn_local(serve_async(stream, answers)),
            Way::Sync => tasks.spawn_local(async_def(move || {
                Ok(serve_sync(TokioIo::new(stream), answers)?.into_inner())
            })),
        };
    }
    tasks
}

/// Starts the child and accepts its connections.
async fn connect(connections: usize) -> io::Result<(Child, ChildStdin, Vec<TcpStream>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["load", &listener.local_addr()?.to_string()])
        .arg(connections.to_string())
        .stdin(Stdio::piped())
        .spawn()?;
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let orders = child.stdin.take().expect("it is piped");
    Ok((child, orders, streams))
}

// Time.

struct Times {
    clock: Vec<f64>,
    cpu: Vec<f64>,
}

fn measure() {
    let connections = connections();
    println!("\na sync reader over tokio's TCP, {connections} connections in one process");
    println!(
        "{:<28}{:<8}{:>14}{:>8}{:>18}{:>8}",
        "", "", "requests/s", "ratio", "by CPU time", "ratio"
    );
    let local = LocalSet::new();
    local.block_on(&runtime(), async {
        let (mut child, mut orders, mut streams) = connect(connections).await.expect("connections");
        for (number, load) in LOADS.iter().enumerate() {
            let mut times = WAYS.map(|_| Times {
                clock: Vec::new(),
                cpu: Vec::new(),
            });
            for round in 0..=ROUNDS {
                for (at, (way, _)) in WAYS.iter().enumerate() {
                    let tasks = serve(*way, std::mem::take(&mut streams), load.turns);
                    let (clock, cpu) = (Instant::now(), cpu_time());
                    writeln!(orders, "{number}").expect("the child is there");
                    for stream in tasks.join_all().await {
                        streams.push(stream.expect("no error"));
                    }
                    // The first round faults memory in.
                    if round > 0 {
                        times[at].clock.push(clock.elapsed().as_secs_f64());
                        times[at].cpu.push((cpu_time() - cpu).as_secs_f64());
                    }
                }
            }
            report(*load, &mut times, connections);
        }
        drop(orders);
        child.wait().expect("it ends");
    });
    memory_of_each(connections);
}

fn report(load: Load, times: &mut [Times], connections: usize) {
    let requests = (connections * load.turns * load.records) as f64;
    let mut first = None;
    for (times, (_, name)) in times.iter_mut().zip(WAYS) {
        let by_clock = requests / median(&mut times.clock);
        let by_cpu = requests / median(&mut times.cpu);
        let (one, other) = *first.get_or_insert((by_clock, by_cpu));
        println!(
            "  {:<26}{name:<8}{by_clock:>14.0}{:>8.3}{by_cpu:>18.0}{:>8.3}",
            load.name,
            by_clock / one,
            by_cpu / other
        );
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Of this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it gets a valid struct.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

// Memory.

/// Runs one process for each way, since freed memory is not given back to be counted again.
fn memory_of_each(connections: usize) {
    println!("  memory of a waiting connection, kernel's buffers not counted");
    for (_, name) in WAYS {
        let mut command = Command::new(std::env::current_exe().expect("it has a path"));
        command.args(["memory", name, &connections.to_string()]);
        assert!(command.status().expect("it starts").success());
    }
}

fn memory(way: Way, connections: usize) {
    let local = LocalSet::new();
    local.block_on(&runtime(), async {
        let (mut child, orders, streams) = connect(connections).await.expect("connections");
        let before = resident();
        let tasks = serve(way, streams, 1);
        for _ in 0..connections {
            tokio::task::yield_now().await;
        }
        let after = resident();
        let name = WAYS
            .iter()
            .find(|(known, _)| *known == way)
            .expect("known")
            .1;
        let each = |at: usize| (after[at] - before[at]) / connections as f64;
        println!(
            "    {name:<10}{:>7.2} KiB, and {:.2} KiB of page tables",
            each(0),
            each(1)
        );
        drop(tasks);
        drop(orders);
        child.wait().expect("it ends");
    });
}

/// KiB of anonymous memory that is resident, and of page tables.
fn resident() -> [f64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ["RssAnon:", "VmPTE:"].map(|key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(f64::NAN)
    })
}

// The child.

/// Connects, and does a load for each line of stdin.
fn load(address: &str, connections: usize) {
    let (sender, mut orders) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let number: usize = line.expect("a pipe").parse().expect("a number");
            if sender.send(number).is_err() {
                break;
            }
        }
    });
    let local = LocalSet::new();
    local.block_on(&runtime(), async {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await.expect("a connection");
            stream.set_nodelay(true).expect("an option");
            // No TIME_WAIT is left behind.
            stream.set_zero_linger().expect("an option");
            streams.push(stream);
        }
        while let Some(number) = orders.recv().await {
            let load = LOADS[number];
            let bytes: Rc<[u8]> = records(load.records).into();
            let mut tasks = JoinSet::new();
            for mut stream in streams.drain(..) {
                let bytes = bytes.clone();
                tasks.spawn_local(async move {
                    for _ in 0..load.turns {
                        stream.write_all(&bytes).await.expect("the server is there");
                        let mut answer = [0; 8];
                        stream.read_exact(&mut answer).await.expect("an answer");
                    }
                    stream
                });
            }
            streams = tasks.join_all().await;
        }
    });
}

fn records(count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for at in 1..=count {
        let answer = if at == count { ANSWER } else { 0 };
        bytes.extend_from_slice(&(RECORD as u32 | answer).to_le_bytes());
        bytes.extend_from_slice(&[7; RECORD]);
    }
    bytes
}
