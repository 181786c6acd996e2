"""Portals for Trio's tasks, given by an instrument when nurseries start them.

A task may be watched from a certain nursery on: children of nurseries that it has opened before
get no portal. Children of a child that got one all do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
        # How many nurseries a watched task had open when that began.
        self._watched: dict[Task, int] = {}
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
            wanted = True
        else:
            parent = nursery.parent_task
            opened_before = self._watched.get(parent)
            wanted = (
                opened_before is not None and parent.child_nurseries.index(nursery) >= opened_before
            )
        if wanted:
            bestow_portal(task)
            self._watched[task] = 0

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

    task: Any = trio.lowlevel.current_task()
    variable = _run_variable()
    instrument = variable.get()
    if instrument is not None and task in instrument._watched:
        yield
        return
    if instrument is None:
        instrument = AutoPortalInstrument()
        trio.lowlevel.add_instrument(instrument)
        variable.set(instrument)
    instrument._watched[task] = len(task.child_nurseries)
    instrument._users += 1
    try:
        yield
    finally:
        instrument._watched.pop(task, None)
        instrument._users -= 1
        if instrument._users == 0:
            variable.set(None)
            trio.lowlevel.remove_instrument(instrument)
