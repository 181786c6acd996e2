"""`_multiprocessing`, green: the locks that processes share.

`multiprocessing` builds all it has for several processes on one type in C, `SemLock`: `Lock`,
`Condition`, `Event` and `Barrier`, and the ends of its queues and pools. Behind it is a semaphore
of the kernel, which tells nobody when it is free. So a function that waits asks for it again and
again. A thread that waits would be quicker; but it could not be called back, and would take the
lock from everybody when its function has been cancelled.
"""

from __future__ import annotations

from typing import Any

from verdigris.green import _twin, _wait

try:
    import _multiprocessing as _original  # type: ignore[import-not-found]

    _stdlib_lock: Any = _original.SemLock
except (ImportError, AttributeError):  # a platform that can't share semaphores
    _stdlib_lock = None

# What `multiprocessing.synchronize` calls a lock that its holder may take again.
_RECURSIVE = 0
_LONGEST_PAUSE = 0.01

REPLACED: dict[str, Any] = {}

if _stdlib_lock is not None:

    class SemLock(_stdlib_lock):  # type: ignore[misc]
        """`_multiprocessing.SemLock`, waited for without blocking the loop."""

        #: Who has a recursive lock: the functions of a thread are one for the stdlib's.
        _holder: int | None = None

        def acquire(self, block: bool = True, timeout: Any = None) -> bool:
            """Takes the lock, and waits for it in a function that runs green.

            Raises:
                RuntimeError: Another function of this thread has it, and can't go on while the
                    caller, which does not run green, waits.
            """
            if self._is_anothers():
                if not block:
                    return False
                if not _wait.is_green():
                    raise RuntimeError(
                        "a function of this thread holds this lock, and could never release it "
                        "while the thread waits. Take it in a function that runs green "
                        "(await async_def(...)), or with acquire(False)."
                    )
            elif not block or not _wait.is_green():
                return self._taken(super().acquire(block, timeout))
            # Refuses what is no time, as the stdlib does.
            seconds = None if timeout is None else max(timeout + 0.0, 0.0)
            return _wait.ask_again(self._attempt, seconds, _LONGEST_PAUSE) is not None

        def release(self) -> None:
            """Gives the lock back, one time of the times that it was taken."""
            if self.kind == _RECURSIVE:
                if self._is_anothers():
                    raise AssertionError("attempt to release recursive lock not owned by thread")
                if self._is_mine() and self._count() == 1:
                    self._holder = None  # before anybody else can have it
            super().release()

        def __enter__(self) -> bool:
            return self.acquire()

        def __exit__(self, *error: object) -> None:
            self.release()

        def _is_mine(self) -> bool:
            return super()._is_mine() and not self._is_anothers()

        def _after_fork(self) -> None:
            self._holder = None
            super()._after_fork()

        def _is_anothers(self) -> bool:
            """Whether another function of this thread has a recursive lock."""
            holder = self._holder
            return holder is not None and holder != _wait.get_ident() and super()._is_mine()

        def _attempt(self) -> bool | None:
            if self._is_anothers() or not self._taken(super().acquire(False)):
                return None
            return True

        def _taken(self, taken: bool) -> bool:
            if taken and self.kind == _RECURSIVE:
                self._holder = _wait.get_ident()
            return taken

    REPLACED["SemLock"] = SemLock
    _twin.make(globals(), _original, REPLACED)
