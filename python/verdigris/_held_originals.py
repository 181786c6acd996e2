"""Modules that hold blocking functions by name: `from time import sleep`, before the patch.

Patching in place changes a module, and who looks a function up there finds the green one. Who took
it by name before has the old one: in its globals, as an attribute of a class, as a default of a
parameter. In the stdlib these are replaced too. Anybody else's are left as they are, and named in a
warning: the module may have taken more than can be seen, so patching earlier is the remedy.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader
from types import FunctionType, ModuleType
from typing import Any

from verdigris._patched_modules import is_stdlib, left_alone


class PatchWarning(UserWarning):
    """Modules that were imported before patching go on using blocking functions.

    The text names them, with the names that they hold. They work as they do without verdigris:
    they block the loop where they wait. Patch before they are imported.

    Example:
        >>> import warnings
        >>> from verdigris import PatchWarning
        >>> warnings.simplefilter("error", PatchWarning)  # be strict about it
        >>> warnings.filters[0][2].__name__
        'PatchWarning'
        >>> _ = warnings.filters.pop(0)
    """

    __module__ = "verdigris"


@dataclass
class Held:
    """A place where a module holds an original."""

    name: str
    #: Puts the green object there; None where nothing can be put.
    replace: Callable[[], object] | None


def modules() -> list[tuple[str, ModuleType]]:
    """The modules that could hold something: loaded, and not left alone."""
    loaded: list[tuple[str, object]] = list(sys.modules.items())  # anything may be in there
    return [
        (name, module)
        for name, module in loaded
        if isinstance(module, ModuleType) and not left_alone(name)
    ]


def is_written_in_c(module: ModuleType) -> bool:
    """Tells whether a module is the place where such functions are defined: `posix`, `_socket`."""
    spec: Any = _dict_of(module).get("__spec__")
    if spec is None:
        return False
    return spec.origin == "built-in" or isinstance(spec.loader, ExtensionFileLoader)


def held_by(module: ModuleType, greens: Mapping[int, Any]) -> Iterator[Held]:
    """Finds the originals that a module holds.

    Args:
        module: The module.
        greens: The green objects, by the id of the originals that they stand for.
    """
    own = _dict_of(module).get("__name__")
    for name, value in list(_dict_of(module).items()):
        if id(value) in greens:
            yield Held(name, _setter(module, name, greens[id(value)]))
        elif isinstance(value, FunctionType):
            if value.__module__ == own:
                yield from _defaults(name, value, greens)
        elif isinstance(value, type) and value.__module__ == own:
            yield from _of_class(value, greens)


def green_stdlib(greens: Mapping[int, Any], patched: set[str]) -> None:
    """Replaces originals wherever the stdlib holds them by name.

    Args:
        greens: The green objects, by the id of the originals.
        patched: The names of modules that the tables take care of.
    """
    for name, module in modules():
        if is_stdlib(name) and name not in patched and not is_written_in_c(module):
            _replace_all(module, greens)
        elif name in patched:
            # What the tables say is done. Aliases, as `threading._allocate_lock`, are not in them.
            _replace_all(module, greens)


def others(greens: Mapping[int, Any]) -> dict[str, list[str]]:
    """Names what modules that are not of the stdlib hold: names by module."""
    found: dict[str, list[str]] = {}
    for name, module in modules():
        # `__main__` under the interpreter's own name only: `runpy` gives it a second one.
        if not is_stdlib(name):
            held = sorted({one.name for one in held_by(module, greens)} - _HARMLESS)
            if held:
                found[name] = held
    return found


# What tells threads apart does not block. (Trio's own `sortedcontainers` holds it.)
_HARMLESS = {"get_ident"}

# `threading.RLock` as loops hold it: see `_patched_modules`.
_KEPT = {("threading", "_CRLock")}


def _replace_all(module: ModuleType, greens: Mapping[int, Any]) -> None:
    for held in list(held_by(module, greens)):
        if held.replace is not None and (module.__name__, held.name) not in _KEPT:
            held.replace()


def _dict_of(module: ModuleType) -> dict[str, Any]:
    # Not by the module's own `__getattribute__`: that of a lazy module would import it.
    found: dict[str, Any] = ModuleType.__getattribute__(module, "__dict__")
    return found


def _setter(target: object, name: str, green: object) -> Callable[[], object]:
    return lambda: setattr(target, name, green)


def _of_class(cls: type, greens: Mapping[int, Any]) -> Iterator[Held]:
    for name, value in list(vars(cls).items()):
        label = f"{cls.__qualname__}.{name}"
        inner = value.__func__ if isinstance(value, staticmethod) else value
        if id(inner) in greens:
            green = greens[id(inner)]
            # A function in C does not become a method of its class; ours must not either.
            bare = isinstance(green, FunctionType) and not isinstance(inner, FunctionType)
            if bare or isinstance(value, staticmethod):
                green = staticmethod(green)
            yield Held(label, _setter(cls, name, green))
        elif isinstance(inner, FunctionType):
            yield from _defaults(label, inner, greens)
    for base in cls.__bases__:
        if id(base) in greens:
            yield Held(f"{cls.__qualname__}({base.__name__})", None)


def _defaults(label: str, function: FunctionType, greens: Mapping[int, Any]) -> Iterator[Held]:
    positional = function.__defaults__ or ()
    if any(id(value) in greens for value in positional):
        green = tuple(greens.get(id(value), value) for value in positional)
        yield Held(f"{label}()", _setter(function, "__defaults__", green))
    by_name = function.__kwdefaults__ or {}
    if any(id(value) in greens for value in by_name.values()):
        changed = {name: greens.get(id(value), value) for name, value in by_name.items()}
        yield Held(f"{label}()", _setter(function, "__kwdefaults__", changed))
