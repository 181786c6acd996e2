"""A timeline of green functions, in the format of Chrome's trace events.

Every function has a row, on which running and waiting alternate, and so has every thread, with the
functions that run in it. Slices are complete events ("X"), written when they end: so that they
nest whatever is lost, and nothing has to be kept of what is over.

The file is a JSON array that is whole after each write: the next write begins where the bracket
is. What was written is valid even if the process is killed.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import sys
import weakref
from types import TracebackType
from typing import Any, Self

from verdigris import loops
from verdigris._engine import PortalCoroutine
from verdigris._unpatched import allocate_lock, get_ident, get_native_id, perf_counter_ns
from verdigris.inspect import _watching, _words
from verdigris.inspect._awaits import chain
from verdigris.inspect._suspended import _thread_names

# The numbers of threads end below that.
_FIRST_ROW = 1 << 24
# So many events are written at once...
_BATCH = 512
# ...and so many are kept at most, while the disk is slow.
_MOST = 1 << 16


class _Row:
    """A function, or a task that has a portal."""

    __slots__ = ("goes", "label", "number", "since", "waits_for")

    def __init__(self, number: int, label: str) -> None:
        self.number = number
        self.label = json.dumps(label)
        self.goes = False
        self.waits_for: str | None = None
        self.since = 0


class trace:
    """Writes a timeline of green functions into a file, for Perfetto and chrome://tracing.

    A context manager; or call `start` and `stop`. All threads and loops of the process are
    watched, from the next step of each function on. The file is valid at any time, also if the
    program dies. One trace at a time. Not a checkpoint. It costs some microseconds a step; memory
    is bounded.

    Args:
        path: The file, which is overwritten.

    Raises:
        RuntimeError: On starting: another trace is being written.
        OSError: On starting the file can't be written; on stopping it could not.

    Example:
        >>> import asyncio, json, os, tempfile
        >>> from verdigris import async_def, await_, inspect
        >>> path = os.path.join(tempfile.mkdtemp(), "trace.json")
        >>> def nap():
        ...     await_(asyncio.sleep(0.001))
        >>> with inspect.trace(path):
        ...     asyncio.run(async_def(nap))
        >>> with open(path) as file:
        ...     events = json.load(file)
        >>> [event["name"] for event in events if event.get("cat") == "waits"]
        ['asyncio.sleep(0.001)']
    """

    __module__ = "verdigris.inspect"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Writes nothing yet."""
        self._path = path
        self._file: io.FileIO | None = None
        self._pid = 0
        self._begin = 0
        self._rows: weakref.WeakKeyDictionary[Any, _Row] = weakref.WeakKeyDictionary()
        self._next = _FIRST_ROW
        self._threads: dict[int, int] = {}
        self._events: list[str] = []
        self._lost = 0
        self._writes = allocate_lock()
        self._error: OSError | None = None

    def start(self) -> Self:
        """Begins. Returns itself."""
        # Made first: what can't be written shall not be begun.
        file = io.FileIO(self._path, "w")
        try:
            file.write(b"[\n]\n")
            file.seek(0)
            _watching.watch(self._note)
        except (OSError, RuntimeError):
            file.close()
            raise
        self._pid = os.getpid()
        self._begin = perf_counter_ns()
        self._error = None
        self._lost = 0
        self._threads.clear()
        self._events.append(
            f'{{"ph":"M","name":"process_name","pid":{self._pid},"tid":0,'
            f'"args":{{"name":"Python {self._pid}"}}}}'
        )
        self._file = file
        atexit.register(self.stop)
        _watch_forks(self)
        return self

    def stop(self) -> None:
        """Ends what `start` began. What runs and waits then is drawn up to now. Twice is as once.

        Raises:
            OSError: The file could not be written.
        """
        if self._file is None:
            return
        _watching.unwatch()
        atexit.unregister(self.stop)
        now = perf_counter_ns()
        for row in list(self._rows.values()):
            self._draw(row, now, None)
        self._rows.clear()
        if self._lost:
            self._events.append(
                f'{{"ph":"i","s":"g","name":"{self._lost} events were lost","pid":{self._pid},'
                f'"tid":0,"ts":{self._stamp(now)}}}'
            )
        with self._writes:
            self._write()
            self._file.close()
            self._file = None
        _watch_forks(None)
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.stop()

    # --- called at every step, in any thread -----------------------------------

    def _note(self, event: int, subject: Any, awaited: Any) -> None:
        now = perf_counter_ns()
        row = self._rows.get(subject)
        if row is None:
            row = self._rows[subject] = self._new_row(subject)
        if event == _watching.GOES:
            self._draw(row, now, None)
            row.goes = True
        else:
            if row.goes:
                self._draw(row, now, self._thread())
            row.goes = False
            row.waits_for = _wait_of(event, subject, awaited)
        row.since = now
        if len(self._events) >= _BATCH and self._writes.acquire(False):
            # Whoever has the lock writes this too. It may be this thread, further out.
            try:
                self._write()
            finally:
                self._writes.release()

    def _new_row(self, subject: Any) -> _Row:
        name = subject.__qualname__
        task = _task_name()
        self._next += 1
        row = _Row(self._next, name)
        told = name if task is None else f"{name} ({task})"
        self._keep(
            f'{{"ph":"M","name":"thread_name","pid":{self._pid},"tid":{row.number},'
            f'"args":{{"name":{json.dumps(told)}}}}}'
        )
        return row

    def _thread(self) -> int:
        """The row of the thread that runs this."""
        ident = get_ident()
        number = self._threads.get(ident)
        if number is None:
            number = self._threads[ident] = get_native_id()
            name = json.dumps(_thread_names().get(ident, f"thread {ident}"))
            self._keep(
                f'{{"ph":"M","name":"thread_name","pid":{self._pid},"tid":{number},'
                f'"args":{{"name":{name}}}}}'
            )
        return number

    def _draw(self, row: _Row, now: int, thread: int | None) -> None:
        """Keeps the slice that ends now, if one has begun."""
        if row.goes:
            name, category = row.label, "runs"
        elif row.waits_for is not None:
            name, category = json.dumps(row.waits_for), "waits"
        else:
            return
        slice_ = (
            f'{{"ph":"X","name":{name},"cat":"{category}","pid":{self._pid},'
            f'"ts":{self._stamp(row.since)},"dur":{(now - row.since) / 1000:.3f},"tid":'
        )
        self._keep(f"{slice_}{row.number}}}")
        if thread is not None:
            self._keep(f"{slice_}{thread}}}")

    def _stamp(self, time: int) -> str:
        return f"{(time - self._begin) / 1000:.3f}"

    def _keep(self, event: str) -> None:
        if len(self._events) < _MOST:
            self._events.append(event)
        else:
            self._lost += 1

    def _write(self) -> None:
        """Writes what there is. The caller has the lock."""
        file = self._file
        events, self._events = self._events, []
        if file is None or self._error is not None or not events:
            return
        position = file.tell()
        text = ("[\n" if position == 0 else ",\n") + ",\n".join(events)
        try:
            _write_all(file, text.encode() + b"\n]\n")
            file.seek(position + len(text.encode()))
        except OSError as error:
            self._error = error

    def _forget(self) -> None:
        """In a forked child: the file is the parent's."""
        _watching.unwatch()
        atexit.unregister(self.stop)
        if self._file is not None:
            self._file.close()
            self._file = None


def _write_all(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def _wait_of(event: int, subject: Any, awaited: Any) -> str | None:
    """What a function waits for that has just been suspended; None if it has ended."""
    if event == _watching.ENDS:
        # A portal's step ends when the task waits by itself.
        if not isinstance(subject, PortalCoroutine) or subject.cr_frame is None:
            return None
        awaited = subject.cr_await
    return _words.of_chain(list(chain(awaited)))


def _task_name() -> str | None:
    """The name of the task that runs this, if one does."""
    library = loops.running_library()
    if library is None:
        return None
    module: Any = sys.modules[library]
    if library == "asyncio":
        task = module.current_task()
        return None if task is None else str(task.get_name())
    if library == "trio":
        return str(module.lowlevel.current_task().name)
    return None


_written: trace | None = None
_knows_forks = False


def _watch_forks(tracer: trace | None) -> None:
    global _written, _knows_forks
    _written = tracer
    if not _knows_forks:
        _knows_forks = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    if _written is not None:
        _written._forget()
        _watch_forks(None)
