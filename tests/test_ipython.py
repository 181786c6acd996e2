"""`await_` in IPython, the real one, in a process of its own.

The terminal runs each cell that awaits in a task of its own, on a loop that stands still between
cells, and so does a notebook's kernel, on a loop that runs all the time. A program that embeds
IPython may also run all cells in one task.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import python_path

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("IPython") is None, reason="ipython is not installed"
)

# A coroutine that nobody has awaited is reported. What IPython does that a later Python frowns upon
# is none of these tests' business.
WARNINGS = ["-W", "ignore", "-W", "default:coroutine:RuntimeWarning"]

Terminal = Callable[[str], list[str]]
Kernel = Callable[[str], subprocess.CompletedProcess[str]]


def run_python(
    arguments: list[str], home: Path, standard_input: str | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", *WARNINGS, *arguments],
        input=standard_input,
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **os.environ,
            "PYTHONPATH": python_path(),
            # Neither the configuration nor the history of the one who runs the tests.
            "HOME": str(home),
            "IPYTHONDIR": str(home / "ipython"),
        },
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """Types cells, one a line, into IPython's terminal. Gives what each of them printed."""

    def run(cells: str) -> list[str]:
        options = ["--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor"]
        done = run_python(["-m", "IPython", *options], tmp_path, cells)
        _before, *answers = re.split(r"In \[\d+\]: ", done.stdout)
        # The last one is the answer to the end of the input.
        assert len(answers) == cells.count("\n") + 1, done.stdout
        return [answer.strip() for answer in answers[:-1]]

    return run


def test_a_cell_that_awaits_gets_a_portal(terminal: Terminal) -> None:
    *_, first, second = terminal(
        "import asyncio\n"
        "from verdigris import await_, ensure_portal\n"
        "def f(value): return await_(asyncio.sleep(0, value))\n"
        "await ensure_portal(); f('waited')\n"
        "await ensure_portal(); [f(n) for n in range(3)]\n"
    )
    assert first == "Out[4]: 'waited'"
    assert second == "Out[5]: [0, 1, 2]"


def test_a_cell_that_awaits_nothing_says_what_is_missing(terminal: Terminal) -> None:
    *_, before, _with_portal, after = terminal(
        "import asyncio\n"
        "from verdigris import await_, ensure_portal\n"
        "def f(value): return await_(asyncio.sleep(0, value))\n"
        "f('before')\n"
        "await ensure_portal(); f('within')\n"
        "f('after')\n"
    )
    for answer in before, after:
        assert "NoAwaitContext: await_() has nothing to wait in: no event loop is running" in answer


def test_a_portal_ends_with_its_cell(terminal: Terminal) -> None:
    *_, portals = terminal(
        "import asyncio\n"
        "from verdigris import ensure_portal, has_portal\n"
        "portals = []\n"
        "await ensure_portal(); portals.append(has_portal())\n"
        "await asyncio.sleep(0); portals.append(has_portal())\n"
        "portals\n"
    )
    assert portals == "Out[6]: [True, False]"


def test_a_cell_on_trio_gets_a_portal(terminal: Terminal) -> None:
    pytest.importorskip("trio", reason="trio is not installed")
    *_, answer = terminal(
        "import trio\n"
        "from verdigris import await_, ensure_portal\n"
        "%autoawait trio\n"
        "def f(): return await_(trio.to_thread.run_sync(lambda: 'waited'))\n"
        "await ensure_portal(); f()\n"
    )
    assert answer == "Out[5]: 'waited'"


# What a kernel does with the cells it gets: here they come from a list.
KERNEL = """
import asyncio
from IPython.core.interactiveshell import InteractiveShell
from verdigris import await_, ensure_portal

shell = InteractiveShell.instance(colors="NoColor")
shell.history_manager.enabled = False
turns = 0

async def other():
    global turns
    while True:
        await asyncio.sleep(0)
        turns += 1

async def answer(value):
    # Ends only if the other task runs meanwhile.
    before = turns
    while turns < before + 3:
        await asyncio.sleep(0)
    return value

def f(value):
    return await_(answer(value))

shell.push(dict(f=f, answer=answer, await_=await_, ensure_portal=ensure_portal))

def outcome(result):
    return type(result.error_in_exec).__name__ if result.error_in_exec else result.result

async def run_cell(cell):
    # The two ways a kernel has, and how it chooses.
    transformed = shell.transform_cell(cell)
    if shell.should_run_async(cell, transformed_cell=transformed):
        return await shell.run_cell_async(cell, transformed_cell=transformed)
    return shell.run_cell(cell)

def run(async_fn):
    async def with_another_task():
        task = asyncio.create_task(other())
        await async_fn()
        task.cancel()
    asyncio.run(with_another_task())
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """Runs a program that drives IPython's shell as a kernel does."""
    return lambda program: run_python(["-c", KERNEL + program], tmp_path)


def test_where_one_task_runs_all_cells_one_portal_is_enough(kernel: Kernel) -> None:
    """Then cells that await nothing can wait too."""
    done = kernel("""
async def main():
    await ensure_portal()
    for cell in (
        "f('sync cell')",
        "(await answer('async')), f('cell')",
        "def g(n): return f(n) if n == 0 else g(n - 1)",
        "sorted([2, 0, 1], key=g)",
        "[f(n) for n in range(3)]",
    ):
        print("is", outcome(await run_cell(cell)))

run(main)
""")
    shown = [line for line in done.stdout.splitlines() if line.startswith("is ")]
    assert shown == [
        "is sync cell",
        "is ('async', 'cell')",
        "is None",
        "is [2, 0, 1]",
        "is [0, 1, 2]",
    ]


def test_where_each_cell_is_a_task_each_needs_its_portal(kernel: Kernel) -> None:
    """As in ipykernel, which makes a task of every cell that awaits."""
    done = kernel("""
async def main():
    for cell in (
        "await ensure_portal(); f('with a portal')",
        "await answer(0); f('without one')",
        "f('in a cell that awaits nothing')",
    ):
        print("is", outcome(await asyncio.ensure_future(run_cell(cell))))

run(main)
""")
    shown = [line for line in done.stdout.splitlines() if line.startswith("is ")]
    assert shown == ["is with a portal", "is NoAwaitContext", "is NoAwaitContext"]
    assert "by `await ensure_portal()`" in done.stdout


def test_the_other_ways_in_work_in_cells_without_a_portal(kernel: Kernel) -> None:
    done = kernel("""
from verdigris import async_def, with_portal_run_sync

shell.push(dict(async_def=async_def, with_portal_run_sync=with_portal_run_sync))

async def main():
    for cell in (
        "await async_def(f, 'async_def')",
        "await with_portal_run_sync(f, 'with_portal_run_sync')",
    ):
        print("is", outcome(await asyncio.ensure_future(run_cell(cell))))

run(main)
""")
    shown = [line for line in done.stdout.splitlines() if line.startswith("is ")]
    assert shown == ["is async_def", "is with_portal_run_sync"]
