#!/usr/bin/env python3
"""CPython's own tests, with the green modules in place, in green functions.

    python conformance/run.py [--loop LOOP]... [--peers] [--ci] [FILE]...

Each test file runs in a process of its own, in each mode: unpatched, on verdigris over each loop
that is asked for, and with --peers on gevent and greenletio. A test that passes unpatched on this
machine and not in another mode counts against that mode. Results are kept in the cache and a run
that was stopped goes on where it was; they are dropped when the package, the worker or the peer has
changed.

After a run of all files the table of all versions that are kept is written to docs/conformance.md,
and all that is known to results.json in the cache.

The exit code is 1 if a test fails or hangs on verdigris that the list (`skips.py`) does not name.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import files
import modes
import one_file
import report
import skips
from one_file import Record, Run

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verdigris"
VERSION = "%d.%d" % sys.version_info[:2]  # noqa: UP031
PAGE = modes.CHECKOUT / "docs" / "conformance.md"
STORE = CACHE / "conformance" / VERSION


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="test_socket, ...; all if none")
    parser.add_argument(
        "--loop", action="append", choices=[*modes.LOOPS.values(), "all"], default=[],
        help="the loop that runs verdigris; asyncio if none is named",
    )  # fmt: skip
    parser.add_argument("--peers", action="store_true", help="gevent and greenletio too")
    parser.add_argument("--mode", action="append", choices=modes.MODES, default=[])
    parser.add_argument("--ci", action="store_true", help="a chosen part, without the slow files")
    parser.add_argument("--again", action="store_true", help="forget what is kept of these files")
    parser.add_argument("--listed", action="store_true", help="run the tests of the list as well")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one test")
    parser.add_argument("--only-report", action="store_true", help="run nothing")
    parser.add_argument("--store", type=Path, default=STORE, help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen_modes(options: argparse.Namespace) -> list[str]:
    if options.mode:
        return list(dict.fromkeys([modes.BASE, *options.mode]))
    loops = options.loop or ["asyncio"]
    wanted = [mode for mode, loop in modes.LOOPS.items() if "all" in loops or loop in loops]
    wanted += modes.PEERS if options.peers else ()
    for mode in wanted:
        if not modes.is_installed(mode):
            sys.exit(f"conformance: {modes.needs(mode)} is not installed here")
    return [modes.BASE, *wanted]


class Progress:
    """A line that says how far it is, on a terminal; elsewhere one line for each file."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.running: list[str] = []
        self.lock = threading.Lock()
        self.on_terminal = sys.stdout.isatty()

    @contextlib.contextmanager
    def of(self, name: str):
        with self.lock:
            self.running.append(name)
            self._show()
        yield
        with self.lock:
            self.running.remove(name)
            self.done += 1
            self._show()

    def say(self, text: str) -> None:
        with self.lock:
            print(("\r\033[K" if self.on_terminal else "") + text, flush=True)
            self._show()

    def _show(self) -> None:
        if self.on_terminal:
            line = f"{self.done}/{self.total}  {', '.join(self.running)}"
            print(f"\r\033[K{line[:100]}", end="", flush=True)


def stop(number: int, frame: object) -> None:
    """Stops at once. What is done is kept."""
    one_file.kill_all()
    os._exit(128 + number)


def show(mode: str, base: Record, record: Record) -> int:
    """Prints what fails and is not listed, and what is listed and passes. Gives their number."""
    bad = 0
    for one, outcome in report.against(base, record, VERSION, mode).items():
        listed = skips.listed(one, VERSION, mode)
        if listed is None and outcome.status in ("failed", "hung"):
            print(f"\n{outcome.status} on {mode}: {one}\n{outcome.text[-1500:]}")
            bad += 1
        elif listed is not None and outcome.status == "passed":
            print(f"\nlisted, and passes on {mode}: {one}")
    return bad


def main() -> int:
    options = arguments()
    # In the background of a shell SIGINT is ignored, and so would be the tests' own.
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if options.only_report:
        report.write(CACHE / "conformance", PAGE)
        return 0
    names = options.files or list(files.CI if options.ci else files.FILES)
    unknown = [name for name in names if name.partition(".")[0] not in files.FILES]
    if unknown:
        sys.exit(f"conformance: it does not run {', '.join(unknown)}")
    modules = files.modules(names)
    wanted = chosen_modes(options)
    prints = {mode: modes.fingerprint(mode) for mode in wanted}
    progress = Progress(len(modules) * len(wanted))
    records: dict[tuple[str, str], Record] = {}

    def run(module: str) -> None:
        # Unpatched first: what does not pass there says nothing of the other modes.
        for mode in wanted:
            base = records[modes.BASE, module].outcomes if mode != modes.BASE else {}
            skip = {one for one, outcome in base.items() if outcome.status != "passed"}
            if mode in modes.LOOPS and not options.listed:
                skip |= {one for one in base if skips.listed(one, VERSION, mode)}
            one = Run(mode, module, options.store, options.limit, skip, prints[mode])
            if options.again and mode != modes.BASE:
                one.path.unlink(missing_ok=True)
            with progress.of(f"{module} {mode}"):
                started = time.monotonic()
                records[mode, module] = one.to_end()
                seconds = time.monotonic() - started
            counts = report.count(records[mode, module].outcomes.values())
            progress.say(f"{mode:18} {module:32} {counts}  {seconds:.0f} s")

    with ThreadPoolExecutor(options.jobs) as pool:
        for done in [pool.submit(run, module) for module in modules]:
            done.result()
    bad = 0
    for (mode, module), record in records.items():
        if mode in modes.LOOPS:
            bad += show(mode, records[modes.BASE, module], record)
    if not options.ci and not options.files:
        report.write(CACHE / "conformance", PAGE)
    print(f"\n{bad} tests fail or hang that the list does not name")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
