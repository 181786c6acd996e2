"""Runs the tests of `tests/tools`, each file in a process of its own.

Where greenlet is loaded, as other tests do, frames are not linked to their driver's from 3.12 on.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from apart import files_of, run_apart


@pytest.mark.parametrize("file", files_of("tools"), ids=lambda file: file.stem)
def test_tools(file: Path) -> None:
    run_apart(file, "VERDIGRIS_TOOLS")
