"""SQLAlchemy's asyncio extension and green functions in one program.

SQLAlchemy runs its synchronous core over asynchronous drivers by two functions: `greenlet_spawn`
runs a sync function in a greenlet, and below it `await_only` (2.1: `await_`) waits. Both are
imported by name into many modules, often before verdigris is. So what is changed is their code:
every reference is served, in whatever order things were imported, and the old code comes back
exactly.

- Always: `await_only` also waits right in a green function, where no greenlet is needed;
  `in_greenlet`, by which it knows whether it may close a connection in good order, says so; and
  our `await_` also waits below `greenlet_spawn`.
- With `patch_sqlalchemy()`: `greenlet_spawn` runs its function on a native stack, and no greenlet
  is made at all.
"""

import importlib
import sys
from collections.abc import Awaitable, Callable
from types import FunctionType, ModuleType
from typing import Any

from verdigris import _engine
from verdigris._engine import async_def, await_, can_await

# The module with the functions, and the names of those that wait, for each series that is known.
_SERIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "2.0": ("sqlalchemy.util._concurrency_py3k", ("await_only", "await_fallback")),
    "2.1": ("sqlalchemy.util.concurrency", ("await_",)),
}
MODULES = tuple(module for module, _ in _SERIES.values())

# What a changed function looks up in its module, which is SQLAlchemy's.
_OURS = "_verdigris"


def _version() -> str:
    # Takes long to import, and is needed only with SQLAlchemy.
    from importlib import metadata

    # Not `sqlalchemy.__version__`, which is not set yet while the package is being imported.
    try:
        return metadata.version("sqlalchemy")
    except metadata.PackageNotFoundError:
        return str(getattr(importlib.import_module("sqlalchemy"), "__version__", "unknown"))


def _series() -> str:
    return ".".join(_version().split(".")[:2])


def _module() -> tuple[ModuleType, tuple[str, ...]] | None:
    """The module of the series that is loaded, and the names of its functions that wait."""
    known = _SERIES.get(_series())
    if known is None or known[0] not in sys.modules:
        return None
    return sys.modules[known[0]], known[1]


class _Changed:
    """A function whose code is another one's for now."""

    def __init__(self, function: FunctionType, template: Any, ours: Any) -> None:
        if template.__code__.co_freevars or function.__code__.co_freevars:
            raise TypeError(f"{function.__qualname__} can't be changed: it is a closure")
        self._function = function
        self._code = function.__code__
        #: A function that does what it did.
        self.before = FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__
        )
        self.before.__kwdefaults__ = function.__kwdefaults__
        function.__globals__.setdefault(_OURS, {})[function.__name__] = ours(self.before)
        function.__code__ = template.__code__.replace(co_name=function.__code__.co_name)

    def restore(self) -> None:
        """Gives the function its own code back."""
        # What the changed code looks up stays: a coroutine of it may not have begun yet.
        self._function.__code__ = self._code


def _in_their_greenlet() -> Any:
    """The greenlet of `greenlet_spawn` that runs the caller, or None."""
    greenlet = sys.modules.get("greenlet")
    current = greenlet and greenlet.getcurrent()
    if getattr(current, "__sqlalchemy_greenlet_provider__", False):
        return current
    return None


def _wait_in_their_greenlet(awaitable: Any) -> Any:
    """Waits for our `await_` below `greenlet_spawn`; with None, tells whether it could."""
    current = _in_their_greenlet()
    if awaitable is None:
        return current is not None
    return NotImplemented if current is None else current.parent.switch(awaitable)


def _waiting(before: Callable[..., Any]) -> Callable[..., Any]:
    def wait(awaitable: Awaitable[Any]) -> Any:
        # Their greenlet first: `greenlet_spawn` counts the waits that come through it.
        if _in_their_greenlet() is None and can_await():
            return await_(awaitable)
        return before(awaitable)

    return wait


def _telling(before: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: before() or can_await()


def _spawning(before: Callable[..., Any]) -> Callable[..., Any]:
    async def spawn(
        fn: Callable[..., Any], args: Any, require_await: bool, kwargs: dict[str, Any]
    ) -> Any:
        coroutine = async_def(fn, *args, **kwargs)
        result = await coroutine
        if require_await and not coroutine.cr_has_awaited:
            from sqlalchemy import exc

            raise exc.AwaitRequired(
                "The current operation required an async execution but none was detected. This "
                "will usually happen when using a non compatible DBAPI driver. Please ensure that "
                "an async DBAPI is used."
            )
        return result

    return spawn


# The code that changed functions get. Its names are looked up in SQLAlchemy's module.
# mypy: disable-error-code="name-defined"


def _await_only_template(awaitable):  # type: ignore[no-untyped-def]
    return _verdigris["await_only"](awaitable)  # noqa: F821


def _await_fallback_template(awaitable):  # type: ignore[no-untyped-def]
    return _verdigris["await_fallback"](awaitable)  # noqa: F821


def _await_template(awaitable):  # type: ignore[no-untyped-def]
    return _verdigris["await_"](awaitable)  # noqa: F821


def _in_greenlet_template():  # type: ignore[no-untyped-def]
    return _verdigris["in_greenlet"]()  # noqa: F821


async def _greenlet_spawn_template(fn, *args, _require_await=False, **kwargs):  # type: ignore[no-untyped-def]
    return await _verdigris["greenlet_spawn"](fn, args, _require_await, kwargs)  # noqa: F821


_TEMPLATES: dict[str, Any] = {
    "await_only": _await_only_template,
    "await_fallback": _await_fallback_template,
    "await_": _await_template,
}


_met = False


def meet() -> None:
    """Called when SQLAlchemy's functions are there: has them and ours work in each other's place.

    Of a series that is not known nothing is changed.
    """
    global _met
    found = _module() if not _met else None
    if found is None:
        return
    module, names = found
    for name in names:
        _Changed(getattr(module, name), _TEMPLATES[name], _waiting)
    if hasattr(module, "in_greenlet"):  # since 2.0.24
        _Changed(module.in_greenlet, _in_greenlet_template, _telling)
    _engine._register_other_waiter(_wait_in_their_greenlet)
    _met = True


class PatchedSQLAlchemy:
    """SQLAlchemy's asyncio extension on native stacks. Made by `patch_sqlalchemy`.

    As a context manager it is undone at the end of the block.
    """

    def __init__(self, changed: _Changed) -> None:
        """Takes what was changed. Call `patch_sqlalchemy` instead."""
        self._changed: _Changed | None = changed

    def undo(self) -> None:
        """Gives SQLAlchemy its own way back. Calls that run now end as they began."""
        global _patch
        if self._changed is not None:
            self._changed.restore()
            self._changed = _patch = None

    def __enter__(self) -> "PatchedSQLAlchemy":
        """Nothing is left to do: it is patched."""
        return self

    def __exit__(self, *error: object) -> None:
        """Undoes it."""
        self.undo()


_patch: PatchedSQLAlchemy | None = None


def patch_sqlalchemy() -> PatchedSQLAlchemy:
    """Has SQLAlchemy's asyncio extension run on native stacks, without a greenlet for each call.

    `AsyncEngine`, `AsyncConnection`, `AsyncSession` and `run_sync` work as before, and `await_`
    works in what they run. Calls are cheaper by what making a greenlet costs. Call it once, at the
    start of the program; a second call gives the same object.

    Not a checkpoint. Without this call SQLAlchemy and verdigris work together too.

    Returns:
        An object to `undo()` it with, also a context manager.

    Raises:
        ImportError: SQLAlchemy is not installed.
        RuntimeError: It is of a series other than 2.0 and 2.1.

    Example:
        >>> import asyncio
        >>> from sqlalchemy import text
        >>> from sqlalchemy.ext.asyncio import create_async_engine
        >>> from verdigris import patch_sqlalchemy
        >>> async def main():
        ...     engine = create_async_engine("sqlite+aiosqlite:///:memory:")
        ...     async with engine.connect() as connection:
        ...         answer = await connection.scalar(text("select 6 * 7"))
        ...     await engine.dispose()
        ...     return answer
        >>> with patch_sqlalchemy():
        ...     asyncio.run(main())
        42
    """
    global _patch
    if _patch is None:
        import sqlalchemy  # noqa: F401 (says so if it is not installed)

        known = _SERIES.get(_series())
        if known is None:
            raise RuntimeError(
                f"patch_sqlalchemy() knows SQLAlchemy {' and '.join(_SERIES)}, and this is "
                f"{_version()}. Use one of these, or go without the patch: SQLAlchemy "
                f"then makes a greenlet for each call."
            )
        module = importlib.import_module(known[0])
        meet()
        _patch = PatchedSQLAlchemy(
            _Changed(module.greenlet_spawn, _greenlet_spawn_template, _spawning)
        )
    return _patch
