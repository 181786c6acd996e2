"""`Popen`, `run` and the rest: children and their pipes beside the loop."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import os
import signal
import subprocess as stdlib
import threading
import time as plain_time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Loop

from green.together import beside, cancelled, together
from verdigris import async_def
from verdigris.green import subprocess, time  # type: ignore[attr-defined]

PIPE = subprocess.PIPE
BIG = bytes(range(256)) * 2000


def sh(line: str, **kwargs: Any) -> Any:
    return subprocess.Popen(["sh", "-c", line], **kwargs)


# --- waiting -------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 60, float("inf")])
def test_wait_leaves_the_loop_free(loop: Loop, timeout: float | None) -> None:
    assert beside(loop, lambda: sh("sleep 0.2; exit 3").wait(timeout)) == 3


@pytest.mark.parametrize("wait", ["wait", "communicate"])
@pytest.mark.parametrize("timeout", [0, 0.05, -1])
def test_timeout_raises(loop: Loop, wait: str, timeout: float) -> None:
    def body() -> tuple[Any, Any]:
        with sh("echo some; exec sleep 60", stdout=PIPE, stderr=PIPE) as child:
            with pytest.raises(stdlib.TimeoutExpired) as info:
                getattr(child, wait)(timeout=timeout)
            assert child.poll() is None
            child.kill()
        return info.value, child.returncode

    error, code = together(loop, body)[0]
    assert (error.timeout, code) == (timeout, -signal.SIGKILL)


def test_communicate_goes_on_after_a_timeout(loop: Loop) -> None:
    def body() -> Any:
        with sh("echo some; sleep 0.2; echo more; echo end >&2", stdout=PIPE, stderr=PIPE) as child:
            with pytest.raises(stdlib.TimeoutExpired):
                child.communicate(timeout=0.05)
            return child.communicate(timeout=60)

    assert together(loop, body) == [(b"some\nmore\n", b"end\n")]


def test_many_wait_for_one_child(loop: Loop) -> None:
    child = sh("sleep 0.2; exit 3")
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(child.wait()))
    thread.start()
    assert together(loop, child.wait, lambda: child.wait(60), child.wait) == [3, 3, 3]
    thread.join()
    assert got == [3]


def test_a_child_that_is_gone(loop: Loop) -> None:
    child = sh("exit 3")
    os.waitpid(child.pid, 0)
    assert together(loop, child.wait) == [0]  # As the stdlib, which can't know.


def test_cancelled_wait(loop: Loop) -> None:
    child = sh("exec sleep 60")
    assert cancelled(loop, child.wait, lambda: True)
    assert child.poll() is None
    child.kill()
    assert child.wait() == -signal.SIGKILL


def no_zombie(pid: int) -> bool:
    for _ in range(2000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        plain_time.sleep(0.005)
    return False


@pytest.mark.parametrize("way", ["run", "call", "check_output"])
def test_a_cancelled_run_ends_its_child(loop: Loop, tmp_path: Path, way: str) -> None:
    note = tmp_path / "pid"
    line = f"echo $$ > {note}.new; mv {note}.new {note}; exec sleep 60"
    assert cancelled(loop, lambda: getattr(subprocess, way)(["sh", "-c", line]), note.exists)
    assert no_zombie(int(note.read_text()))


def test_cancelled_before_the_program_runs(loop: Loop, tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def in_the_child() -> None:
        (tmp_path / "new").write_text(str(os.getpid()))
        (tmp_path / "new").rename(note)
        plain_time.sleep(60)

    assert cancelled(loop, lambda: subprocess.Popen(["true"], preexec_fn=in_the_child), note.exists)
    assert no_zombie(int(note.read_text()))


# --- pipes ---------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("bufsize", [-1, 0, 16])
def test_line_by_line(loop: Loop, text: bool, bufsize: int) -> None:
    kind: Callable[[str], Any] = str if text else str.encode

    def body() -> list[Any]:
        with sh(
            "while read word; do sleep 0.03; echo $word; done",
            stdin=PIPE,
            stdout=PIPE,
            text=text,
            bufsize=bufsize,
        ) as child:
            lines = []
            for word in ("one\n", "two\n", "three\n"):
                child.stdin.write(kind(word))
                child.stdin.flush()
                lines.append(child.stdout.readline())
            child.stdin.close()
            assert child.stdout.read() == kind("")
            return lines

    assert beside(loop, body, beats=8) == [kind("one\n"), kind("two\n"), kind("three\n")]


def test_files_are_as_the_stdlibs() -> None:
    def kinds(module: Any, **kwargs: Any) -> list[Any]:
        with module.Popen(["cat"], stdin=PIPE, stdout=PIPE, **kwargs) as child:
            files = [child.stdin, child.stdout]
            return [
                (
                    isinstance(file, io.TextIOWrapper),
                    isinstance(file, io.BufferedReader),
                    isinstance(file, io.BufferedWriter),
                    isinstance(file, io.RawIOBase),
                    file.mode if hasattr(file, "mode") else None,
                    file.name == file.fileno(),
                    file.readable(),
                    file.closed,
                    getattr(file, "encoding", None),
                    getattr(file, "errors", None),
                    getattr(file, "newlines", None),
                    getattr(file, "line_buffering", None),
                    getattr(file, "write_through", None),
                )
                for file in files
            ]

    for kwargs in (
        {},
        {"bufsize": 0},
        {"bufsize": 100},
        {"text": True},
        {"text": True, "bufsize": 0},
        {"encoding": "latin1", "errors": "replace", "bufsize": 1},
    ):
        assert kinds(subprocess, **kwargs) == kinds(stdlib, **kwargs)


def test_a_write_that_does_not_fit(loop: Loop) -> None:
    def body() -> bytes:
        with sh("sleep 0.2; exec wc -c", stdin=PIPE, stdout=PIPE) as child:
            child.stdin.write(BIG)
            child.stdin.close()
            return bytes(child.stdout.read())

    assert int(beside(loop, body)) == len(BIG)


@pytest.mark.parametrize("text", [False, True])
def test_closed_while_another_function_reads(loop: Loop, text: bool) -> None:
    child = sh("exec sleep 60", stdout=PIPE, text=text)

    def end() -> int:
        time.sleep(0.05)
        child.kill()
        child.stdout.close()  # After the read, as between threads.
        return int(child.wait())

    got = together(loop, child.stdout.readline, end)
    assert got == ["" if text else b"", -signal.SIGKILL]


def test_two_functions_write_to_one_child(loop: Loop) -> None:
    lines = [b"%d\n" % number * 30_000 for number in range(3)]
    child = sh("sleep 0.1; exec sort -u", stdin=PIPE, stdout=PIPE)

    together(loop, *(lambda line=line: child.stdin.write(line) for line in lines))
    child.stdin.close()
    assert child.stdout.read() == b"0\n1\n2\n"
    child.stdout.close()
    child.wait()


def test_pipes_from_one_child_to_the_next(loop: Loop) -> None:
    def body() -> bytes:
        with (
            sh("sleep 0.1; echo some", stdout=PIPE) as first,
            subprocess.Popen(["cat"], stdin=first.stdout, stdout=PIPE) as second,
        ):
            return bytes(second.communicate()[0])

    assert together(loop, body) == [b"some\n"]


def test_many_children_and_pipes_at_once(loop: Loop) -> None:
    children = [sh("read x; echo $x", stdin=PIPE, stdout=PIPE, text=True) for _ in range(20)]

    # Each child is answered by the one after it: any that blocked the loop would end the chain.
    def talk(number: int) -> tuple[int, str]:
        child = children[number]
        if number == 19:
            time.sleep(0.02)
            child.stdin.write("on\n")
            child.stdin.flush()
        line = child.stdout.readline()
        if number:
            children[number - 1].stdin.write("on\n")
            children[number - 1].stdin.flush()
        child.stdin.close()
        child.stdout.close()
        return child.wait(), line

    assert together(loop, *(lambda n=n: talk(n) for n in range(20))) == [(0, "on\n")] * 20


def test_communicates_with_many_at_once(loop: Loop) -> None:
    cat = lambda: subprocess.run(["cat"], input=BIG, capture_output=True)  # noqa: E731
    got = together(loop, *[cat] * 8)
    assert [(one.returncode, one.stdout, one.stderr) for one in got] == [(0, BIG, b"")] * 8


# --- the rest of the interface -------------------------------------------------


def interface() -> dict[str, Any]:
    got: dict[str, Any] = {}
    got["run"] = subprocess.run("sleep 0.1; echo a; echo b >&2", shell=True, capture_output=True)
    got["text"] = subprocess.run(["cat"], input="ä\r\n", text=True, stdout=PIPE, encoding="utf-8")
    got["call"] = subprocess.call(["sh", "-c", "exit 4"])
    got["output"] = subprocess.check_output(["echo", "x"], text=True)
    got["status"] = subprocess.getstatusoutput("echo y; exit 5")
    got["getoutput"] = subprocess.getoutput("echo z")
    got["devnull"] = subprocess.check_call(["cat"], stdin=subprocess.DEVNULL)
    with pytest.raises(stdlib.CalledProcessError) as failed:
        subprocess.run(["sh", "-c", "echo out; exit 6"], stdout=PIPE, check=True)
    got["failed"] = failed.value.returncode, failed.value.output
    with pytest.raises(FileNotFoundError) as missing:
        subprocess.run(["/no/such/program"])
    got["missing"] = missing.value.filename
    with pytest.raises(FileNotFoundError) as nowhere:
        subprocess.run(["true"], cwd="/no/such/place")
    got["nowhere"] = nowhere.value.filename
    with pytest.raises(stdlib.TimeoutExpired) as late:
        subprocess.run("echo w; exec sleep 60", shell=True, stdout=PIPE, timeout=0.3)
    got["late"] = late.value.output
    return got


def test_the_interface(loop: Loop) -> None:
    got = beside(loop, interface, beats=20)
    assert (got["run"].stdout, got["run"].stderr) == (b"a\n", b"b\n")
    assert got["text"].stdout == "ä\n"
    assert (got["call"], got["output"], got["status"]) == (4, "x\n", (5, "y"))
    assert (got["getoutput"], got["devnull"]) == ("z", 0)
    assert got["failed"] == (6, b"out\n")
    assert (got["missing"], got["nowhere"]) == ("/no/such/program", "/no/such/place")
    assert got["late"] == b"w\n"


def test_outside_of_green_functions() -> None:
    assert interface()["getoutput"] == "z"


def test_descriptors_and_sessions(loop: Loop, tmp_path: Path) -> None:
    def body() -> Any:
        reader, writer = os.pipe()
        kept = sh(
            f"echo kept > /proc/self/fd/{writer}; exec >&2; ps -o sid= -p $$ 2>&1 | tr -d ' '",
            pass_fds=[writer],
            start_new_session=True,
            stderr=PIPE,
            text=True,
            preexec_fn=lambda: os.chdir(tmp_path),
        )
        os.close(writer)
        session = kept.communicate()[1]
        with os.fdopen(reader) as file:
            passed = file.read()
        closed = subprocess.call(["test", "-e", f"/proc/self/fd/{reader}"])
        return session.strip() in (str(kept.pid), ""), passed, closed

    assert together(loop, body) == [(True, "kept\n", 1)]


def test_it_is_a_popen() -> None:
    child = subprocess.Popen(["true"])
    assert isinstance(child, stdlib.Popen)
    child.wait()
    assert inspect.signature(subprocess.Popen) == inspect.signature(stdlib.Popen)
    assert subprocess.TimeoutExpired is stdlib.TimeoutExpired


def test_bad_arguments(loop: Loop) -> None:
    def body() -> None:
        with pytest.raises(TypeError, match="bufsize"):
            subprocess.Popen(["true"], bufsize="x")
        with pytest.raises(TypeError, match="args"):
            subprocess.Popen()

    together(loop, body)


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_forgotten_while_it_runs() -> None:
    child = sh("exec sleep 60")
    pid = child.pid
    del child
    gc.collect()
    os.kill(pid, signal.SIGKILL)
    for _ in range(1000):
        subprocess.run(["true"])  # It looks after those that were forgotten.
        if no_process(pid):
            return
        plain_time.sleep(0.005)
    pytest.fail("it stays a zombie")


def no_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# --- in place ------------------------------------------------------------------

IN_PLACE = """
import asyncio, os, select, selectors, subprocess, sys
from verdigris import async_def
from verdigris.green import _twin
from verdigris.green import os as o, select as s, selectors as ss, subprocess as p, time as t
import time
for module, green in ((os, o), (select, s), (selectors, ss), (subprocess, p), (time, t)):
    for _ in range(2):
        _twin.patch(module, green.REPLACED, getattr(green, "METHODS", None))

beats = 0

async def beat():
    global beats
    while True:
        await asyncio.sleep(0.005)
        beats += 1

def sync():
    with subprocess.Popen("sleep 0.2; echo some", shell=True, stdout=subprocess.PIPE) as child:
        line = child.stdout.readline()
    late = subprocess.run(["cat"], input=b"x" * 300_000, capture_output=True).stdout
    return line, len(late), os.popen("echo p").read(), os.system("exit 3")

async def main():
    beating = asyncio.ensure_future(beat())
    def plain():
        return subprocess.check_output(["echo", "thread"])
    child = await asyncio.create_subprocess_exec(
        "sh", "-c", "sleep 0.1; cat; exit 4", stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE)
    got = await asyncio.gather(async_def(sync), async_def(sync), asyncio.to_thread(plain),
                               child.communicate(b"some input"))
    beating.cancel()
    return got, child.returncode

make = asyncio.new_event_loop
if sys.argv[1] == "uvloop":
    import uvloop
    make = uvloop.new_event_loop
for _ in range(2):
    with asyncio.Runner(loop_factory=make) as runner:
        print(runner.run(main()))
assert subprocess.run(["echo", "no loop"], capture_output=True).stdout == b"no loop\\n"
assert beats > 20, beats
"""


@pytest.mark.parametrize("which", ["asyncio", "uvloop"])
def test_in_place_beside_asyncios_own_children(python: Any, which: str) -> None:
    if which == "uvloop":
        pytest.importorskip("uvloop")
    one = (b"some\n", 300_000, "p\n", 3 << 8)
    expected = ([one, one, b"thread\n", (b"some input", None)], 4)
    assert python(IN_PLACE, which).stdout == f"{expected}\n" * 2


def test_asyncios_children_beside_the_twin(aio: Any) -> None:
    async def main() -> Any:
        child = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        return await asyncio.gather(
            child.communicate(BIG), async_def(subprocess.check_output, ["echo", "x"])
        )

    assert aio.run(main) == [(BIG, None), b"x\n"]
