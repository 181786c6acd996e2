"""Runs the tests of `tests/executors`, each file in a process of its own.

From 3.14 on they have sub-interpreters, and in a process that has had some, CPython crashes in the
child of a fork.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from apart import files_of, run_apart
from conftest import CHOSEN, IN_A_CELL, python_alone

pytestmark = python_alone


@pytest.mark.parametrize("file", files_of("executors"), ids=lambda file: file.stem)
def test_executors(file: Path) -> None:
    run_apart(file, "VERDIGRIS_EXECUTORS", CHOSEN[:1] if IN_A_CELL else CHOSEN)
