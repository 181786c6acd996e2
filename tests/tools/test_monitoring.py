"""sys.monitoring: what begins ends, for each function, and the events are those without waits."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import needs_native_stacks
from hand_driver import suspend

from verdigris import async_def, await_

from . import layers, run_layers

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12"
)

monitoring: Any = getattr(sys, "monitoring", None)
TOOL = 4
ENTERED = ("PY_START", "PY_RESUME", "PY_THROW")
LEFT = ("PY_RETURN", "PY_YIELD", "PY_UNWIND")
OTHERS = ("CALL", "C_RETURN", "C_RAISE", "RAISE", "EXCEPTION_HANDLED", "LINE")

Counts = dict[str, Counter[str]]


@contextmanager
def counted(file: str) -> Iterator[Counts]:
    """The events of each function of a file."""
    counts: Counts = {}

    def counts_as(name: str) -> Callable[..., None]:
        def callback(code: Any, *_: object) -> None:
            if code.co_filename == file:
                counts.setdefault(code.co_name, Counter())[name] += 1

        return callback

    monitoring.use_tool_id(TOOL, "test")
    wanted = 0
    try:
        for name in ENTERED + LEFT + OTHERS:
            event = getattr(monitoring.events, name)
            monitoring.register_callback(TOOL, event, counts_as(name))
            wanted |= event
        monitoring.set_events(TOOL, wanted)
        yield counts
    finally:
        monitoring.set_events(TOOL, 0)
        for name in ENTERED + LEFT + OTHERS:
            monitoring.register_callback(TOOL, getattr(monitoring.events, name), None)
        monitoring.free_tool_id(TOOL)


def assert_balanced(counts: Counts) -> None:
    for name, events in counts.items():
        entered, left = (sum(events[event] for event in kind) for kind in (ENTERED, LEFT))
        assert entered == left, (name, events)


@pytest.mark.parametrize("way", run_layers.WAYS)
def test_events_are_those_of_the_program_without_waits(loop: Any, way: str) -> None:
    with counted(layers.__file__) as plain:
        run_layers.run("none", "-")
    with counted(layers.__file__) as seen:
        run_layers.run(loop.name, way)
    assert_balanced(seen)
    # How a wait is ended from outside differs, and so does what it does itself.
    for name in set(plain) - {"is_ended"}:
        assert seen[name] == plain[name]


def waits_in_the_middle() -> None:
    for _ in range(3):
        await_(suspend())


def waits_below() -> None:
    waits_in_the_middle()
    waits_in_the_middle()


# On greenlets one of the returns was missed.
@needs_native_stacks
def test_a_tool_that_comes_while_functions_wait_sees_the_rest() -> None:
    coroutines = [async_def(waits_below) for _ in range(4)]
    for coroutine in coroutines:
        coroutine.send(None)
    with counted(__file__) as counts:
        for _ in range(5):
            for coroutine in coroutines:
                coroutine.send(None)
        for coroutine in coroutines:
            with pytest.raises(StopIteration):
                coroutine.send(None)
    assert counts["waits_in_the_middle"]["PY_START"] == 4  # the second call of each
    assert counts["waits_in_the_middle"]["PY_RETURN"] == 8
    assert counts["waits_below"]["PY_START"] == 0
    assert counts["waits_below"]["PY_RETURN"] == 4


def test_functions_that_are_closed_are_unwound_once() -> None:
    with counted(__file__) as counts:
        coroutines = [async_def(waits_below) for _ in range(4)]
        for coroutine in coroutines:
            coroutine.send(None)
        for coroutine in coroutines:
            coroutine.close()
    assert_balanced(counts)
    assert counts["waits_in_the_middle"]["PY_UNWIND"] == counts["waits_below"]["PY_UNWIND"] == 4
