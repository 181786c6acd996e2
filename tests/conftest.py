"""The loops every behaviour is tested on, and what no test may leave behind.

`loop` is the one fixture that knows asyncio, uvloop and Trio: a test body uses
its verbs and runs unchanged on all three. `python` runs what may crash in a
subprocess. An automatic check fails the test that leaves a stack in use, and
warnings and unraisable exceptions are errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

import verdigris
from verdigris import _engine, _which_engine

TESTS = Path(__file__).resolve().parent
CRASH_SCRIPTS = TESTS / "crash"


ON_NATIVE_STACKS = _which_engine.name == "native"
#: Whether this is a cell of the matrix (scripts/matrix-cell), and not `make test`.
IN_A_CELL = "VERDIGRIS_CELL" in os.environ
once_is_enough = pytest.mark.skipif(
    IN_A_CELL, reason="the same on every interpreter: make test runs it"
)
# Debug builds look closer at references, which Python by itself never gets wrong.
python_alone = pytest.mark.skipif(
    IN_A_CELL and hasattr(sys, "gettotalrefcount"),
    reason="Python alone, which a debug build sees no better: make test runs it",
)

needs_native_stacks = pytest.mark.skipif(
    not ON_NATIVE_STACKS, reason="of native stacks only; greenlets carry functions here"
)

# What the portable build of the engine leaves out (docs/design/engine.md).
needs_thread_state = pytest.mark.skipif(
    not _engine.knows_thread_state,
    reason="needs a build that knows the interpreter's thread state",
)

# scripts/aarch64 sets the variable.
needs_address_space_limit = pytest.mark.skipif(
    not sys.platform.startswith("linux") or "VERDIGRIS_EMULATED" in os.environ,
    reason="reads /proc and needs RLIMIT_AS, which emulators do not keep",
)

# Frames of greenlets can't be linked to those of their driver there.
SHOWS_CALLERS = ON_NATIVE_STACKS or (_engine.knows_thread_state and sys.version_info < (3, 12))
needs_callers = pytest.mark.skipif(
    not SHOWS_CALLERS, reason="f_back ends at the base where greenlet is loaded, from 3.12 on"
)


# `test_neighbours.py`, `test_executors.py` and `test_tools.py` run these in processes of their own:
# the first load greenlet, which stays, the second start interpreters, the last must not find it.
collect_ignore_glob = [
    f"{name}/*"
    for name in ("neighbours", "executors", "tools")
    if f"VERDIGRIS_{name.upper()}" not in os.environ
]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`make compatibility` runs the libraries, which takes minutes; and so does naming them."""
    if collection_path != TESTS / "libraries":
        return None
    return None if any("libraries" in argument for argument in config.args) else True


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error")
    config.addinivalue_line("markers", "one_loop_in_a_cell: cells of the matrix run it on one loop")
    # A shell ignores Ctrl-C for what it starts in the background, and programs inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # For names that do not exist, where no server answers.
    os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:3")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A slow test that knows little of the version runs on the first loop of a cell alone."""
    if not IN_A_CELL:
        return
    skip = pytest.mark.skip(reason="on one loop here: make test runs it on all")
    for item in items:
        if item.get_closest_marker("one_loop_in_a_cell") is not None:
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            if any(loop in parameters.values() for loop in CHOSEN[1:]):
                item.add_marker(skip)


# --- the loops ---------------------------------------------------------------


class Event(Protocol):
    def set(self) -> None: ...
    def is_set(self) -> bool: ...
    async def wait(self) -> Any: ...


@dataclass
class Outcome:
    """How a background task ended. Exactly one of the three holds."""

    value: Any = None
    error: BaseException | None = None
    cancelled: bool = False


@dataclass
class Background:
    """A task started in the background; its outcome is kept, never raised."""

    cancel: Callable[[], object] = lambda: None
    ended: Any = None
    outcome: Outcome = field(default_factory=Outcome)

    async def wait(self) -> Outcome:
        await self.ended.wait()
        return self.outcome


class Loop:
    """What a test may ask of an event loop, whichever it is."""

    name: str
    cancelled: type[BaseException]
    timed_out: type[BaseException]

    def run(self, async_fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def checkpoint(self) -> None:
        """Let every other task that is ready take one step."""
        raise NotImplementedError

    def event(self) -> Event:
        raise NotImplementedError

    def current_task(self) -> object:
        raise NotImplementedError

    def deadline(self, seconds: float) -> contextlib.AbstractAsyncContextManager[None]:
        """Raise `timed_out` when the block takes longer."""
        raise NotImplementedError

    def tasks(self) -> contextlib.AbstractAsyncContextManager[Callable[..., Background]]:
        """Gives `start(async_fn, *args)`; the end of the block waits for all."""
        raise NotImplementedError

    def own_tasks(self) -> contextlib.AbstractAsyncContextManager[Callable[..., Any]]:
        """Gives `spawn(async_fn, *args)`, which returns the loop's own task object.

        Nothing of the test's stands around the coroutine. What a task raises leaves
        the block in an exception group.
        """
        raise NotImplementedError

    def coroutine_of(self, task: Any) -> Any:
        """What the loop steps for a task."""
        raise NotImplementedError


class AsyncioLoop(Loop):
    name = "asyncio"
    cancelled = asyncio.CancelledError
    timed_out = TimeoutError
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None

    def run(self, async_fn: Callable[..., Any], *args: Any) -> Any:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            return runner.run(async_fn(*args))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    def event(self) -> Event:
        return asyncio.Event()

    def current_task(self) -> object:
        return asyncio.current_task()

    def deadline(self, seconds: float) -> Any:
        return asyncio.timeout(seconds)

    @contextlib.asynccontextmanager
    async def tasks(self) -> AsyncIterator[Callable[..., Background]]:
        started: list[asyncio.Task[Any]] = []

        def start(async_fn: Callable[..., Any], *args: Any) -> Background:
            # The coroutine is the task's own: nothing of the test's stands between.
            task = asyncio.create_task(async_fn(*args))
            background = Background(cancel=task.cancel, ended=asyncio.Event())

            def ended(task: asyncio.Task[Any]) -> None:
                if task.cancelled():
                    background.outcome = Outcome(cancelled=True)
                elif (error := task.exception()) is not None:
                    background.outcome = Outcome(error=error)
                else:
                    background.outcome = Outcome(value=task.result())
                background.ended.set()

            task.add_done_callback(ended)
            started.append(task)
            return background

        yield start
        if started:
            await asyncio.wait(started)

    @contextlib.asynccontextmanager
    async def own_tasks(self) -> AsyncIterator[Callable[..., Any]]:
        async with asyncio.TaskGroup() as group:
            yield lambda async_fn, *args: group.create_task(async_fn(*args))

    def coroutine_of(self, task: Any) -> Any:
        return task.get_coro()


class UvloopLoop(AsyncioLoop):
    name = "uvloop"

    def __init__(self) -> None:
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
        self.loop_factory = uvloop.new_event_loop


class TrioLoop(Loop):
    name = "trio"

    def __init__(self) -> None:
        self.trio = pytest.importorskip("trio", reason="trio is not installed")
        self.cancelled = self.trio.Cancelled
        self.timed_out = self.trio.TooSlowError

    def run(self, async_fn: Callable[..., Any], *args: Any) -> Any:
        return self.trio.run(async_fn, *args)

    async def sleep(self, seconds: float) -> None:
        await self.trio.sleep(seconds)

    async def checkpoint(self) -> None:
        await self.trio.lowlevel.checkpoint()

    def event(self) -> Event:
        return self.trio.Event()

    def current_task(self) -> object:
        return self.trio.lowlevel.current_task()

    @contextlib.asynccontextmanager
    async def deadline(self, seconds: float) -> AsyncIterator[None]:
        with self.trio.fail_after(seconds):
            yield

    @contextlib.asynccontextmanager
    async def tasks(self) -> AsyncIterator[Callable[..., Background]]:
        trio = self.trio
        async with trio.open_nursery() as nursery:

            def start(async_fn: Callable[..., Any], *args: Any) -> Background:
                scope = trio.CancelScope()
                background = Background(cancel=scope.cancel, ended=trio.Event())

                async def body() -> None:
                    try:
                        with scope:
                            background.outcome = Outcome(value=await async_fn(*args))
                        if scope.cancelled_caught:
                            background.outcome = Outcome(cancelled=True)
                    except Exception as error:
                        background.outcome = Outcome(error=error)
                    finally:
                        background.ended.set()

                nursery.start_soon(body)
                return background

            yield start

    @contextlib.asynccontextmanager
    async def own_tasks(self) -> AsyncIterator[Callable[..., Any]]:
        async with self.trio.open_nursery() as nursery:

            def spawn(async_fn: Callable[..., Any], *args: Any) -> Any:
                before = nursery.child_tasks
                nursery.start_soon(async_fn, *args)
                (task,) = nursery.child_tasks - before
                return task

            yield spawn

    def coroutine_of(self, task: Any) -> Any:
        return task.coro


LOOPS = {"asyncio": AsyncioLoop, "uvloop": UvloopLoop, "trio": TrioLoop}
# Some of them, where the loops are not what is tested (scripts/matrix).
CHOSEN = os.environ.get("VERDIGRIS_LOOPS", " ".join(LOOPS)).replace(",", " ").split()


@pytest.fixture(params=CHOSEN)
def loop(request: pytest.FixtureRequest) -> Loop:
    """The same test on asyncio, uvloop and Trio."""
    return LOOPS[request.param]()


@pytest.fixture(params=[name for name in CHOSEN if name != "trio"])
def aio(request: pytest.FixtureRequest) -> AsyncioLoop:
    """For what only asyncio has: futures, `gather`, `TaskGroup`, `shield`."""
    return LOOPS[request.param]()


@pytest.fixture
def trio_loop() -> TrioLoop:
    """For what only Trio has: cancel scopes, nurseries."""
    return TrioLoop()


# --- what may crash ----------------------------------------------------------


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in an interpreter of its own, with faulthandler on.

    `program` is the name of a script in tests/crash, source text, or "-m" with a
    module's name as first argument. Unless `check=False`, an exit code other than 0
    fails the test with what was printed.
    """

    def run(
        program: str,
        *args: object,
        check: bool = True,
        options: tuple[str, ...] = (),
        env: Mapping[str, str] = {},
    ) -> subprocess.CompletedProcess[str]:
        script = CRASH_SCRIPTS / program if program.endswith(".py") else None
        code = [str(script)] if script else ["-c", textwrap.dedent(program)]
        if program == "-m":
            code = ["-m"]
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", *options, *code, *map(str, args)],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": python_path(), **env},
        )
        # What `-X dev` has to say of a slow machine.
        done.stderr = re.sub(r"(?m)^Executing <.* took [\d.]+ seconds\n", "", done.stderr)
        if check and done.returncode != 0:
            pytest.fail(
                f"exit code {done.returncode}\n--- stdout\n{done.stdout}"
                f"\n--- stderr\n{done.stderr}",
                pytrace=False,
            )
        return done

    return run


@contextlib.contextmanager
def killed_after(seconds: float, process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """Kills a program that goes on for longer than the block should. Who reads finds its end."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        with process:
            yield process
    finally:
        timer.cancel()
        timer.join()


def python_path() -> str:
    """The scripts import `hand_driver`, and what this process does: this very verdigris too."""
    package = Path(verdigris.__file__).resolve().parent.parent
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(TESTS), *([inherited] if inherited else []), str(package)])


# The engine asks the dynamic linker for the libraries that are loaded; C++ exceptions, which
# greenlet has, may ask too, and get the answer.
HIDES_LIBRARIES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

typedef int (*callback)(struct dl_phdr_info *, size_t, void *);

int dl_iterate_phdr(callback call, void *data)
{
    Dl_info caller;
    if (dladdr(__builtin_return_address(0), &caller) && strstr(caller.dli_fname, "/_engine.")) {
        static int found;
        const char *findable = getenv("FINDABLE");
        if (findable == NULL || ++found > atoi(findable))
            return 0;
    }
    int (*real)(callback, void *) = (int (*)(callback, void *))dlsym(RTLD_NEXT, "dl_iterate_phdr");
    return real(call, data);
}
"""


@pytest.fixture(scope="session")
def unfindable_greenlet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the engine can't find greenlet's state of a thread.

    With FINDABLE=n in addition, it is found n times.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("the linker's variable has another name here")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler, cc")
    source = tmp_path_factory.mktemp("unfindable") / "hides_libraries.c"
    source.write_text(HIDES_LIBRARIES)
    library = source.with_suffix(".so")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "VERDIGRIS_ENGINE": ""}


# --- what no test may leave behind -------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def what_is_there_is_not_searched_again() -> None:
    """Collections after each test look only at what the tests of this module have made.

    All else, every module and every test that pytest holds, would take most of the time.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def every_stack_comes_back() -> Iterator[None]:
    """A stack still in use after its test was lost; a leaked one was given up.

    The collection also makes late "never awaited" warnings and unraisable
    exceptions fail the test that caused them rather than a later one.
    """
    before = _engine.stats()
    yield
    gc.collect()
    after = _engine.stats()
    assert after["stacks_in_use"] <= before["stacks_in_use"], "a stack was never given back"
    assert after["stacks_leaked"] == before["stacks_leaked"], "a stack was leaked"
