"""greenletio's command: `script.py arguments ...` or `-m module arguments ...`, run patched."""

import sys

from verdigris.__main__ import main as _main

__all__ = ["main"]


def main() -> None:
    """Runs what the arguments say, on asyncio, and exits with its code.

    The program's main function is green as well: its waits do not block its threads.
    """
    sys.exit(_main(sys.argv[1:]))
