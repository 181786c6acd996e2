"""The plot of the README: horizontal bars, drawn as SVG by hand.

    +-------------------+-------------------+-------------------+
    | await, no wait    | loop step         | enter             |   a bar for each peer
    +-------------------+-------------------+-------------------+
    | layers, no suspension       | layers, one step            |   native and green, by layers
    +-----------------------------+-----------------------------+

Each panel has a linear scale of its own, and each bar carries its figure. A bar of ours is green.
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
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


@dataclass(frozen=True)
class Bar:
    label: str
    contender: str
    ns: float


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
        longest = max(bar.ns for group in self.groups for bar in group)
        figure_width = 70
        scale = (width - label_width - figure_width) / longest
        top = y + PANEL_HEAD - 12
        for group in self.groups:
            for bar in group:
                parts += _bar(bar, x, top, label_width, max(1.5, bar.ns * scale))
                top += BAR_STEP
            top += GROUP_GAP
        return parts


def draw(document: Document) -> str:
    """The whole picture. Rows that were not measured have no panel."""
    above = [
        _by_peer(document, "await", "Await that does not suspend"),
        _by_peer(document, "step", "One event-loop step"),
        _by_peer(document, "enter", "Enter a synchronous function"),
    ]
    below = [
        _by_layers(document, "layers, no suspension", "Through layers of calls, no suspension"),
        _by_layers(document, "layers, one step", "Through layers of calls, one loop step"),
    ]
    parts: list[str] = []
    y = float(TITLE_HEIGHT)
    for row, label_width in ((above, 76), (below, 140)):
        panels = [panel for panel in row if panel is not None]
        if not panels:
            continue
        width = (WIDTH - 2 * MARGIN - (len(panels) - 1) * GAP) / len(panels)
        for number, panel in enumerate(panels):
            parts += panel.draw(MARGIN + number * (width + GAP), y, width, label_width)
        y += max(panel.height() for panel in panels) + GAP / 2
    height = y + 8
    subtitle = (
        f"nanoseconds, shorter is better; medians of {document.settings.rounds} rounds; "
        f"{document.implementation} {document.python}, {document.loop}, {document.processor}"
    )
    title = "verdigris beside native async/await and its peers"
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:.0f}' "
            f"width='{WIDTH}' height='{height:.0f}' role='img' "
            f"aria-label='{escape(title)}' {FONT}>",
            f"<rect width='{WIDTH}' height='{height:.0f}' fill='{BACKGROUND}'/>",
            _text(MARGIN, 28, title, size=18, weight=600),
            _text(MARGIN, 48, subtitle, size=12, fill=FAINT),
            *parts,
            "</svg>\n",
        ]
    )


def _by_peer(document: Document, row: str, title: str) -> Panel | None:
    for section in document.sections:
        if section.row == row and section.lines:
            return Panel(
                title, [[Bar(line.name, line.name, line.values["ns"]) for line in section.lines]]
            )
    return None


def _by_layers(document: Document, row: str, title: str) -> Panel | None:
    groups = [
        [
            Bar(f"{section.size} layers, {line.name}", line.name, line.values["ns"])
            for line in section.lines
        ]
        for section in document.sections
        if section.row == row and section.lines
    ]
    return Panel(title, groups) if groups else None


def _bar(bar: Bar, x: float, top: float, label_width: float, length: float) -> list[str]:
    weight = 600 if bar.contender == OURS else 400
    middle = top + BAR - 4
    start = x + label_width
    return [
        _text(start - 8, middle, bar.label, anchor="end", weight=weight),
        f"<rect x='{start:.1f}' y='{top:.1f}' width='{length:.1f}' height='{BAR}' rx='2' "
        f"fill='{COLOURS.get(bar.contender, PEER_COLOUR)}'/>",
        _text(start + length + 6, middle, f"{bar.ns:,.0f}", weight=weight),
    ]


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
