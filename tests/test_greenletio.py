"""`verdigris.compat.greenletio`: greenletio's names and documented examples, its defects mended."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from verdigris.compat import greenletio

Python = Callable[..., "subprocess.CompletedProcess[str]"]


def has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


needs_greenletio = pytest.mark.skipif(not has("greenletio"), reason="greenletio is not installed")


@pytest.fixture
def no_bridge() -> Iterator[None]:
    """Closes the loop that `await_` starts by itself."""
    yield
    greenletio.core.bridge.stop()


# --- the names ---------------------------------------------------------------

# What its modules have from elsewhere, for their own use.
NOT_EXPORTED = {
    "greenlet", "getcurrent", "contextmanager", "copy_globals", "green_select", "wait_many",
    "wait_to_read", "wait_to_write", "await_", "async_", "errno", "collections", "greenletio",
    "runpy", "patch_blocking",
    # Of other platforms, and only there to be refused.
    "devpoll", "kevent", "kqueue",
    "asyncio", "contextvars", "functools", "weakref", "os", "sys",
}  # fmt: skip
if sys.version_info >= (3, 12):
    # Python took it out, as it checks no host name; greenletio has a copy.
    NOT_EXPORTED.add("wrap_socket")

GREEN = ("select", "selectors", "socket", "ssl", "threading", "time")


@needs_greenletio
@pytest.mark.parametrize(
    "module", ["", ".core", ".io", ".patcher", ".cli", *(f".green.{name}" for name in GREEN)]
)
def test_every_name_of_greenletio_exists(python: Python, module: str) -> None:
    # In a process of its own: it loads greenlet, which stays.
    if (module == ".io" or ".green." in module) and not has("verdigris.green.select"):
        pytest.skip("the green modules are not there yet")
    done = python(
        """
        import importlib, sys
        theirs = importlib.import_module("greenletio" + sys.argv[1])
        ours = importlib.import_module("verdigris.compat.greenletio" + sys.argv[1])
        names = [name for name in dir(theirs) if not name.startswith("_")]
        print(*(name for name in names if not hasattr(ours, name)))
        """,
        module,
    )
    # In their own modules these are exported.
    own = {".core": {"await_", "async_"}, ".patcher": {"copy_globals", "patch_blocking"}}
    own[".io"] = {"wait_many", "wait_to_read", "wait_to_write"}
    own[""] = {"await_", "async_", "patch_blocking"}
    assert set(done.stdout.split()) <= NOT_EXPORTED - own.get(module, set())


# --- the documented examples -------------------------------------------------


def test_a_sync_function_becomes_awaitable(aio: Any) -> None:
    @greenletio.async_
    def sync_function(arg: int) -> int:
        return arg

    async def async_function() -> tuple[int, int]:
        return await sync_function(42), await greenletio.async_(int)("43")

    assert aio.run(async_function) == (42, 43)


def test_await_in_a_sync_function(loop: Any) -> None:
    async def async_function() -> str:
        await loop.sleep(0.01)
        return "waited"

    def sync_function() -> Any:
        return greenletio.await_(async_function())

    assert loop.run(greenletio.async_(sync_function)) == "waited"


def test_an_async_function_called_as_a_normal_one(loop: Any) -> None:
    @greenletio.await_
    async def async_function(value: int, *, more: int = 0) -> int:
        """Adds."""
        await loop.sleep(0)
        return value + more

    assert (async_function.__name__, async_function.__doc__) == ("async_function", "Adds.")
    assert loop.run(greenletio.async_(lambda: async_function(1, more=2))) == 3


def test_await_of_a_future(aio: Any) -> None:
    async def main() -> Any:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, 7)
        return await greenletio.async_(lambda: greenletio.await_(future))()

    assert aio.run(main) == 7


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.mark.parametrize("with_context", [True, False])
def test_context_variables_are_seen_and_written_back(loop: Any, with_context: bool) -> None:
    @greenletio.async_(with_context=with_context)
    def work() -> str:
        before = variable.get()
        variable.set("inside")
        return before

    async def main() -> tuple[str, str]:
        variable.set("outside")
        return await work(), variable.get()

    assert loop.run(main) == ("outside", "inside")


def test_an_exception_comes_through_both_ways(loop: Any) -> None:
    async def fail() -> None:
        raise KeyError("there")

    def work() -> None:
        with pytest.raises(KeyError, match="there"):
            greenletio.await_(fail())
        raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        loop.run(greenletio.async_(work))


# --- where it can't wait -----------------------------------------------------


def test_await_in_the_task_itself_is_refused_with_its_text(loop: Any) -> None:
    async def never() -> None: ...

    async def main() -> None:
        coroutine = never()
        with pytest.raises(RuntimeError, match=r"^await_ cannot be called from the asyncio task$"):
            greenletio.await_(coroutine)
        # Closed, so that nobody is warned of it.
        with pytest.raises(RuntimeError, match="cannot reuse"):
            coroutine.send(None)

    loop.run(main)


@pytest.mark.usefixtures("no_bridge")
def test_outside_of_any_loop_await_starts_one_that_stays() -> None:
    async def get() -> asyncio.AbstractEventLoop:
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    order: list[str] = []

    async def background() -> None:
        order.append("began")
        await asyncio.sleep(0.01)
        order.append("ended")

    async def begin() -> Any:
        return asyncio.create_task(background())

    first = greenletio.await_(get())
    task = greenletio.await_(begin())
    assert greenletio.await_(task) is None
    assert order == ["began", "ended"]
    assert greenletio.await_(get)() is first

    greenletio.core.bridge.stop()
    assert first.is_closed()


@pytest.mark.usefixtures("no_bridge")
def test_the_loop_of_await_does_not_hinder_asyncio_run() -> None:
    async def one() -> int:
        return 1

    assert greenletio.await_(one()) == 1
    assert asyncio.run(greenletio.async_(lambda: greenletio.await_(one()))()) == 1
    assert greenletio.await_(one()) == 1


# --- patching ----------------------------------------------------------------


def test_patch_blocking_gives_green_modules_and_deletes_nothing(python: Python) -> None:
    python(
        """
        import asyncio, sys, time
        from verdigris.compat.greenletio import async_, patch_blocking
        before = set(sys.modules)
        with patch_blocking(["time"]):
            from time import sleep
            import colorsys
        assert before <= set(sys.modules) and "colorsys" in sys.modules
        assert sys.modules["time"] is time

        async def main():
            order = []
            async def work(name, seconds):
                await async_(sleep)(seconds)
                order.append(name)
            await asyncio.gather(work("slow", 0.2), work("fast", 0))
            return order

        assert asyncio.run(main()) == ["fast", "slow"]
        """
    )


def test_concurrent_futures_can_be_imported_under_the_patch(python: Python) -> None:
    python(
        """
        from verdigris.compat.greenletio import patch_blocking
        with patch_blocking():
            import concurrent.futures
            from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor() as pool:
            assert pool.submit(int, "1").result(30) == 1
        """
    )


@pytest.mark.parametrize("module", [False, True])
def test_the_command_runs_a_program_patched(tmp_path: Path, module: bool, python: Python) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        textwrap.dedent(
            """
            import asyncio, sys, threading, time
            order = []
            def work(seconds):
                time.sleep(seconds)
                order.append(seconds)
            threads = [threading.Thread(target=work, args=(s,)) for s in (0.3, 0)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            async def main():
                await asyncio.sleep(0.01)
                return "asyncio too"
            print(__name__, sys.argv[1:], order, asyncio.run(main()))
            sys.exit(3)
            """
        )
    )
    what = ["-m", "program"] if module else [str(path)]
    done = python(
        "-m", "verdigris.compat.greenletio", *what, "one", "--two",
        check=False, env={"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stdout == "__main__ ['one', '--two'] [0, 0.3] asyncio too\n"


# --- defects of greenletio that end here -------------------------------------


def green(name: str) -> Any:
    if not has(f"verdigris.green.{name}"):
        pytest.skip(f"verdigris.green.{name} is not there yet")
    return importlib.import_module(f"verdigris.compat.greenletio.green.{name}")


def test_a_timeout_of_a_socket_is_kept(loop: Any) -> None:
    socket = green("socket")

    def work() -> None:
        first, second = socket.socketpair()
        with first, second:
            first.settimeout(0.05)
            with pytest.raises(TimeoutError):
                first.recv(1)

    loop.run(greenletio.async_(work))


def test_joining_a_thread_has_a_timeout(loop: Any) -> None:
    threading = green("threading")

    def work() -> bool:
        over = threading.Event()
        thread = threading.Thread(target=over.wait)
        thread.start()
        thread.join(0.05)
        alive: bool = thread.is_alive()
        over.set()
        thread.join()
        return alive

    assert loop.run(greenletio.async_(work)) is True


@pytest.mark.parametrize("name", ["poll", "epoll"])
def test_poll_and_epoll_work(loop: Any, name: str) -> None:
    select = green("select")

    def work() -> list[Any]:
        poll = getattr(select, name)()
        found: list[Any] = poll.poll(0.01)
        return found

    assert loop.run(greenletio.async_(work)) == []


def test_waits_for_descriptors(loop: Any) -> None:
    green("select")
    import socket

    from verdigris.compat.greenletio.io import wait_many, wait_to_read, wait_to_write

    first, second = socket.socketpair()

    def work() -> Any:
        wait_to_write(first.fileno())
        nothing = wait_many([second], [], 0.01)
        first.send(b"x")
        wait_to_read(second.fileno())
        return nothing, wait_many([second], [first], 5)

    with first, second:
        assert loop.run(greenletio.async_(work)) == (([], []), ([second], [first]))
