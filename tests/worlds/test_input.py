"""`a_input` with real terminals and pipes as standard input."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Loop

from verdigris import a_input

pty = pytest.importorskip("pty")


@contextlib.contextmanager
def stdin(descriptor: int, encoding: str = "utf-8", errors: str = "strict") -> Iterator[None]:
    """Has standard input read from a descriptor."""
    before = sys.stdin
    with open(descriptor, encoding=encoding, errors=errors, closefd=False) as file:
        sys.stdin = file
        try:
            yield
        finally:
            sys.stdin = before


@pytest.fixture
def pipe() -> Iterator[int]:
    """The end to write to of a pipe that is standard input. May be closed."""
    reader, writer = os.pipe()
    with stdin(reader):
        yield writer
    os.close(reader)
    with contextlib.suppress(OSError):
        os.close(writer)


@pytest.fixture
def terminal() -> Iterator[int]:
    """The end that the user types on, of a terminal that is standard input."""
    user, program = pty.openpty()
    with stdin(program):
        yield user
    os.close(user)
    os.close(program)


def test_a_line_of_a_terminal(
    any_loop: Loop, terminal: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> list[str]:
        async with any_loop.tasks() as start:
            asked = start(a_input, "Who? ")
            for _ in range(3):
                await any_loop.checkpoint()  # the loop goes on
            os.write(terminal, b"first\nsecond\n")
            return [(await asked.wait()).value, await a_input(3), await empty()]

    async def empty() -> str:
        os.write(terminal, b"\n")
        return await a_input()

    assert any_loop.run(main) == ["first", "second", ""]
    assert capsys.readouterr().out == "Who? 3"


def test_the_end_of_a_terminal(any_loop: Loop, terminal: int) -> None:
    async def main() -> str:
        os.write(terminal, b"\x04")
        with pytest.raises(EOFError):
            await a_input()
        os.write(terminal, b"unfinished\x04\x04")
        return await a_input()

    assert any_loop.run(main) == "unfinished"


def test_cancelled_the_line_of_a_terminal_is_thrown_away(any_loop: Loop, terminal: int) -> None:
    async def main() -> str:
        async with any_loop.tasks() as start:
            asked = start(a_input)
            await any_loop.sleep(0.01)
            os.write(terminal, b"half a li")
            await any_loop.sleep(0.01)
            asked.cancel()
            assert (await asked.wait()).cancelled
            os.write(terminal, b"next\n")
            return await a_input()

    assert any_loop.run(main) == "next"


def test_lines_of_a_pipe(any_loop: Loop, pipe: int) -> None:
    async def main() -> list[str]:
        os.write(pipe, "größer\r\nsecond\nthi".encode())
        lines = [await a_input(), await a_input()]
        os.write(pipe, b"rd")
        os.close(pipe)
        lines.append(await a_input())
        with pytest.raises(EOFError, match="ended"):
            await a_input()
        return lines

    assert any_loop.run(main) == ["größer", "second", "third"]


def test_several_ask_at_once(loop: Loop, pipe: int) -> None:
    """Each gets a whole line, and none blocks the loop when another was faster."""

    async def main() -> list[str]:
        async with loop.tasks() as start:
            asked = [start(a_input) for _ in range(3)]
            await loop.sleep(0.01)
            os.write(pipe, b"one line, not too short\n")
            for _ in range(5):
                await loop.sleep(0.001)
            os.write(pipe, b"another line, not short\n")
            await loop.sleep(0.001)
            os.write(pipe, b"a third\n")
            return [(await one.wait()).value for one in asked]

    assert sorted(loop.run(main)) == [
        "a third", "another line, not short", "one line, not too short"
    ]  # fmt: skip


def test_several_ask_a_terminal_at_once(loop: Loop, terminal: int) -> None:
    async def main() -> set[str]:
        async with loop.tasks() as start:
            asked = [start(a_input) for _ in range(2)]
            await loop.sleep(0.01)
            os.write(terminal, b"one\n")
            await loop.sleep(0.01)
            os.write(terminal, b"two\n")
            return {(await one.wait()).value for one in asked}

    assert loop.run(main) == {"one", "two"}


def test_bytes_that_are_no_text(any_loop: Loop, pipe: int) -> None:
    async def main() -> str:
        os.write(pipe, b"\xff\xfe\nnext\n")
        with pytest.raises(UnicodeDecodeError):
            await a_input()
        return await a_input()

    assert any_loop.run(main) == "next"


def test_the_encoding_of_standard_input(any_loop: Loop) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"gr\xf6\xdfer\n")
    try:
        with stdin(reader, "latin-1"):
            assert any_loop.run(a_input) == "größer"
        os.write(writer, b"\xff\n")
        with stdin(reader, "ascii", "surrogateescape"):
            assert any_loop.run(a_input) == "\udcff"
    finally:
        os.close(reader)
        os.close(writer)


def test_a_file(any_loop: Loop, tmp_path: Any) -> None:
    """No loop can watch one: it is always ready."""
    path = tmp_path / "input"
    path.write_bytes(b"first\nsecond")

    async def main() -> list[str]:
        lines = [await a_input(), await a_input()]
        with pytest.raises(EOFError):
            await a_input()
        return lines

    descriptor = os.open(path, os.O_RDONLY)
    try:
        with stdin(descriptor):
            assert any_loop.run(main) == ["first", "second"]
    finally:
        os.close(descriptor)


def test_dev_null(any_loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(EOFError):
            await a_input()

    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        with stdin(descriptor):
            any_loop.run(main)
    finally:
        os.close(descriptor)


def test_a_standard_input_without_a_descriptor(
    any_loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("first\nsecond"))

    async def main() -> list[str]:
        lines = [await a_input(), await a_input()]
        with pytest.raises(EOFError):
            await a_input()
        return lines

    assert any_loop.run(main) == ["first", "second"]


def test_no_standard_input(any_loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="no standard input"):
            await a_input()

    any_loop.run(main)


def test_a_standard_input_that_was_closed(any_loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO("")
    file.close()
    monkeypatch.setattr(sys, "stdin", file)

    async def main() -> None:
        with pytest.raises(ValueError, match="closed file"):
            await a_input()

    any_loop.run(main)


def test_the_end_of_the_interpreter_while_one_waits(python: Any) -> None:
    for how in ("thread", "left"):
        done = python(
            """
            import asyncio, os, pty, sys, threading
            user, program = pty.openpty()
            sys.stdin = open(program, closefd=False)
            from verdigris import a_input, block

            async def asks():
                begun.set()
                await a_input()

            begun = threading.Event()
            if sys.argv[1] == "thread":
                threading.Thread(target=block, args=(asks,), daemon=True).start()
                begun.wait(30)
            else:
                async def main():
                    global task
                    task = asyncio.create_task(asks())
                    await asyncio.sleep(0.01)
                block(main)
            """,
            how,
        )
        assert done.stderr == ""


def test_an_answer_from_another_thread(any_loop: Loop, pipe: int) -> None:
    timer = threading.Timer(0.01, os.write, (pipe, b"late\n"))
    timer.start()
    assert any_loop.run(a_input) == "late"
    timer.join()
