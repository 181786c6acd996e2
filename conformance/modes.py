"""The ways in which a test file is run: what waits, and who runs it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
#: The package that is tested: the one that this interpreter has.
PACKAGE = Path(str(importlib.util.find_spec("verdigris").origin)).parent  # type: ignore[union-attr]
WORKER = HERE / "worker.py"

#: Nothing is patched: the tests that pass so are those that count.
BASE = "threads"
#: verdigris' modes, and the loop of each.
LOOPS = {
    "verdigris-asyncio": "asyncio",
    "verdigris-uvloop": "uvloop",
    "verdigris-trio": "trio",
}
PEERS = ("gevent", "greenletio")
#: Raised by hand when the worker changes in a way that changes results.
FORMAT = "1"
MODES = (BASE, *LOOPS, *PEERS)


def command(mode: str, *arguments: str | Path) -> list[str]:
    """The command that runs the worker."""
    worker = [str(WORKER), mode, *map(str, arguments)]
    if mode in LOOPS:
        return [sys.executable, "-m", "verdigris", "--loop", LOOPS[mode], *worker]
    return [sys.executable, *worker]


def needs(mode: str) -> str | None:
    """The distribution that a mode needs beside the interpreter and verdigris, if any."""
    needed = LOOPS.get(mode, mode)
    return None if needed in (BASE, "asyncio") else needed


def is_installed(mode: str) -> bool:
    """Whether the mode can be run here."""
    name = needs(mode)
    if name is None:
        return True
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def fingerprint(mode: str) -> str:
    """Names what a mode is made of. Results of anything else are not taken up again."""
    parts = [sys.version, mode, FORMAT]
    name = needs(mode)
    if name is not None:
        parts.append(importlib.metadata.version(name))
    if mode in LOOPS:
        for path in sorted(PACKAGE.rglob("*.py")):
            parts += [path.name, path.read_text()]
        for path in sorted(PACKAGE.glob("*.so")):
            parts.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
