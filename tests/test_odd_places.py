"""`await_` in finalizers, callbacks, signal handlers, imports, forks: defined, never a crash."""

from __future__ import annotations

import os
from typing import Any

import pytest
from conftest import needs_native_stacks

CASES = [
    "in_del",
    pytest.param("in_del_during_collection", marks=needs_native_stacks),
    "in_weakref_callback",
    "in_signal_handler",
    "signals_in_a_busy_loop",
    "in_hash_eq_and_getattr_of_c_calls",
    "in_import",
    "fork",
    "fork_in_a_thread",
    "sys_settrace_function_that_waits",
]


@pytest.mark.parametrize("case", CASES)
def test_is_defined(python: Any, case: str) -> None:
    if case.startswith("fork") and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    assert python("odd_places.py", case).stdout == "defined\n"


def test_control_c_unwinds_and_leaves(python: Any) -> None:
    done = python("odd_places.py", "keyboard_interrupt_of_a_real_signal")
    assert done.stdout == "finally\ndefined\n"
