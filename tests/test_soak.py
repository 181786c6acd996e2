"""A short soak on each loop, and that a soak finds what is put into it.

`make soak` is the long one; docs/design/endurance.md tells what it does.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import CHOSEN, IN_A_CELL, once_is_enough

ROUND = str(Path(__file__).resolve().parent.parent / "soak" / "round.py")

Python = Callable[..., Any]


def figures(done: Any) -> Any:
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("loop", CHOSEN)
def test_some_seconds_are_clean(python: Python, loop: str) -> None:
    if loop != "asyncio":
        pytest.importorskip(loop, reason=f"{loop} is not installed")
    done = python(ROUND, "--loop", loop, "--seconds", 4 if IN_A_CELL else 10)
    assert figures(done)["operations"] > 1000


@once_is_enough
def test_every_kind_of_operation_is_drawn(python: Python) -> None:
    done = python(
        f"""
        import sys
        sys.path.insert(0, {str(Path(ROUND).parent)!r})
        from operations import OPERATIONS
        from program import program
        text = "\\n".join(line for seed in range(2000) for node in program(seed)
                         for line in node.lines())
        print([name for name in OPERATIONS if f"{{name}} " not in text])
        """
    )
    assert done.stdout == "[]\n"


@once_is_enough
def test_a_lost_wake_up_is_found(python: Python) -> None:
    done = python(ROUND, "--defect", "lost wake-up", "--patience", 5, check=False)
    assert done.returncode == 4
    assert "nothing has ended for 5.0 seconds" in done.stderr
    assert "these seeds had begun" in done.stderr


@once_is_enough
def test_a_wrong_result_is_found_and_its_seed_finds_it_again(python: Python) -> None:
    done = python(ROUND, "--defect", "wrong result", check=False)
    assert done.returncode == 1
    seed = done.stderr.partition("--seed ")[2].split()[0]
    again = python(ROUND, "--defect", "wrong result", "--seed", seed, "--programs", 1, check=False)
    assert again.returncode == 1
    assert f"seed {seed}: at" in again.stderr
    python(ROUND, "--seed", seed, "--programs", 1)


@once_is_enough
def test_a_leak_of_memory_is_found(python: Python) -> None:
    done = python(ROUND, "--defect", "memory leak", "--seconds", 6, check=False)
    assert done.returncode == 1
    assert "resident grew by" in done.stderr


@once_is_enough
def test_a_leak_of_stacks_is_found(python: Python) -> None:
    done = python(ROUND, "--defect", "stack leak", check=False)
    assert done.returncode == 1
    assert "stacks were never given back" in done.stderr


@once_is_enough
def test_a_crash_ends_its_round_and_is_told(python: Python) -> None:
    run = str(Path(ROUND).parent / "run.py")
    done = python(run, "--minutes", 0.1, "--loop", "asyncio", "--defect", "crash", check=False)
    assert done.returncode == 1
    assert f"FAILED with code -{signal.SIGSEGV.value}" in done.stdout
    assert "the whole round again" in done.stdout
