"""What the programs are made of: probes.

A probe is a small sync program over one library. It asserts what it got, so that it is right if it
returns, or if it raises what it shall raise. Nothing in it knows of verdigris.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar, overload

# The addresses of the servers, by the names of their fixtures.
servers = SimpleNamespace(**json.loads(os.environ.get("VERDIGRIS_SERVERS", "{}")))

Function = TypeVar("Function", bound=Callable[[], None])

# What a slow server takes.
SLOW_SECONDS = 0.3


@dataclass(frozen=True)
class Probe:
    """A program, and what else is true of it.

    Attributes:
        function: The program.
        raises: What it raises, where that is the right end.
        slow: It waits SLOW_SECONDS for its server. Three at once may take little longer than one,
            and it is cancelled half way.
    """

    function: Callable[[], None]
    raises: type[BaseException] | tuple[type[BaseException], ...] | None
    slow: bool

    @property
    def name(self) -> str:
        return self.function.__name__

    def __call__(self) -> None:
        if self.raises is None:
            self.function()
            return
        try:
            self.function()
        except self.raises:
            return
        raise AssertionError(f"did not raise {self.raises}")


# All of the program that is imported, in its order.
probes: list[Probe] = []


@overload
def probe(function: Function, /) -> Function: ...
@overload
def probe(
    *,
    raises: type[BaseException] | tuple[type[BaseException], ...] | None = None,
    slow: bool = False,
) -> Callable[[Function], Function]: ...
def probe(
    function: Any = None,
    /,
    *,
    raises: type[BaseException] | tuple[type[BaseException], ...] | None = None,
    slow: bool = False,
) -> Any:
    """Makes a function a probe. See `Probe` for the arguments."""

    def note(function: Function) -> Function:
        probes.append(Probe(function, raises, slow))
        return function

    return note if function is None else note(function)
