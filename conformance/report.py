"""What came of it: the counts, the table, the JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import files
import modes
import skips
from one_file import Outcome, Record, read

INTRO = """\
# Conformance

CPython's own tests, with the green modules in place: each test file is a sync program that
`python -m verdigris` runs. `make conformance` makes this page; [the design](design/conformance.md)
says how it is done. The tests are those that pass unpatched on the machine that made it; external
network and slow resources are off, for all alike.

A cell is how many of them do **not** pass: failed, hung, left out by themselves, or left out
because the list below names them. `.` is none. gevent and greenletio ran without a list.
"""


def count(outcomes: Iterable[Outcome]) -> str:
    """The counts of a file, as one line."""
    found = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{number} {status}" for status, number in found.most_common()) or "none"


def against(base: Record, record: Record, version: str, mode: str) -> dict[str, Outcome]:
    """The outcomes of the tests that count: those that pass unpatched."""
    found = {}
    for one, outcome in base.outcomes.items():
        if outcome.status != "passed":
            continue
        if one in record.outcomes:
            found[one] = record.outcomes[one]
        elif mode in modes.LOOPS and (entry := skips.listed(one, version, mode)):
            found[one] = Outcome("listed", entry.reason)
        else:
            status = "skipped" if record.ended == "skipped" else "failed"
            found[one] = Outcome(status, record.why or "it was not run")
    return found


#: version, mode, file: the counts of each status.
Counts = dict[str, dict[str, dict[str, Counter[str]]]]


def _records(folder: Path) -> Iterator[tuple[str, Record]]:
    for path in sorted(folder.glob("*.jsonl")):
        record = read(path)
        if record is not None and record.ended is not None:
            yield path.stem, record


def _outcomes(store: Path) -> Iterator[tuple[str, str, str, dict[str, Outcome]]]:
    """Version, mode, module and what came of its tests, for all that is kept."""
    by_number = lambda path: [int(part) for part in path.name.split(".")]  # noqa: E731
    for version in sorted(store.glob("3.*"), key=by_number):
        bases = dict(_records(version / modes.BASE))
        for mode in modes.MODES:
            for module, record in _records(version / mode):
                if module in bases:
                    yield (
                        version.name, mode, module,
                        against(bases[module], record, version.name, mode),
                    )  # fmt: skip


def write(store: Path, table: Path) -> None:
    """Writes the page, and `results.json` beside the results, of all that is kept."""
    counts: Counts = {}
    lines: dict[str, dict[str, dict[str, list[str]]]] = {}
    for version, mode, module, outcomes in _outcomes(store):
        rows = counts.setdefault(version, {}).setdefault(mode, {})
        row = rows.setdefault(files.file_of(module), Counter())
        row.update(outcome.status for outcome in outcomes.values())
        for one, outcome in outcomes.items():
            if outcome.status != "passed":
                statuses = lines.setdefault(version, {}).setdefault(mode, {})
                statuses.setdefault(outcome.status, []).append(one)
    whole = {
        version: {
            mode: {"files": rows, "not_passed": lines.get(version, {}).get(mode, {})}
            for mode, rows in by_mode.items()
        }
        for version, by_mode in counts.items()
    }
    (store / "results.json").write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    table.write_text(page(counts))


def page(counts: Counts) -> str:
    """The page: a table for each version, and the list."""
    parts = [INTRO]
    for version, by_mode in counts.items():
        parts.append(f"\n## Python {version}\n\n{_table(by_mode)}")
    parts.append("\n" + _list())
    return "".join(parts)


def _table(by_mode: dict[str, dict[str, Counter[str]]]) -> str:
    shown = [mode for mode in modes.MODES if mode in by_mode and mode != modes.BASE]
    head = ["file", "tests", *shown]
    rows = []
    totals = {mode: Counter[str]() for mode in shown}
    names = [name for name in files.FILES if name in by_mode.get(modes.BASE, {})]
    tests = 0
    for name in names:
        number = by_mode[modes.BASE][name]["passed"]
        tests += number
        row = [name, str(number)]
        for mode in shown:
            found = by_mode[mode].get(name)
            row.append(_cell(found))
            totals[mode].update(found or {})
        rows.append(row)
    rows.append(["**all**", str(tests), *(_cell(totals[mode]) for mode in shown)])
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(found: Counter[str] | None) -> str:
    if found is None:
        return ""
    bad = {status: number for status, number in sorted(found.items()) if status != "passed"}
    return ", ".join(f"{number} {status}" for status, number in bad.items() if number) or "."


def _list() -> str:
    lines = ["## The list\n\nTests that are not run on verdigris, and why.\n"]
    for category in skips.CATEGORIES:
        entries = [skip for skip in skips.SKIPS if skip.category == category]
        if not entries:
            continue
        lines.append(f"\n### {category[0].upper()}{category[1:]}\n\n")
        for skip in entries:
            only = ", ".join([*skip.modes, *skip.versions])
            names = ", ".join(f"`{one}`" for one in skip.ids)
            lines.append(f"- {names}{f' ({only})' if only else ''}: {skip.reason}\n")
    return "".join(lines)
