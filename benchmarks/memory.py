"""Memory, measured honestly: each scene in a process of its own, from the kernel's exact count.

`/proc/self/statm` may be off by a batch of pages per CPU since Linux 6.2; `smaps_rollup` counts.
Page tables are not part of the resident set. Many stacks in a wide address space need more of
them than coroutines do, so they are reported beside it.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROLLUP = Path("/proc/self/smaps_rollup")
STATUS = Path("/proc/self/status")
SCENE = Path(__file__).with_name("scene.py")

Figures = dict[str, float]


@dataclass(frozen=True)
class Reading:
    resident: int
    page_tables: int


def read() -> Reading:
    """What this process holds now, in bytes."""
    return Reading(_kilobytes(ROLLUP, "Rss") * 1024, _kilobytes(STATUS, "VmPTE") * 1024)


def peak() -> int:
    """The most that this process has held so far, in bytes."""
    return _kilobytes(STATUS, "VmHWM") * 1024


def can_read() -> bool:
    return ROLLUP.exists()


def _kilobytes(source: Path, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB$", source.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{source} has no line {key}: the memory rows need Linux 4.14 or later")
    return int(found[1])


@dataclass(frozen=True)
class SceneFailed(Exception):
    """A scene's process ended badly; `reason` is the last line of what it wrote."""

    reason: str

    def __str__(self) -> str:
        return self.reason


def in_fresh_process(scene: str, contender: str, count: int, loop: str) -> Figures:
    """Play one scene in a process of its own and return the figures it prints.

    Raises:
        SceneFailed: the process ended with an error or by a signal, or ran too long.
    """
    return of_process([sys.executable, str(SCENE), scene, contender, str(count), loop])


def of_process(command: list[str], seconds: float = 300) -> Figures:
    """Run a process that prints its figures as JSON.

    Raises:
        SceneFailed: the process ended with an error or by a signal, or ran too long.
    """
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()
        ended = f"exit status {error.returncode}"
        raise SceneFailed(f"{ended}: {said[-1]}" if said else ended) from error
    except subprocess.TimeoutExpired as error:
        raise SceneFailed(f"not finished after {error.timeout:.0f} s") from error
    figures: dict[str, Any] = json.loads(ran.stdout)
    return figures


def medians_in_turns(
    scene: str, contenders: list[str], count: int, loop: str, repeats: int
) -> tuple[dict[str, Figures], dict[str, str]]:
    """Plays a scene `repeats` times for each contender, in turns.

    Returns:
        The medians, and the reasons of those that failed, by contender.
    """
    runs: dict[str, list[Figures]] = {}
    failures: dict[str, str] = {}
    for _ in range(repeats):
        for name in contenders:
            if name in failures:
                continue
            try:
                figures = in_fresh_process(scene, name, count, loop)
            except SceneFailed as failed:
                failures[name] = str(failed)
                runs.pop(name, None)
            else:
                runs.setdefault(name, []).append(figures)
    medians = {
        name: {key: statistics.median(figures[key] for figures in of_one) for key in of_one[0]}
        for name, of_one in runs.items()
    }
    return medians, failures
