"""The results of one run: what the table prints, the plot draws and the JSON file keeps.

Document          the machine, the versions, the peers that are missing
  Section         a comparison
    Line          a contender and its values
    Verdict       a target of the project, and whether it was met
    failures      contenders that could not do the work, with the reason
"""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from measure import NATIVE, Settings, Timings
from peers import OURS, Peer
from rows import burst, portal_idle, suspended

RESULTS = Path(__file__).with_name("results")
# The version that the targets were set on; its results are the latest ones.
REFERENCE = (3, 11)


@dataclass(frozen=True)
class Line:
    name: str
    values: dict[str, float]


@dataclass(frozen=True)
class Verdict:
    target: str
    reached: str
    met: bool


@dataclass(frozen=True)
class Section:
    row: str
    title: str
    lines: list[Line]
    verdicts: list[Verdict]
    failures: dict[str, str]
    size: int | None = None

    def value(self, name: str, key: str) -> float | None:
        for line in self.lines:
            if line.name == name:
                return line.values.get(key)
        return None


@dataclass(frozen=True)
class Document:
    loop: str
    settings: Settings
    versions: dict[str, str]
    missing: dict[str, str]
    python: str = platform.python_version()
    implementation: str = platform.python_implementation()
    system: str = f"{platform.system()} {platform.release()} {platform.machine()}"
    processor: str = field(default_factory=lambda: _processor())
    sections: list[Section] = field(default_factory=list)

    def write(self) -> Path:
        """Writes the results as JSON and returns the file."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")
        return path

    @property
    def name(self) -> str:
        name = "latest" if self.is_of_reference_version else f"cpython-{self.python}"
        engine = os.environ.get("VERDIGRIS_ENGINE", "")
        name = f"{name}-{engine}" if engine else name
        return name if self.loop == "asyncio" else f"{name}-{self.loop}"

    @property
    def is_of_reference_version(self) -> bool:
        return sys.version_info[:2] == REFERENCE


def read(path: Path) -> Document:
    """The results in a file that `Document.write` wrote."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    sections = [
        Section(
            **{
                **section,
                "lines": [Line(**line) for line in section["lines"]],
                "verdicts": [Verdict(**verdict) for verdict in section["verdicts"]],
            }
        )
        for section in kept.pop("sections")
    ]
    return Document(settings=Settings(**kept.pop("settings")), sections=sections, **kept)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def document(loop: str, settings: Settings, found: list[Peer], missing: dict[str, str]) -> Document:
    return Document(loop, settings, {peer.name: peer.version for peer in found}, missing)


def of_timings(timings: Timings) -> Section:
    case = timings.case
    lines = []
    for name in timings.rounds:
        values = {"ns": timings.median(name)}
        ratio = timings.ratio(name, case.baseline)
        if ratio is not None and name != case.baseline:
            values["ratio"] = ratio
        lines.append(Line(name, values))
    verdicts = []
    for target in case.targets:
        reached = timings.reached(target)
        if reached is not None:
            verdicts.append(Verdict(str(target), f"{reached:.2f} x", target.is_met(reached)))
    return Section(case.row, case.title, lines, verdicts, timings.failures, case.size)


def of_suspended(crowd: suspended.Suspended) -> Section:
    lines = [Line(name, values) for name, values in crowd.figures.items()]
    verdicts = []
    ours = crowd.figures.get(OURS)
    if ours is not None:
        each, limit = ours["bytes_each"], suspended.BYTES_LIMIT
        verdicts.append(Verdict(f"<= {_kib(limit)} each", _kib(each), each <= limit))
    if ours is not None and (awaitlet := crowd.figures.get("awaitlet")) is not None:
        theirs = awaitlet["bytes_each"]
        verdicts.append(Verdict(f"less than awaitlet's {_kib(theirs)}", _kib(each), each < theirs))
    if ours is not None and (native := crowd.figures.get(NATIVE)) is not None:
        ratio = ours["start_seconds"] / native["start_seconds"]
        bound = suspended.START_LIMIT
        target = f"all started in <= {bound:g} x native"
        verdicts.append(Verdict(target, f"{ratio:.2f} x", ratio <= bound))
    title = f"{crowd.count:,} suspended functions"
    return Section("suspended", title, lines, verdicts, crowd.failures, crowd.count)


def of_bursts(bursts: burst.Bursts) -> list[Section]:
    sections = []
    for scene, how in burst.SCENES.items():
        lines = [Line(name, values) for name, values in bursts.figures[scene].items()]
        verdicts = []
        if (ours := bursts.figures[scene].get(OURS)) is not None:
            target = f"back under {burst.LIMIT:g} x the level before"
            reached = f"{ours['ratio']:.2f} x after {ours['seconds']:.1f} s"
            verdicts.append(Verdict(target, reached, ours["ratio"] < burst.LIMIT))
        title = f"memory after a burst of {bursts.count:,}, {how}"
        failures = bursts.failures[scene]
        sections.append(Section(scene, title, lines, verdicts, failures, bursts.count))
    return sections


def of_idle(idle: portal_idle.Idle) -> Section:
    lines = []
    for name, figures in idle.figures.items():
        more = {f"more_{key}": idle.more(name, key) for key in ("bytes_each", "traced_bytes_each")}
        found = {key: value for key, value in more.items() if value is not None}
        lines.append(Line(name, {**figures, **found}))
    verdicts = []
    limit = portal_idle.BYTES_LIMIT
    for key, what in (("bytes_each", "RSS"), ("traced_bytes_each", "traced memory")):
        if (ours := idle.more(OURS, key)) is not None:
            target = f"<= {limit} bytes of {what} each more than native"
            verdicts.append(Verdict(target, f"{ours:.0f} bytes", ours <= limit))
    title = f"{idle.count:,} idle tasks, each with a portal"
    return Section("portal-idle", title, lines, verdicts, idle.failures, idle.count)


def _kib(size: float) -> str:
    return f"{size / 1024:.2f} KiB"
