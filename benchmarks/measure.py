"""Timing contenders against each other on a noisy machine.

All contenders of a case run in one process, in one event loop, in turns:

    round 0:   native   verdigris   awaitlet   greenback
    round 1:   verdigris   awaitlet   greenback   native       (the start moves on)
    ...

A turn takes `Settings.turn_ms`, so a slow minute of the machine falls on all of them alike. A
figure is the median over the rounds; a ratio is the median of the ratios within each round, which
is steadier than the ratio of two medians. The cyclic garbage collector runs before each turn and
stays enabled in it, as in the programs that the figures are about.
"""

from __future__ import annotations

import gc
import statistics
import types
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import event_loop

# Does its work the given number of times and returns the nanoseconds that took.
Timed = Callable[[int], Coroutine[Any, Any, int]]
Function = TypeVar("Function", bound=Callable[..., Any])

NATIVE = "native"


@dataclass(frozen=True)
class Settings:
    rounds: int = 15
    turn_ms: float = 50.0


@dataclass(frozen=True)
class Target:
    """What the ratio of two contenders must reach.

    `of` may take "at most" `limit` times as long as `against`, or must be "at least" `limit`
    times faster.
    """

    of: str
    against: str
    bound: Literal["at most", "at least"]
    limit: float

    def is_met(self, reached: float) -> bool:
        return reached <= self.limit if self.bound == "at most" else reached >= self.limit

    def __str__(self) -> str:
        if self.bound == "at most":
            return f"<= {self.limit:g} x {self.against}"
        return f">= {self.limit:g} x faster than {self.against}"


@dataclass(frozen=True)
class Contender:
    name: str
    timed: Timed


@dataclass(frozen=True)
class Case:
    """One comparison: contenders that do the same work, and what is asked of them."""

    row: str
    title: str
    contenders: list[Contender]
    baseline: str = NATIVE
    targets: list[Target] = field(default_factory=list)
    size: int | None = None  # what the cases of a row differ in, where that is a number
    loop: str | None = None  # where it must run; None where the run is


@dataclass(frozen=True)
class Timings:
    """Nanoseconds of one piece of work, by contender and round."""

    case: Case
    rounds: dict[str, list[float]]
    failures: dict[str, str]

    def median(self, name: str) -> float:
        return statistics.median(self.rounds[name])

    def ratio(self, name: str, against: str) -> float | None:
        """How many times as long as `against` this contender takes; None if one is missing."""
        if name not in self.rounds or against not in self.rounds:
            return None
        pairs = zip(self.rounds[name], self.rounds[against], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def reached(self, target: Target) -> float | None:
        """The figure to hold against `target.limit`; None if a contender is missing."""
        if target.bound == "at most":
            return self.ratio(target.of, target.against)
        return self.ratio(target.against, target.of)


def with_own_code(function: Function) -> Function:
    """A copy of `function` that shares no code object with its siblings.

    Since 3.11 the interpreter specialises bytecode in place. Closures made by one factory share
    their code, so the peers would take turns at spoiling each other's specialised calls.
    """
    assert isinstance(function, types.FunctionType)
    copy = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    return copy  # type: ignore[return-value]


async def _turn(contender: Contender, count: int) -> int:
    gc.collect()
    # A task of its own: some peers change the task that they have run in.
    return await event_loop.in_new_task(contender.timed, count)


async def _count_that_fills(contender: Contender, turn_ns: float) -> int:
    """How often the contender does its work in one turn. Warms it up on the way."""
    count = 1
    while (elapsed := await _turn(contender, count)) < turn_ns / 5:
        count *= 4 if elapsed < turn_ns / 50 else 2
    return max(1, round(count * turn_ns / elapsed))


async def time_case(case: Case, settings: Settings) -> Timings:
    turn_ns = settings.turn_ms * 1e6
    counts: dict[str, int] = {}
    failures: dict[str, str] = {}
    for contender in case.contenders:
        try:
            counts[contender.name] = await _count_that_fills(contender, turn_ns)
        except Exception as error:  # a peer may not support the work: the table names its reason
            failures[contender.name] = f"{type(error).__name__}: {error}"

    running = [contender for contender in case.contenders if contender.name in counts]
    rounds: dict[str, list[float]] = {contender.name: [] for contender in running}
    for number in range(settings.rounds):
        start = number % max(1, len(running))
        for contender in running[start:] + running[:start]:
            count = counts[contender.name]
            rounds[contender.name].append(await _turn(contender, count) / count)
    return Timings(case, rounds, failures)
