"""CPython's JIT: functions whose hot loops wait run as machine code, and are switched all the same.

It is chosen for a process when that starts, by `PYTHON_JIT`, so each test is a process of its own.
`make matrix PYTHONS=3.15j` runs all tests with it.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

JIT = getattr(sys, "_jit", None)  # since 3.14

pytestmark = pytest.mark.skipif(
    JIT is None or not JIT.is_available(), reason="this CPython was built without a JIT"
)

ON = {"PYTHON_JIT": "1"}

BEGIN = """
import sys
from hand_driver import finish, suspend, value
from verdigris import async_def, await_
assert sys._jit.is_enabled()

def turns():
    # How many of the turns of a hot loop were machine code.
    active = 0
    for _ in range(20):
        active += sys._jit.is_active()
    return active
"""


def test_a_hot_loop_that_waits(python: Any) -> None:
    """The same loop waits without suspending and with, and is machine code meanwhile."""
    python(
        BEGIN
        + """
def loop(count):
    total = active = 0
    for i in range(count):
        total += await_(value(i))
        active += turns()
        if i % 64 == 0:
            total += await_(suspend(i))
    return total, active

total, active = finish(async_def(loop, 50_000), answer=lambda tag: 1)
assert total == sum(range(50_000)) + 50_000 // 64 + 1, total
assert active > 10_000, active
""",
        env=ON,
    )


def test_hot_loops_in_turn(python: Any) -> None:
    """Many functions run the same machine code, each at its own place in it."""
    python(
        BEGIN
        + """
def loop(own, count):
    seen = []
    active = 0
    for i in range(count):
        active += sys._jit.is_active()
        seen.append(await_(suspend((own, i))))
    assert seen == [(own, i) for i in range(count)]
    return active

waiting = {async_def(loop, own, 3_000): None for own in range(20)}
active = 0
while waiting:
    for coroutine, answer in list(waiting.items()):
        try:
            waiting[coroutine] = coroutine.send(answer)
        except StopIteration as end:
            del waiting[coroutine]
            active += end.value
assert active > 1_000, active
""",
        env=ON,
    )


def test_what_is_thrown_into_a_hot_loop(python: Any) -> None:
    """An exception comes out of a wait in the middle of machine code, and is handled there."""
    python(
        BEGIN
        + """
def loop(count):
    caught = active = 0
    for i in range(count):
        active += turns()
        try:
            await_(suspend(i))
        except KeyError as error:
            assert error.args == (i,)
            caught += 1
        assert sys.exception() is None
    return caught, active

coroutine = async_def(loop, 6_000)
tag = coroutine.send(None)
try:
    while True:
        tag = coroutine.throw(KeyError(tag)) if tag % 200 == 199 else coroutine.send(None)
except StopIteration as end:
    caught, active = end.value
assert caught == 30, caught
assert active > 500, active
""",
        env=ON,
    )


def test_calls_from_machine_code(python: Any) -> None:
    """The wait lies some calls below a hot loop, and a coroutine is driven by another."""
    python(
        BEGIN
        + """
def deep(depth, i):
    return deep(depth - 1, i) if depth else await_(suspend(i))

async def inner(i):
    return await async_def(deep, 5, i)

def loop(count):
    total = active = 0
    for i in range(count):
        active += sys._jit.is_active()
        total += deep(i % 7, i) + await_(inner(i))
    return total, active

total, active = finish(async_def(loop, 5_000), answer=lambda tag: tag)
assert total == 2 * sum(range(5_000)), total
assert active > 500, active
""",
        env=ON,
    )


def test_the_doctor_tells(python: Any) -> None:
    assert ", JIT on" in python("-m", "verdigris", "doctor", env=ON).stdout
