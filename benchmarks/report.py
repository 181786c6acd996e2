"""The results as a table to read in a terminal."""

from __future__ import annotations

from collections.abc import Callable

from measure import NATIVE
from peers import DROP_IN, OURS
from results import Document, Section

NAME_WIDTH = 22
CELL_WIDTH = 17

Format = Callable[[float], str]
# How a value is shown, by its key. The order is that of the columns.
FORMATS: dict[str, tuple[str, Format]] = {
    "per_second": ("a second", lambda rate: f"{rate:,.0f}"),
    "seconds": ("time", lambda seconds: f"{seconds:.2f} s"),
    "x_threads": ("x threads", lambda ratio: f"{ratio:.2f} x"),
    "x_gevent": ("x gevent", lambda ratio: f"{ratio:.2f} x"),
    "cpu_each": ("client's CPU", lambda ns: f"{ns / 1000:,.1f} us"),
    "ns": ("median", lambda ns: f"{ns:,.0f} ns"),
    "ratio": ("to baseline", lambda ratio: f"{ratio:.2f} x"),
    "bytes_each": ("RSS each", lambda size: f"{size / 1024:.2f} KiB"),
    "more_bytes_each": ("RSS more", lambda size: f"{size:,.0f} B"),
    "traced_bytes_each": ("traced each", lambda size: f"{size / 1024:.2f} KiB"),
    "more_traced_bytes_each": ("traced more", lambda size: f"{size:,.0f} B"),
    "page_table_bytes_each": ("page tables each", lambda size: f"{size / 1024:.2f} KiB"),
    "start_seconds": ("start all", lambda seconds: f"{seconds:.2f} s"),
    "finish_seconds": ("finish all", lambda seconds: f"{seconds:.2f} s"),
    "before_bytes": ("before", lambda size: f"{size / 2**20:.1f} MiB"),
    "peak_bytes": ("peak", lambda size: f"{size / 2**20:.1f} MiB"),
    "more_peak_bytes": ("above the base", lambda size: f"{size / 2**20:.1f} MiB"),
    "recv_each": ("recv", lambda calls: f"{calls:.2f}"),
    "send_each": ("send", lambda calls: f"{calls:.2f}"),
    "wait_each": ("epoll_wait, poll", lambda calls: f"{calls:.2f}"),
    "control_each": ("epoll_ctl", lambda calls: f"{calls:.2f}"),
    "other_each": ("others", lambda calls: f"{calls:.2f}"),
    "calls_each": ("together", lambda calls: f"{calls:.2f}"),
    "after_bytes": ("after", lambda size: f"{size / 2**20:.1f} MiB"),
}
# The ratio of a burst stands last, to the level before rather than to a baseline.
BURST_RATIO = ("after / before", FORMATS["ratio"][1])


def head(document: Document) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in document.versions.items())
    lines = [
        f"{document.implementation} {document.python}, {document.system}, {document.processor}",
        f"{document.loop}; {versions}",
        f"{document.settings.rounds} rounds of {document.settings.turn_ms:g} ms a contender, "
        "in turns; medians",
    ]
    lines += [f"missing: {name} ({reason})" for name, reason in document.missing.items()]
    return "\n".join(lines) + "\n"


def section(found: Section) -> str:
    shown = columns(found)
    lines = [found.title]
    heads = "".join(f"{column_head:>{CELL_WIDTH}}" for _, column_head, _ in shown)
    lines.append("  " + " " * NAME_WIDTH + heads)
    for line in found.lines:
        cells = [show(line.values[key]) if key in line.values else "" for key, _, show in shown]
        lines.append(
            f"  {line.name:{NAME_WIDTH}}" + "".join(f"{cell:>{CELL_WIDTH}}" for cell in cells)
        )
    lines += [f"  {name:{NAME_WIDTH}} failed: {reason}" for name, reason in found.failures.items()]
    lines += [
        f"  target: {verdict.target}: {verdict.reached}, {_met(verdict.met)}"
        for verdict in found.verdicts
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def summary(document: Document) -> str:
    verdicts = [(found, verdict) for found in document.sections for verdict in found.verdicts]
    missed = [(found, verdict) for found, verdict in verdicts if not verdict.met]
    lines = [f"{len(verdicts) - len(missed)} of {len(verdicts)} targets met"]
    lines += [
        f"  not met: {found.title}: {verdict.reached} ({verdict.target})"
        for found, verdict in missed
    ]
    return "\n".join(lines)


def markdown(document: Document) -> str:
    """The tables of the README: times as multiples of native, nanoseconds in native's column.

    Portals have a table of their own: few peers have them, and the drop-in is none.
    """
    of_portals = [found for found in document.sections if found.row.startswith("portal-")]
    others = [found for found in document.sections if found not in of_portals]
    tables = [
        _times(others, list(document.versions)),
        _times(of_portals, [OURS, DROP_IN, "greenback"]),
    ]
    return "\n\n".join(table for table in tables if table)


def _times(sections: list[Section], contenders: list[str]) -> str:
    lines = []
    for found in sections:
        native = found.value(NATIVE, "ns")
        if native is None:
            continue
        ratios = [found.value(name, "ratio") for name in contenders]
        cells = [f"{native:,.0f} ns", *("" if r is None else f"{r:.2f}" for r in ratios)]
        lines.append(f"| {found.title} | {' | '.join(cells)} |")
    if not lines:
        return ""
    columns = [NATIVE, *contenders]
    return "\n".join(
        [f"| work | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns), *lines]
    )


def columns(found: Section) -> list[tuple[str, str, Format]]:
    """The columns of a comparison: the key of each, its head, and how its values are shown."""
    present = {key for line in found.lines for key in line.values}
    shown = [(key, *FORMATS[key]) for key in FORMATS if key in present]
    if "before_bytes" in present:
        shown = [column for column in shown if column[0] != "ratio"]
        shown.append(("ratio", *BURST_RATIO))
    return shown


def _met(met: bool) -> str:
    return "met" if met else "NOT MET"
