"""`time.sleep` beside the loop. Nothing else in `time` waits."""

from __future__ import annotations

import time as stdlib

import pytest
from conftest import Loop

from green.together import beside, cancelled, together
from verdigris.green import time  # type: ignore[attr-defined]


def test_sleep_leaves_the_loop_free(loop: Loop) -> None:
    beside(loop, lambda: time.sleep(0.1))


def test_sleeps_are_side_by_side(loop: Loop) -> None:
    order: list[int] = []

    def one(number: int) -> None:
        time.sleep(0.05 * number)
        order.append(number)

    together(loop, *(lambda n=n: one(n) for n in (3, 2, 1)))
    assert order == [1, 2, 3]


def test_cancelled_sleep(loop: Loop) -> None:
    assert cancelled(loop, lambda: time.sleep(60), lambda: True)


def test_outside_of_green_functions_it_sleeps() -> None:
    began = stdlib.monotonic()
    time.sleep(0.02)
    assert stdlib.monotonic() - began >= 0.02


def test_less_than_nothing_is_refused(loop: Loop) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        together(loop, lambda: time.sleep(-1))
    with pytest.raises(ValueError, match="non-negative"):
        time.sleep(-1)


def test_the_rest_is_the_stdlibs() -> None:
    own = {"sleep", "pthread_getcpuclockid"}
    names = {name for name in dir(stdlib) if not name.startswith("_")} - own
    assert all(getattr(time, name) is getattr(stdlib, name) for name in names)
