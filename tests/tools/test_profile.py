"""cProfile: the calls are those of the program without waits, and times add up."""

from __future__ import annotations

import cProfile
import itertools
import os
import pstats
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_native_stacks
from hand_driver import finish, suspend

from verdigris import async_def, await_

from . import layers, run_layers

WAYS = list(run_layers.WAYS)
CHAIN = ["top", "branch", "leaf"]


class Stat:
    """What a profile says about one function."""

    def __init__(self, stat: Any) -> None:
        self.outermost, self.calls, self.own_time, self.time, callers = stat
        self.callers = {name[2]: by[1] for name, by in callers.items()}


def stats_of(profile: cProfile.Profile, file: str = layers.__file__) -> dict[str, Stat]:
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return {name: Stat(stat) for (where, _, name), stat in stats.items() if where == file}


def profiled(loop: str, way: str) -> cProfile.Profile:
    profile = cProfile.Profile()
    profile.runcall(run_layers.run, loop, way)
    return profile


@pytest.fixture(scope="module")
def plain() -> dict[str, Stat]:
    return stats_of(profiled("none", "-"))


@needs_native_stacks
@pytest.mark.parametrize("way", WAYS)
def test_calls_are_those_of_the_program_without_waits(
    loop: Any, way: str, plain: dict[str, Stat]
) -> None:
    seen = stats_of(profiled(loop.name, way))
    assert {name: stat.calls for name, stat in seen.items()} == {
        name: stat.calls for name, stat in plain.items()
    }
    # Recursive calls are the program's own: functions that wait in turns are none.
    assert {name: stat.outermost for name, stat in seen.items()} == {
        name: stat.outermost for name, stat in plain.items()
    }
    for name in set(plain) - {"top", "is_ended"}:  # the program's runner calls these
        assert seen[name].callers == plain[name].callers, name


@needs_native_stacks
@pytest.mark.parametrize("way", WAYS)
def test_times_add_up(loop: Any, way: str) -> None:
    profile = cProfile.Profile()
    before = time.perf_counter()
    profile.runcall(run_layers.run, loop.name, way)
    elapsed = time.perf_counter() - before
    seen = stats_of(profile)
    for caller, callee in itertools.pairwise(CHAIN):
        (by_caller,) = [
            by
            for name, by in pstats.Stats(profile)
            .stats[  # type: ignore[attr-defined]
                (layers.__file__, getattr(layers, callee).__code__.co_firstlineno, callee)
            ][4]
            .items()
            if name[2] == caller
        ]
        assert seen[caller].time >= by_caller[3], (caller, callee)
    everything = [Stat(stat) for stat in pstats.Stats(profile).stats.values()]  # type: ignore[attr-defined]
    assert min(stat.own_time for stat in everything) >= 0
    # No time is in two places.
    assert sum(stat.own_time for stat in everything) <= elapsed
    assert max(stat.time for stat in everything) <= elapsed


def burn(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def waits_in_turns(seconds: float) -> None:
    burn(seconds)
    await_(suspend())
    burn(seconds)


def works() -> None:
    burn(0.02)


@needs_native_stacks
def test_time_goes_to_the_function_that_ran() -> None:
    """While it waits others run, and none of that is its own."""

    def drives() -> None:
        coroutine = async_def(waits_in_turns, 0.001)
        coroutine.send(None)
        works()
        finish(coroutine)

    profile = cProfile.Profile()
    profile.runcall(drives)
    seen = stats_of(profile, __file__)
    assert seen["works"].time >= 0.02
    assert seen["drives"].time >= seen["works"].time + seen["waits_in_turns"].time
    assert seen["drives"].own_time >= 0
    assert seen["works"].callers.keys() == {"drives"}
    assert not {"drives", "works"} & seen["waits_in_turns"].callers.keys()


@needs_native_stacks
def test_a_profile_that_is_turned_off_and_cleared_while_functions_wait() -> None:
    """What they had open is gone, and their returns are nobody's."""
    profile = cProfile.Profile()
    coroutines = [async_def(waits_in_turns, 0) for _ in range(3)]
    profile.enable()
    for coroutine in coroutines:
        coroutine.send(None)
    profile.clear()
    finish(coroutines[0])
    profile.disable()
    finish(coroutines[1])
    profile.enable()
    works()
    finish(coroutines[2])
    works()
    profile.disable()
    assert stats_of(profile, __file__)["works"].calls == 2


@needs_native_stacks
def test_a_function_that_goes_on_under_another_profile() -> None:
    first, second = cProfile.Profile(), cProfile.Profile()
    coroutine = async_def(waits_in_turns, 0)
    first.enable()
    coroutine.send(None)
    first.disable()
    second.enable()
    works()
    finish(coroutine)
    works()
    second.disable()
    assert "works" not in stats_of(first, __file__)
    assert stats_of(second, __file__)["works"].calls == 2


@needs_native_stacks
def test_a_profile_inside_a_function_is_that_functions() -> None:
    def inside() -> dict[str, Stat]:
        profile = cProfile.Profile()
        profile.enable()
        waits_in_turns(0)
        waits_in_turns(0)
        profile.disable()
        return stats_of(profile, __file__)

    seen = finish(async_def(inside))
    assert seen["waits_in_turns"].calls == seen["waits_in_turns"].outermost == 2


@needs_native_stacks
def test_functions_that_end_by_being_dropped() -> None:
    def drops() -> None:
        for _ in range(5):
            coroutine = async_def(waits_in_turns, 0)
            coroutine.send(None)
            del coroutine
            works()

    profile = cProfile.Profile()
    profile.runcall(drops)
    seen = stats_of(profile, __file__)
    assert seen["waits_in_turns"].calls == seen["waits_in_turns"].outermost == 5
    assert seen["works"].calls == seen["works"].callers["drops"] == 5


@needs_native_stacks
def test_the_command_of_the_standard_library(tmp_path: Path) -> None:
    """`python -m cProfile`, with a program that knows nothing of it."""
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "from verdigris import async_def, await_\n"
        "def leaf(n):\n"
        "    await_(asyncio.sleep(0))\n"
        "def top():\n"
        "    for n in range(7):\n"
        "        leaf(n)\n"
        "async def main():\n"
        "    await asyncio.gather(*[async_def(top) for _ in range(3)])\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "cProfile", "-s", "ncalls", str(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    calls = {
        line.rpartition("(")[2].rstrip(")"): line.split()[0]
        for line in done.stdout.splitlines()
        if "program.py:" in line
    }
    assert calls["leaf"] == "21"
    assert calls["top"] == "3"


@needs_native_stacks
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="a profile is of all threads from 3.12 on")
def test_each_thread_has_its_own_profile(plain: dict[str, Stat]) -> None:
    profiles = [cProfile.Profile() for _ in range(2)]
    started = threading.Barrier(2)

    def body(profile: cProfile.Profile) -> None:
        started.wait()
        profile.runcall(three)

    def three() -> None:
        coroutines = [async_def(waits_in_turns, 0) for _ in range(3)]
        for coroutine in coroutines:
            coroutine.send(None)
        for coroutine in coroutines:
            finish(coroutine)

    threads = [threading.Thread(target=body, args=[profile]) for profile in profiles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for profile in profiles:
        seen = stats_of(profile, __file__)
        assert seen["waits_in_turns"].calls == seen["waits_in_turns"].outermost == 3


@needs_native_stacks
def test_many_functions_in_random_order() -> None:
    chance = random.Random(5)

    def deep(depth: int) -> None:
        for _ in range(chance.randrange(3)):
            await_(suspend())
        if depth:
            deep(depth - 1)
            await_(async_def(shallow))

    def shallow() -> None:
        await_(suspend())

    def run_all() -> None:
        waiting = [async_def(deep, chance.randrange(4)) for _ in range(100)]
        while waiting:
            coroutine = waiting.pop(chance.randrange(len(waiting)))
            if chance.random() < 0.1:
                coroutine.close()
                continue
            try:
                coroutine.send(None)
            except StopIteration:
                continue
            waiting.append(coroutine)

    def driver() -> None:
        run_all()

    count = 0

    def counts(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code in (deep.__code__, shallow.__code__)

    sys.setprofile(counts)
    driver()
    sys.setprofile(None)
    chance.seed(5)
    profile = cProfile.Profile()
    profile.runcall(driver)
    seen = stats_of(profile, __file__)
    assert seen["deep"].calls + seen["shallow"].calls == count
    assert seen["deep"].own_time >= 0 and seen["shallow"].own_time >= 0
    assert seen["driver"].time >= seen["run_all"].time
