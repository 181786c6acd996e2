"""Tracers and profilers see balanced events across switches."""

from __future__ import annotations

import cProfile
import pstats
import sys
import threading
from types import FrameType
from typing import Any

import pytest
from hand_driver import finish, suspend

from verdigris import async_def, await_


def leaf(n: int) -> object:
    return await_(suspend(n))


def branch(n: int) -> object:
    first = leaf(n)
    second = leaf(n)
    return first, second


def interleave(count: int = 5) -> None:
    coros = [async_def(branch, n) for n in range(count)]
    for _ in range(2):
        for coro in coros:
            coro.send(None)
    for coro in coros:
        with pytest.raises(StopIteration):
            coro.send(None)


def test_cprofile_counts_every_call() -> None:
    profile = cProfile.Profile()
    profile.runcall(interleave)
    # stat[1] is every call. stat[0] leaves recursive ones out, and functions
    # suspended inside one another's steps look recursive to a profiler.
    calls = {key[2]: stat[1] for key, stat in pstats.Stats(profile).stats.items()}  # type: ignore[attr-defined]
    assert calls["branch"] == 5
    assert calls["leaf"] == 10
    assert calls["interleave"] == 1


def test_cprofile_inside_a_function_survives_the_switches() -> None:
    def profiled() -> dict[str, int]:
        profile = cProfile.Profile()
        profile.enable()
        branch(1)
        profile.disable()
        return {k[2]: s[0] for k, s in pstats.Stats(profile).stats.items()}  # type: ignore[attr-defined]

    calls = finish(async_def(profiled))
    assert calls["branch"] == 1 and calls["leaf"] == 2


class Recorder:
    """Counts how often each function of this file was entered and left."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename == __file__ and event in ("call", "return"):
            self.events.append((frame.f_code.co_name, event))
        return self

    def count(self, name: str, event: str) -> int:
        return self.events.count((name, event))


@pytest.mark.parametrize("kind", ["settrace", "setprofile"])
def test_calls_and_returns_balance(kind: str) -> None:
    recorder = Recorder()
    install = getattr(sys, kind)
    before = sys.gettrace() if kind == "settrace" else sys.getprofile()
    install(recorder)
    try:
        interleave()
    finally:
        install(before)
    assert recorder.count("branch", "call") == recorder.count("branch", "return") == 5
    assert recorder.count("leaf", "call") == recorder.count("leaf", "return") == 10


def test_every_line_is_seen() -> None:
    """In the trial, coverage saw 60% of the lines that ran."""
    lines: list[int] = []

    def traced() -> None:
        a = leaf(1)
        b = leaf(2)
        for _ in range(2):
            leaf(3)
        assert (a, b) == (None, None)

    def tracer(frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code is traced.__code__ and event == "line":
            lines.append(frame.f_lineno - traced.__code__.co_firstlineno)
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        finish(async_def(traced))
    finally:
        sys.settrace(before)
    assert set(lines) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("install_inside", [True, False])
def test_a_tracer_installed_or_removed_while_one_is_suspended(install_inside: bool) -> None:
    """The tracer is the thread's; a stack started without it gets it when resumed."""
    recorder = Recorder()
    before = sys.gettrace()

    def f() -> None:
        if install_inside:
            sys.settrace(recorder)
        leaf(1)
        leaf(2)

    coro = async_def(f)
    try:
        coro.send(None)
        if not install_inside:
            sys.settrace(recorder)
        else:
            assert sys.gettrace() is recorder
        coro.send(None)
        with pytest.raises(StopIteration):
            coro.send(None)
    finally:
        sys.settrace(before)
    assert recorder.count("leaf", "call") >= 1
    leaf_events = recorder.count("leaf", "call"), recorder.count("leaf", "return")
    assert leaf_events[1] - leaf_events[0] in (0, 1)


def test_removing_the_tracer_while_one_is_suspended_silences_it() -> None:
    recorder = Recorder()
    before = sys.gettrace()
    coro = async_def(branch, 1)
    sys.settrace(recorder)
    try:
        coro.send(None)
    finally:
        sys.settrace(before)
    seen = len(recorder.events)
    assert recorder.count("leaf", "call") == 1
    coro.send(None)
    with pytest.raises(StopIteration):
        coro.send(None)
    assert len(recorder.events) == seen


def test_setprofile_in_threads() -> None:
    recorder = Recorder()

    def body() -> None:
        sys.setprofile(recorder)
        try:
            interleave()
        finally:
            sys.setprofile(None)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert recorder.count("leaf", "call") == recorder.count("leaf", "return") == 10


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with 3.12")
def test_monitoring_sees_starts_and_returns() -> None:
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    tool, counts = 4, {"start": 0, "return": 0}

    def started(code: Any, offset: int) -> None:
        counts["start"] += code is leaf.__code__

    def returned(code: Any, offset: int, value: object) -> None:
        counts["return"] += code is leaf.__code__

    events = monitoring.events
    monitoring.use_tool_id(tool, "test")
    try:
        monitoring.register_callback(tool, events.PY_START, started)
        monitoring.register_callback(tool, events.PY_RETURN, returned)
        monitoring.set_events(tool, events.PY_START | events.PY_RETURN)
        interleave()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
    assert counts == {"start": 10, "return": 10}


def test_nothing_is_traced_while_a_trace_function_waits() -> None:
    # A debugger's prompt that waits must not open again in whoever drives it.
    seen: list[str] = []

    def traced() -> None:
        pass

    def tracer(frame: Any, event: str, arg: Any) -> None:
        if frame.f_code is traced.__code__:
            seen.append("waits")
            await_(suspend())
            seen.append("goes on")
        elif frame.f_code is elsewhere.__code__:
            seen.append("elsewhere")

    def elsewhere() -> None:
        pass

    def f() -> None:
        sys.settrace(tracer)
        traced()
        elsewhere()
        sys.settrace(None)

    coro = async_def(f)
    coro.send(None)
    elsewhere()
    finish(async_def(elsewhere))
    with pytest.raises(StopIteration):
        coro.send(None)
    assert seen == ["waits", "goes on", "elsewhere"]
