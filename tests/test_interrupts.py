"""Ctrl-C, and handlers of signals that raise or wait, at random times: nothing is lost or corrupt.

The times are seeded; where the signal arrives is the machine's choice, each time another one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from conftest import CRASH_SCRIPTS, IN_A_CELL, killed_after, python_path

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="needs signals that come at a chosen time"
)

CASES = [
    "in_functions",
    "on_a_loop",
    "anywhere",
    "by_hand_anywhere",
    "handlers_that_wait",
]


@pytest.mark.parametrize("seed", [1] if IN_A_CELL else [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_a_handler_at_random_times(python: Any, case: str, seed: int) -> None:
    done = python("interrupts.py", case, seed, options=("-W", "ignore"))
    assert done.stdout == "intact\n", done.stderr


def interrupted(kind: str, after: float) -> tuple[int, str, str]:
    """What a program that Ctrl-C ends leaves behind: exit code, output, and what it said."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-X",
            "faulthandler",
            str(CRASH_SCRIPTS / "interrupts.py"),
            "victim",
            kind,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    with killed_after(90, process):
        assert process.stdout is not None and process.stderr is not None
        # Not before: a loop that is only half made can't be closed either.
        assert process.stdout.read(1) == "<"
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        # Not `communicate`: what came along with the first letter is in the file's buffer.
        output, errors = "<" + process.stdout.read(), process.stderr.read()
    return process.returncode, output, errors


@pytest.mark.parametrize("kind", ["asyncio", "trio", "by_hand"])
def test_control_c_at_random_times(kind: str) -> None:
    """The interpreter ends as it ends without verdigris, and all `finally` blocks have run."""
    if kind == "trio":
        pytest.importorskip("trio", reason="trio is not installed")
    rng = random.Random(kind)
    for _ in range(8):
        returncode, output, errors = interrupted(kind, rng.uniform(0, 0.05))
        assert returncode == -signal.SIGINT, (returncode, errors)
        assert errors.rstrip().endswith("KeyboardInterrupt"), errors
        # A signal in the middle of a `finally` block is the program's to handle: one at most.
        assert 0 <= output.count("<") - output.count(">") <= 1, (output, errors)
