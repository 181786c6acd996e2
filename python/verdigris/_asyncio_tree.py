"""Portals for asyncio's tasks, given when the loop's `create_task` makes them.

Which tasks belong to a tree is told by a context variable, which asyncio copies for every task
and callback. While a tree is open the loop has a `create_task` of ours in front of its own. The
task factory is not touched: programs set it and ask for it, and some (anyio) compare it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar
from typing import Any

from verdigris import _engine
from verdigris._engine import GreenCoroutine, PortalCoroutine


class _Tree:
    """A block whose tasks get portals."""

    def __init__(self, loop: asyncio.AbstractEventLoop, outer: "_Tree | None") -> None:
        self.loop = loop
        self.outer = outer
        self.open = True
        # Those that have ended meanwhile are left out, or a chain of blocks that overlap would be
        # kept for ever.
        tree = self
        while (around := tree.outer) is not None:
            if around.open:
                tree = around
            else:
                tree.outer = around.outer


_tree: ContextVar[_Tree | None] = ContextVar("verdigris_tree", default=None)


def _innermost_open() -> _Tree | None:
    """The tree that a task belongs to which is made now, in this context."""
    tree = _tree.get()
    # Blocks may end in any order, and before the tasks that copied the variable.
    while tree is not None and not tree.open:
        tree = tree.outer
    return tree


def _grows_on(loop: asyncio.AbstractEventLoop) -> _Tree | None:
    tree = _innermost_open()
    while tree is not None and not (tree.open and tree.loop is loop):
        tree = tree.outer
    return tree


class _Watched:
    """A loop with a `create_task` of ours, for as long as trees are open on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._had_its_own = "create_task" in vars(loop)
        self._before: Callable[..., asyncio.Task[Any]] = loop.create_task
        self._ours = self._create_task
        self.trees = 0
        loop.create_task = self._ours  # type: ignore[method-assign]

    def _create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        tree = _grows_on(self._loop)
        if tree is not None:
            context = options.get("context")
            if context is not None:
                _join(context, tree)
            if _is_steppable(coro):
                coro = _engine.portal(coro)
        return self._before(coro, **options)

    def restore(self) -> None:
        """Gives the loop its own `create_task` back."""
        if vars(self._loop).get("create_task") is not self._ours:
            return  # somebody has put another in front of ours, which passes everything on
        if self._had_its_own:
            self._loop.create_task = self._before  # type: ignore[method-assign]
        else:
            del self._loop.create_task


_watched: dict[asyncio.AbstractEventLoop, _Watched] = {}


def _is_steppable(coro: object) -> bool:
    # What is green already needs no portal, and what is no coroutine gets the loop's own error.
    if isinstance(coro, (GreenCoroutine, PortalCoroutine)):
        return False
    return asyncio.iscoroutine(coro)


def _join(context: Context, tree: _Tree) -> None:
    """Makes a task that is started in a context of its own choice one of the tree."""
    # If it is entered already, it is the current one, or one around it.
    with suppress(RuntimeError):
        context.run(_tree.set, tree)


@contextmanager
def children_of_this_task() -> Iterator[None]:
    """Gives portals to the tasks that are made within, and to those that these make."""
    loop = asyncio.get_running_loop()
    watched = _watched.get(loop)
    if watched is None:
        try:
            watched = _watched[loop] = _Watched(loop)
        except (AttributeError, TypeError) as error:
            raise RuntimeError(
                f"Portals for a tree of tasks need a loop whose create_task can be replaced, and "
                f"{type(loop).__qualname__} does not let it. Call ensure_portal() in each task."
            ) from error
    watched.trees += 1
    tree = _Tree(loop, _innermost_open())
    _tree.set(tree)
    try:
        yield
    finally:
        tree.open = False
        # Not a reset: blocks may end in any order, and in another context than they began in.
        _tree.set(_innermost_open())
        watched.trees -= 1
        if watched.trees == 0:
            del _watched[loop]
            watched.restore()
