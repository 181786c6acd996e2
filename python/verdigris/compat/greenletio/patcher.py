"""greenletio's `patch_blocking` and `patch_psycopg2`."""

from collections.abc import MutableMapping
from types import ModuleType
from typing import Any

from verdigris import patch_blocking as patch_blocking
from verdigris import patch_psycopg2 as patch_psycopg2

__all__ = ["copy_globals", "patch_blocking", "patch_psycopg2", "patched"]

#: greenletio keeps its green modules here. Those of `verdigris.green` are found by import.
patched: dict[str, ModuleType] = {}


def copy_globals(source_module: ModuleType, globals_dict: MutableMapping[str, Any]) -> None:
    """Copies the names of a module that are not there yet."""
    for name in dir(source_module):
        globals_dict.setdefault(name, getattr(source_module, name))
