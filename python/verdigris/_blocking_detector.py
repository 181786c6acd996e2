"""The detector of blocking calls: which line kept the event loop from coming round, and how long.

A loop that is blocked can't say so, therefore an OS thread watches it, the guard. Each loop tells
in its own way whether it comes round:

- Trio calls an instrument before and after it waits for I/O. What lies between is a *turn*. An
  idle loop is never woken, and a clock by hand (`MockClock`) jumps as it would without.
- asyncio and uvloop have no such call. The guard looks whether the loop's thread is inside of the
  loop's own wait. If not it asks for an answer (`call_soon_threadsafe`), and the turn lasts from
  the question to the answer.

While a turn lasts the guard looks at the frames of the loop's thread now and then. A turn that
lasted longer than the threshold is reported by the loop's own thread when it has ended, with the
line that was seen for the longest time. One that goes on and on is reported by the guard meanwhile,
with the line that it is in: it may never end.

C code that holds the GIL keeps the guard out as well. It comes to look as soon as that code has
returned, which is before the calling line has ended.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import linecache
import math
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from verdigris import loops
from verdigris._unpatched import allocate_lock, get_ident, monotonic, start_new_thread

if TYPE_CHECKING:
    import traceback

#: The environment variable that `python -m verdigris` honours: a threshold in seconds.
VARIABLE = "VERDIGRIS_DETECT_BLOCKING"

# How often the guard looks within a threshold. A busy loop of asyncio is asked as often.
LOOKS = 8
# Each look takes the GIL from the loop, so not more often than this, in seconds...
SHORTEST = 0.001
# ...and in a long blockage less and less: at most so many times each time it doubles.
LOOKS_EACH_DOUBLING = 32

# After so many thresholds a blockage that lasts is logged.
LIVE_THRESHOLDS = 10


@dataclass(frozen=True)
class Blockage:
    """A time in which an event loop did not come round. Made by `detect_blocking`.

    `str()` of it is the text that goes to the log.

    Attributes:
        seconds: How long it took, in seconds; if it lasts, so far. On asyncio and uvloop up to an
            eighth of the threshold may be missing.
        filename: The file of the line that was seen for the longest time; if it lasts, of the line
            that blocks now.
        lineno: The number of that line.
        function: The name of the function it is in.
        line: Its text, or "" where the source is not to be had.
        stack: All frames, the outermost first, as they were when the line was first seen.
        task: The name of the loop's task that ran it, if one did.
        lasts: Whether it was reported while it lasted, and may do so still.
    """

    seconds: float
    filename: str
    lineno: int
    function: str
    line: str
    stack: traceback.StackSummary
    task: str | None = None
    lasts: bool = False

    # Tracebacks and pickles name it as users import it.
    __module__ = "verdigris"

    def __str__(self) -> str:
        """The report: how long, where, and the traceback."""
        task = f", in task {self.task!r}" if self.task is not None else ""
        how_long = (
            f"has been blocked for {self.seconds:.3f} seconds, and still is,"
            if self.lasts
            else f"was blocked for {self.seconds:.3f} seconds"
        )
        return (
            f"The event loop {how_long} by {self.filename}:"
            f"{self.lineno}, in {self.function}{task}:\n"
            f"    {self.line or '(no source)'}\n"
            f"Stack (most recent call last):\n{''.join(self.stack.format())}"
        ).rstrip()


def detect_blocking(
    threshold: float = 0.1,
    report: Callable[[Blockage], object] | None = None,
    *,
    live: float | None = None,
) -> AbstractContextManager[None]:
    """Reports what blocks the event loop while a block of code runs. For debugging.

    Use it in a coroutine or in a green function. It watches the loop that runs there, with all its
    tasks, until the block is left. Each time the loop has not come round for longer than the
    threshold is reported once, when it is over: how long it took, and the line that was seen for
    the longest time. Lines of the stdlib, of the loop and of verdigris are passed over in favour of
    the line that called them. An idle loop is not blocked.

    A blockage that lasts is reported meanwhile too, with the line that blocks right then: after
    `live` seconds, and again each time its length has doubled.

    Blocks may be nested, and the same object may be entered more than once; each reports by
    itself. Not a checkpoint. It costs one OS thread a block.

    Args:
        threshold: The time in seconds. On asyncio and uvloop a blockage that takes less than 9/8
            of it can be missed.
        report: Called with each `Blockage`, in the thread of the loop. What it raises is logged.
            By default the blockage is logged as a warning of the logger `verdigris`.
        live: After how many seconds a blockage is reported while it lasts. `report` is then called
            in another thread, as the loop's is blocked. By default never, or after 10 thresholds
            where no `report` is given; `math.inf` is never.

    Returns:
        The context manager.

    Raises:
        TypeError: `threshold` or `live` is no number, or `report` can't be called.
        ValueError: `threshold` is not greater than 0, or not finite; or `live` is less than it.
        RuntimeError: On entering: neither asyncio nor Trio runs in this thread.

    Example:
        >>> import asyncio, time
        >>> from verdigris import detect_blocking
        >>> async def main():
        ...     with detect_blocking(0.05, report=lambda blockage: print(blockage.line)):
        ...         await asyncio.sleep(0.1)
        ...         time.sleep(0.2)
        >>> asyncio.run(main())
        time.sleep(0.2)
    """
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise TypeError(
            f"detect_blocking() needs a threshold in seconds, not {type(threshold).__name__!r}."
        )
    if not (threshold > 0 and math.isfinite(threshold)):
        raise ValueError(
            f"detect_blocking() needs a threshold greater than 0 and finite, not {threshold!r}."
        )
    if live is None:
        live = math.inf if report is not None else LIVE_THRESHOLDS * threshold
    elif isinstance(live, bool) or not isinstance(live, (int, float)):
        raise TypeError(
            f"detect_blocking() needs `live` to be in seconds, not {type(live).__name__!r}."
        )
    if not live >= threshold:
        raise ValueError(
            f"detect_blocking() needs `live` to be at least the threshold, {threshold!r}, and not "
            f"{live!r}: what is shorter is no blockage."
        )
    if report is not None and not callable(report):
        raise TypeError(
            f"detect_blocking() needs a report that can be called with a Blockage, not "
            f"{type(report).__name__!r}."
        )
    return _Detector(threshold, report or _log, live)


def detect_blocking_from_environment(
    environment: Mapping[str, str] = os.environ,
) -> AbstractContextManager[None]:
    """What `python -m verdigris` enters around a program: a detector if the variable asks for it.

    Args:
        environment: Where `VERDIGRIS_DETECT_BLOCKING` is looked up: a threshold in seconds.

    Returns:
        The context manager; one that does nothing if the variable is not set or empty.

    Raises:
        ValueError: The variable is no number of seconds.
    """
    text = environment.get(VARIABLE, "")
    if not text.strip():
        return contextlib.nullcontext()
    try:
        return detect_blocking(float(text))
    except ValueError:
        raise ValueError(
            f"{VARIABLE}={text!r} is no number of seconds greater than 0. Set it to the time that "
            f"the loop may be blocked without a report, such as 0.1."
        ) from None


class _Detector(AbstractContextManager[None]):
    """The context manager: one watch each time it is entered."""

    def __init__(self, threshold: float, report: Callable[[Blockage], object], live: float) -> None:
        self._threshold = threshold
        self._report = report
        self._live = live
        self._watches: list[_Watch] = []

    def __enter__(self) -> None:
        kind = _WATCHES.get(_running_loop())
        if kind is None:
            raise RuntimeError(
                "detect_blocking() found no running asyncio or Trio loop in this thread. Enter it "
                "in code that the loop runs: inside asyncio.run(...) or trio.run(...)."
            )
        watch = kind(self._threshold, self._report, self._live)
        watch.start()
        self._watches.append(watch)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        # The last that was entered in this thread. (On one loop all of an object are alike.)
        here = [watch for watch in self._watches if watch.thread == get_ident()]
        watch = (here or self._watches)[-1]
        self._watches.remove(watch)
        watch.stop()


class _Sight:
    """A line that the guard has seen the loop's thread in."""

    __slots__ = ("frames", "seconds", "task", "where")

    def __init__(
        self, where: tuple[str, int, str], frames: list[tuple[str, int, str]], task: str | None
    ) -> None:
        self.where = where
        self.frames = frames
        self.task = task
        # For so long it stood there, as far as the looks can tell.
        self.seconds = 0.0

    def blockage(self, seconds: float, lasts: bool = False) -> Blockage:
        import traceback

        filename, lineno, function = self.where
        line = linecache.getline(filename, lineno).strip()
        stack = traceback.StackSummary.from_list(
            [traceback.FrameSummary(*frame, lookup_line=False) for frame in reversed(self.frames)]
        )
        return Blockage(seconds, filename, lineno, function, line, stack, self.task, lasts)


class _Turn:
    """A turn of the loop that has not ended, and what was seen in it."""

    __slots__ = ("looked", "seen", "since", "told")

    def __init__(self, since: float) -> None:
        self.restart(since)

    def restart(self, since: float) -> None:
        self.since = since
        self.looked = since
        # How long it had lasted when that was reported.
        self.told = 0.0
        # By whether it is below the loop, and the line.
        self.seen: dict[tuple[bool, tuple[str, int, str]], _Sight] = {}

    def most_seen(self) -> _Sight | None:
        """What stood there longest. A line outside the loop counts only if there is no other."""
        below = [sight for (is_below, _), sight in self.seen.items() if is_below]
        return max(below or self.seen.values(), key=lambda sight: sight.seconds, default=None)


class _Watch:
    """One loop that is watched, and its guard."""

    def __init__(self, threshold: float, report: Callable[[Blockage], object], live: float) -> None:
        self._threshold = threshold
        self._report = report
        self._live = live
        # What the guard has to report of a turn that lasts, and whether it does so.
        self._lasting: tuple[_Sight, float] | None = None
        self._is_telling = False
        self._interval = max(threshold / LOOKS, SHORTEST)
        #: The OS thread that runs the loop.
        self.thread = get_ident()
        self._process = os.getpid()
        self._turn: _Turn | None = None
        self._stopped = False
        # What calls into tasks and callbacks: all frames outside of these are not the loop's.
        self._loop_code: tuple[CodeType, ...] = ()
        # Held until the guard shall end, until it has ended, and while it looks.
        self._stop = allocate_lock()
        self._ended = allocate_lock()
        self._looks = allocate_lock()

    def start(self) -> None:
        """Starts the guard. Called in the loop's thread."""
        self._stop.acquire()
        self._ended.acquire()
        start_new_thread(self._guard, (monotonic(),))

    def stop(self) -> None:
        """Ends the guard and waits for that, and reports a blockage that lasts until now."""
        self._stopped = True
        if self._is_forked():
            return
        if self._stop.locked():
            self._stop.release()
        # If the guard reports just now, it ends after that: the report may wait for this thread.
        with self._looks:
            is_telling = self._is_telling
        if not is_telling:
            # A matter of microseconds: the guard calls nothing of the program's.
            self._ended.acquire()
        turn, self._turn = self._turn, None
        if turn is not None:
            self._end(turn)

    def _is_forked(self) -> bool:
        """A process that was forked within the block has the locks, but not the guard."""
        return os.getpid() != self._process

    # --- in the guard's thread -----------------------------------------------

    def _guard(self, due: float) -> None:
        try:
            delay: float | None = 0
            while delay is not None and not self._stop.acquire(True, delay):
                with self._looks:
                    delay = self._check(due)
                    lasting, self._lasting = self._lasting, None
                    self._is_telling = lasting is not None and not self._stopped
                if lasting is not None and self._is_telling:
                    sight, seconds = lasting
                    self._tell(sight.blockage(seconds, lasts=True))
                    # Nor may the guard keep what the report has got.
                    del sight
                    with self._looks:
                        self._is_telling = False
                del lasting
                due = monotonic() + (delay or 0)
        finally:
            self._ended.release()

    def _check(self, due: float) -> float | None:
        """Sees how the loop does.

        Args:
            due: When this call should have come, if nothing had held the GIL.

        Returns:
            In how many seconds to come again, or None if there is no loop any more.
        """
        raise NotImplementedError

    def _look(self, turn: _Turn) -> float:
        """Notes where the loop's thread is. Returns in how many seconds to look again."""
        frame = sys._current_frames().get(self.thread)
        now = monotonic()
        # It may have ended since; then the frame is not of this turn.
        if frame is not None and turn is self._turn and not self._is_waiting(frame):
            where, is_below = self._line_to_name(frame)
            sight = turn.seen.get((is_below, where))
            if sight is None:
                sight = turn.seen[is_below, where] = _Sight(where, _frames(frame), self._task())
            sight.seconds += now - turn.looked
            seconds = now - turn.since
            if seconds >= max(self._live, 2 * turn.told):
                turn.told = seconds
                # Where it is now, and not where it has been for the longest time.
                self._lasting = _Sight(where, _frames(frame), self._task()), seconds
        turn.looked = now
        return max(self._interval, (now - turn.since) / LOOKS_EACH_DOUBLING)

    def _line_to_name(self, innermost: FrameType) -> tuple[tuple[str, int, str], bool]:
        """The line to name, and whether it is below the loop."""
        is_below = True
        frame: FrameType | None = innermost
        while frame is not None:
            if frame.f_code in self._loop_code:
                is_below = False
            elif not self._is_machinery(frame.f_code.co_filename):
                return _place(frame), is_below
            frame = frame.f_back
        return _place(innermost), False

    def _is_machinery(self, filename: str) -> bool:
        own, stdlib, libraries = _places()
        if filename.startswith(own):
            return True
        return filename.startswith(stdlib) and not any(name in filename for name in libraries)

    def _is_waiting(self, frame: FrameType) -> bool:
        """Whether the loop is idle, or about to wake."""
        return False

    def _task(self) -> str | None:
        """The name of the task that runs."""
        return None

    # --- in the loop's thread ------------------------------------------------

    def _end(self, turn: _Turn) -> None:
        seconds = monotonic() - turn.since
        if seconds < self._threshold or self._is_forked():
            return
        # It may have lost the GIL in the middle of the only look that the GIL let it have.
        with self._looks:
            sight = turn.most_seen()
        if sight is None:
            # Something outside of this loop kept both from running: a thread that holds the GIL,
            # or a machine with too much to do.
            return
        self._tell(sight.blockage(seconds))

    def _tell(self, blockage: Blockage) -> None:
        try:
            self._report(blockage)
        except Exception:
            import logging

            logging.getLogger("verdigris").exception(
                "The report that was given to detect_blocking() failed: %r", self._report
            )


class _AsyncioWatch(_Watch):
    """A loop of asyncio, or one that keeps its interface (uvloop)."""

    def __init__(self, threshold: float, report: Callable[[Blockage], object], live: float) -> None:
        super().__init__(threshold, report, live)
        import asyncio

        self._asyncio = asyncio
        # Weakly: a block that is never left must not keep its loop alive.
        self._loop = weakref.ref(asyncio._get_running_loop())
        self._question: asyncio.Handle | None = None
        # It calls the callbacks, so that a loop that waits has no frame of it.
        self._calls = asyncio.Handle._run.__code__

    def stop(self) -> None:
        super().stop()
        if self._question is not None:
            # In the loop's queue until the next turn. Cancelled it refers to nothing.
            self._question.cancel()

    def _check(self, due: float) -> float | None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            return None
        turn = self._turn
        if not loop.is_running():
            # Between two calls of run_until_complete nobody is blocked.
            if turn is not None:
                turn.restart(monotonic())
            return self._interval
        if turn is not None:
            return self._look(turn)
        now = monotonic()
        delay = self._interval
        frame = sys._current_frames().get(self.thread)
        if frame is not None and self._is_waiting(frame):
            return delay
        del frame
        if now - due <= delay:
            turn = self._turn = _Turn(now)
        else:
            # Something held the GIL: else the question would have been there when it was due. The
            # look comes before the question, which releases the GIL.
            turn = self._turn = _Turn(due)
            delay = self._look(turn)
        try:
            self._question = loop.call_soon_threadsafe(
                self._answer, turn, context=contextvars.Context()
            )
        except RuntimeError:
            # It was closed this very moment.
            self._turn = None
            return None
        return delay

    def _answer(self, turn: _Turn) -> None:
        if self._stopped:
            return
        self._turn = None
        self.thread = get_ident()
        if not self._loop_code:
            self._loop_code = _code_of_callers(sys._getframe(1))
        self._end(turn)

    def _is_waiting(self, frame: FrameType) -> bool:
        outer: FrameType | None = frame
        # The selector may be a green one.
        while outer is not None and outer.f_code.co_filename.startswith(_selectors()):
            outer = outer.f_back
        return (
            outer is not None
            and outer.f_code in self._loop_code
            and outer.f_code is not self._calls
        )

    def _task(self) -> str | None:
        loop = self._loop()
        task: Any = None if loop is None else self._asyncio.current_task(loop)
        return None if task is None else str(task.get_name())


class _TrioWatch(_Watch):
    """A run of Trio. It is the instrument, too: Trio calls its public methods."""

    def __init__(self, threshold: float, report: Callable[[Blockage], object], live: float) -> None:
        super().__init__(threshold, report, live)
        import trio

        self._trio = trio
        self._package = os.path.dirname(trio.__file__) + os.sep
        self._running: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self._turn = _Turn(monotonic())

    def start(self) -> None:
        super().start()
        self._trio.lowlevel.add_instrument(self)  # type: ignore[arg-type]

    def stop(self) -> None:
        super().stop()
        # The run may be over, if the block is left late by the collector.
        with contextlib.suppress(RuntimeError, KeyError):
            self._trio.lowlevel.remove_instrument(self)  # type: ignore[arg-type]

    def _check(self, due: float) -> float | None:
        turn = self._turn
        return self._interval if turn is None else self._look(turn)

    def _is_machinery(self, filename: str) -> bool:
        return filename.startswith(self._package) or super()._is_machinery(filename)

    def _task(self) -> str | None:
        task = self._running
        return None if task is None else task.name

    def before_task_step(self, task: Any) -> None:
        """Called by Trio."""
        self._running = task

    def before_io_wait(self, timeout: float) -> None:
        """Called by Trio at the end of a turn."""
        turn, self._turn = self._turn, None
        self._running = None
        if turn is not None and not self._stopped:
            self._end(turn)

    def after_io_wait(self, timeout: float) -> None:
        """Called by Trio at the beginning of a turn."""
        if not self._loop_code:
            # The caller passes the call on to each instrument, and is none that calls tasks.
            self._loop_code = _code_of_callers(sys._getframe(1))
        self._turn = _Turn(monotonic())

    def after_run(self) -> None:
        """Called by Trio when the run is over, and the block was not left."""
        self._turn = None
        if self._stop.locked():
            self._stop.release()


_WATCHES: dict[str, type[_Watch]] = {"asyncio": _AsyncioWatch, "trio": _TrioWatch}


def _running_loop() -> str:
    """The name of the library whose loop runs the caller, or ""."""
    host = loops.running_host()
    asyncio: Any = sys.modules.get("asyncio")
    if host is None or host.name != "trio" or asyncio is None or not asyncio._get_running_loop():
        return "" if host is None else host.name
    # One runs inside the other: Trio in guest mode, or a program that runs either in a task of the
    # other. The one that is nearer is the loop here.
    run_of_asyncio = {
        asyncio.Handle._run.__code__,
        asyncio.Runner.run.__code__,
        asyncio.BaseEventLoop.run_forever.__code__,
    }
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code in run_of_asyncio:
            return "asyncio"
        if frame.f_code.co_name == "unrolled_run":
            return "trio"
        frame = frame.f_back
    return host.name


def _log(blockage: Blockage) -> None:
    import logging

    logging.getLogger("verdigris").warning("%s", blockage)


def _code_of_callers(frame: FrameType | None) -> tuple[CodeType, ...]:
    """The code of the three innermost callers: those of a loop that is written in Python."""
    found: list[CodeType] = []
    while frame is not None and len(found) < 3:
        found.append(frame.f_code)
        frame = frame.f_back
    return tuple(found)


def _place(frame: FrameType) -> tuple[str, int, str]:
    return frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name


def _frames(frame: FrameType | None) -> list[tuple[str, int, str]]:
    """The places of a frame and its callers, the innermost first."""
    found = []
    while frame is not None:
        # For sources that are in no file: their loader is known to the frame only.
        linecache.lazycache(frame.f_code.co_filename, frame.f_globals)
        found.append(_place(frame))
        frame = frame.f_back
    return found


@functools.cache
def _places() -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """Where verdigris is and what is frozen into CPython, the stdlib, and libraries within it."""
    own = os.path.dirname(__file__) + os.sep
    stdlib = os.path.dirname(os.__file__) + os.sep
    libraries = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
    return (own, "<frozen "), stdlib, libraries


@functools.cache
def _selectors() -> tuple[str, ...]:
    """Where the frames of a wait are that `_run_once` calls."""
    (own, _), stdlib, _ = _places()
    return own, stdlib + "selectors.py"
