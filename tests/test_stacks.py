"""Stacks that run out, in number or in depth."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest
from conftest import ON_NATIVE_STACKS, needs_address_space_limit, needs_native_stacks
from hand_driver import finish, suspend

from verdigris import _engine, async_def, await_

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def test_stats_tell_what_there_is() -> None:
    stats = _engine.stats()
    assert set(stats) >= {
        "stacks_in_use",
        "stacks_pooled",
        "stacks_leaked",
        "stack_size",
        "guard",
    }
    assert stats["stack_size"] >= 8 * 2**20
    assert stats["guard"] in ("madvise", "mprotect")


def test_a_stack_is_in_use_from_start_to_end() -> None:
    free = _engine.stats()["stacks_in_use"]
    coro = async_def(lambda: await_(suspend()))
    assert _engine.stats()["stacks_in_use"] == free
    coro.send(None)
    assert _engine.stats()["stacks_in_use"] == free + 1
    with pytest.raises(StopIteration):
        coro.send(None)
    assert _engine.stats()["stacks_in_use"] == free
    assert _engine.stats()["stacks_pooled"] >= ON_NATIVE_STACKS


def test_stacks_are_found_apart() -> None:
    """Locals of a thousand suspended functions, each deep, are all still right."""

    def f(n: int, depth: int) -> list[int]:
        if depth:
            here = n * depth
            return [*f(n, depth - 1), here]
        await_(suspend())
        return []

    coros = [async_def(f, n, 30) for n in range(1000)]
    for coro in coros:
        coro.send(None)
    for n, coro in enumerate(coros):
        assert finish(coro) == [n * depth for depth in range(1, 31)]


@needs_native_stacks
@needs_address_space_limit
@pytest.mark.parametrize("case", ["nothing_is_lost", "in_a_loop", "inside_a_function"])
def test_running_out_of_stacks_is_a_memory_error(python: Any, case: str) -> None:
    assert python("exhaustion.py", case).stdout == "nothing lost\n"


@linux_only
def test_native_code_too_deep_hits_the_guard_page(python: Any) -> None:
    done = python("guard.py", check=False)
    assert done.returncode == -signal.SIGSEGV, done.stderr
    assert done.stdout == "before\n"
