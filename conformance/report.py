"""What came of it: the counts, the table, the JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import modes
from one_file import Outcome, Record


def count(outcomes: Iterable[Outcome]) -> str:
    """The counts of a file, as one line."""
    found = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{number} {status}" for status, number in found.most_common()) or "none"


def against(base: Record, record: Record) -> dict[str, Outcome]:
    """The outcomes of the tests that count: those that pass unpatched.

    One that did not come to its turn has failed, or was left out because the list names it: the
    caller tells these apart.
    """
    missing = Outcome("failed", record.why or "it was not run")
    return {
        one: record.outcomes.get(one, missing)
        for one, outcome in base.outcomes.items()
        if outcome.status == "passed"
    }


def write(store: Path, table: Path | None, results: Path | None) -> None:
    pass
