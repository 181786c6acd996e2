"""A row in rounds: in each round every peer has its turn once, in a process of its own.

A turn is a fixed number of operations, timed in the client from when all workers are connected.
Ratios are of speeds within a round, so that a slow minute of the machine falls on both.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import memory
from measure import Case, Timings
from memory import Figures, SceneFailed
from results import Line, Section

from net import peers
from net.row import Row

CLIENT = str(Path(__file__).resolve().parent.parent / "net_client.py")
# A turn takes a few; a peer that has lost a wake-up would take for ever.
SECONDS_LIMIT = 30
# What the ratios are to.
BASELINES = {"x_threads": peers.THREADS, "x_gevent": peers.GEVENT}


def command(row: Row, peer: str, address: str, count: int, workers: int) -> list[str]:
    """What starts the client."""
    return [sys.executable, CLIENT, row.name, peer, address, str(count), str(workers)]


def in_rounds(
    names: list[str], rounds: int, turn: Callable[[str], Figures]
) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    """Lets each peer have its turn in each round. The start moves on.

    Returns:
        The figures of those that could do it every time, and the reasons of the others.
    """
    taken: dict[str, list[Figures]] = {name: [] for name in names}
    failures: dict[str, str] = {}
    for number in range(rounds):
        start = number % max(1, len(names))
        for name in names[start:] + names[:start]:
            if name in failures:
                continue
            try:
                taken[name].append(turn(name))
            except SceneFailed as failed:
                failures[name] = str(failed)
                del taken[name]
    return taken, failures


def play(row: Row, names: list[str], address: str, rounds: int, divisor: int) -> Section:
    """Plays one row, with its count divided."""
    count, workers = row.scaled(divisor)
    taken, failures = in_rounds(
        [name for name in names if name not in row.cannot],
        rounds,
        lambda name: memory.of_process(command(row, name, address, count, workers), SECONDS_LIMIT),
    )
    failures |= {name: row.cannot[name] for name in names if name in row.cannot}
    title = f"{count:,} x {row.title}, {workers:,} workers; {peers.NATIVE} is {row.native_name}"
    # Nanoseconds of one operation, as in the other benchmark.
    spent = {name: [each["seconds"] * 1e9 / count for each in of] for name, of in taken.items()}
    timings = Timings(Case(row.name, title, []), spent, failures)
    lines = []
    for name, figures in taken.items():
        values = {"per_second": 1e9 / timings.median(name)}
        if row.shows == "time":
            values = {"seconds": statistics.median(each["seconds"] for each in figures)}
        for key, baseline in BASELINES.items():
            ratio = timings.ratio(baseline, name)
            if ratio is not None and name != baseline:
                values[key] = ratio
        # Where the servers have too little of the machine the rate is theirs, and this is not.
        values["cpu_each"] = statistics.median(
            each["cpu_seconds"] * 1e9 / count for each in figures
        )
        for key in ("peak_bytes", "more_peak_bytes"):
            values[key] = statistics.median(each[key] for each in figures)
        lines.append(Line(name, values))
    return Section(row.name, title, lines, [], failures, count)
