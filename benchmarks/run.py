"""The benchmark: every peer side by side. `make bench` runs this.

Prints a table. A run in full also keeps its results in `benchmarks/results` (`latest.json` on the
version that the targets were set on, `cpython-X.Y.Z.json` on others) and draws the plot that the
README shows. Nothing here fails on a slow machine: targets are reported, not asserted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import event_loop
import memory
import peers
import plot
import report
import results
from measure import NATIVE, Case, Settings, time_case
from rows import (
    await_nothing,
    burst,
    c_depth,
    enter,
    layers,
    loop_step,
    nested,
    portal_await,
    portal_ensure,
    portal_idle,
    portal_native_step,
    portal_step,
    sqlalchemy_patched,
    suspended,
    with_greenlet,
)

PLOT = Path(__file__).resolve().parent.parent / "docs" / "benchmark.svg"

TIMED_ROWS: dict[str, Callable[[list[peers.Peer]], list[Case]]] = {
    "await": await_nothing.cases,
    "step": loop_step.cases,
    "enter": enter.cases,
    "c-depth": c_depth.cases,
    "layers": layers.cases,
    "nested": nested.cases,
    "greenlet": with_greenlet.cases,
    "sqlalchemy": sqlalchemy_patched.cases,
    # Before the rows that run on Trio too: beside Trio there is one more loop to ask for.
    "portal-ensure": portal_ensure.cases,
    "portal-await": portal_await.cases,
    "portal-native-step": portal_native_step.cases,
    "portal-step": portal_step.cases,
}
MEMORY_ROWS = ("suspended", "burst", "portal-idle")
CROWD = 100_000
ROWS = (*TIMED_ROWS, *MEMORY_ROWS)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares verdigris with its peers.")
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=ROWS,
        default=ROWS,
        metavar="ROW",
        help=f"only these rows: {', '.join(ROWS)}",
    )
    parser.add_argument("--loop", choices=event_loop.NAMES, default=event_loop.ASYNCIO)
    parser.add_argument("--rounds", type=_positive, default=Settings.rounds)
    parser.add_argument(
        "--turn-ms",
        type=_positive,
        default=Settings.turn_ms,
        help="how long a contender works in each round",
    )
    parser.add_argument(
        "--crowd",
        type=_positive,
        default=CROWD,
        help="how many functions or tasks the memory rows suspend",
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the README's table of times at the end"
    )
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    settings = Settings(options.rounds, options.turn_ms)
    found, missing = peers.load_all()
    document = results.document(options.loop, settings, found, missing)
    print(report.head(document), flush=True)
    if not event_loop.has_trio():
        print("Trio is not installed: what the portal rows do on it is left out\n")

    def add(section: results.Section) -> None:
        document.sections.append(section)
        print(report.section(section), flush=True)

    for row, cases in TIMED_ROWS.items():
        if row in options.rows:
            for case in cases(found):
                loop = case.loop or options.loop
                add(results.of_timings(event_loop.run(time_case(case, settings), loop)))

    contenders = [NATIVE, *(peer.name for peer in found)]
    wanted = [row for row in MEMORY_ROWS if row in options.rows]
    if wanted and not memory.can_read():
        print(f"{', '.join(wanted)}: left out, {memory.ROLLUP} is not to be read here")
        wanted = []
    if "suspended" in wanted:
        add(results.of_suspended(suspended.measure(contenders, options.crowd, options.loop)))
    if "burst" in wanted:
        for section in results.of_bursts(burst.measure(contenders, options.crowd, options.loop)):
            add(section)
    if "portal-idle" in wanted:
        with_portals = [NATIVE, *(peer.name for peer, _ in peers.with_portals(found))]
        add(results.of_idle(portal_idle.measure(with_portals, options.crowd, options.loop)))

    print(report.summary(document))
    if options.markdown:
        print(f"\n{report.markdown(document)}")
    measured_in_full = (
        set(options.rows) == set(ROWS) and settings == Settings() and options.crowd == CROWD
    )
    if measured_in_full and peers.OURS in document.versions:
        print(f"results: {document.write().name}")
        if document.name == "latest":
            PLOT.write_text(plot.draw(document))
            print(f"plot: {PLOT.name}")


if __name__ == "__main__":
    main()
