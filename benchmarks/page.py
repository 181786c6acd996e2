"""Writes the figures of docs/benchmarks.md, and its plots, from the results that are kept.

    python benchmarks/page.py            the tables between the marks of the page, and docs/plots
    python benchmarks/page.py --check    says what is not as the results are, and changes nothing

A table stands between `<!-- table: FILE ROW -->` and `<!-- end -->`: all comparisons of one row of
`results/FILE.json`. So the page has no figure that was not measured.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import plot
import report
import results
from results import Document, Section

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"
TABLE = re.compile(r"<!-- table: (\S+) (.+?) -->\n.*?<!-- end -->", re.DOTALL)
KIB, MICROSECOND, MILLISECOND = 1024, 1e3, 1e6


def table(document: Document, row: str) -> str:
    """A table of all comparisons of a row, the values as `report` shows them."""
    sections = [section for section in document.sections if section.row == row]
    if not sections:
        raise ValueError(f"there is no row {row!r} in the results")
    return "\n\n".join(_of_section(section) for section in sections)


def _of_section(section: Section) -> str:
    columns = report.columns(section)
    heads = "".join(f" {head} |" for _, head, _ in columns)
    lines = [f"| {section.title} |{heads}", "|---|" + "---:|" * len(columns)]
    for line in section.lines:
        shown = (show(line.values[key]) if key in line.values else "" for key, _, show in columns)
        lines.append(f"| {line.name} |" + "".join(f" {cell} |" for cell in shown))
    return "\n".join(lines)


def pictures(latest: Document, worlds: Document) -> dict[Path, str]:
    """The plots, by their files. `benchmark.svg` is the README's too."""
    each = plot.measured(latest).partition("; ")[2]
    memory = [
        plot.by_contender(latest, "suspended", "100,000 suspended", "bytes_each", KIB, 2),
        plot.by_contender(
            latest, "portal-idle", "100,000 idle, with portals", "bytes_each", KIB, 2
        ),
    ]
    calls = [
        plot.by_contender(worlds, "thread", "A blocking function, from async", unit=1e3, digits=1),
        plot.by_contender(
            worlds, "block", "An async one, in a thread", unit=1e3, digits=1, number=1
        ),
    ]
    many = [
        plot.by_contender(worlds, "parallel", "1,000 calls of 50 ms, at once", unit=MILLISECOND),
        plot.by_contender(worlds, "calls", "10,000 trivial calls, at once", unit=MILLISECOND),
    ]
    how = plot.measured(worlds)
    return {
        DOCS / "benchmark.svg": plot.draw(latest),
        DOCS / "plots/memory.svg": plot.picture(
            "Memory of a function that waits",
            f"resident memory each in KiB, shorter is better; {each}",
            [(list(memory), 76)],
        ),
        DOCS / "plots/calls.svg": plot.picture(
            "One call from the other world",
            f"microseconds, shorter is better; {how}",
            [(list(calls), 130)],
        ),
        DOCS / "plots/many-calls.svg": plot.picture(
            "Many calls at once",
            f"milliseconds, shorter is better; {how}",
            [(list(many), 130)],
        ),
    }


def main() -> int:
    documents = {
        name: results.read(results.RESULTS / f"{name}.json") for name in ("latest", "worlds")
    }

    def filled(mark: re.Match[str]) -> str:
        file, row = mark.groups()
        return f"<!-- table: {file} {row} -->\n\n{table(documents[file], row)}\n\n<!-- end -->"

    files = {
        PAGE: TABLE.sub(filled, PAGE.read_text(encoding="utf-8")),
        **pictures(documents["latest"], documents["worlds"]),
    }
    differing = [
        file
        for file, text in files.items()
        if not file.exists() or file.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for file in differing:
            print(f"{file.relative_to(DOCS.parent)} is not as the results are: run {__file__}")
        return bool(differing)
    for file in differing:
        file.parent.mkdir(exist_ok=True)
        file.write_text(files[file], encoding="utf-8")
        print(file.relative_to(DOCS.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
