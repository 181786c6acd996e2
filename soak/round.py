"""A round: one process, one loop, thousands of programs, one after another and many at once.

Started by run.py, or by hand to run a failing seed again. The last line of its output is a JSON
object with the figures.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import gc
import itertools
import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import memory
from defects import DEFECTS
from loops import LOOPS
from model import Model
from operations import signals
from program import program
from watchdog import Watchdog
from world import GARBAGE, Program, World

from verdigris import _which_engine, spawn

#: Programs at once, and programs in one run of the loop.
AT_ONCE = 8
IN_A_RUN = 25
#: Each runs several times at once: what one costs to draw and to work out is shared.
COPIES = 4
SECONDS_BETWEEN_SAMPLES = 0.5


class Mismatch(Exception):
    """A program did not do what the model says."""


#: A round in which memory grew goes on until it is that many times as long.
LONGER = 2.5


class Round:
    """Runs programs, and keeps the figures."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.loop = LOOPS[options.loop]()
        self.kinds = frozenset(options.only.split(",")) if options.only else None
        self.running: dict[int, float] = {}
        self.programs = self.operations = 0
        self.wrong: list[tuple[int, str]] = []
        self.watchdog = Watchdog(options.patience, self.what_runs)

    def what_runs(self) -> str:
        seeds = sorted(self.running, key=self.running.__getitem__)
        return f"soak: these seeds had begun, the oldest first: {seeds}"

    def run(self) -> list[memory.Sample]:
        """All runs of the loop; gives the samples of memory."""
        samples: list[memory.Sample] = []
        started = time.monotonic()
        next_sample = 0.0
        seeds = itertools.count(self.options.seed)
        left = self.options.programs or sys.maxsize
        seconds = self.options.seconds
        while left > 0 and not self.wrong:
            count = min(IN_A_RUN, left)
            left -= count
            self.loop.run(self.main, iter(list(itertools.islice(seeds, count))))
            now = time.monotonic() - started
            if now >= next_sample:
                samples.append(memory.sample())
                next_sample = time.monotonic() - started + SECONDS_BETWEEN_SAMPLES
                if not self.dropped_functions_end():
                    lost = GARBAGE.dropped - GARBAGE.ended
                    self.wrong.append((self.options.seed, f"{lost} dropped functions never ended"))
                # Not flat, but lost for ever: no need to go on.
                if samples[-1].stacks_in_use:
                    break
            if now < seconds or self.options.programs:
                continue
            # What grows may be a long warm-up. That ends; a leak goes on.
            if seconds > self.options.seconds or not memory.grew(samples, self.operations):
                break
            seconds *= LONGER
        samples.append(memory.sample())
        return samples

    def dropped_functions_end(self) -> bool:
        """Whether each function that was dropped in a cycle has ended, or does so now.

        One collection need not be enough: another thread may be in the middle of one, and what it
        finds is ended by the thread that the function is of, when it comes by.
        """
        for _ in range(100):
            if GARBAGE.ended == GARBAGE.dropped:
                return True
            time.sleep(0.01)
            gc.collect()
            self.loop.run(self.main, iter(()))
        return False

    async def main(self, seeds: Iterator[int]) -> None:
        async def worker() -> None:
            for seed in seeds:
                if self.wrong:
                    return
                self.running[seed] = time.monotonic()
                await self.one(seed)
                del self.running[seed]
                self.watchdog.alive()

        await self.loop.in_tasks(*[worker] * AT_ONCE)

    async def one(self, seed: int) -> None:
        nodes = program(seed, self.kinds)
        model = Model()
        expected = [model.outcome(nodes), model.background]

        copies = [Program(seed) for _ in range(COPIES)]
        # Each in a context of its own, empty as that of this task.
        tasks = [spawn(World(self.loop, copy).outcome, nodes) for copy in copies]
        for copy, task in zip(copies, tasks, strict=True):
            try:
                outcome = await task
                while copy.handles:
                    await copy.handles.pop()
            except Exception as error:
                traceback.print_exc()
                self.wrong.append((seed, f"{type(error).__name__}: {error}"))
                continue
            seen = [outcome, in_order_of(model.background, copy.background)]
            if expected != seen:
                self.wrong.append((seed, difference(expected, seen)))
            self.programs += 1
            self.operations += copy.operations


def in_order_of(expected: list[Any], seen: list[Any]) -> list[Any]:
    """What tasks that were left alone came to, in the order of the model.

    They end in any order, and a node in a loop starts several. So each that is expected takes the
    first that is equal; what nobody takes stands at the end.
    """
    left = list(seen)
    taken = [left.pop(left.index(want)) for want in expected if want in left]
    return taken + left


def difference(expected: Any, seen: Any, where: str = "") -> str:
    """Where two trails part, and what stands there."""
    if isinstance(expected, (list, tuple)) and type(expected) is type(seen):
        for index, (want, got) in enumerate(zip(expected, seen, strict=False)):
            if want != got:
                return difference(want, got, f"{where}[{index}]")
        if len(expected) != len(seen):
            return f"at {where}: {len(seen)} items instead of {len(expected)}: {seen[-3:]}"
    return f"at {where}: expected {expected!r}, seen {seen!r}"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first program")
    parser.add_argument("--programs", type=int, default=0, help="how many; else as time allows")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--loop", choices=list(LOOPS), default="asyncio")
    parser.add_argument("--only", help="kinds of operations, with commas between them")
    parser.add_argument("--patience", type=float, default=60, help="seconds, for the watchdog")
    parser.add_argument("--defect", choices=list(DEFECTS), help="put one in")
    parser.add_argument("--show", action="store_true", help="print the program, and stop")
    return parser


def note_unraisable(noted: list[str], error: sys.UnraisableHookArgs) -> None:
    """Notes what nobody could catch; but for a signal while Trio ends a run.

    Trio closes the sockets that wake it before it tells the interpreter.
    """
    # CPython names no object then, and some versions print the message apart.
    if not (isinstance(error.exc_value, OSError) and error.object is None):
        noted.append(f"{error.exc_value!r} in {error.object!r}, {error.err_msg}")


def main() -> int:
    faulthandler.enable()
    # What nobody retrieves, and what comes out of finalizers, is an error of the round.
    warnings.simplefilter("error")
    logging.basicConfig(level=logging.WARNING)
    options = arguments().parse_args()
    if options.show:
        print("\n".join(line for node in program(options.seed) for line in node.lines()))
        return 0
    unraisable: list[str] = []
    sys.unraisablehook = functools.partial(note_unraisable, unraisable)
    if options.defect:
        DEFECTS[options.defect]()
    signals.install()

    # What is there before is not looked at again, nor counted.
    gc.collect()
    gc.freeze()
    round_ = Round(options)
    started = time.monotonic()
    samples = round_.run()
    seconds = time.monotonic() - started
    signals.stop()

    complaints = [f"unraisable: {text}" for text in unraisable[:5]] + memory.complaints(
        samples, round_.operations
    )
    for seed, text in round_.wrong:
        complaints.append(f"seed {seed}: {text}")
        again = f"{sys.executable} {sys.argv[0]} --loop {options.loop} --seed {seed} --programs 1"
        engine = f"VERDIGRIS_ENGINE={os.environ.get('VERDIGRIS_ENGINE', '')}"
        print(f"soak: to run it again alone:\n  {engine} {again}", file=sys.stderr)
    for complaint in complaints:
        print(f"soak: {complaint}", file=sys.stderr)
    figures = {
        "seed": options.seed,
        "programs": round_.programs,
        "operations": round_.operations,
        "seconds": round(seconds, 1),
        "engine": _which_engine.name,
        "complaints": complaints,
        "first": asdict(samples[0]),
        "last": asdict(samples[-1]),
        "resident_mib": [sample.resident >> 20 for sample in samples[:: len(samples) // 20 or 1]],
        "growth": memory.growth(samples),
    }
    print(json.dumps(figures))
    sys.stdout.flush()
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
