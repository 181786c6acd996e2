"""Makes the stdlib green, in place: the first thing that a process of these tests does."""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import Any


def make_green() -> None:
    import verdigris

    everything: Any = getattr(verdigris, "patch_all", None)
    if everything is not None:
        everything()
    else:  # the one place that stands in for patch_all, until it is there
        patch_each()
    for name in os.environ.get("VERDIGRIS_PATCHES", "").split():
        getattr(verdigris, name)()


# What others stand on comes first.
FIRST = ["time", "_thread", "threading", "select", "selectors", "socket", "ssl"]


def patch_each() -> None:
    import verdigris.green as package
    from verdigris.green import _twin

    names = [found.name for found in pkgutil.walk_packages(package.__path__)]
    for name in sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
        module: Any = importlib.import_module(f"verdigris.green.{name}")
        if hasattr(module, "REPLACED"):
            _twin.patch(
                module._verdigris_original, module.REPLACED, getattr(module, "METHODS", None)
            )
