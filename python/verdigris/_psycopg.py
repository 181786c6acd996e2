"""psycopg2 and psycopg 3, which wait in C, in green functions.

What is put into them is in `_psycopg2_wait` and `_psycopg3_wait`, which are imported only here and
only when they are wanted.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class PatchedPsycopg2:
    """psycopg2 with a wait callback of ours. Made by `patch_psycopg2`.

    As a context manager it is undone at the end of the block.
    """

    def __init__(self, before: Callable[[Any], object] | None) -> None:
        """Takes the callback that was set before. Call `patch_psycopg2` instead."""
        self._before = before

    def undo(self) -> None:
        """Gives psycopg2 the wait callback back that it had, or none."""
        global _patch_of_2
        if _patch_of_2 is self:
            from psycopg2 import extensions

            from verdigris import _psycopg2_wait

            # A callback that somebody has set since is theirs to remove.
            if extensions.get_wait_callback() is _psycopg2_wait.wait_for:
                extensions.set_wait_callback(self._before)
            _patch_of_2 = None

    def __enter__(self) -> "PatchedPsycopg2":
        """Nothing is left to do: it is patched."""
        return self

    def __exit__(self, *error: object) -> None:
        """Undoes it."""
        self.undo()


_patch_of_2: PatchedPsycopg2 | None = None


def patch_psycopg2() -> PatchedPsycopg2:
    """Has psycopg2 wait without blocking the loop, in functions that run green.

    Elsewhere it waits as before. SQLAlchemy over psycopg2 and connection pools work the same.
    `connect_timeout` is kept. A wait that is cancelled cancels the query on the server, and the
    connection is closed.

    psycopg2 itself refuses `COPY` and large objects while it has a wait callback, in every thread.
    Host names are resolved by libpq, which blocks: give an address where that matters. Call it
    once, at the start of the program; a second call gives the same object. Not a checkpoint.

    Returns:
        An object to `undo()` it with, also a context manager.

    Raises:
        ImportError: psycopg2 is not installed.

    Example:
        >>> from verdigris import patch_psycopg2
        >>> import psycopg2.extensions
        >>> with patch_psycopg2():
        ...     psycopg2.extensions.get_wait_callback() is not None
        True
        >>> psycopg2.extensions.get_wait_callback() is None
        True
    """
    global _patch_of_2
    try:
        from psycopg2 import extensions
    except ImportError as error:
        raise ImportError(
            "patch_psycopg2() needs psycopg2, which is not installed. Install psycopg2 or "
            "psycopg2-binary; for psycopg 3 call patch_psycopg()."
        ) from error
    from verdigris import _psycopg2_wait

    if _patch_of_2 is None:
        _patch_of_2 = PatchedPsycopg2(extensions.get_wait_callback())
    extensions.set_wait_callback(_psycopg2_wait.wait_for)
    return _patch_of_2


class PatchedPsycopg:
    """psycopg 3 with wait functions of ours. Made by `patch_psycopg`.

    As a context manager it is undone at the end of the block.
    """

    def __init__(self, undo: list[Callable[[], object]]) -> None:
        """Takes what gives psycopg its own functions back. Call `patch_psycopg` instead."""
        self._undo = undo

    def undo(self) -> None:
        """Gives psycopg its own wait functions back. Waits that go on now end as they began."""
        global _patch_of_3
        for step in self._undo:
            step()
        self._undo = []
        if _patch_of_3 is self:
            _patch_of_3 = None

    def __enter__(self) -> "PatchedPsycopg":
        """Nothing is left to do: it is patched."""
        return self

    def __exit__(self, *error: object) -> None:
        """Undoes it."""
        self.undo()


_patch_of_3: PatchedPsycopg | None = None


def patch_psycopg() -> PatchedPsycopg:
    """Has psycopg 3 wait without blocking the loop, in functions that run green.

    `psycopg.connect`, cursors, pipelines, `COPY`, notifications and SQLAlchemy over psycopg work
    the same. Elsewhere, and in its async connections, it waits as before. A wait that is cancelled
    cancels the query on the server, and the connection can be used again; leaving the block of
    `with connect()` closes it, as ever.

    For `psycopg_pool`, whose workers are threads, call `patch_all` too. Host names are resolved by
    libpq, which blocks: give an address where that matters. Call it once, at the start of the
    program; a second call gives the same object. Not a checkpoint.

    Returns:
        An object to `undo()` it with, also a context manager.

    Raises:
        ImportError: psycopg is not installed.

    Example:
        >>> from verdigris import patch_psycopg
        >>> import psycopg.waiting
        >>> before = psycopg.waiting.wait
        >>> with patch_psycopg():
        ...     psycopg.waiting.wait is before
        False
        >>> psycopg.waiting.wait is before
        True
    """
    global _patch_of_3
    if _patch_of_3 is None:
        try:
            import psycopg
            from psycopg import waiting
        except ImportError as error:
            raise ImportError(
                "patch_psycopg() needs psycopg 3, which is not installed. Install psycopg; for "
                "psycopg2 call patch_psycopg2()."
            ) from error
        from verdigris import _psycopg3_wait

        undo: list[Callable[[], object]] = []
        for before, green in (
            (waiting.wait, _psycopg3_wait.waiting_for(waiting.wait)),
            (waiting.wait_conn, _psycopg3_wait.waiting_to_connect(waiting.wait_conn)),
        ):
            undo += _put_everywhere(before, green)
        connection: Any = psycopg.Connection
        undo.append(_put(connection, "wait", _psycopg3_wait.cancelling(connection.wait)))
        undo.append(_put(connection, "__exit__", _psycopg3_wait.closing(connection.__exit__)))
        _patch_of_3 = PatchedPsycopg(undo)
    return _patch_of_3


def _put_everywhere(before: object, green: object) -> list[Callable[[], object]]:
    """Puts one object in the place of another in all of psycopg."""
    undo = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in ("psycopg", "psycopg_pool"):
            continue
        if isinstance(module, ModuleType):
            undo += [
                _put(module, key, green)
                for key, value in list(vars(module).items())
                if value is before
            ]
    return undo


def _put(target: Any, name: str, value: object) -> Callable[[], object]:
    before = getattr(target, name)
    setattr(target, name, value)

    def undo() -> None:
        if getattr(target, name) is value:
            setattr(target, name, before)

    return undo
