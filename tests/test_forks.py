"""Forks in and beside functions that wait: both processes may go on with all of them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from conftest import needs_native_stacks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

CASES = [
    pytest.param("what_a_child_does_with_others", marks=needs_native_stacks),
    "a_child_that_exits",
    "a_child_on_a_loop_that_runs",
    "generations",
    "in_a_thread_with_functions",
    "by_multiprocessing",
    "hooks_of_fork",
]


@pytest.mark.parametrize("case", CASES)
def test_is_defined(python: Any, case: str) -> None:
    # CPython warns of any fork beside threads.
    assert python("forks.py", case, options=("-W", "ignore")).stdout == "defined\n"
