"""The end of the interpreter: asked for inside of functions, and come upon while they wait."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import needs_native_stacks

PLACES = [
    "in_a_function",
    "in_a_task",
    "in_a_portal",
    "in_a_portal_run",
    "in_a_spawned_function",
    "in_a_function_below_a_c_callback",
    "in_a_generator",
    "in_a_nested_function",
    "on_a_thread",
    "in_blocked_code",
    "by_hand",
]


@pytest.mark.parametrize("how", ["exits", "exits_by_a_subclass"])
@pytest.mark.parametrize("place", PLACES)
def test_sys_exit(python: Any, place: str, how: str) -> None:
    done = python("exits.py", place, how, check=False)
    assert (done.returncode, done.stdout.split()) == (3, ["finally", "other"]), done.stderr


def test_sys_exit_in_a_green_thread_ends_that_thread(python: Any) -> None:
    done = python("exits.py", "in_a_green_thread", "exits")
    assert done.stdout.splitlines() == ["finally", "other", "goes on"]
    assert done.stderr == ""


def test_os_exit(python: Any) -> None:
    done = python("exits.py", "by_os_exit", "exits", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "leaving\n", "")


@needs_native_stacks
def test_what_waits_is_unwound_when_native_coroutines_are(python: Any) -> None:
    """Held by a global, a class, a default, sys and so on: each `finally` runs, in that order."""
    green, native = (
        python("exits.py", "held_everywhere", how).stdout.split()
        for how in ("suspended", "suspended_natively")
    )
    assert green == native
    assert len(green) == 10


def test_below_every_kind_of_frame(python: Any) -> None:
    """What C code holds no collector can see, so their `finally` blocks need not run."""
    assert python("exits.py", "in_every_kind_of_frame").stdout.startswith("leaving\n")


@pytest.mark.parametrize(
    ("case", "printed"),
    [
        ("atexit_ends_them", ["closed", "resumed", "a new loop", "0"]),
        ("registered_by_a_function", ["thread", "atexit"]),
        ("threads_that_wait_at_the_end", ["leaving", "thread", "thread", "thread"]),
    ],
)
def test_handlers_and_threads(python: Any, case: str, printed: list[str]) -> None:
    assert python("exits.py", case).stdout.splitlines() == printed


def test_an_error_nobody_catches(python: Any) -> None:
    done = python("exits.py", "an_error_nobody_catches", check=False)
    assert (done.returncode, done.stdout) == (1, "finally\n")
    assert done.stderr.endswith('KeyError: "the program\'s"\n')


@pytest.mark.parametrize("kind", ["driven", "on_loops", "sleeping", "collecting", "mixed"])
def test_daemon_threads_many_times(python: Any, kind: str) -> None:
    for _ in range(5):
        assert python("exits.py", "daemon_threads", kind).stdout == "leaving\n"
