"""Runs the tests of `tests/neighbours`, each file in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import python_path

TESTS = Path(__file__).resolve().parent
FILES = sorted((TESTS / "neighbours").glob("test_*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_neighbours(file: Path) -> None:
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
        env={
            **os.environ,
            "PYTHONPATH": python_path(),
            "VERDIGRIS_NEIGHBOURS": "1",
        },
    )
    skipped = re.findall(r"SKIPPED \[\d+\] \S+: (.*)", done.stdout)
    ended_well = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert done.returncode in ended_well, (
        f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    if not re.search(r"\d+ passed", done.stdout):
        assert skipped, done.stdout + done.stderr
        pytest.skip(skipped[0])
