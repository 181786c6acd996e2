"""`await_` at the prompt of pdb, the real one, in a process of its own.

Every program runs a second task all the time. What is awaited at the prompt does not end before
that task has taken some turns: a prompt that blocked the loop would hang, and the process would
be ended by the time limit.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SHOWS_CALLERS, python_path

# What the programs have in common, for each loop. `run` is the loop's own.
ASYNCIO = """
import asyncio
{install}

async def checkpoint():
    await asyncio.sleep(0)

def run(async_fn):
    async def with_another_task():
        task = asyncio.create_task(other())
        try:
            return await async_fn()
        finally:
            task.cancel()
    {run}
"""

PRELUDES = {
    "asyncio": ASYNCIO.format(install="", run="return asyncio.run(with_another_task())"),
    "uvloop": ASYNCIO.format(
        install="import uvloop",
        run="""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(with_another_task())
""",
    ),
    "trio": """
import trio

async def checkpoint():
    await trio.lowlevel.checkpoint()

def run(async_fn):
    async def with_another_task():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            try:
                return await async_fn()
            finally:
                nursery.cancel_scope.cancel()
    return trio.run(with_another_task)
""",
}

# The line after `doubled` is there because pdb stops at the call of `breakpoint` from 3.13 on, and
# at the line after it before. Two times `next` come past `doubled` in both.
PROGRAM = """
import pdb

from verdigris import async_def, await_, ensure_portal

turns = 0

async def other():
    global turns
    while True:
        await checkpoint()
        turns += 1

async def answer(value):
    before = turns
    while turns < before + 3:
        await checkpoint()
    return value

async def refuse(value):
    await answer(value)
    raise ValueError(value)

def sync_function(number):
    breakpoint()
    doubled = await_(answer(number * 2))
    behind = True
    return doubled

async def async_function(number):
    pdb.set_trace()
    doubled = await answer(number * 2)
    behind = True
    return doubled
"""

Debug = Callable[..., "Session"]


class Session:
    """What a program printed that was driven by commands at pdb's prompt."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.errors = done.stderr
        # One answer for each prompt; the first is what comes before any command.
        self.answers = [answer.strip() for answer in done.stdout.split("(Pdb) ")]
        self.shown = f"exit code {self.code}\n--- stdout\n{done.stdout}\n--- stderr\n{self.errors}"

    def ended_well(self) -> bool:
        return self.code == 0 and self.errors == ""


@pytest.fixture
def debug(tmp_path: Path) -> Debug:
    """Runs a program on a loop, with commands for the debugger on its standard input."""

    def run(loop_name: str, program: str, commands: list[str]) -> Session:
        if loop_name != "asyncio":
            pytest.importorskip(loop_name, reason=f"{loop_name} is not installed")
        script = tmp_path / "program.py"
        script.write_text(PRELUDES[loop_name] + PROGRAM + program, encoding="utf-8")
        environment = {
            **os.environ,
            "PYTHONPATH": python_path(),
            # Nothing of the debugger's may come from the one who runs the tests.
            "HOME": str(tmp_path),
            "PYTHONBREAKPOINT": "pdb.set_trace",
            "PYTHON_COLORS": "0",
        }
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", str(script)],
            input="".join(f"{command}\n" for command in commands),
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env=environment,
        )
        return Session(done)

    return run


WAYS = {
    "a sync function in a task with a portal": (
        "sync_function",
        """
async def main():
    await ensure_portal()
    return sync_function(21)
""",
    ),
    "an async function in a task with a portal": (
        "async_function",
        """
async def main():
    await ensure_portal()
    return await async_function(21)
""",
    ),
    "a function of async_def": (
        "sync_function",
        """
async def main():
    return await async_def(sync_function, 21)
""",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loop_name", PRELUDES)
def test_a_session_at_the_prompt(debug: Debug, loop_name: str, way: str) -> None:
    function, main = WAYS[way]
    session = debug(
        loop_name,
        main + "\nprint('result', run(main))",
        [
            "p await_(answer('first'))",
            "where",
            "next",
            "next",
            "p await_(answer('second'))",
            "p doubled, number",
            "continue",
        ],
    )
    assert session.ended_well(), session.shown
    # No prompt came up where nobody had asked for one, in the loop or in the other task.
    assert len(session.answers) == 8, session.shown
    stopped, first, where, _next, next_line, second, doubled, rest = session.answers
    assert f"{function}()" in stopped
    assert first == "'first'"
    *_callers, last = [line for line in where.splitlines() if "program.py(" in line]
    assert last.startswith("> ") and last.endswith(f"{function}()")
    # The coroutine of a task with a portal runs on the stack itself.
    shows_main = SHOWS_CALLERS or "portal" in way
    assert any(line.endswith("main()") for line in _callers) == shows_main
    assert f"{function}()" in next_line
    assert second == "'second'"
    assert doubled == "(42, 21)"
    assert rest == "result 42"


@pytest.mark.parametrize("loop_name", PRELUDES)
def test_what_fails_at_the_prompt_leaves_it_usable(debug: Debug, loop_name: str) -> None:
    session = debug(
        loop_name,
        WAYS["a sync function in a task with a portal"][1] + "\nprint('result', run(main))",
        [
            "p await_(refuse('no such row'))",
            "row = await_(answer('a row'))",
            "p row",
            "p await_(3)",
            "continue",
        ],
    )
    assert session.ended_well(), session.shown
    assert len(session.answers) == 6, session.shown
    assert session.answers[1] == "*** ValueError: no such row"
    assert session.answers[3] == "'a row'"
    assert session.answers[4].startswith("*** TypeError: ")
    assert session.answers[5] == "result 42"


@pytest.mark.parametrize("loop_name", PRELUDES)
def test_stepping_over_a_wait_stops_behind_it(debug: Debug, loop_name: str) -> None:
    """`next` waits in the program's own line, not at the prompt."""
    session = debug(
        loop_name,
        WAYS["a sync function in a task with a portal"][1] + "\nprint('result', run(main))",
        ["next", "next", "p doubled", "continue"],
    )
    assert session.ended_well(), session.shown
    assert len(session.answers) == 5, session.shown
    assert session.answers[3] == "42"
    assert session.answers[4] == "result 42"


@pytest.mark.parametrize("loop_name", PRELUDES)
def test_in_a_plain_task_the_prompt_says_what_to_do(debug: Debug, loop_name: str) -> None:
    session = debug(
        loop_name,
        """
async def main():
    return sync_function_that_stops(21)

def sync_function_that_stops(number):
    breakpoint()
    doubled = number * 2
    return doubled

print('result', run(main))
""",
        ["p await_(answer('first'))", "continue"],
    )
    # No "never awaited" either: the coroutine was closed.
    assert session.ended_well(), session.shown
    assert len(session.answers) == 3, session.shown
    assert re.match(
        r"\*\*\* verdigris\.(\w+\.)?NoAwaitContext: await_\(\) has nothing to wait in",
        session.answers[1],
    ), session.shown
    assert "ensure_portal()" in session.answers[1]
    assert session.answers[2] == "result 42"


POST_MORTEM = """
def fail(number):
    raise LookupError(number)

async def failing():
    await ensure_portal()
    fail(21)
"""


@pytest.mark.parametrize("loop_name", PRELUDES)
def test_post_mortem_after_the_loop_has_ended(debug: Debug, loop_name: str) -> None:
    session = debug(
        loop_name,
        POST_MORTEM
        + """
def error_of(async_fn):
    try:
        run(async_fn)
    except BaseException as error:
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        return error

pdb.post_mortem(error_of(failing).__traceback__)
print('ended')
""",
        ["p number", "p await_(answer('first'))", "continue"],
    )
    assert session.ended_well(), session.shown
    assert len(session.answers) == 4, session.shown
    assert "fail()" in session.answers[0]
    assert session.answers[1] == "21"
    assert re.match(
        r"\*\*\* verdigris\.(\w+\.)?NoAwaitContext: .* no event loop is running", session.answers[2]
    ), session.shown
    assert session.answers[3] == "ended"


@pytest.mark.parametrize("loop_name", PRELUDES)
def test_post_mortem_in_a_task_with_a_portal_can_wait(debug: Debug, loop_name: str) -> None:
    session = debug(
        loop_name,
        POST_MORTEM
        + """
async def main():
    try:
        await failing()
    except LookupError as error:
        pdb.post_mortem(error.__traceback__)
    return "ended"

print('result', run(main))
""",
        ["p number", "p await_(answer('first'))", "continue"],
    )
    assert session.ended_well(), session.shown
    assert len(session.answers) == 4, session.shown
    assert session.answers[1:] == ["21", "'first'", "result ended"]


@pytest.mark.skipif(not SHOWS_CALLERS, reason="f_back ends at the base of a function here")
@pytest.mark.parametrize("loop_name", PRELUDES)
def test_up_leads_from_a_function_into_the_coroutine_that_drives_it(
    debug: Debug, loop_name: str
) -> None:
    session = debug(
        loop_name,
        """
def caller(number):
    of_caller = number * 2
    return sync_function(number)

async def main():
    of_main = "driven"
    return await async_def(caller, 21)

print('result', run(main))
""",
        ["p await_(answer('waits'))", "up", "p of_caller", "up", "p of_main", "continue"],
    )
    assert session.ended_well(), session.shown
    _, waits, caller, of_caller, main, of_main, rest = session.answers
    assert waits == "'waits'"
    assert "caller()" in caller and of_caller == "42", session.shown
    assert "main()" in main and of_main == "'driven'", session.shown
    assert rest == "result 42"


@pytest.mark.parametrize("loop_name", PRELUDES)
def test_stepping_goes_into_functions_and_returns_from_them(debug: Debug, loop_name: str) -> None:
    """Through a wait below, and back to the caller's next line."""
    session = debug(
        loop_name,
        """
def below(number):
    doubled = await_(answer(number * 2))
    return doubled

def stops(number):
    pdb.set_trace()
    before = True
    result = below(number)
    after = True
    return result

async def main():
    return await async_def(stops, 21)

print('result', run(main))
""",
        ["break below", "continue", "return", "step", "p number", "continue"],
    )
    assert session.ended_well(), session.shown
    _, _, stopped, returns, back, number, rest = session.answers
    assert "below()" in stopped, session.shown
    assert "--Return--" in returns and "below()->42" in returns, session.shown
    assert "stops()" in back and number == "21", session.shown
    assert rest == "result 42"
