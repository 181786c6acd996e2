"""`patch_all`: the stdlib made green in place, for the whole process.

The green objects are dual-mode, so that code which runs nowhere near a loop goes on as before.
"""

import sys
import warnings
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from verdigris import _held_originals, _module_locks, _patch_imports, _patched_modules
from verdigris._held_originals import PatchWarning
from verdigris._patched_modules import Patchable
from verdigris.green import _twin

_patched: dict[str, list[Patchable]] = {}
_warned: set[str] = set()


def patch_all(modules: Iterable[str] | None = None) -> None:
    """Makes the blocking modules of the stdlib green in place.

    From now on `time.sleep`, sockets, locks, threads and queues wait without blocking the loop in
    every function that runs green, in whatever library. Anywhere else they do what they did. Call
    it at the start of the program, before other imports; or run the program with
    `python -m verdigris`, and change nothing in it.

    Later calls patch what was not patched yet. Calling it late, while a loop runs, works too. What
    other modules have taken by name before keeps blocking, and is named in a `PatchWarning`; locks
    that they made before stay the interpreter's. Modules of the stdlib that hold such things are
    served. `asyncio`, `trio`, `uvloop` and `anyio` are left alone. Not a checkpoint, and there is
    no way back.

    Args:
        modules: The names of the modules to patch. None for all.

    Raises:
        ValueError: A name stands for nothing that can be patched; the text lists what can.
        TypeError: `modules` is one string.

    Example:
        >>> import asyncio, time
        >>> from verdigris import async_def, patch_all
        >>> patch_all(["time"])
        >>> async def main():
        ...     def work(name, seconds):
        ...         time.sleep(seconds)
        ...         print(name)
        ...     await asyncio.gather(async_def(work, "slow", 0.1), async_def(work, "fast", 0))
        >>> asyncio.run(main())
        fast
        slow
    """
    # All are found before one is patched: a twin is made from what the stdlib has.
    chosen = _patched_modules.chosen(modules, "patch_all")
    todo = [one for one in chosen if one.original.__name__ not in _names_patched()]
    if not todo:
        return
    for one in todo:
        _twin.patch(one.original, one.replaced, one.methods)
        _patched.setdefault(one.public, []).append(one)
        name = one.original.__name__
        spared = get_original(name)
        if name not in _FOR_LOOPS_TOO:
            _patch_imports.spare(name, spared)
        if name in _TELLS_THREADS_APART:
            _spare_loaded_loops(one.original, spared)
    _spare_import_system()
    greens = _greens()
    _held_originals.green_stdlib(greens, _names_patched())
    if {"_thread", "threading"} & {one.public for one in todo}:
        _module_locks.replace()
    _warn(greens)


def is_patched(module: str, name: str | None = None) -> bool:
    """Tells whether a module of the stdlib was made green in place. Not a checkpoint.

    Args:
        module: The name of the module.
        name: A name in it. A method is "Class.method".

    Returns:
        Whether `patch_all` has patched the module; with `name`, whether it has replaced that.

    Example:
        >>> from verdigris import is_patched, patch_all
        >>> patch_all(["time"])
        >>> is_patched("time"), is_patched("time", "sleep"), is_patched("time", "monotonic")
        (True, True, False)
    """
    if name is None:
        return module in _names_patched()
    return any(one.original.__name__ == module and name in one.originals for one in _all_patched())


def get_original(module: str, name: str | Sequence[str] | None = None) -> Any:
    """Gives what the stdlib had before `patch_all`. It works before it, too. Not a checkpoint.

    Args:
        module: The name of the module.
        name: A name in it, or several. A method is "Class.method".

    Returns:
        The original object; a list of them for several names; without `name` a module that has the
        originals, and all else as the stdlib's has it.

    Raises:
        ModuleNotFoundError: There is no such module.
        AttributeError: It has no such name.

    Example:
        >>> from verdigris import get_original, patch_all
        >>> patch_all(["time"])
        >>> get_original("time", "sleep")
        <built-in function sleep>
    """
    import importlib

    found = importlib.import_module(module)
    # In a block of `patch_blocking` that is the green module.
    found = getattr(found, "_verdigris_original", found)
    originals: dict[str, Any] = {}
    for one in _all_patched():
        if one.original is found:
            originals = one.originals
    if name is None:
        copy = ModuleType(module, found.__doc__)
        plain = {key: value for key, value in originals.items() if "." not in key}
        copy.__dict__.update({**vars(found), **plain})
        return copy
    if isinstance(name, str):
        return _look_up(found, originals, name)
    return [_look_up(found, originals, one) for one in name]


# Loops set handlers with it, and are to see those that others set, also in a wrapper of ours.
_FOR_LOOPS_TOO = {"signal"}

# What asyncio's debug mode asks at each call whether it is made in the thread of its loop. A
# function in that thread has an identity of its own.
_TELLS_THREADS_APART = {"_thread", "threading"}


def _spare_loaded_loops(patched: ModuleType, spared: ModuleType) -> None:
    """Gives a module as it was to the libraries that run loops and hold it already."""
    loaded: list[tuple[str, object]] = list(sys.modules.items())  # anything may be in there
    for name, module in loaded:
        if isinstance(module, ModuleType) and _patched_modules.runs_loops(name):
            for key, value in list(vars(module).items()):
                if value is patched:
                    setattr(module, key, spared)


def _spare_import_system() -> None:
    """Gives the import system the original `_thread`, for its locks.

    They are taken in places where nothing may wait for a loop, and asking who runs green imports.
    """
    import importlib

    for name in ("_bootstrap", "_bootstrap_external"):
        module: Any = getattr(importlib, name, None)
        if vars(module).get("_thread") is sys.modules["_thread"]:
            module._thread = get_original("_thread")


def _look_up(module: ModuleType, originals: dict[str, Any], name: str) -> Any:
    if name in originals:
        return originals[name]
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _all_patched() -> list[Patchable]:
    return [one for patched in _patched.values() for one in patched]


def _names_patched() -> set[str]:
    return {one.original.__name__ for one in _all_patched()}


def _greens() -> dict[int, Any]:
    """The green objects by the id of what they replaced. Methods are replaced where they are."""
    return {
        id(one.originals[name]): green
        for one in _all_patched()
        for name, green in one.replaced.items()
        if one.originals[name] is not green
    }


def _warn(greens: dict[int, Any]) -> None:
    held = {
        module: names
        for module, names in _held_originals.others(greens).items()
        if module not in _warned
    }
    if not held:
        return
    _warned.update(held)
    listed = ", ".join(f"{module} ({', '.join(names)})" for module, names in sorted(held.items()))
    warnings.warn(
        f"patch_all() came after these modules had taken what it replaces, and they keep the "
        f"blocking functions: {listed}. Call patch_all() before they are imported, or run the "
        f"program with `python -m verdigris`.",
        PatchWarning,
        stacklevel=3,
    )
