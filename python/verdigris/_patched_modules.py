"""Which modules of the stdlib can be patched, and with what.

A green module (`verdigris/green/`) says in its tables what it replaces. This file finds the green
modules, in the order in which they are applied, and keeps what the stdlib had before. Both ways to
patch use it: in place (`_patch_in_place`) and for imports (`_patch_imports`).
"""

import functools
import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

# A module comes after those whose objects it takes by name: `threading` after `_thread`.
ORDER = (
    "time",
    "_thread",
    "threading",
    "queue",
    "os",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "signal",
    "concurrent.futures",
    "_multiprocessing",
)

# Packages whose modules keep the blocking functions: what runs a loop must not wait on the loop.
# `importlib` holds locks of the import system; `gevent` and `eventlet` patch for themselves.
LEFT_ALONE = frozenset({
    "_frozen_importlib", "_frozen_importlib_external", "anyio", "asyncio", "curio", "eventlet",
    "gevent", "greenlet", "importlib", "outcome", "sniffio", "trio", "uvloop", "verdigris",
    "zipimport",
})  # fmt: skip

# Of these, the libraries that run loops. They need the stdlib's own locks and thread-local values,
# also when they are imported after the patch: Trio's queue is filled in signal handlers, and both
# know the loop that runs by the thread.
LOOPS = frozenset({"anyio", "asyncio", "curio", "outcome", "sniffio", "trio", "uvloop"})


@dataclass
class Patchable:
    """A module of the stdlib and its green twin."""

    #: What a user calls it; a submodule has the name of its package: "concurrent.futures".
    public: str
    original: ModuleType
    twin: ModuleType
    replaced: dict[str, Any]
    methods: dict[str, dict[str, Any]]
    #: What the tables replace, as it was: by name, methods as "Class.method".
    originals: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Keeps the originals. The module must not have been patched yet."""
        for name in self.replaced:
            self.originals[name] = getattr(self.original, name)
        for class_name, table in self.methods.items():
            for name in table:
                method = getattr(getattr(self.original, class_name), name)
                self.originals[f"{class_name}.{name}"] = method


_found: dict[str, list[Patchable]] = {}


def left_alone(module: str) -> bool:
    """Tells whether a module is of a package that keeps the blocking functions."""
    return module.partition(".")[0] in LEFT_ALONE


def runs_loops(module: str) -> bool:
    """Tells whether a module is of one of the libraries that run loops."""
    return module.partition(".")[0] in LOOPS


def names() -> tuple[str, ...]:
    """The names of the modules that can be patched, in their order."""
    return tuple(name for name in ORDER if _find(name))


def chosen(modules: Iterable[str] | None, caller: str) -> list[Patchable]:
    """Finds what belongs to the names that a user gave.

    Args:
        modules: The names, or None for all.
        caller: The name of the public function, for the error.

    Returns:
        The modules, in the order in which they are patched.

    Raises:
        ValueError: A name stands for nothing that can be patched.
        TypeError: One string was given in place of several names.
    """
    if isinstance(modules, str):
        raise TypeError(f"{caller}() takes a list of names: {caller}([{modules!r}])")
    wanted = ORDER if modules is None else tuple(modules)
    for name in wanted:
        if modules is not None and (name not in ORDER or not _find(name)):
            raise ValueError(
                f"{caller}() can't patch {name!r}. What can be patched: {', '.join(names())}"
            )
    return [one for name in ORDER if name in wanted for one in _find(name)]


def all_found() -> list[Patchable]:
    """What was found until now, without looking for more."""
    return [one for found in _found.values() for one in found]


def _find(name: str) -> list[Patchable]:
    if name not in _found:
        # Only names whose green module exists are known. `_found` remembers an empty list too.
        found = []
        twin = _import_green(name)
        if twin is not None:
            import pkgutil

            for info in pkgutil.iter_modules(getattr(twin, "__path__", ())):
                if not info.name.startswith("__"):
                    found += _patchable(name, _import_green(f"{name}.{info.name}"))
            found += _patchable(name, twin)
        _found[name] = found
    return _found[name]


def _import_green(name: str) -> ModuleType | None:
    green = f"verdigris.green.{name}"
    try:
        return importlib.import_module(green)
    except ModuleNotFoundError as missing:
        if missing.name is None or not f"{green}.".startswith(f"{missing.name}."):
            raise
        return None


def _patchable(public: str, twin: ModuleType | None) -> list[Patchable]:
    original = getattr(twin, "_verdigris_original", None)
    if twin is None or original is None:
        return []
    replaced = {
        name: green
        for name, green in getattr(twin, "REPLACED", {}).items()
        if name in vars(original)
    }
    if original.__name__ == "threading" and "_CRLock" in replaced:
        # The function `threading.RLock`, which a loop may hold, looks this up. It goes on to make
        # the stdlib's, under another name; all others get the twin's function.
        replaced.setdefault("RLock", vars(twin)["RLock"])
        _keep_name(original.RLock, "_CRLock")
    methods: dict[str, dict[str, Any]] = {
        name: dict(table)
        for name, table in getattr(twin, "METHODS", {}).items()
        if name in vars(original)
    }
    return [Patchable(public, original, twin, replaced, methods)]


def _keep_name(function: Any, name: str) -> None:
    """Has a function call what a global name of its module stands for now, for good."""
    kept = f"_verdigris_stdlib{name}"
    code = function.__code__
    # Not the object itself, which would be replaced like any that a module of the stdlib has.
    function.__globals__.setdefault(kept, functools.partial(function.__globals__[name]))
    names = tuple(kept if one == name else one for one in code.co_names)
    function.__code__ = code.replace(co_names=names)


def is_stdlib(module: str) -> bool:
    """Tells whether a module comes with the interpreter."""
    return module.partition(".")[0] in sys.stdlib_module_names
