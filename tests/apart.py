"""Tests that need a process of their own, as what they load or start stays in it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import CHOSEN, python_path

TESTS = Path(__file__).resolve().parent
# Below the limit of the test that waits here (`faulthandler_timeout`).
SECONDS = 280


def files_of(directory: str) -> list[Path]:
    """The test files of a directory of `tests`."""
    return sorted((TESTS / directory).glob("test_*.py"))


def run_apart(file: Path, variable: str, loops: list[str] = CHOSEN) -> None:
    """Runs a test file in a process of its own. It must pass; without a test that does, it skips.

    Args:
        file: The test file.
        variable: Set in the environment, it has the file collected.
        loops: What the tests run on.
    """
    code, output = _run(
        [
            sys.executable,
            "-X",
            "faulthandler",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            file,
        ],
        {
            **os.environ,
            "PYTHONPATH": python_path(),
            "VERDIGRIS_LOOPS": " ".join(loops),
            variable: "1",
        },
    )
    skipped = re.findall(r"SKIPPED \[\d+\] \S+: (.*)", output)
    ended_well = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert code in ended_well, f"exit code {code}\n{output}"
    if not re.search(r"\d+ passed", output):
        assert skipped, output
        pytest.skip(skipped[0])


def _run(command: list[str | Path], environment: dict[str, str]) -> tuple[int, str]:
    """Runs a command and ends whatever it leaves behind.

    What it prints goes to a file: a process that it has left would hold a pipe open, and who reads
    that would wait for it.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=TESTS.parent,
            env=environment,
            start_new_session=True,
        )
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # faulthandler prints where it stands
            process.wait(10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return process.returncode, output.read()
