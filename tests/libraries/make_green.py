"""Makes the stdlib green, in place: the first thing that a process of these tests does."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

# The one place that knows them before verdigris exports them.
WHERE = {
    "patch_all": "verdigris._patch_in_place",
    "patch_psycopg2": "verdigris._psycopg2",
    "patch_psycopg": "verdigris._psycopg",
}


def of_verdigris(name: str) -> Callable[[], Any]:
    """A patching function, by its name."""
    import verdigris

    function: Callable[[], Any] | None = getattr(verdigris, name, None)
    if function is None:
        function = getattr(importlib.import_module(WHERE[name]), name)
    return function


def make_green() -> None:
    """Patches everything, and the libraries that the environment names."""
    of_verdigris("patch_all")()
    for name in os.environ.get("VERDIGRIS_PATCHES", "").split():
        of_verdigris(name)()
