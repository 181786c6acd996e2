"""Pipes, FIFOs, terminals and children that leave the loop free while they make one wait."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os as stdlib
import pty
import signal
import socket
import subprocess
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Loop

from green.together import beside, cancelled, together
from verdigris import async_def
from verdigris.green import os, time  # type: ignore[attr-defined]

Ends = tuple[int, int]
Python = Callable[..., "subprocess.CompletedProcess[str]"]


def a_pipe() -> Ends:
    return stdlib.pipe()


def a_terminal() -> Ends:
    reader, writer = pty.openpty()
    tty.setraw(writer)
    return reader, writer


def a_socket() -> Ends:
    a, b = socket.socketpair()
    return a.detach(), b.detach()


@pytest.fixture(params=[a_pipe, a_terminal, a_socket])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """A descriptor to read, and one to write."""
    both = request.param()
    yield both
    for fd in both:
        with contextlib.suppress(OSError):
            stdlib.close(fd)


@pytest.fixture
def pipe() -> Iterator[Ends]:
    both = a_pipe()
    yield both
    for fd in both:
        with contextlib.suppress(OSError):
            stdlib.close(fd)


# --- reading and writing -------------------------------------------------------


def by_readv(fd: int) -> bytes:
    buffer = bytearray(9)
    return bytes(buffer[: os.readv(fd, [buffer])])


@pytest.mark.parametrize("read", [lambda fd: os.read(fd, 9), by_readv], ids=["read", "readv"])
def test_read_waits_for_another_function(
    loop: Loop, ends: Ends, read: Callable[[int], bytes]
) -> None:
    def write() -> None:
        time.sleep(0.02)
        os.write(ends[1], b"some")

    assert together(loop, lambda: read(ends[0]), write)[0] == b"some"


def read_all(fd: int, size: int) -> bytes:
    whole = b""
    while len(whole) < size:
        time.sleep(0)  # So that the writer finds it full.
        whole += os.read(fd, 5000)
    return whole


BIG = bytes(range(256)) * 2000


@pytest.mark.parametrize(
    "write",
    [lambda fd: os.write(fd, BIG), lambda fd: os.writev(fd, [BIG[:7], memoryview(BIG)[7:]])],
    ids=["write", "writev"],
)
def test_write_of_more_than_fits_is_whole(
    loop: Loop, ends: Ends, write: Callable[[int], int]
) -> None:
    got, sent = together(loop, lambda: read_all(ends[0], len(BIG)), lambda: write(ends[1]))
    assert sent == len(BIG)
    assert got == BIG


def test_a_default_timeout_leaves_the_mode_of_a_socket(loop: Loop) -> None:
    reader, writer = a_socket()
    socket.setdefaulttimeout(5)
    try:
        together(loop, lambda: read_all(reader, len(BIG)), lambda: os.write(writer, BIG))
        assert stdlib.get_blocking(writer)
    finally:
        socket.setdefaulttimeout(None)
        stdlib.close(reader)
        stdlib.close(writer)


def test_datagrams_are_not_cut(loop: Loop) -> None:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with a, b:
        sent, got = together(
            loop,
            lambda: [os.write(a.fileno(), bytes(10_000)) for _ in range(60)],
            lambda: [len(os.read(b.fileno(), 20_000)) for _ in range(60)],
        )
    assert sent == got == [10_000] * 60


def test_write_to_a_reader_that_left(loop: Loop, pipe: Ends) -> None:
    def leave() -> None:
        time.sleep(0.02)
        os.close(pipe[0])

    # What fitted is told, as by a blocking write; the next one fails.
    sent, _ = together(loop, lambda: os.write(pipe[1], BIG), leave)
    assert 0 < sent < len(BIG)
    with pytest.raises(BrokenPipeError):
        together(loop, lambda: os.write(pipe[1], BIG))


def test_read_leaves_the_loop_free_until_the_end_of_file(loop: Loop, pipe: Ends) -> None:
    timer = threading.Timer(0.2, stdlib.close, [pipe[1]])
    timer.start()
    assert beside(loop, lambda: os.read(pipe[0], 1)) == b""
    timer.join()


def test_two_readers_of_one_pipe(loop: Loop, pipe: Ends) -> None:
    def write() -> None:
        for _ in range(2):
            time.sleep(0.02)
            os.write(pipe[1], b"x")

    read = lambda: os.read(pipe[0], 9)  # noqa: E731
    assert together(loop, read, read, write)[:2] == [b"x", b"x"]


def test_non_blocking_never_waits(loop: Loop, pipe: Ends) -> None:
    stdlib.set_blocking(pipe[0], False)
    stdlib.set_blocking(pipe[1], False)

    def body() -> int:
        with pytest.raises(BlockingIOError):
            os.read(pipe[0], 1)
        sent = int(os.write(pipe[1], BIG))
        with pytest.raises(BlockingIOError):
            os.write(pipe[1], BIG)
        return sent

    assert 0 < together(loop, body)[0] < len(BIG)


def test_what_need_not_wait_does_not(loop: Loop, pipe: Ends, tmp_path: Path) -> None:
    order: list[str] = []

    def first() -> None:
        order.append("begins")
        assert os.read(pipe[0], 0) == b""
        assert os.write(pipe[1], b"") == 0
        os.write(pipe[1], b"x")
        assert os.read(pipe[0], 1) == b"x"
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        assert os.write(fd, BIG) == len(BIG)
        os.lseek(fd, 0, os.SEEK_SET)
        assert os.read(fd, 999_999) == BIG
        os.close(fd)
        order.append("ends")

    together(loop, first, lambda: order.append("another"))
    assert order.index("ends") == order.index("begins") + 1


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.read(-1, 1),
        lambda m: m.read("x", 1),
        lambda m: m.read(2**40, 1),
        lambda m: m.read(0, -1),
        lambda m: m.readv(-1, [bytearray(1)]),
        lambda m: m.write(-1, b"x"),
        lambda m: m.write(1, "text"),
        lambda m: m.write(1, memoryview(b"abcd")[::2]),
        lambda m: m.writev(-1, [b"x"]),
        lambda m: m.writev(1, ["text"]),
        lambda m: m.close(-1),
        lambda m: m.dup2(-1, 3),
        lambda m: m.fdopen("x"),
        lambda m: m.fdopen(-1),
        lambda m: m.open("/nothing/here", 0),
        lambda m: m.waitpid(1, 0),
        lambda m: m.waitpid("x", 0),
        lambda m: m.wait4(1, 0),
        lambda m: m.waitid(m.P_PID, 1, m.WEXITED),
        lambda m: m.waitid(m.P_ALL, 0, 0),
        lambda m: m.popen(1),
        lambda m: m.popen("true", "x"),
        lambda m: m.popen("true", "r", 0),
        lambda m: m.system(1),
        lambda m: m.system("a\0b"),
    ],
)
def test_errors_are_the_stdlibs(loop: Loop, call: Callable[[Any], object]) -> None:
    def raised(module: Any) -> BaseException:
        with pytest.raises(Exception) as info:  # noqa: PT011
            call(module)
        return info.value

    expected = raised(stdlib)
    got = loop.run(lambda: async_def(raised, os))
    assert type(got) is type(expected)
    if isinstance(expected, OSError):
        assert str(got) == str(expected)


def test_a_wait_for_any_child_says_that_there_is_none(python: Python) -> None:
    """In a process of its own: servers of other tests are this one's children."""
    done = python(
        """
        import asyncio, os as stdlib
        from verdigris import async_def
        from verdigris.green import os

        def errors(os):
            for wait in (os.wait, lambda: os.wait3(0), lambda: os.waitid(os.P_ALL, 0, os.WEXITED)):
                try:
                    wait()
                except ChildProcessError as error:
                    print(error)

        errors(stdlib)
        asyncio.run(async_def(errors, os))
        """
    )
    lines = done.stdout.splitlines()
    assert lines == ["[Errno 10] No child processes"] * 6


def test_the_wrong_end_of_a_pipe_is_an_error(loop: Loop, pipe: Ends) -> None:
    reader, writer = pipe

    def body() -> None:
        for call in (
            lambda: os.write(reader, b"x"),
            lambda: os.writev(reader, [b"x"]),
            lambda: os.read(writer, 1),
            lambda: os.readv(writer, [bytearray(1)]),
        ):
            with pytest.raises(OSError, match="Bad file descriptor"):
                call()

    together(loop, body)


def test_eventfd(loop: Loop) -> None:
    fd = os.eventfd(0)

    def write() -> None:
        time.sleep(0.02)
        os.eventfd_write(fd, 7)

    assert together(loop, lambda: os.eventfd_read(fd), write)[0] == 7
    os.close(fd)


def test_cancelled_read_takes_nothing(loop: Loop, pipe: Ends) -> None:
    assert cancelled(loop, lambda: os.read(pipe[0], 1), lambda: True)
    os.write(pipe[1], b"x")
    assert stdlib.read(pipe[0], 1) == b"x"


# --- files ---------------------------------------------------------------------


def test_files_on_a_pipe(loop: Loop, pipe: Ends) -> None:
    def reader() -> list[str]:
        with os.fdopen(pipe[0]) as file:
            assert (file.name, file.mode, file.fileno()) == (pipe[0], "r", pipe[0])
            assert (file.buffer.raw.mode, file.closed) == ("rb", False)
            lines = list(file)
        assert file.closed
        return lines

    def writer() -> None:
        with os.fdopen(pipe[1], "w", 1) as file:
            assert file.line_buffering
            for word in ("one\n", "two\r\n"):
                time.sleep(0.01)
                file.write(word)

    assert together(loop, reader, writer)[0] == ["one\n", "two\n"]


def test_unbuffered_files_on_a_pipe(loop: Loop, pipe: Ends) -> None:
    def reader() -> bytes:
        with os.fdopen(pipe[0], "rb", 0) as file:
            assert (file.readable(), file.writable(), file.seekable()) == (True, False, False)
            head = file.read(3)
            return bytes(head + file.read())

    def writer() -> int:
        with os.fdopen(pipe[1], "wb", 0) as file:
            time.sleep(0.01)
            return int(file.write(BIG))

    assert together(loop, reader, writer) == [BIG, len(BIG)]


def test_a_file_used_outside_of_green_functions(pipe: Ends) -> None:
    with os.fdopen(pipe[1], "wb") as writer:
        writer.write(b"some\nmore")
    with os.fdopen(pipe[0], "rb", 0) as reader:
        assert [reader.readline(), reader.readall(), reader.read(5)] == [b"some\n", b"more", b""]


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_file_forgotten_open_warns(pipe: Ends, buffering: int) -> None:
    files = [os.fdopen(pipe[0], "rb", buffering)]
    with pytest.warns(ResourceWarning, match=f"unclosed file .* name={pipe[0]}"):
        files.clear()


def test_a_file_does_what_its_mode_forbids_as_ever(loop: Loop, pipe: Ends) -> None:
    def body() -> None:
        with os.fdopen(pipe[0], "rb", 0) as file, pytest.raises(OSError, match="not open for wr"):
            file.write(b"x")
        with pytest.raises(ValueError, match="closed file"):
            file.read(1)
        assert "[closed]" in repr(file)

    together(loop, body)


def test_non_blocking_files_return_none(loop: Loop, pipe: Ends) -> None:
    stdlib.set_blocking(pipe[0], False)
    stdlib.set_blocking(pipe[1], False)

    def body() -> None:
        with os.fdopen(pipe[1], "wb", 0) as writer, os.fdopen(pipe[0], "rb", 0) as reader:
            assert [reader.read(), reader.read(1), reader.readinto(bytearray(1))] == [None] * 3
            while writer.write(bytes(4096)) is not None:
                pass

    together(loop, body)


@pytest.mark.parametrize("newline", [None, "", "\n", "\r\n"])
def test_newlines(newline: str | None) -> None:
    def through(module: Any) -> tuple[bytes, list[str]]:
        reader, writer = stdlib.pipe()
        with module.fdopen(writer, "w", newline=newline) as file:
            file.write("one\ntwo\r\n")
        with module.fdopen(reader, "rb") as file:
            written = file.read()
        reader, writer = stdlib.pipe()
        stdlib.write(writer, b"one\r\ntwo\nthree\r")
        stdlib.close(writer)
        with module.fdopen(reader, "r", -1, "utf-8", None, newline) as file:
            return written, list(file)

    assert through(os) == through(stdlib)


def test_a_regular_file_is_left_as_it_is(tmp_path: Path) -> None:
    with os.fdopen(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT), "w+") as file:
        assert type(file.buffer.raw).__name__ == "FileIO"


def test_fifo_opened_by_two_functions(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)

    def reader() -> bytes:
        with os.fdopen(os.open(path, os.O_RDONLY), "rb") as file:
            return bytes(file.read())

    def writer() -> None:
        time.sleep(0.02)
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"through")
        os.close(fd)

    assert together(loop, reader, writer)[0] == b"through"


@pytest.mark.parametrize("flags", [stdlib.O_RDONLY, stdlib.O_WRONLY])
def test_fifo_given_up(loop: Loop, tmp_path: Path, flags: int) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(stdlib.listdir("/proc/self/fd"))
    assert cancelled(loop, lambda: os.open(tmp_path / "fifo", flags), lambda: True)
    for _ in range(1000):
        gc.collect()  # of the loop, which has a descriptor too
        if len(stdlib.listdir("/proc/self/fd")) <= before:
            break
        time.sleep(0.005)
    else:
        pytest.fail("a descriptor stays open")


# --- children ------------------------------------------------------------------


def child(line: str) -> int:
    return stdlib.posix_spawn("/bin/sh", ["sh", "-c", line], stdlib.environ)


WAITS: dict[str, Callable[[int], int]] = {
    "waitpid": lambda pid: os.waitpid(pid, 0)[1],
    "waitpid any": lambda pid: os.waitpid(-1, 0)[1],
    "wait": lambda pid: os.wait()[1],
    "wait3": lambda pid: os.wait3(0)[1],
    "wait4": lambda pid: os.wait4(pid, 0)[1],
    "waitid": lambda pid: os.waitid(os.P_PID, pid, os.WEXITED).si_status << 8,
    "waitid all": lambda pid: os.waitid(os.P_ALL, 0, os.WEXITED).si_status << 8,
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_waits_for_a_child(loop: Loop, wait: Callable[[int], int]) -> None:
    pid = child("sleep 0.2; exit 3")
    assert stdlib.waitstatus_to_exitcode(beside(loop, lambda: wait(pid))) == 3
    with pytest.raises(ChildProcessError):
        stdlib.waitpid(pid, 0)


def test_nohang_never_waits(loop: Loop) -> None:
    pid = child("exec sleep 60")

    def body() -> list[Any]:
        return [
            os.waitpid(pid, os.WNOHANG),
            os.wait4(pid, os.WNOHANG)[:2],
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG),
        ]

    assert together(loop, body) == [[(0, 0), (0, 0), None]]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_child_that_stops_and_goes_on(loop: Loop) -> None:
    pid = child("sleep 0.2; kill -STOP $$; exit 5")

    def body() -> list[int]:
        _, stopped = os.waitpid(pid, os.WUNTRACED)
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, 0)
        return [os.WSTOPSIG(stopped), os.waitstatus_to_exitcode(status)]

    assert together(loop, body) == [[signal.SIGSTOP, 5]]


def test_without_descriptors_of_processes(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    from verdigris.green import _children

    monkeypatch.setattr(_children, "_pidfd_open", None)
    pid = child("sleep 0.1; exit 3")
    assert beside(loop, lambda: os.waitpid(pid, 0)) == (pid, 3 << 8)


def test_many_children_at_once(loop: Loop) -> None:
    # Each child waits until the next one is gone: waits that block could never end.
    pipes = [a_pipe() for _ in range(20)]
    pids = []
    for reader, writer in pipes:
        actions = [
            (stdlib.POSIX_SPAWN_DUP2, reader, 0),
            *((stdlib.POSIX_SPAWN_CLOSE, fd) for pair in pipes for fd in pair if fd > 2),
        ]
        pids.append(
            stdlib.posix_spawn(
                "/bin/sh", ["sh", "-c", "read x"], stdlib.environ, file_actions=actions
            )
        )
        assert fcntl.fcntl(writer, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
    order: list[int] = []

    def wait(number: int) -> None:
        assert os.waitpid(pids[number], 0)[0] == pids[number]
        order.append(number)
        if number:
            os.write(pipes[number - 1][1], b"\n")

    together(loop, *(lambda n=n: wait(n) for n in range(20)), lambda: os.write(pipes[19][1], b"\n"))
    for pair in pipes:
        for fd in pair:
            stdlib.close(fd)
    assert order == list(range(19, -1, -1))


def test_one_child_of_a_function_and_a_thread(loop: Loop) -> None:
    pid = child("sleep 0.2")
    got: list[object] = []

    def wait(waitpid: Any) -> None:
        try:
            got.append(waitpid(pid, 0))
        except ChildProcessError:
            got.append("gone")

    thread = threading.Thread(target=wait, args=(stdlib.waitpid,))
    thread.start()
    together(loop, lambda: wait(os.waitpid), lambda: wait(os.waitpid))
    thread.join()
    assert sorted(got, key=str) == [(pid, 0), "gone", "gone"]


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_cancelled_wait_leaves_the_child_to_others(
    loop: Loop, wait: Callable[[int], int]
) -> None:
    pid = child("exec sleep 60")
    assert cancelled(loop, lambda: wait(pid), lambda: True)
    os.kill(pid, signal.SIGKILL)
    assert stdlib.waitpid(pid, 0) == (pid, signal.SIGKILL)


# 3.15 counts threads that are not Python's too, such as the one of `faulthandler_timeout`.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_spawn_that_waits(loop: Loop) -> None:
    spawn = lambda: os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "sleep 0.2; exit 6")  # noqa: E731
    assert beside(loop, spawn) == 6


def test_system(loop: Loop) -> None:
    assert beside(loop, lambda: os.system("sleep 0.2; exit 7")) == 7 << 8
    assert os.system("exit 7") == 7 << 8


def test_a_cancelled_system_is_ended(loop: Loop, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    line = f"echo $$ > {note}.new; mv {note}.new {note}; while :; do sleep 0.05; done"
    assert cancelled(loop, lambda: os.system(line), note.exists)
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_popen(loop: Loop) -> None:
    def body() -> list[Any]:
        with os.popen("sleep 0.2; echo one; echo two") as file:
            lines = list(file)
        return [
            lines,
            os.popen("exec cat > /dev/null; exit 1", "w").close(),
            os.popen("exit 2").close(),
        ]

    assert beside(loop, body) == [["one\n", "two\n"], None, 2 << 8]
