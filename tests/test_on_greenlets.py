"""The second engine, by `VERDIGRIS_ENGINE=greenlet`: what greenlets of others can do to it.

All other tests run on it too, where that variable is set.
"""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_native_stacks, needs_thread_state

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("greenlet"), reason="greenlet is not installed"
)

BEGIN = """
import gc
from greenlet import GreenletExit, error, getcurrent, greenlet
from hand_driver import finish, suspend
from verdigris import _engine, _which_engine, async_def, await_, can_await

assert _which_engine.name == "greenlet"

def waits(*_):
    return await_(suspend())

def run(coroutine):
    return finish(coroutine, lambda tag: "answer")

def end(coroutine):
    try:
        coroutine.send("answer")
    except StopIteration as end:
        return end.value
"""


@pytest.fixture
def on_greenlets(python: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a program there; returns the lines it prints."""
    monkeypatch.setenv("VERDIGRIS_ENGINE", "greenlet")

    def run(program: str) -> list[str]:
        lines: list[str] = python(BEGIN + program).stdout.split("\n")
        return lines[:-1]

    return run


@pytest.mark.parametrize("first", [1, 1000])
def test_anything_mixed_by_chance(python: Any, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    monkeypatch.setenv("VERDIGRIS_ENGINE", "greenlet")
    switches, refused = map(int, python("greenlets.py", first, 60, 400).stdout.split())
    assert switches > 1000 and refused > 1000


def test_a_function_is_left_by_a_switch(on_greenlets: Any) -> None:
    program = """
def function(below):
    leave = getcurrent().parent.switch
    try:
        greenlet(leave).switch() if below else leave()
    except error as refusal:
        return "await_() only" in str(refusal), waits()

print(run(async_def(function, False)), run(async_def(function, True)))
"""
    assert on_greenlets(program) == ["(True, 'answer') (True, 'answer')"]


def test_a_function_that_goes_on_leaving_is_given_up(on_greenlets: Any) -> None:
    program = """
def function():
    while True:
        try:
            getcurrent().parent.switch()
        except error:
            pass

coroutine = async_def(function)
try:
    coroutine.send(None)
except error as refusal:
    print("await_() only" in str(refusal), coroutine.cr_frame)
del coroutine
gc.collect()
print(run(async_def(waits)), _engine.stats()["stacks_leaked"])
"""
    assert on_greenlets(program) == ["True None", "answer 1"]


def test_a_function_that_waits_is_entered_by_a_switch(on_greenlets: Any) -> None:
    program = """
seen = []

def function():
    seen.append(getcurrent())
    return waits()

def enter(*throw):
    try:
        seen[0].throw(*throw) if throw else seen[0].switch()
    except error as refusal:
        return "await_() only" in str(refusal)

coroutine = async_def(function)
coroutine.send(None)
print(enter(), enter(GreenletExit), run(async_def(enter)))
try:
    greenlet(enter).switch()
except error:
    print("raised where the main greenlet is")
print(end(coroutine))
"""
    raised = "raised where the main greenlet is"
    assert on_greenlets(program) == ["True True True", raised, "answer"]


def test_the_greenlet_that_waits_ends_with_its_function(on_greenlets: Any) -> None:
    """What drops it then is anybody; it is unwound like any other greenlet."""
    program = """
def function():
    children.append(greenlet(child))
    return children[0].switch()

def child():
    try:
        waits()
    finally:
        print("unwound")

children = []
coroutine = async_def(function)
coroutine.send(None)
children.clear()
gc.collect()
print("waits", coroutine.cr_suspended)
coroutine.close()
print(_engine.stats()["stacks_in_use"])
"""
    assert on_greenlets(program) == ["waits True", "unwound", "0"]


def test_a_function_whose_first_greenlet_is_led_to_its_end(on_greenlets: Any) -> None:
    """While another of its greenlets waits: the end waits for the function's turn."""
    program = """
seen = []

def function():
    seen.append(getcurrent())
    greenlet(waits).switch()
    return "ended"

coroutine = async_def(function)
coroutine.send(None)
try:
    print(seen[0].switch())
except error as refusal:
    print("await_() only" in str(refusal))
print(coroutine.cr_suspended, end(coroutine), _engine.stats()["stacks_in_use"])
"""
    assert on_greenlets(program) == ["True", "True ended 0"]


def test_a_greenlet_of_no_function_can_not_wait(on_greenlets: Any) -> None:
    program = """
def tell(asker):
    asker.switch(can_await())

outside = greenlet(tell)

def function():
    inside = greenlet(tell)
    return can_await(), inside.switch(getcurrent()), outside.switch(getcurrent())

print(run(async_def(function)))
"""
    assert on_greenlets(program) == ["(True, True, False)"]


def test_a_greenlet_of_one_function_can_not_wait_in_another(on_greenlets: Any) -> None:
    program = """
children = []

def first():
    children.append(greenlet(waits))

def second():
    try:
        children[0].switch()
    except error:  # of the refusal's way to the greenlet's parent, which has ended
        return waits()

run(async_def(first))
print(run(async_def(second)))
"""
    assert on_greenlets(program) == ["answer"]


@needs_native_stacks
def test_native_stacks_in_use_keep_the_engine(python: Any) -> None:
    done = python("""
import greenlet
from hand_driver import finish, suspend
from verdigris import _engine, async_def, await_

coroutine = async_def(lambda: await_(suspend()))
coroutine.send(None)
try:
    _engine.use_greenlet()
except RuntimeError as refusal:
    print("VERDIGRIS_ENGINE=greenlet" in str(refusal))
coroutine.close()
_engine.use_greenlet()
finish(async_def(lambda: await_(suspend())))
print(greenlet.getcurrent().parent)
""")
    assert done.stdout == "True\nNone\n"


def test_what_the_collector_finds_is_unwound_after_the_collection(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    # A switch in a collection moved the heads of the collector's lists away, and crashed soon.
    soak = Path(__file__).resolve().parent.parent / "soak" / "round.py"
    only = ("--only", "cycle,collect", "--seconds", 3)
    python(str(soak), *only, env={"VERDIGRIS_ENGINE": "greenlet"})


@needs_thread_state
def test_nothing_is_switched_while_the_collector_runs(on_greenlets: Any) -> None:
    program = """
import sys

class Ends:
    def __init__(self, does):
        self.me, self.does = self, does

    def __del__(self):
        try:
            self.does()
        except RuntimeError as refusal:
            print("in a finalizer that the garbage collector calls" in str(refusal))

other = async_def(waits)
other.send(None)
def function():
    Ends(waits)
    Ends(lambda: other.send(None))
    gc.collect()
    return waits()

print(run(async_def(function)), other.cr_suspended)
other.close()

ended = []
def for_ever(me):
    try:
        waits()
    finally:
        ended.append(1)

def drop():
    me = []
    me.append(async_def(for_ever, me))
    me[0].send(None)

for _ in range(100):
    drop()
gc.collect()
print(len(ended), _engine.stats()["stacks_in_use"])
"""
    assert on_greenlets(program) == ["True", "True", "answer True", "100 0"]
