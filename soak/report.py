"""The figures of a run: a line for each round, and the table of docs/design/endurance.md."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

MIB = 1 << 20


@dataclass
class Result:
    """How one round ended."""

    cell: str
    engine: str
    loop: str
    code: int
    output: str
    again: str
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        last = self.output.rstrip().rpartition("\n")[2]
        if last.startswith("{"):
            self.figures = json.loads(last)

    @property
    def passed(self) -> bool:
        return self.code == 0 and bool(self.figures)

    def line(self) -> str:
        what = f"{self.cell:<6} {self.engine:<8} {self.loop:<8}"
        if not self.figures:
            return f"{what} FAILED with code {self.code}: a crash (negative), or a hang (4)"
        verdict = "clean " if self.passed else "FAILED"
        rate = self.figures["operations"] / max(self.figures["seconds"], 0.1) * 60
        grown = self.figures["growth"].get("resident", 0) / MIB
        return (
            f"{what} {verdict} {self.figures['operations']:>10,} operations,"
            f" {rate / 1e6:.2f} million a minute, memory {grown:+.1f} MiB"
        )


def table(results: list[Result]) -> str:
    """One row for each CPython and engine, all loops and rounds together, in Markdown."""
    rows = [
        "| CPython | engine | loops | rounds | minutes | operations | a minute | memory | result |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.cell, result.engine), []).append(result)
    total = seconds = 0.0
    for (cell, engine), group in groups.items():
        spent = sum(result.figures.get("seconds", 0) for result in group)
        operations = sum(result.figures.get("operations", 0) for result in group)
        grown = [result.figures.get("growth", {}).get("resident", 0) / MIB for result in group]
        failed = sum(not result.passed for result in group)
        total, seconds = total + operations, seconds + spent
        rows.append(
            f"| {cell} | {engine} | {', '.join(dict.fromkeys(result.loop for result in group))}"
            f" | {len(group)} | {spent / 60:.0f} | {operations:,}"
            f" | {operations / max(spent, 1) * 60 / 1e6:.2f} million"
            f" | {min(grown):+.1f} to {max(grown):+.1f} MiB"
            f" | {'clean' if not failed else f'{failed} FAILED'} |"
        )
    rows.append(f"\n{total:,.0f} operations in {seconds / 60:.0f} process minutes.")
    return "\n".join(rows)
