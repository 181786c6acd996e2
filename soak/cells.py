"""The interpreters that rounds run on: this one, or those of the matrix (scripts/matrix)."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
CELLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verdigris" / "matrix"
#: As scripts/matrix has them: what Debian sid's chroot carries.
IN_CHROOT = ("3.14", "3.15", "3.14d", "3.15d")


@dataclass(frozen=True)
class Cell:
    """An interpreter with verdigris in it. Letters behind its version: see scripts/matrix."""

    name: str
    command: tuple[str, ...]
    engine: str
    slow: bool

    def start(self, arguments: list[str]) -> list[str]:
        """The command of a round on it."""
        return [*self.command, str(CHECKOUT / "soak" / "round.py"), *arguments]


def this_one(engine: str) -> Cell:
    """The interpreter that runs this."""
    name = f"3.{sys.version_info.minor}" + "d" * hasattr(sys, "gettotalrefcount")
    command = ("env", f"VERDIGRIS_ENGINE={engine}", sys.executable, "-X", "faulthandler")
    return Cell(name, command, engine or "native", name.endswith("d"))


def find(name: str) -> Cell:
    """A cell of the matrix. `scripts/matrix VERSION` fills it.

    Raises:
        FileNotFoundError: It is not there.
    """
    engine = {"g": "greenlet", "p": "portable"}.get(name[-1], "native")
    version = name.removesuffix("g")
    cell = CELLS / version
    python = cell / "venv" / "bin" / "python"
    # In the chroot's case a link that leads nowhere out here.
    if not os.path.lexists(python):
        raise FileNotFoundError(f"there is no cell {version}; fill it: scripts/matrix {version}")
    command = [
        # A portable build has nothing to choose.
        *("env", f"VERDIGRIS_ENGINE={'' if engine == 'portable' else engine}"),
        "PYTHONDONTWRITEBYTECODE=1",
        *(str(python), "-X", "faulthandler"),
    ]
    if version in IN_CHROOT:
        chroot = [str(CHECKOUT / "scripts" / "sid-chroot"), "run"]
        shown = ["--ro", str(CHECKOUT), "--ro", str(cell)]
        command = [*chroot, *shown, "--", *command]
    return Cell(name, tuple(command), engine, version.endswith("d"))
