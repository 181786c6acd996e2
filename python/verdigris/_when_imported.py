"""Calls a function as soon as a module has been imported, now or later.

Some extensions need to be met before anybody uses them. A finder in front of the others looks
for their names, lets the others find them, and has the loader call back when it is done. It finds
nothing itself, and goes when it has nothing left to wait for.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_waiting: dict[str, Callable[[], object]] = {}


def when_imported(name: str, action: Callable[[], object]) -> None:
    """Calls `action` once the module `name` is there.

    Args:
        name: The module's full name.
        action: Called with nothing, right after the module's code has run, before the import
            statement goes on; at once if the module is there already. What it raises, the import
            raises.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        action()
        return
    _waiting[name] = action
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Waits for modules. Others find them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _waiting:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find and find(name, path, target)
            if spec is not None:
                _call_back(spec, name)
                return spec
        return None


def _call_back(spec: ModuleSpec, name: str) -> None:
    loader: Any = spec.loader
    execute = getattr(loader, "exec_module", None)
    if execute is None:
        return  # a namespace package, or a loader of the oldest kind

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module  # what the class has shows again
        execute(module)
        action = _waiting.pop(name, None)
        if action is not None:
            try:
                action()
            except BaseException:
                _waiting[name] = action  # the import fails, and may be tried again
                raise
        if not _waiting:
            sys.meta_path[:] = [
                finder for finder in sys.meta_path if not isinstance(finder, _Finder)
            ]

    loader.exec_module = exec_module
