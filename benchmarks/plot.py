"""Horizontal bars, drawn as SVG by hand: the plot of the README, and those of docs/benchmarks.md.

    +-------------------+-------------------+-------------------+
    | await, no wait    | loop step         | enter             |   a bar for each peer
    +-------------------+-------------------+-------------------+
    | layers, no suspension       | layers, one step            |   native and green, by layers
    +-----------------------------+-----------------------------+

Each panel has a linear scale of its own, and each bar carries its figure. A bar of ours is green. A
picture has a background of its own, which is dark where the reader's system is.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from measure import NATIVE
from peers import OURS
from results import Document

WIDTH, MARGIN, GAP = 960, 24, 32
BAR, BAR_STEP, GROUP_GAP = 16, 22, 12
PANEL_HEAD = 46
TITLE_HEIGHT = 64

BACKGROUND, INK, FAINT = "#ffffff", "#1f2933", "#616e7c"
COLOURS = {OURS: "#2f8f83", NATIVE: "#52606d"}
PEER_COLOUR = "#b8c2cc"
DARK = {"#ffffff": "#15191d", "#1f2933": "#e4e9ee", "#616e7c": "#9aa5b1", "#52606d": "#9aa5b1"}
STYLE = "".join(f"[fill='{light}']{{fill:{dark}}}" for light, dark in DARK.items())
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


@dataclass(frozen=True)
class Bar:
    label: str
    contender: str
    value: float
    shown: str


@dataclass(frozen=True)
class Panel:
    """Groups of bars under a heading; the bars of a group stand close together."""

    title: str
    groups: list[list[Bar]]

    def height(self) -> int:
        bars = sum(len(group) for group in self.groups)
        return PANEL_HEAD + bars * BAR_STEP + (len(self.groups) - 1) * GROUP_GAP

    def draw(self, x: float, y: float, width: float, label_width: float) -> list[str]:
        parts = [_text(x, y + 18, self.title, size=14, weight=600)]
        longest = max(bar.value for group in self.groups for bar in group)
        figure_width = 70
        scale = (width - label_width - figure_width) / longest
        top = y + PANEL_HEAD - 12
        for group in self.groups:
            for bar in group:
                parts += _bar(bar, x, top, label_width, max(1.5, bar.value * scale))
                top += BAR_STEP
            top += GROUP_GAP
        return parts


def draw(document: Document) -> str:
    """The plot of the README. Rows that were not measured have no panel."""
    above = [
        by_contender(document, "await", "Await that does not suspend"),
        by_contender(document, "step", "One event-loop step"),
        by_contender(document, "enter", "Enter a synchronous function"),
    ]
    below = [
        _by_layers(document, "layers, no suspension", "Through layers of calls, no suspension"),
        _by_layers(document, "layers, one step", "Through layers of calls, one loop step"),
    ]
    return picture(
        "verdigris beside native async/await and its peers",
        f"nanoseconds, shorter is better; {measured(document)}",
        [(above, 76), (below, 140)],
    )


def measured(document: Document) -> str:
    """How, on what."""
    return (
        f"medians of {document.settings.rounds} rounds; "
        f"{document.implementation} {document.python}, {document.loop}, {document.processor}"
    )


def picture(title: str, subtitle: str, rows: list[tuple[list[Panel | None], int]]) -> str:
    """Rows of panels under a title; with each row, how wide the labels of its bars are."""
    parts: list[str] = []
    y = float(TITLE_HEIGHT)
    for row, label_width in rows:
        panels = [panel for panel in row if panel is not None]
        if not panels:
            continue
        width = (WIDTH - 2 * MARGIN - (len(panels) - 1) * GAP) / len(panels)
        for number, panel in enumerate(panels):
            parts += panel.draw(MARGIN + number * (width + GAP), y, width, label_width)
        y += max(panel.height() for panel in panels) + GAP / 2
    height = y + 8
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0f}' "
            f"width='{WIDTH}' height='{height:.0f}' role='img' "
            f"aria-label='{escape(title)}' {FONT}>",
            f"<style>@media (prefers-color-scheme: dark){{{STYLE}}}</style>",
            f"<rect width='{WIDTH}' height='{height:.0f}' rx='6' fill='{BACKGROUND}'/>",
            _text(MARGIN, 28, title, size=18, weight=600),
            _text(MARGIN, 48, subtitle, size=12, fill=FAINT),
            *parts,
            "</svg>\n",
        ]
    )


def by_contender(
    document: Document,
    row: str,
    title: str,
    key: str = "ns",
    unit: float = 1,
    digits: int = 0,
    number: int = 0,
) -> Panel | None:
    """A bar for each contender, in a unit; `number` tells apart comparisons of one row."""
    found = [section for section in document.sections if section.row == row and section.lines]
    if number >= len(found):
        return None
    values = [(line.name, line.values[key] / unit) for line in found[number].lines]
    return Panel(
        title, [[Bar(name, name, value, f"{value:,.{digits}f}") for name, value in values]]
    )


def _by_layers(document: Document, row: str, title: str) -> Panel | None:
    groups = [
        [
            Bar(
                f"{section.size} layers, {line.name}",
                line.name,
                line.values["ns"],
                f"{line.values['ns']:,.0f}",
            )
            for line in section.lines
        ]
        for section in document.sections
        if section.row == row and section.lines
    ]
    return Panel(title, groups) if groups else None


def _bar(bar: Bar, x: float, top: float, label_width: float, length: float) -> list[str]:
    weight = 600 if bar.contender.startswith(OURS) else 400
    middle = top + BAR - 4
    start = x + label_width
    return [
        _text(start - 8, middle, bar.label, anchor="end", weight=weight),
        f"<rect x='{start:.1f}' y='{top:.1f}' width='{length:.1f}' height='{BAR}' rx='2' "
        f"fill='{_colour(bar.contender)}'/>",
        _text(start + length + 6, middle, bar.shown, weight=weight),
    ]


def _colour(contender: str) -> str:
    # "verdigris, green" is ours too.
    return COLOURS.get(contender.partition(",")[0], PEER_COLOUR)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    weight: int = 400,
    fill: str = INK,
    anchor: str = "start",
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' font-weight='{weight}' "
        f"fill='{fill}' text-anchor='{anchor}'>{escape(text)}</text>"
    )
