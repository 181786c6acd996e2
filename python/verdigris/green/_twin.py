"""How a module of the stdlib becomes a green one, or is made green in place.

A green module is a twin of the stdlib's: the same names, and the few things that wait replaced.
Which these are, each green module says in two tables:

- ``REPLACED``: names of the module, and the green objects they stand for;
- ``METHODS``: names of the module's Python classes, and the methods that are replaced on them.

There are two ways to apply them, and both leave everything else as it is:

- :func:`make` fills a new module, the twin. Functions of the stdlib's module are bound anew to the
  twin's names, so that `create_connection` makes the twin's sockets. A class becomes a subclass
  whose methods are bound anew: a green `Condition` is a `threading.Condition`, for `isinstance`
  and for `except`. Exceptions, enums and tuples stay the same objects.
- :func:`patch` writes the tables into the stdlib's module and classes themselves.

Names of other modules that have a twin stand for the twin, and an object that was replaced in one
module is replaced in every module that has imported it by name (`threading._allocate_lock`).
"""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping
from typing import Any

# What the stdlib has, by id: the green object that stands for it. The originals are kept alive by
# `_originals`, so no id is reused.
_green: dict[int, Any] = {}
_originals: list[Any] = []
# The class of the stdlib's that a twin was made of.
_stdlib_classes: dict[type, type] = {}

Methods = Mapping[str, Mapping[str, Any]]


def pair(original: Any, green: Any) -> None:
    """Notes that `green` stands for `original` in every module that is made or patched later."""
    if id(original) not in _green:
        _originals.append(original)
    _green[id(original)] = green


def green_of(original: Any) -> Any:
    """The green object that stands for `original`, or `original` itself."""
    return _green.get(id(original), original)


def make(
    namespace: dict[str, Any],
    original: types.ModuleType,
    replaced: Mapping[str, Any],
    methods: Methods | None = None,
) -> None:
    """Fills `namespace`, the globals of a green module, as the twin of `original`.

    Args:
        namespace: `globals()` of the green module. What it has already is overwritten only by
            what `original` has under the same name, and never if it is in `replaced`.
        original: The module of the stdlib.
        replaced: The names that are replaced.
        methods: The methods that are replaced, by the name of their class.
    """
    methods = methods or {}
    own = {
        "__name__", "__doc__", "__package__", "__loader__", "__spec__", "__file__", "__cached__",
        "__builtins__", "__path__",
    }  # fmt: skip
    for name, green in replaced.items():
        if name in original.__dict__:
            pair(original.__dict__[name], green)
    classes: dict[type, type] = {}
    for name, value in list(original.__dict__.items()):
        if name in own:
            continue
        if name in replaced:
            namespace[name] = replaced[name]
        elif id(value) in _green:
            namespace[name] = _green[id(value)]
        elif _is_function_of(value, original):
            namespace[name] = _bound_anew(value, namespace)
            pair(value, namespace[name])
        elif _is_class_of(value, original) and (name in methods or _has_functions(value, original)):
            if value not in classes:
                classes[value] = _subclass(value, original, namespace, methods.get(name, {}))
                pair(value, classes[value])
                _stdlib_classes[classes[value]] = value
            namespace[name] = classes[value]
        else:
            namespace[name] = value
    namespace["_verdigris_original"] = original
    pair(original, _module_of(namespace))


def patch(
    original: types.ModuleType, replaced: Mapping[str, Any], methods: Methods | None = None
) -> None:
    """Makes `original` green in place. Twice is as good as once."""
    for name, green in replaced.items():
        setattr(original, name, green)
    for class_name, table in (methods or {}).items():
        for name, green in table.items():
            setattr(getattr(original, class_name), name, green)


def _module_of(namespace: dict[str, Any]) -> types.ModuleType:
    import sys

    return sys.modules[namespace["__name__"]]


def _is_function_of(value: Any, module: types.ModuleType) -> bool:
    return isinstance(value, types.FunctionType) and value.__globals__ is module.__dict__


def _is_class_of(value: Any, module: types.ModuleType) -> bool:
    return (
        isinstance(value, type)
        and value.__module__ == module.__name__
        and not issubclass(value, (BaseException, enum.Enum, tuple))
    )


def _has_functions(cls: type, module: types.ModuleType) -> bool:
    return any(_rebindable(value, module) for value in vars(cls).values())


def _rebindable(value: Any, module: types.ModuleType) -> bool:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if isinstance(value, property):
        return any(_is_function_of(part, module) for part in (value.fget, value.fset, value.fdel))
    return _is_function_of(value, module)


def _bound_anew(function: types.FunctionType, namespace: dict[str, Any]) -> types.FunctionType:
    """The same function with other globals."""
    code = function.__code__
    if "super" in code.co_names:
        code = code.replace(
            co_names=tuple("_verdigris_super" if n == "super" else n for n in code.co_names)
        )
        namespace["_verdigris_super"] = _Super
    new = types.FunctionType(
        code, namespace, function.__name__, function.__defaults__, function.__closure__
    )
    new.__kwdefaults__ = function.__kwdefaults__
    new.__dict__.update(function.__dict__)
    new.__doc__ = function.__doc__
    new.__annotations__ = function.__annotations__
    new.__qualname__ = function.__qualname__
    new.__module__ = namespace["__name__"]
    return new


class _Super(super):
    """`super(Name, self)` where Name has become the twin: its next class is the stdlib's Name, the
    method of which runs already. What is meant is the one after that. `super()` needs no help."""

    def __getattribute__(self, name: str) -> Any:
        this = object.__getattribute__(self, "__thisclass__")
        if this not in _stdlib_classes:
            return super.__getattribute__(self, name)
        instance = object.__getattribute__(self, "__self__")
        return getattr(super(_stdlib_classes[this], instance), name)


def _subclass(
    cls: type,
    module: types.ModuleType,
    namespace: dict[str, Any],
    methods: Mapping[str, Any],
) -> type:
    def anew(value: Any) -> Any:
        if isinstance(value, property):
            parts: list[Any] = [value.fget, value.fset, value.fdel]
            get, put, delete = (part and _bound_anew(part, namespace) for part in parts)
            return property(get, put, delete, value.__doc__)
        if isinstance(value, (staticmethod, classmethod)):
            function: Any = value.__func__
            return type(value)(_bound_anew(function, namespace))
        return _bound_anew(value, namespace)

    body: dict[str, Any] = {
        name: anew(value)
        for name, value in vars(cls).items()
        if _rebindable(value, module) and name != "__init_subclass__"
    }
    # Class attributes that are replaced elsewhere: `selectors.EpollSelector._selector_cls`.
    body |= {
        name: _green[id(value)]
        for name, value in vars(cls).items()
        if id(value) in _green and not name.startswith("__")
    }
    body |= {
        "__slots__": (),
        "__module__": namespace["__name__"],
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
    }
    body |= methods
    # A twin whose base has a twin too, of this module or another, comes before that in the order of
    # methods.
    greens = [_green.get(id(base), base) for base in cls.__bases__]
    bases = (cls, *(green for green in greens if green not in cls.__bases__))
    return type(cls)(cls.__name__, bases, body)
