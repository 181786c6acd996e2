"""`await_` in finalizers, weakref callbacks, hooks, while other functions wait: never a crash."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import needs_native_stacks, needs_thread_state

CASES = [
    pytest.param("collector_at_any_moment", marks=needs_native_stacks),
    "collector_on_the_drivers_side",
    pytest.param("weakref_callbacks_at_any_moment", marks=needs_native_stacks),
    pytest.param("weakref_finalize_with_others_waiting", marks=needs_native_stacks),
    "collector_callbacks",
    "while_it_is_being_closed",
    pytest.param("steps_and_drops_others", marks=needs_thread_state),
    pytest.param("resurrects_its_function", marks=needs_thread_state),
    pytest.param("deep_deallocation_that_waits", marks=needs_native_stacks),
    pytest.param("deep_deallocation_that_is_closed", marks=needs_native_stacks),
    "hooks",
    pytest.param("in_portals_and_tasks", marks=needs_native_stacks),
    pytest.param("in_threads", marks=needs_native_stacks),
]


@pytest.mark.parametrize("case", CASES)
def test_is_defined(python: Any, case: str) -> None:
    assert python("finalizers.py", case, options=("-W", "ignore")).stdout == "defined\n"


def test_at_the_end_of_the_interpreter(python: Any) -> None:
    done = python("finalizers.py", "at_the_end_of_the_interpreter")
    # weakref.finalize and atexit, each refused and then at work; the finalizer of a global last.
    assert done.stdout.split() == ["refused", "x", "refused", "x", "refused"]
