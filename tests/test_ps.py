"""`python -m verdigris ps`: another process is asked what waits in it."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import killed_after

from verdigris.inspect import _listen, _meeting_place, _ps, listen

Start = Callable[..., "subprocess.Popen[str]"]

PROGRAM = """
import asyncio, ctypes, time
from verdigris import async_def, await_, inspect

def waits_here():
    await_(asyncio.Event().wait())

async def main():
    task = asyncio.create_task(async_def(waits_here), name="a task")
    await asyncio.sleep(0)
    print("ready", flush=True)
    {body}

{before}
asyncio.run(main())
"""
IDLE = "await asyncio.sleep(3600)"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program, and returns when it says that it is ready."""
    started: list[subprocess.Popen[str]] = []
    timers: list[threading.Timer] = []

    def run(body: str, before: str = "", environment: dict[str, str] | None = None) -> Any:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(body=body, before=before)],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                **({"VERDIGRIS_INSPECT": "1"} if environment is None else environment),
            },
        )
        started.append(program)
        timers.append(threading.Timer(90, program.kill))
        timers[-1].start()
        assert program.stdout is not None and program.stdout.readline() == "ready\n"
        return program

    yield run
    for timer in timers:
        timer.cancel()
        timer.join()
    for program in started:
        # A stopped one too.
        program.kill()
        program.wait()
        assert program.stdout is not None
        program.stdout.close()
        with suppress(FileNotFoundError):
            os.unlink(_meeting_place.socket_path(program.pid))


def ps(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "verdigris", "ps", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_an_idle_program(start: Start) -> None:
    program = start(IDLE)
    done = ps(program.pid)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Process {program.pid}. 1 green function waits." in done.stdout
    assert re.search(
        r"waits_here, in task 'a task', in thread 'MainThread', waits for Event\.wait: .*, "
        r"for \d+\.\d+ s so far:",
        done.stdout,
    )
    assert "Thread 'MainThread' runs:" in done.stdout
    assert program.poll() is None


@pytest.mark.parametrize("blocking", ["time.sleep(3600)", "while True: pass"])
def test_a_program_whose_loop_is_blocked(start: Start, blocking: str) -> None:
    done = ps(start(blocking).pid)
    assert (done.returncode, done.stderr) == (0, "")
    assert "waits_here, in task 'a task'" in done.stdout
    main = done.stdout.partition("Thread 'MainThread' runs:")[2]
    assert ", in main\n" in main


def test_c_code_that_holds_the_gil(start: Start) -> None:
    program = start("ctypes.PyDLL(None).sleep(3600)")
    done = ps("--timeout", "0.5", program.pid)
    assert (done.returncode, done.stdout) == (1, "")
    assert "has not answered for 0.5 seconds" in done.stderr
    assert "GIL" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="told by /proc")
def test_a_program_that_is_stopped(start: Start) -> None:
    program = start(IDLE)
    program.send_signal(signal.SIGSTOP)
    assert "is stopped" in ps("--timeout", "0.5", program.pid).stderr


def test_a_program_that_calls_listen(start: Start) -> None:
    done = ps(start(IDLE, before="inspect.listen()", environment={}).pid)
    assert "waits_here, in task 'a task'" in done.stdout
    assert "so far" not in done.stdout


@pytest.mark.skipif(hasattr(sys, "remote_exec"), reason="needs no preparation here")
def test_without_preparation_it_says_what_to_do(start: Start) -> None:
    done = ps(start(IDLE, environment={}).pid)
    assert (done.returncode, done.stdout) == (1, "")
    assert "VERDIGRIS_INSPECT=1" in done.stderr


@pytest.mark.skipif(not hasattr(sys, "remote_exec"), reason="came with 3.14")
class TestWithoutPreparation:
    @pytest.mark.parametrize("body", [IDLE, "while True: pass"])
    def test_it_is_asked_all_the_same(self, start: Start, body: str) -> None:
        program = start(body, environment={})
        done = ps(program.pid)
        assert (done.returncode, done.stderr) == (0, "")
        assert "waits_here, in task 'a task', in thread 'MainThread'" in done.stdout
        assert program.poll() is None

    def test_twice(self, start: Start) -> None:
        program = start(IDLE, environment={})
        for _ in range(2):
            assert "waits_here" in ps(program.pid).stdout

    def test_a_program_without_verdigris(self) -> None:
        command = "import select; print(flush=True); select.epoll().poll()"
        started = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE)
        with killed_after(90, started) as program:
            try:
                assert program.stdout is not None and program.stdout.readline() == b"\n"
                assert ps(program.pid).stdout == "verdigris is not imported there.\n"
            finally:
                program.kill()

    def test_a_main_thread_that_sleeps_on(self, start: Start) -> None:
        # The kernel goes on with such a wait, where it ends one for events.
        program = start("time.sleep(3600)", environment={})
        assert "has not answered" in ps("--timeout", "0.5", program.pid).stderr

    def test_c_code_that_holds_the_gil(self, start: Start) -> None:
        program = start("ctypes.PyDLL(None).sleep(3600)", environment={})
        assert "has not answered" in ps("--timeout", "0.5", program.pid).stderr
        assert list(Path(_meeting_place.directory()).glob("tmp*")) == []


def test_a_forked_child_listens_for_itself(start: Start) -> None:
    body = "if os.fork() == 0:\n        print(os.getpid(), flush=True); time.sleep(3600)"
    program = start(
        f"{body}\n    {IDLE}", before="import os, warnings; warnings.simplefilter('ignore')"
    )
    assert program.stdout is not None
    child = int(program.stdout.readline())
    try:
        assert f"Process {child}." in ps(child).stdout
        assert f"Process {program.pid}." in ps(program.pid).stdout
    finally:
        os.kill(child, signal.SIGKILL)
        os.unlink(_meeting_place.socket_path(child))


def test_the_socket_is_gone_with_the_process(start: Start) -> None:
    program = start("return")
    program.wait()
    assert not os.path.exists(_meeting_place.socket_path(program.pid))
    assert f"there is no process {program.pid}" in ps(program.pid).stderr


def test_sockets_of_the_dead_are_swept_away(start: Start) -> None:
    program = start(IDLE)
    program.kill()
    program.wait()
    path = _meeting_place.socket_path(program.pid)
    assert os.path.exists(path)
    start(IDLE)
    assert not os.path.exists(path)


def test_nobody_else_can_look(start: Start) -> None:
    program = start(IDLE)
    socket_mode = os.stat(_meeting_place.socket_path(program.pid)).st_mode
    assert stat.S_IMODE(socket_mode) == 0o600
    assert stat.S_IMODE(os.stat(_meeting_place.directory()).st_mode) == 0o700


@pytest.mark.parametrize("kind", ["open", "file", "link"])
def test_a_directory_that_others_made(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    if kind == "open":
        place.mkdir()
        place.chmod(0o777)
    elif kind == "file":
        place.touch()
    else:
        (tmp_path / "other").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "other")
    monkeypatch.setattr(_meeting_place, "_candidate", lambda: str(place))
    with pytest.raises(PermissionError, match="this user's alone"):
        _meeting_place.directory()


def test_a_program_that_cannot_listen_runs_all_the_same(python: Any) -> None:
    done = python(
        """
        import os, warnings
        os.environ["VERDIGRIS_INSPECT"] = "1"
        warnings.simplefilter("always")
        # A directory that is not there.
        real = os.mkdir
        def refuses(path, mode=0o777):
            if "verdigris" in str(path):
                raise PermissionError(13, "refused")
            real(path, mode)
        os.mkdir = refuses
        import verdigris
        print(verdigris.can_await())
        """
    )
    assert done.stdout == "False\n"
    assert "RuntimeWarning: VERDIGRIS_INSPECT is set, but nobody can ask" in done.stderr


def test_whoever_asks_and_leaves_does_no_harm(start: Start) -> None:
    program = start(IDLE)
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(_meeting_place.socket_path(program.pid))
    assert "waits_here" in ps(program.pid).stdout


def test_in_this_process(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    path = listen()
    assert listen() == path
    assert _ps.main([str(os.getpid())]) == 0
    assert "Process" in capsys.readouterr().out
    assert _listen._listening is not None
    _listen.stop()
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    "arguments", [[], ["x"], ["-1"], ["1", "2"], ["--timeout"], ["--timeout", "x", "1"]]
)
def test_wrong_arguments(arguments: list[str], capsys: Any) -> None:
    assert _ps.main(arguments) == 2
    assert "usage" in capsys.readouterr().err
