"""What of a call can't be pickled, where it has to go to another process.

`pickle` tells the type of what it refused, not where that was. This finds it: in which argument,
and where inside. It pickles again, so it is asked only when pickling has failed.
"""

from __future__ import annotations

import functools
import pickle
import reprlib
import sys
from collections.abc import Callable, Iterator
from types import CellType, FunctionType, MethodType
from typing import Any

from verdigris.worlds._call import Call

Dumps = Callable[[Any], Any]

# What is inside of something inside of ...: further down nobody looks for it.
_DEPTH = 10

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def found(call: Call, dumps: Dumps) -> str | None:
    """Tells what of a call can't be pickled, in words; None where all of it can."""
    for name, value in _parts(call):
        error = _refusal(value, dumps)
        if error is not None:
            place, inner, error = _innermost(value, error, dumps)
            where = f"{name}, at {place}" if place else name
            return f"{where}, {_short.repr(inner)}, can't be pickled ({error})"
    return None


def dumps_of(executor: Any) -> Dumps:
    """What an executor pickles calls with, as far as that is known."""
    module = type(executor).__module__.partition(".")[0]
    cloudpickle = sys.modules.get("cloudpickle")
    if module != "concurrent" and cloudpickle is not None:
        # loky and Dask send by value what pickle can only name.
        by_value: Dumps = cloudpickle.dumps
        return by_value
    reduction = sys.modules.get("multiprocessing.reduction")
    if reduction is not None:
        of_processes: Dumps = reduction.ForkingPickler.dumps
        return of_processes
    return pickle.dumps


def _parts(call: Call) -> Iterator[tuple[str, Any]]:
    yield "the function itself", call.function
    for number, value in enumerate(call.args, 1):
        yield f"its argument {number}", value
    for name, value in call.kwargs.items():
        yield f"its argument {name!r}", value


def _refusal(value: Any, dumps: Dumps) -> Exception | None:
    try:
        dumps(value)
    except Exception as error:  # of whatever type: it is the value's own code that refuses
        return error
    return None


def _innermost(value: Any, error: Exception, dumps: Dumps) -> tuple[str, Any, Exception]:
    """The smallest part of a value that is refused: how it is reached, itself, and why."""
    path = ""
    for _ in range(_DEPTH):
        for step, inner in _inside(value, dumps):
            its_error = _refusal(inner, dumps)
            if its_error is not None:
                path, value, error = path + step, inner, its_error
                break
        else:
            break
    return path, value, error


def _inside(value: Any, dumps: Dumps) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"[{_short.repr(key)}]", inner
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield f"[{index}]", inner
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield ".args", value.args
        yield ".keywords", value.keywords
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, FunctionType):
        if _refusal(lambda: None, dumps) is not None:
            return  # functions go by their name, so what they hold is not looked at
        cells: tuple[CellType, ...] = value.__closure__ or ()
        for name, cell in zip(value.__code__.co_freevars, cells, strict=True):
            try:
                inner = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            yield f"<variable {name}>", inner
    elif not isinstance(value, type):
        attributes = getattr(value, "__dict__", None)
        for name, inner in dict(attributes or {}).items():
            yield f".{name}", inner
