//! A sync reader over tokio's TCP at 10,000 connections, on stacks of 8 MiB and on small ones, beside
//! the same in async: `make bench-rust`.
//!
//! ```text
//!   this process ──┬── server, async ── its load
//!                  └── server, sync  ── its load
//!
//!   server: one thread, tokio                     load: one thread, tokio
//!     10,000 tasks: read records,   <── TCP ──      10,000 tasks: send records,
//!     add them up, answer                           read answers
//! ```
//!
//! Connections and their tasks live as long as the run. The servers have rounds in turns, and one
//! that has none is idle. Two loads: each connection asks and waits for the answer, again and again,
//! which suspends for each request; and each sends many records at once, which are read from a
//! buffer. Printed are medians: the requests a second by the clock, and by the CPU time of the
//! serving thread, which leaves out the load. And what a connection takes while it waits.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet, spawn_local};
use verdigris_await::io::TokioIo;
use verdigris_await::{Builder, async_def};

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
    /// On stacks of [`SMALL`] bytes: many share a page of page tables.
    SmallStacks,
}

const WAYS: [(Way, &str); 3] = [
    (Way::Async, "async"),
    (Way::Sync, "sync"),
    (Way::SmallStacks, "small"),
];
const SMALL: usize = 128 << 10;

fn main() {
    raise_descriptors();
    let arguments: Vec<_> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["load", address, connections] => load(address, connections.parse().expect("a number")),
        ["serve", way, connections] => {
            let way = WAYS.iter().find(|(_, name)| *name == way).expect("a way").0;
            serve(way, connections.parse().expect("a number"));
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

async fn serve_async(stream: TcpStream, answers: Rc<Answers>) -> io::Result<()> {
    let mut stream = tokio::io::BufReader::with_capacity(BUFFER, stream);
    let mut record = Vec::new();
    let mut sum = 0_u64;
    loop {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let head = u32::from_le_bytes(head);
        record.resize((head & !ANSWER) as usize, 0);
        stream.read_exact(&mut record).await?;
        sum += add_up(&record);
        if head & ANSWER != 0 {
            stream.get_mut().write_all(&sum.to_le_bytes()).await?;
            answers.count();
        }
    }
}

fn serve_sync(stream: impl Read + Write, answers: &Answers) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let mut record = Vec::new();
    let mut sum = 0_u64;
    loop {
        let mut head = [0; 4];
        stream.read_exact(&mut head)?;
        let head = u32::from_le_bytes(head);
        record.resize((head & !ANSWER) as usize, 0);
        stream.read_exact(&mut record)?;
        sum += add_up(&record);
        if head & ANSWER != 0 {
            stream.get_mut().write_all(&sum.to_le_bytes())?;
            answers.count();
        }
    }
}

fn add_up(record: &[u8]) -> u64 {
    record.iter().copied().map(u64::from).sum()
}

/// How many answers are missing in this round.
#[derive(Default)]
struct Answers {
    missing: Cell<usize>,
    all: Notify,
}

impl Answers {
    fn count(&self) {
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0 {
            self.all.notify_one();
        }
    }
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

/// A server: connects, and has a round for each line of stdin. Prints what a connection takes, and
/// then a line for each round.
fn serve(way: Way, connections: usize) {
    let local = LocalSet::new();
    local.block_on(&runtime(), async {
        let (mut child, mut orders, streams) = connect(connections).await.expect("connections");
        let before = resident();
        let answers = Rc::new(Answers::default());
        for stream in streams {
            let answers = answers.clone();
            if way == Way::Async {
                spawn_local(serve_async(stream, answers));
                continue;
            }
            let serve = move || serve_sync(TokioIo::new(stream), &answers);
            if way == Way::Sync {
                spawn_local(async_def(serve));
            } else {
                spawn_local(Builder::new().stack_size(SMALL).async_def(serve));
            }
        }
        for line in io::stdin().lock().lines() {
            let number: usize = line.expect("a pipe").parse().expect("a number");
            answers.missing.set(connections * LOADS[number].turns);
            let (clock, cpu) = (Instant::now(), cpu_time());
            writeln!(orders, "{number}").expect("the load is there");
            answers.all.notified().await;
            let (clock, cpu) = (clock.elapsed(), cpu_time() - cpu);
            let now = resident();
            let each = |at: usize| (now[at] - before[at]) / connections as f64;
            let (memory, tables) = (each(0), each(1));
            let (clock, cpu) = (clock.as_secs_f64(), cpu.as_secs_f64());
            println!("{clock} {cpu} {memory} {tables}");
        }
        drop(orders);
        child.wait().expect("it ends");
    });
}

/// A server's process.
struct Server {
    name: &'static str,
    process: Child,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
}

/// Of one round: seconds by the clock and of CPU, KiB of memory and of page tables.
type Round = [f64; 4];

impl Server {
    fn start(name: &'static str, connections: usize) -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", name, &connections.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self {
            name,
            orders: process.stdin.take().expect("it is piped"),
            said: BufReader::new(process.stdout.take().expect("it is piped")),
            process,
        })
    }

    fn round(&mut self, load: usize) -> io::Result<Round> {
        writeln!(self.orders, "{load}")?;
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        let mut numbers = line.split_whitespace().map(|number| number.parse());
        Ok([(); 4].map(|()| numbers.next().expect("four").expect("a number")))
    }
}

fn measure() {
    let connections = connections();
    println!("\na sync reader over tokio's TCP, {connections} connections in one process");
    println!(
        "{:<28}{:<8}{:>14}{:>8}{:>18}{:>8}",
        "", "", "requests/s", "ratio", "by CPU time", "ratio"
    );
    let start = |(_, name)| Server::start(name, connections).expect("a server");
    let mut servers = WAYS.map(start);
    let mut memory = WAYS.map(|_| [0.0; 2]);
    for (number, load) in LOADS.iter().enumerate() {
        let mut rounds = WAYS.map(|_| Vec::new());
        for round in 0..=ROUNDS {
            for (at, server) in servers.iter_mut().enumerate() {
                let figures = server.round(number).expect("the server is there");
                // The first round faults memory in.
                if round > 0 {
                    rounds[at].push(figures);
                }
                memory[at] = [figures[2], figures[3]];
            }
        }
        report(*load, &rounds, connections);
    }
    println!("  memory of a connection, the kernel's buffers not counted");
    for (server, [memory, tables]) in servers.into_iter().zip(memory) {
        let name = server.name;
        println!("    {name:<10}{memory:>7.2} KiB, and {tables:.2} KiB of page tables");
        drop(server.orders);
        let mut process = server.process;
        process.wait().expect("it ends");
    }
}

fn report(load: Load, rounds: &[Vec<Round>], connections: usize) {
    let requests = (connections * load.turns * load.records) as f64;
    let mut first = None;
    for (rounds, (_, name)) in rounds.iter().zip(WAYS) {
        let [by_clock, by_cpu] = [0, 1].map(|at| {
            let mut times: Vec<_> = rounds.iter().map(|round| round[at]).collect();
            times.sort_by(f64::total_cmp);
            requests / times[times.len() / 2]
        });
        let (one, other) = *first.get_or_insert((by_clock, by_cpu));
        println!(
            "  {:<26}{name:<8}{by_clock:>14.0}{:>8.3}{by_cpu:>18.0}{:>8.3}",
            load.name,
            by_clock / one,
            by_cpu / other
        );
    }
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
