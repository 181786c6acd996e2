"""`threading.local`, green: every function that runs green has values of its own.

A green `local` is a `threading.local` with three hidden fields. In an OS thread's own code its
values are where the stdlib keeps them. A green function finds its own in the field `values`, under
the `id` of what stands for the function (`_wait.current()`), and loses them when that is gone,
which a weak reference tells.
"""

from __future__ import annotations

import _thread
import weakref
from typing import Any

from verdigris.green import _wait

_os_local: Any = _thread._local
_os_ident = _thread.get_ident
_current = _wait.current
_get_os = _os_local.__getattribute__
_set_os = _os_local.__setattr__
_delete_os = _os_local.__delattr__
_get = object.__getattribute__

_missing = object()

# By the id of what stands for a function: a weak reference to it, and the locals that have values
# of it, as weak references by their id.
_functions: dict[int, tuple[weakref.ref[Any], dict[int, weakref.ref[Any]]]] = {}


class local(_os_local):  # type: ignore[misc]
    """`threading.local`: values of the green function that asks, or of the OS thread."""

    # An instance has no `__dict__` of its own, or an empty one in a subclass; so the methods of
    # `object` find what its class has, and nothing else.
    __slots__ = ("_arguments", "_awaits_init_in", "_values")

    def __new__(cls, /, *args: Any, **kwargs: Any) -> local:
        self: local = _os_local.__new__(cls, *args, **kwargs)
        _set_values(self, {})
        _set_arguments(self, (args, kwargs))
        owner = _current()
        if owner is None:
            _set_awaits_init_in(self, 0)
        else:
            # The stdlib thinks that `__init__`, which runs next, is for this OS thread. It is for
            # the function; the OS thread's turn comes when it asks first.
            initialises = cls.__init__ is not object.__init__
            _set_awaits_init_in(self, _os_ident() if initialises else 0)
            _add_values(self, owner)
        return self

    def __getattribute__(self, name: str) -> Any:
        owner = _current()
        if owner is None:
            if _awaits_init_in(self):
                _initialise_os(self)
            return _get_os(self, name)
        try:
            values = _values(self)[id(owner)]
        except KeyError:
            values = _initialise(self, owner)
        try:
            return values[name]
        except KeyError:
            return values if name == "__dict__" else _get(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        owner = _current()
        if owner is None:
            if _awaits_init_in(self):
                _initialise_os(self)
            _set_os(self, name, value)
            return
        try:
            values = _values(self)[id(owner)]
        except KeyError:
            values = _initialise(self, owner)
        # What most classes have no attribute for needs no look at the class's bases.
        if (
            getattr(type(self), name, _missing) is _missing
            or (descriptor := _data_descriptor(self, name)) is None
        ):
            values[name] = value
        else:
            type(descriptor).__set__(descriptor, self, value)

    def __delattr__(self, name: str) -> None:
        owner = _current()
        if owner is None:
            if _awaits_init_in(self):
                _initialise_os(self)
            _delete_os(self, name)
            return
        try:
            values = _values(self)[id(owner)]
        except KeyError:
            values = _initialise(self, owner)
        descriptor = _data_descriptor(self, name)
        if descriptor is not None:
            type(descriptor).__delete__(descriptor, self)
        elif values.pop(name, _missing) is _missing:
            # The class may have one of that name, which nobody can delete here.
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )


# The fields have no name on the class any more: every name is free for the user's values.
_fields = {name: local.__dict__[name] for name in local.__slots__}
for _name in _fields:
    delattr(local, _name)
_values, _set_values = _fields["_values"].__get__, _fields["_values"].__set__
_arguments, _set_arguments = _fields["_arguments"].__get__, _fields["_arguments"].__set__
_awaits_init_in = _fields["_awaits_init_in"].__get__
_set_awaits_init_in = _fields["_awaits_init_in"].__set__
del local.__slots__


def _initialise(self: local, owner: object) -> dict[str, Any]:
    """Makes the values of a function that has not used the local before."""
    values = _add_values(self, owner)
    if type(self).__init__ is not object.__init__:
        args, kwargs = _arguments(self)
        try:
            type(self).__init__(self, *args, **kwargs)
        except BaseException:
            # The stdlib too tries again when it is asked next.
            _values(self).pop(id(owner), None)
            raise
    return values


def _initialise_os(self: local) -> None:
    """Makes up for what `__new__` had to leave out."""
    if _awaits_init_in(self) == _os_ident():
        _set_awaits_init_in(self, 0)
        args, kwargs = _arguments(self)
        type(self).__init__(self, *args, **kwargs)


def _add_values(self: local, owner: object) -> dict[str, Any]:
    key = id(owner)
    values: dict[str, Any] = {}
    _values(self)[key] = values
    if key not in _functions:
        _functions[key] = (weakref.ref(owner, _FunctionIsGone(key)), {})
    locals_ = _functions[key][1]
    number = id(self)
    locals_[number] = weakref.ref(self, lambda _: locals_.pop(number, None))
    return values


class _FunctionIsGone:
    __slots__ = ("_key",)

    def __init__(self, key: int) -> None:
        self._key = key

    def __call__(self, _: object) -> None:
        _, locals_ = _functions.pop(self._key)
        for reference in list(locals_.values()):
            one = reference()
            if one is not None:
                _values(one).pop(self._key, None)
        locals_.clear()  # each reference has a callback that refers to this dict


def _data_descriptor(self: local, name: str) -> Any:
    """What the class has under a name, if it can be set as a property can, or None.

    Not left to `object.__setattr__`, which refuses classes whose base has its own, written in C.

    Raises:
        AttributeError: The name is `__dict__`, which the stdlib's locals won't have changed.
    """
    if name == "__dict__":
        raise AttributeError(f"{type(self).__name__!r} object attribute '__dict__' is read-only")
    for cls in type(self).__mro__:
        if name in cls.__dict__:
            found = cls.__dict__[name]
            kind = type(found)
            return found if hasattr(kind, "__set__") or hasattr(kind, "__delete__") else None
    return None


local.__module__ = "_thread"
local.__qualname__ = local.__name__ = "_local"
