"""Runs the probes of one program, and prints what was found, a line of JSON for each check.

    python -m libraries.run MODE MODULE [CHECK]...

MODE is the name of a loop, or "threads": OS threads, and nothing is green, which checks the probes
and the servers. The checks that are named are left out. Each is announced before it begins, so that
whoever reads the lines knows which one hung or crashed.
"""

from __future__ import annotations

import sys

from libraries.make_green import make_green

if __name__ == "__main__" and sys.argv[1] != "threads":
    make_green()  # before anything else is imported

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import threading
import time
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from conftest import LOOPS, Loop

from libraries.probe import SLOW_SECONDS, Probe, probes
from verdigris import _engine, async_def

# Nothing here takes a tenth of it.
SECONDS_FOR_A_CHECK = 25

# A loop that is blocked doesn't come to its deadline: every thread is shown, and the process ends.
SECONDS_UNTIL_DUMP = 35

HEARTBEAT = 0.005
# A debug build takes several times as long for the same turn of the loop.
LONGEST_GAP = 0.15 if hasattr(sys, "gettotalrefcount") else 0.05
AT_ONCE = 3

# Three one after another would take 0.9 s.
LONGEST_AT_ONCE = 0.75

# The machine that tests run on may be busy with others.
TRIES = 3


class Failed(Exception):
    """A check found something wrong."""


# --- what nobody raises ------------------------------------------------------

complaints: list[str] = []


def listen_to_complaints() -> None:
    """Collects what is only told on stderr otherwise: unclosed sockets, errors in threads."""

    def unraisable(what: Any) -> None:
        complaints.append(f"unraisable: {what.exc_value!r} in {what.object!r}")

    def in_thread(what: Any) -> None:
        if what.exc_type is not SystemExit:
            complaints.append(f"thread {what.thread} ended with {what.exc_value!r}")

    def warned(message: Any, category: Any, *_: Any, **__: Any) -> None:
        if issubclass(category, (ResourceWarning, RuntimeWarning)):
            complaints.append(f"{category.__name__}: {message}")

    sys.unraisablehook = unraisable
    threading.excepthook = in_thread
    warnings.simplefilter("always", ResourceWarning)
    warnings.showwarning = warned


def raise_complaints() -> None:
    gc.collect()
    if complaints:
        said = "; ".join(complaints)
        complaints.clear()
        raise Failed(said)


# --- on a loop ---------------------------------------------------------------


class Heartbeat:
    """A task that wakes every 5 ms. `gap` is the longest that it could not.

    What the thread waited for a processor, which others had, is not the program's, and left out.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.gap = 0.0
        self.stopped = False

    async def beat(self) -> None:
        with processor_waits() as waited:
            last = time.perf_counter() - waited()
            while not self.stopped:
                await self.loop.sleep(HEARTBEAT)
                now = time.perf_counter() - waited()
                self.gap = max(self.gap, now - last)
                last = now


@contextlib.contextmanager
def processor_waits() -> Iterator[Callable[[], float]]:
    """Gives the seconds that this thread was ready to run and did not, as Linux counts them."""
    try:
        file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except FileNotFoundError:
        yield lambda: 0.0
        return
    try:
        yield lambda: int(os.pread(file, 100, 0).split()[1]) / 1e9
    finally:
        os.close(file)


class OnLoop:
    """The checks of a probe that runs in green functions on a loop."""

    def __init__(self, name: str) -> None:
        self.loop = LOOPS[name]()

    def checks(self, probe: Probe) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        yield "right", lambda: self.right(probe)
        if probe.slow:
            yield "at once", lambda: self.at_once(probe)
            yield "cancelled", lambda: self.cancelled(probe)

    def perform(self, check: Callable[[], Awaitable[None]]) -> None:
        async def body() -> None:
            if self.loop.name != "trio":
                import asyncio

                asyncio.get_running_loop().set_exception_handler(
                    lambda _, context: complaints.append(f"loop: {context}")
                )
            async with self.loop.deadline(SECONDS_FOR_A_CHECK):
                await check()

        self.loop.run(body)

    async def once(self, probe: Probe, times: int = 1) -> tuple[float, float]:
        """How long the probe takes, and the loop's longest gap."""
        heartbeat = Heartbeat(self.loop)
        gc.collect()
        async with self.loop.tasks() as start:
            start(heartbeat.beat)
            await self.loop.sleep(2 * HEARTBEAT)
            heartbeat.gap = 0.0
            started = time.perf_counter()
            try:
                runs = [start(async_def, probe) for _ in range(times)]
                outcomes = [await run.wait() for run in runs]
                took = time.perf_counter() - started
            finally:
                heartbeat.stopped = True
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
            if outcome.cancelled:
                raise Failed("was cancelled by itself")
        raise_complaints()
        return took, heartbeat.gap

    async def right(self, probe: Probe) -> None:
        """The right end, after which nothing is left, and the loop ran all the time."""
        before = _engine.stats()["stacks_in_use"]
        await self.once(probe)  # not counted: libraries import on the first call
        gaps = []
        for _ in range(TRIES):
            gaps.append((await self.once(probe))[1])
            if gaps[-1] <= LONGEST_GAP:
                break
        else:
            raise Failed(f"the loop was blocked {min(gaps) * 1000:.0f} ms")
        await self.stacks_back(before)

    async def at_once(self, probe: Probe) -> None:
        """Several wait at the same time."""
        found = []
        for _ in range(TRIES):
            found.append(await self.once(probe, AT_ONCE))
            if found[-1][0] <= LONGEST_AT_ONCE and found[-1][1] <= LONGEST_GAP:
                return
        took, gap = (min(values) for values in zip(*found, strict=True))
        raise Failed(
            f"{AT_ONCE} at once took {took:.2f} s, the loop was blocked {gap * 1000:.0f} ms"
        )

    async def cancelled(self, probe: Probe) -> None:
        """Cancelled half way it stops, gives its stack back, and the next call is right."""
        before = _engine.stats()["stacks_in_use"]
        async with self.loop.tasks() as start:
            run = start(async_def, probe)
            await self.loop.sleep(SLOW_SECONDS / 2)
            run.cancel()
            outcome = await run.wait()
        if outcome.error is not None:
            raise outcome.error
        if not outcome.cancelled:
            raise Failed("went on when it was cancelled")
        await self.stacks_back(before)
        raise_complaints()
        await self.once(probe)

    async def stacks_back(self, before: int) -> None:
        # Green threads that were told to end take a moment.
        for _ in range(100):
            if _engine.stats()["stacks_in_use"] <= before:
                return
            await self.loop.sleep(0.02)
        raise Failed(f"{_engine.stats()['stacks_in_use'] - before} stacks are still in use")


# --- on threads --------------------------------------------------------------


class OnThreads:
    """The same where everything is the stdlib's: what fails here is the probe's or a server's."""

    def checks(self, probe: Probe) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "right", lambda: self.right(probe)
        if probe.slow:
            yield "at once", lambda: self.at_once(probe)

    def perform(self, check: Callable[[], None]) -> None:
        check()
        raise_complaints()

    def run(self, probe: Probe, times: int = 1) -> float:
        errors: list[BaseException] = []

        def body() -> None:
            try:
                probe()
            except BaseException as error:
                errors.append(error)

        started = time.perf_counter()
        threads = [threading.Thread(target=body) for _ in range(times)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return time.perf_counter() - started

    def right(self, probe: Probe) -> None:
        self.run(probe)

    def at_once(self, probe: Probe) -> None:
        found = []
        for _ in range(TRIES):
            found.append(self.run(probe, AT_ONCE))
            if found[-1] <= LONGEST_AT_ONCE:
                return
        raise Failed(f"{AT_ONCE} at once took {min(found):.2f} s")


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def main(mode: str, module: str, *left_out: str) -> None:
    faulthandler.enable()
    runner: Any = OnThreads() if mode == "threads" else OnLoop(mode)
    listen_to_complaints()
    importlib.import_module(f"libraries.programs.{module}")
    gc.freeze()  # what is imported is not looked at by each collection
    for probe in probes:
        for name, check in runner.checks(probe):
            title = f"{probe.name}: {name}"
            if title in left_out:
                continue
            say(began=title)
            faulthandler.dump_traceback_later(SECONDS_UNTIL_DUMP, exit=True)
            wrong = None
            started = time.monotonic()
            try:
                runner.perform(check)
            except BaseException as error:
                wrong = str(error)
                if not isinstance(error, Failed):
                    wrong = repr(error)
                    print(f"--- {title}\n{traceback.format_exc()}", file=sys.stderr)
                if time.monotonic() - started >= SECONDS_FOR_A_CHECK:
                    wrong = f"hangs ({wrong})"
            complaints.clear()
            faulthandler.cancel_dump_traceback_later()
            say(ended=title, wrong=wrong)
    say(finished=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
