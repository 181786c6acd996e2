//! `std::io` over async I/O: on every executor, and dropped in the middle.
#![cfg(all(feature = "tokio", feature = "futures-io"))]

mod common;

use std::cell::Cell;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use common::{poll_once, tokio_one_thread, tokio_threads, yield_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use verdigris_await::io::{FuturesIo, TokioIo};
use verdigris_await::{AwaitError, AwaitExt, async_def, await_};

/// Sends lines through a stream in small parts, and has them back.
fn talk(stream: impl Read + Write) -> String {
    let mut stream = BufReader::with_capacity(3, stream);
    stream.get_mut().write_all(b"one line\n").unwrap();
    stream.get_mut().flush().unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line
}

/// Echoes one line, a byte at a time.
fn echo(mut stream: impl Read + Write) {
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(&byte).unwrap();
    }
}

async fn tokio_tcp() -> (tokio::net::TcpStream, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

async fn over_tokio() {
    let (near, far) = tokio_tcp().await;
    let (line, ()) = tokio::join!(
        async_def(move || talk(TokioIo::new(near))),
        async_def(move || echo(TokioIo::new(far)))
    );
    assert_eq!(line, "one line\n");
}

#[test]
fn tokio_current_thread() {
    tokio_one_thread().block_on(over_tokio());
}

#[test]
fn tokio_multi_thread() {
    tokio_threads().block_on(over_tokio());
}

#[test]
fn tokio_multi_thread_local_set() {
    tokio_threads().block_on(async {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let tasks: Vec<_> = (0..20)
                    .map(|_| tokio::task::spawn_local(over_tokio()))
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
            })
            .await;
    });
}

#[test]
fn smol_tcp() {
    smol::block_on(async {
        let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connects = async { smol::net::TcpStream::connect(address).await.unwrap() };
        let accepts = async { listener.accept().await.unwrap().0 };
        let (near, far) = smol::future::zip(connects, accepts).await;
        let (line, ()) = smol::future::zip(
            async_def(move || talk(FuturesIo::new(near))),
            async_def(move || echo(FuturesIo::new(far))),
        )
        .await;
        assert_eq!(line, "one line\n");
    });
}

#[test]
fn buffered_readers_are_read_by_their_own_buffer() {
    let tokio = tokio::io::BufReader::new(&b"a\nb"[..]);
    let futures = futures_cursor(b"a\nb");
    pollster::block_on(async_def(move || {
        let lines: Vec<_> = TokioIo::new(tokio).lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["a", "b"]);
        let lines: Vec<_> = FuturesIo::new(futures)
            .lines()
            .map(Result::unwrap)
            .collect();
        assert_eq!(lines, ["a", "b"]);
    }));
}

fn futures_cursor(bytes: &'static [u8]) -> smol::io::Cursor<&'static [u8]> {
    smol::io::Cursor::new(bytes)
}

#[test]
fn seeks() {
    let tokio = std::io::Cursor::new(*b"0123456789");
    let futures = futures_cursor(b"0123456789");
    fn check(mut io: impl Read + Seek) {
        let mut two = [0; 2];
        assert_eq!(io.seek(SeekFrom::Start(4)).unwrap(), 4);
        io.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"45");
        assert_eq!(io.seek(SeekFrom::End(-1)).unwrap(), 9);
        assert_eq!(io.seek(SeekFrom::Current(-9)).unwrap(), 0);
        assert_eq!(io.stream_position().unwrap(), 0);
    }
    pollster::block_on(async_def(move || {
        check(TokioIo::new(tokio));
        check(FuturesIo::new(futures));
    }));
}

#[test]
fn a_file_of_the_runtime() {
    let path = std::env::temp_dir().join(format!("verdigris-await-{}", std::process::id()));
    let name = path.clone();
    tokio_one_thread().block_on(async_def(move || {
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).truncate(true).read(true).write(true);
        let mut file = TokioIo::new(options.open(&name).await_().unwrap());
        file.write_all(b"hello").unwrap();
        file.flush().unwrap();
        file.seek(SeekFrom::Start(1)).unwrap();
        assert_eq!(std::io::read_to_string(file).unwrap(), "ello");
    }));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn vectored_writes_and_shutdown_arrive() {
    let (near, mut far) = tokio::io::duplex(100);
    let writes = async_def(move || {
        let mut near = TokioIo::new(near);
        let parts = [b"ab", b"cd"].map(|part| std::io::IoSlice::new(part));
        assert!(near.write_vectored(&parts).unwrap() >= 2);
        near.shutdown().unwrap();
        near
    });
    pollster::block_on(async {
        let _kept = writes.await;
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        assert!("abcd".starts_with(&read) && read.len() >= 2);
    });
}

#[test]
fn without_a_context_each_operation_is_an_error_that_says_why() {
    let mut tokio = TokioIo::new(std::io::Cursor::new(vec![1, 2, 3]));
    let mut futures = FuturesIo::new(smol::io::Cursor::new(vec![1, 2, 3]));
    let errors = [
        tokio.read(&mut [0]).unwrap_err(),
        tokio.write(&[0]).unwrap_err(),
        tokio.flush().unwrap_err(),
        tokio.fill_buf().unwrap_err(),
        tokio.seek(SeekFrom::Start(1)).unwrap_err(),
        tokio.shutdown().unwrap_err(),
        futures.read(&mut [0]).unwrap_err(),
        futures.write(&[0]).unwrap_err(),
        futures.flush().unwrap_err(),
        futures.fill_buf().unwrap_err(),
        futures.seek(SeekFrom::Start(1)).unwrap_err(),
        futures.close().unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Other);
        let inner = error.into_inner().unwrap();
        assert_eq!(inner.downcast_ref(), Some(&AwaitError::NoContext));
    }
    assert_eq!(tokio.into_inner().position(), 0);
}

#[test]
fn a_buffered_writer_on_a_dropped_function_flushes_in_vain_and_harms_nothing() {
    let (near, mut far) = tokio::io::duplex(100);
    let near = Rc::new(std::cell::RefCell::new(near));
    let mut function = async_def({
        let near = near.clone();
        move || {
            let mut near = near.borrow_mut();
            let mut writer = BufWriter::new(TokioIo::new(&mut *near));
            writer.write_all(b"never sent").unwrap();
            await_(std::future::pending::<()>());
        }
    });
    assert!(poll_once(&mut function).is_pending());
    drop(function);
    let mut near = Rc::into_inner(near)
        .expect("the function is gone")
        .into_inner();
    pollster::block_on(async {
        near.write_all(b"next").await.unwrap();
        let mut read = [0; 4];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"next");
    });
}

#[test]
fn a_function_dropped_while_it_reads_has_lost_no_bytes() {
    let (mut near, far) = tokio::io::duplex(100);
    let far = Rc::new(std::cell::RefCell::new(far));
    let got = Rc::new(Cell::new(0));
    let mut function = async_def({
        let (far, got) = (far.clone(), got.clone());
        move || {
            let mut far = far.borrow_mut();
            let mut far = TokioIo::new(&mut *far);
            let mut two = [0; 2];
            loop {
                far.read_exact(&mut two).unwrap();
                got.set(got.get() + 1);
            }
        }
    });
    pollster::block_on(near.write_all(b"1122")).unwrap();
    assert!(poll_once(&mut function).is_pending());
    assert_eq!(got.get(), 2);
    pollster::block_on(near.write_all(b"33")).unwrap();
    drop(function);
    let mut far = Rc::into_inner(far)
        .expect("the function is gone")
        .into_inner();
    pollster::block_on(async {
        let mut rest = [0; 2];
        far.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"33");
    });
}

#[test]
fn a_function_dropped_while_it_writes_has_written_what_was_taken() {
    let (near, mut far) = tokio::io::duplex(4);
    let near = Rc::new(std::cell::RefCell::new(near));
    let mut function = async_def({
        let near = near.clone();
        move || {
            let mut near = near.borrow_mut();
            TokioIo::new(&mut *near).write_all(b"123456").unwrap();
        }
    });
    assert!(poll_once(&mut function).is_pending());
    drop(function);
    drop(near);
    let mut read = String::new();
    pollster::block_on(far.read_to_string(&mut read)).unwrap();
    assert_eq!(read, "1234");
}

struct Counts(AtomicU32);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn one_arrival_is_one_wake_and_none_after_the_function_is_dropped() {
    let wakes = Arc::new(Counts(AtomicU32::new(0)));
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let (mut near, far) = tokio::io::duplex(100);
    let mut function = async_def(move || {
        let mut far = TokioIo::new(far);
        let mut byte = [0];
        far.read_exact(&mut byte).unwrap();
        far.read_exact(&mut byte).unwrap();
    });
    assert!(Pin::new(&mut function).poll(&mut cx).is_pending());
    pollster::block_on(near.write_all(b"1")).unwrap();
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert!(Pin::new(&mut function).poll(&mut cx).is_pending());
    drop(function);
    let before = wakes.0.load(Ordering::SeqCst);
    assert!(pollster::block_on(near.write_all(b"2")).is_err());
    assert!(wakes.0.load(Ordering::SeqCst) <= before + 1);
}

#[test]
fn what_is_not_unpin_is_boxed() {
    let inner = async_stream_of_nothing();
    let read = pollster::block_on(async_def(move || {
        std::io::read_to_string(TokioIo::new(Box::pin(inner)))
    }));
    assert_eq!(read.unwrap(), "");
}

struct NotUnpin(std::marker::PhantomPinned);

impl tokio::io::AsyncRead for NotUnpin {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn async_stream_of_nothing() -> NotUnpin {
    NotUnpin(std::marker::PhantomPinned)
}

#[test]
fn a_reader_that_takes_its_bytes_back_is_an_error() {
    struct Fickle(bool);
    impl tokio::io::AsyncRead for Fickle {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            Poll::Pending
        }
    }
    impl tokio::io::AsyncBufRead for Fickle {
        fn poll_fill_buf(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<std::io::Result<&[u8]>> {
            let this = self.get_mut();
            if std::mem::replace(&mut this.0, true) {
                Poll::Pending
            } else {
                Poll::Ready(Ok(b"gone"))
            }
        }
        fn consume(self: Pin<&mut Self>, _: usize) {}
    }
    let result = pollster::block_on(async_def(|| {
        TokioIo::new(Fickle(false)).fill_buf().map(<[u8]>::len)
    }));
    assert!(result.unwrap_err().to_string().contains("poll_fill_buf"));
}

#[test]
fn others_run_while_a_function_reads() {
    let turns = Rc::new(Cell::new(0));
    tokio_one_thread().block_on(async {
        let (near, mut far) = tokio_tcp().await;
        let reads = async_def(move || {
            let mut byte = [0];
            TokioIo::new(near).read_exact(&mut byte).unwrap();
        });
        let writes = async {
            for _ in 0..10 {
                turns.set(turns.get() + 1);
                yield_now().await;
            }
            far.write_all(b"x").await.unwrap();
        };
        tokio::join!(reads, writes);
        assert_eq!(turns.get(), 10);
    });
}
