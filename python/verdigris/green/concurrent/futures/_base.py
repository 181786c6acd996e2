"""`concurrent.futures._base`, green: futures that functions wait for.

All of it is the stdlib's code over green locks. A green Future is a `concurrent.futures.Future`, so
asyncio can wrap it.
"""

from __future__ import annotations

from concurrent.futures import _base as _original

from verdigris.green import _twin
from verdigris.green import threading as _threading  # noqa: F401  (its twin is what futures use)

REPLACED: dict[str, object] = {}

_twin.make(globals(), _original, REPLACED)
