"""Runs the tests of `tests/neighbours`, each file in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from apart import files_of, run_apart


@pytest.mark.parametrize("file", files_of("neighbours"), ids=lambda file: file.stem)
def test_neighbours(file: Path) -> None:
    run_apart(file, "VERDIGRIS_NEIGHBOURS")
