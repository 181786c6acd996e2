"""The benchmark of network clients: `make bench-net` runs this.

Libraries that were made for threads, with every peer side by side: threads, gevent, greenletio,
verdigris on three loops, and what one would write in async code instead. Each peer is a process of
its own, the servers are real. Prints a table; a run in full keeps its results in
`benchmarks/results/net.json`. Nothing here fails on a slow machine.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import os
from dataclasses import dataclass, field

import report
from measure import Settings
from net import peers, rows, servers, system_calls, turns
from results import Document, Section

ROUNDS = 5
# A quick look: the work divided by so much.
QUICK = 20
SYSTEM_CALLS = "system-calls"
ROWS = (*rows.SPEED, SYSTEM_CALLS)
DISTRIBUTIONS = ("verdigris", "gevent", "greenletio", "uvloop", "trio")


@dataclass(frozen=True)
class NetDocument(Document):
    """The results of this benchmark."""

    servers: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "net" if super().name == "latest" else f"net-{super().name}"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compares what runs client libraries that were made for threads."
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=ROWS,
        default=ROWS,
        metavar="ROW",
        help=f"only these rows: {', '.join(ROWS)}",
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=peers.NAMES,
        default=peers.NAMES,
        metavar="PEER",
        help=f"only these peers: {', '.join(peers.NAMES)}",
    )
    parser.add_argument("--rounds", type=_positive, default=ROUNDS)
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"one round with 1/{QUICK} of the work, to see that all of it runs",
    )
    parser.add_argument(
        "--system-calls",
        action="store_true",
        help=f"the row {SYSTEM_CALLS} alone: the system calls of one wait",
    )
    options = parser.parse_args()
    if options.system_calls:
        options.rows = [SYSTEM_CALLS]
    if options.quick:
        options.rounds = 1
    return options


def document(names: list[str], wanted: list[str], rounds: int) -> NetDocument:
    """The results, before there are any."""
    missing = {
        name: f"{module} is not installed"
        for name, module in peers.MODULES.items()
        if name in names and importlib.util.find_spec(module) is None
    }
    of_rows = [
        each for row in wanted if row in rows.SPEED for each in rows.SPEED[row].distributions
    ]
    versions = {}
    for distribution in (*DISTRIBUTIONS, *of_rows):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[distribution] = importlib.metadata.version(distribution)
    # A turn is a number of operations here, and not a time: Section.size.
    return NetDocument("asyncio", Settings(rounds, turn_ms=0), versions, missing)


def head(document: NetDocument, names: list[str]) -> str:
    """What the table is of."""
    versions = ", ".join(f"{name} {version}" for name, version in document.versions.items())
    of_servers = ", ".join(f"{name} {version}" for name, version in document.servers.items())
    lines = [
        f"{document.implementation} {document.python}, {document.system}, {document.processor}",
        versions,
        f"{document.settings.rounds} rounds, each peer once in each, in turns; medians. "
        "x: times as fast",
        f"{os.cpu_count()} CPUs for client and server together, on loopback: the servers "
        f"({of_servers or 'none'}) take up to one of them",
    ]
    lines += [f"{name}: {what}" for name, what in peers.WORKAROUNDS.items() if name in names]
    lines += [f"missing: {name} ({reason})" for name, reason in document.missing.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    options = parse_options()
    divisor = QUICK if options.quick else 1
    found = document(options.peers, options.rows, options.rounds)
    names = [name for name in options.peers if name not in found.missing]

    with contextlib.ExitStack() as stack:
        addresses: dict[str | None, str] = {None: "none"}
        left_out: dict[str, str] = {}
        for server in dict.fromkeys(
            rows.SPEED[row].server for row in options.rows if row in rows.SPEED
        ):
            if server is None:
                continue
            try:
                addresses[server] = stack.enter_context(servers.STARTS[server]())
                found.servers[server] = servers.VERSIONS[server]()
            except servers.NotInstalled as missing:
                left_out[server] = found.missing[server] = str(missing)
        print(head(found, names), flush=True)

        def add(section: Section) -> None:
            found.sections.append(section)
            print(report.section(section), flush=True)

        for name, row in rows.SPEED.items():
            if name not in options.rows:
                continue
            if row.server in left_out:
                print(f"{name}: left out, {left_out[row.server]}\n")
                continue
            add(turns.play(row, names, addresses[row.server], options.rounds, divisor))
        if SYSTEM_CALLS in options.rows:
            reason = system_calls.missing()
            if reason is not None:
                print(f"{SYSTEM_CALLS}: left out, {reason}\n")
            else:
                address = stack.enter_context(servers.answering())
                # The counts hardly differ from one round to the next.
                add(system_calls.count(names, address, 1, divisor))

    in_full = (
        set(options.rows) == set(ROWS)
        and set(options.peers) == set(peers.NAMES)
        and options.rounds == ROUNDS
    )
    if in_full:
        print(f"results: {found.write().name}")


if __name__ == "__main__":
    main()
