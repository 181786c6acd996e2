"""Portals for Trio's tasks, given by an instrument when nurseries start them.

A block watches a task from a certain nursery on: children of nurseries that the task has opened
before get no portal. Children of a child that got one all do, as long as the block is open.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from verdigris._portal import bestow_portal

if TYPE_CHECKING:
    from trio.abc import Instrument
    from trio.lowlevel import RunVar, Task
else:
    # Trio's class holds empty methods only, and Trio asks for no more than the ones below. This
    # module is imported with verdigris, also where Trio is not installed.
    Instrument = object

# The instrument of each run. Made when the first run needs it, because Trio is not imported here.
_of_run: "RunVar[AutoPortalInstrument | None] | None" = None


class _Tree:
    """A block whose tasks get portals, or a run whose tasks all do."""

    def __init__(self) -> None:
        self.open = True


class AutoPortalInstrument(Instrument):
    """A Trio instrument that gives every task of a run a portal, system tasks too.

    Pass it to `trio.run`. (`with_portal_run_tree` does the same for a part of a program.)

    Example:
        >>> import trio
        >>> from verdigris import AutoPortalInstrument, await_
        >>> def callback():
        ...     await_(trio.sleep(0))
        ...     return "called"
        >>> async def main():
        ...     return callback()
        >>> trio.run(main, instruments=[AutoPortalInstrument()])
        'called'
    """

    def __init__(self) -> None:
        """Watches no task yet."""
        # The trees that a task belongs to, with the number of nurseries it had open before.
        self._watched: dict[Task, list[tuple[_Tree, int]]] = {}
        # For how many it must stay installed: blocks that are open, and the run itself.
        self._users = 0

    def before_run(self) -> None:
        """Called by Trio when the instrument was passed to `trio.run`."""
        self._users = 1
        _run_variable().set(self)

    def task_spawned(self, task: "Task") -> None:
        """Called by Trio for every new task."""
        nursery = task.parent_nursery
        if nursery is None:
            # The first task of all, seen only by an instrument that was passed to `trio.run`.
            trees = [_Tree()]
        else:
            parent = nursery.parent_task
            watched = self._watched.get(parent)
            if watched is None:
                return
            position = parent.child_nurseries.index(nursery)
            trees = [
                tree for tree, opened_before in watched if tree.open and position >= opened_before
            ]
        if trees:
            bestow_portal(task)
            self._watched[task] = [(tree, 0) for tree in trees]

    def task_exited(self, task: "Task") -> None:
        """Called by Trio for every task that has ended."""
        self._watched.pop(task, None)


def _run_variable() -> "RunVar[AutoPortalInstrument | None]":
    global _of_run
    if _of_run is None:
        import trio

        _of_run = trio.lowlevel.RunVar("verdigris_portals", default=None)
    return _of_run


@contextmanager
def children_of_this_task() -> Iterator[None]:
    """Gives portals to the tasks of nurseries that the current task opens within."""
    import trio

    task = trio.lowlevel.current_task()
    variable = _run_variable()
    instrument = variable.get()
    if instrument is None:
        instrument = AutoPortalInstrument()
        trio.lowlevel.add_instrument(instrument)
        variable.set(instrument)
    tree = _Tree()
    watch = (tree, len(task.child_nurseries))
    instrument._watched.setdefault(task, []).append(watch)
    instrument._users += 1
    try:
        yield
    finally:
        tree.open = False
        # Gone if the block ends in another task, and this one has ended.
        watched = instrument._watched.get(task)
        if watched is not None:
            watched.remove(watch)
            if not watched:
                del instrument._watched[task]
        instrument._users -= 1
        if instrument._users == 0:
            variable.set(None)
            trio.lowlevel.remove_instrument(instrument)
