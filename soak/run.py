"""`make soak`: random programs on every loop, for minutes or for hours, and a table at the end.

    soak/run.py [--minutes M] [--seed S] [--loop LOOP]... [--engine ENGINE] [--cells "3.11 3.14d"]

Each round is a process of its own: its crash, or its hang, ends nothing else, and is told with the
command that runs it again. The minutes are those of the whole, shared by all rounds, of which some
run at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cells import Cell, find, this_one
from report import Result, table

LOOPS = ["asyncio", "uvloop", "trio"]
#: A round lives long enough for growth to be seen, and ends so that others begin.
LONGEST_ROUND = 300.0
#: Between the first seeds of two rounds; none comes to so many programs.
SEEDS_APART = 1_000_000
#: Seconds without the end of a program, after which a round is given up.
PATIENCE, PATIENCE_SLOW = 60, 240


def one_round(cell: Cell, loop: str, seed: int, seconds: float, more: list[str]) -> Result:
    """Runs one, and gives how it ended."""
    arguments = ["--loop", loop, "--seed", str(seed), "--seconds", f"{seconds:.0f}"]
    arguments += ["--patience", str(PATIENCE_SLOW if cell.slow else PATIENCE), *more]
    command = cell.start(arguments)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": package_path(cell)},
        process_group=0,
    )
    try:
        # The watchdog inside comes first, unless the process is past all help.
        output, errors = child.communicate(timeout=seconds + 600)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, errors = child.communicate()
    result = Result(cell.name, cell.engine, loop, child.returncode, output, shlex.join(command))
    print(f"soak: {result.line()}", flush=True)
    if not result.passed:
        print(f"{errors}\nsoak: the whole round again:\n  {result.again}", flush=True)
    return result


def package_path(cell: Cell) -> str:
    """Where a round finds the package: where this program does, or as its cell has it installed."""
    if Path(sys.executable) != Path(cell.command[2]):
        return ""
    found = importlib.util.find_spec("verdigris")
    assert found is not None and found.origin is not None, "build verdigris first: make build"
    return str(Path(found.origin).parent.parent)


def plan(cells: list[Cell], loops: list[str], minutes: float, at_once: int) -> tuple[int, float]:
    """How many times every cell gets every loop, and how many seconds a round has."""
    share = minutes * 60 * at_once / (len(cells) * len(loops))
    times = max(1, round(share / LONGEST_ROUND))
    return times, share / times


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3, help="of the whole")
    parser.add_argument("--seed", type=int, help="of the first round; else by the clock")
    parser.add_argument("--loop", action="append", choices=LOOPS, help="else all of them")
    parser.add_argument(
        "--engine", choices=["native", "greenlet"], default="", help="of this Python"
    )
    parser.add_argument("--cells", default="", help="of the matrix, with spaces between them")
    parser.add_argument("--at-once", type=int, default=2, help="rounds at once")
    parser.add_argument("--operations", help="these kinds only, with commas between them")
    parser.add_argument("--defect", help="put one in (soak/defects.py)")
    return parser


def main() -> int:
    options = arguments().parse_args()
    cells = [find(name) for name in options.cells.split()] or [this_one(options.engine)]
    loops = options.loop or LOOPS
    seed = int(time.time()) if options.seed is None else options.seed
    times, seconds = plan(cells, loops, options.minutes, options.at_once)
    rounds = [(cell, loop) for _ in range(times) for loop in loops for cell in cells]
    print(f"soak: {len(rounds)} rounds of {seconds:.0f} s, from seed {seed} on", flush=True)
    more = ["--only", options.operations] if options.operations else []
    more += ["--defect", options.defect] if options.defect else []
    seeds = itertools.count(seed, SEEDS_APART)
    taken = threading.Lock()

    def run(what: tuple[Cell, str]) -> Result:
        with taken:
            first = next(seeds)
        return one_round(*what, first, seconds, more)

    with ThreadPoolExecutor(options.at_once) as pool:
        results = list(pool.map(run, rounds))
    print(f"\n{table(results)}")
    failed = [result for result in results if not result.passed]
    print(f"soak: {len(failed)} of {len(results)} rounds failed" if failed else "soak: clean")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
