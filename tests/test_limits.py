"""Limits of a process that the engine can run into: a clear error, and it goes on afterwards."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_native_stacks

sys.path.insert(0, str(Path(__file__).parent / "crash"))
import refusals

sys.path.pop(0)

pytestmark = pytest.mark.skipif(
    not refusals.available(), reason="needs Linux with seccomp, on x86-64 or AArch64"
)

MOST_MAPPINGS = 100_000


@needs_native_stacks
@pytest.mark.parametrize(
    "case",
    [
        "address_space_of_any_size",
        "data_of_any_size",
        "data_segment_ends",
        "slabs_are_refused",
        "stacks_are_refused",
        "guards_end_in_the_middle",
        "memory_is_not_given_back",
    ],
)
def test_memory(python: Any, case: str) -> None:
    assert python("limits.py", case, env={"PYTHONWARNINGS": "ignore"}).stdout == "orderly\n"


@needs_native_stacks
@pytest.mark.parametrize("case", ["mappings_end", "mappings_taken_by_others"])
def test_memory_mappings(python: Any, case: str) -> None:
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    if limit > MOST_MAPPINGS:
        pytest.skip("vm.max_map_count is raised here: reaching it takes too much memory")
    assert python("limits.py", case, env={"PYTHONWARNINGS": "ignore"}).stdout == "orderly\n"


@pytest.mark.parametrize("case", ["threads_end", "processes_end", "descriptors_end"])
def test_threads_processes_and_descriptors(python: Any, case: str) -> None:
    assert python("limits.py", case).stdout == "orderly\n"


@needs_native_stacks
@pytest.mark.parametrize("case", ["an_unlimited_stack", "threads_with_small_stacks"])
def test_the_threads_own_stack(python: Any, case: str) -> None:
    if case == "an_unlimited_stack" and os.geteuid() != 0:
        pytest.skip("only root may lift a hard limit of the stack")
    assert python("limits.py", case).stdout == "orderly\n"
