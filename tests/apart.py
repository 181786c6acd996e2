"""Tests that need a process of their own, as what they load or start stays in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import python_path

TESTS = Path(__file__).resolve().parent


def files_of(directory: str) -> list[Path]:
    """The test files of a directory of `tests`."""
    return sorted((TESTS / directory).glob("test_*.py"))


def run_apart(file: Path, variable: str) -> None:
    """Runs a test file in a process of its own. It must pass; without a test that does, it skips.

    Args:
        file: The test file.
        variable: Set in the environment, it has the file collected.
    """
    done = subprocess.run(
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
        capture_output=True,
        text=True,
        timeout=280,
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": python_path(), variable: "1"},
    )
    skipped = re.findall(r"SKIPPED \[\d+\] \S+: (.*)", done.stdout)
    ended_well = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert done.returncode in ended_well, (
        f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    if not re.search(r"\d+ passed", done.stdout):
        assert skipped, done.stdout + done.stderr
        pytest.skip(skipped[0])
