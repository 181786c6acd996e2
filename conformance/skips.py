"""The tests that are not run on verdigris, each with its reason.

Every entry is in one of the categories below. None is there because its test is slow, or fails now
and then. `run.py --listed` runs them too, and names those that pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

#: The categories.
OS_THREADS = "needs OS threads by nature"
INTERNALS = "tests CPython's internals"
FORK = "needs fork in a threaded parent"
NO_LOOP = "needs a thread in which no loop runs"
DEFECT = "a real defect"
CATEGORIES = (OS_THREADS, NO_LOOP, FORK, INTERNALS, DEFECT)


@dataclass(frozen=True)
class Skip:
    """Tests with one reason."""

    category: str
    reason: str
    #: Ids without the leading "test."; `*` stands for anything.
    ids: tuple[str, ...]
    #: The parts of the names of modes that it is for: "trio". All if empty.
    modes: tuple[str, ...] = ()
    #: The versions that it is for. All if empty.
    versions: tuple[str, ...] = ()

    def covers(self, one: str, version: str, mode: str) -> bool:
        """Whether a test is covered."""
        return (
            (not self.modes or any(part in mode for part in self.modes))
            and (not self.versions or version in self.versions)
            and any(fnmatchcase(one.removeprefix("test."), pattern) for pattern in self.ids)
        )


SKIPS: tuple[Skip, ...] = (
    Skip(
        OS_THREADS,
        "it computes without end until another thread interrupts it; green threads take turns "
        "where they wait",
        (
            "test_threading.InterruptMainTests.test_can_interrupt_tight_loops",
            "test_signal.StressTest.test_stress_modifying_handlers",
        ),
    ),
    Skip(
        OS_THREADS,
        "each thread shall have a `native_id` of its own; green threads have that of the OS thread "
        "they run in",
        ("test_threading.ThreadTests.test_various_ops*",),
    ),
    Skip(
        OS_THREADS,
        "`PyThreadState_SetAsyncExc` raises in the OS thread that has the number; a green thread's "
        "number is none",
        ("test_threading.ThreadTests.test_PyThreadState_SetAsyncExc*",),
    ),
    Skip(
        OS_THREADS,
        "it asks the system for the clock of the thread with the number `get_ident()`, which is no "
        "OS thread's",
        ("test_time.TimeTestCase.test_pthread_getcpuclockid",),
    ),
    Skip(
        OS_THREADS,
        "the system shall know the name of the thread; a green thread leaves the OS thread its own",
        (
            "test_threading.MiscTestCase.test_change_name",
            "test_threading.MiscTestCase.test_set_name",
        ),
        versions=("3.14", "3.15"),
    ),
    Skip(
        NO_LOOP,
        "a record has the name of the task that runs the code; here there is one",
        ("test_logging.LogRecordTest.test_optional",),
        versions=("3.12", "3.13", "3.14", "3.15"),
    ),
    Skip(
        INTERNALS,
        "it reads through an `SSLSocket`'s private object, below what is green, and the server "
        "is a thread of the same program",
        ("test_ssl.ThreadedTests.test_got_eof",),
    ),
    Skip(
        INTERNALS,
        "it takes asyncio out of `sys.modules` and goes on to use it; the loop outside is not "
        "known then, and not hidden",
        ("test_logging.LogRecordTest.test_taskName_without_asyncio_imported",),
    ),
    Skip(
        OS_THREADS,
        "the loop's selector is a mock that never waits, and so gives no turn to the other thread",
        (
            "test_asyncio.test_base_events.BaseEventLoopTests.test_check_thread",
            "test_asyncio.test_base_events.BaseEventLoopTests"
            ".test_asyncgen_finalization_by_gc_in_other_thread",
        ),
    ),
    Skip(
        INTERNALS,
        "it replaces a private function of `threading` that `start` calls; the green `start` calls "
        "its own",
        (
            "test_threading.ThreadTests.test_limbo_cleanup",
            "test_concurrent_futures.test_process_pool.*.test_python_finalization_error",
        ),
    ),
    Skip(
        INTERNALS,
        "it counts the executor's private `_threads`, which are its OS threads; its green workers "
        "are elsewhere",
        (
            "test_concurrent_futures.test_shutdown.ThreadPoolShutdownTest.test_threads_terminate",
            "test_concurrent_futures.test_thread_pool.ThreadPoolExecutorTest"
            ".test_idle_thread_reuse",
            "test_concurrent_futures.test_thread_pool.ThreadPoolExecutorTest.test_saturation",
        ),
    ),
    Skip(
        INTERNALS,
        "it looks for the thread's lock among those that the interpreter waits for at its end; no "
        "green thread outlives its loop, so theirs are not there",
        ("test_threading.ThreadTests.test_shutdown_locks",),
    ),
    Skip(
        INTERNALS,
        "the type must not be callable, but for the function that makes its objects; the green one "
        "is a class with that name",
        (
            "test_threading.ThreadTests.test_disallow_instantiation",
            "test_select.SelectTestCase.test_disallow_instantiation",
        ),
    ),
    Skip(
        INTERNALS,
        "it replaces functions that the stdlib's own `Popen.wait` calls, and counts the calls",
        (
            "test_subprocess.FastWaitTestCase.test_pidfd_open_notification_without_immediate_reap",
            "test_subprocess.FastWaitTestCase.test_pidfd_open_race",
            "test_subprocess.FastWaitTestCase.test_wait_pidfd_open_error",
        ),
        versions=("3.15",),
    ),
    Skip(
        INTERNALS,
        "it compares `__all__` with the names whose `__module__` is the module's; what is replaced "
        "says where it was written",
        ("test_threading.MiscTestCase.test__all__",),
    ),
    Skip(
        INTERNALS,
        "it counts references to an argument while the exception is handled, whose traceback has "
        "the frames of the green function",
        ("test_socket.GeneralModuleTests.testRefCountGetNameInfo",),
    ),
    Skip(
        DEFECT,
        "`threading.excepthook`, called by hand without a thread, prints the number of the OS "
        "thread, and not `get_ident()`",
        ("test_threading.ExceptHookTests.test_excepthook_thread_None",),
    ),
    Skip(
        OS_THREADS,
        "it opens a FIFO by `open()`, which blocks the OS thread; `os.open` waits",
        ("test_logging.RotatingFileHandlerTest.test_should_not_rollover_named_pipe",),
        versions=("3.14", "3.15"),
    ),
    Skip(
        INTERNALS,
        "it knows the size in bytes of the object that is written in C",
        ("test_queue.CSimpleQueueTest.test_simplequeue_sizeof",),
        versions=("3.15",),
    ),
    Skip(
        DEFECT,
        "`__setattr__` of `threading.local` with a name that is no string has the error of "
        "`getattr`",
        ("test_threading_local.ThreadLocalTest.test_error",),
        versions=("3.15",),
    ),
    Skip(
        INTERNALS,
        "it looks into the private `threading._active` for the dummy thread of a function that has "
        "ended; here it goes with the function, on asyncio a little later",
        (
            "test_threading.ThreadTests.test_foreign_thread",
            "test_threading.ThreadTests.test_ident_of_no_threading_threads",
        ),
    ),
    Skip(
        NO_LOOP,
        "the constructors that are written in C find the loop of the thread, which runs the "
        "program",
        (
            "test_asyncio.test_futures.C*.test_constructor_use_global_loop",
            "test_asyncio.test_futures.C*.test_constructor_without_loop",
        ),
    ),
    Skip(
        NO_LOOP,
        "`asyncio._get_running_loop` shows the loop of the thread; `get_running_loop` does not",
        (
            "test_asyncio.test_events.*GetEventLoop.test_get_event_loop_returns_running_loop",
            "test_asyncio.test_events.*GetEventLoop.test_get_event_loop_returns_running_loop2",
        ),
    ),
    Skip(
        NO_LOOP,
        "`current_task` in sync code is the task that runs the program",
        ("test_asyncio.test_tasks.*CurrentLoopTests.test_current_task_no_running_loop_implicit",),
    ),
    Skip(
        NO_LOOP,
        "it puts Python functions into the place of those that are written in C, by which the loop "
        "that runs the program is hidden from its own loops",
        ("test_asyncio.test_events.TestPyGetEventLoop.test_get_event_loop_new_process",),
    ),
    Skip(
        NO_LOOP,
        "it traces an asynchronous generator that sync code steps by hand; its hooks are the "
        "loop's, and are traced too",
        ("test_sys_settrace.*.test_async_for_backwards_jump_has_no_line",),
    ),
)


def listed(one: str, version: str, mode: str) -> Skip | None:
    """The entry that covers a test."""
    return next((skip for skip in SKIPS if skip.covers(one, version, mode)), None)
