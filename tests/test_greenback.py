"""`verdigris.compat.greenback` passes what the package greenback checks of itself.

First every guarantee that greenback documents, over all loops; then its own suite, as it comes in
its wheel, in a subprocess where the name `greenback` means the drop-in.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import contextvars
import functools
import gc
import importlib.util
import json
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest
from conftest import Loop, TrioLoop, needs_native_stacks

import verdigris
from verdigris.compat import greenback
from verdigris.compat.greenback import (
    async_context,
    async_iter,
    autoawait,
    await_,
    bestow_portal,
    decorate_as_sync,
    ensure_portal,
    has_portal,
    portals_for_children,
    portals_for_tree,
    with_portal_run,
    with_portal_run_sync,
    with_portal_run_tree,
)

sniffio = pytest.importorskip("sniffio", reason="sniffio is not installed")

NO_PORTAL = (
    "You must create a greenback portal for this task in order to use 'greenback.await_()'. Try "
    "'await greenback.ensure_portal()' or 'await greenback.with_portal_run(some_fn, *args)'."
)
NOT_YET = (
    "You must yield to the event loop (try 'await {}.sleep(0)') after calling "
    "'greenback.bestow_portal()' on the current task before using the portal"
)
TRIO_ONLY = "This function is only supported when running under Trio"


async def value(of: Any = "value") -> Any:
    return of


def frames(error: BaseException) -> list[str]:
    names = []
    traceback = error.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    return names


class CoroutineClass(collections.abc.Coroutine[Any, Any, Any]):
    """A coroutine that no `async def` has made, as compilers make them."""

    closed = False

    def __init__(self) -> None:
        self.inner = value()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.inner.__await__()

    def send(self, value: Any) -> Any:
        return self.inner.send(value)

    def throw(self, *exception: Any) -> Any:
        return self.inner.throw(*exception)

    def close(self) -> None:
        self.closed = True
        self.inner.close()


class Step:
    """An awaitable that is no coroutine and lets the other tasks run once."""

    def __init__(self, loop: Loop, error: BaseException | None = None) -> None:
        self.loop = loop
        self.error = error

    def __await__(self) -> Generator[Any, Any, str]:
        yield from self.loop.checkpoint().__await__()
        if self.error is not None:
            raise self.error
        return "stepped"


# --- names -------------------------------------------------------------------


def test_has_its_names_and_no_others() -> None:
    assert sorted(greenback.__all__) == [
        "AutoPortalInstrument",
        "async_context",
        "async_iter",
        "autoawait",
        "await_",
        "bestow_portal",
        "decorate_as_sync",
        "ensure_portal",
        "has_portal",
        "portals_for_children",
        "portals_for_tree",
        "with_portal_run",
        "with_portal_run_sync",
        "with_portal_run_tree",
    ]
    assert {name for name in vars(greenback) if not name.startswith("_")} >= set(greenback.__all__)


@pytest.mark.skipif(
    importlib.util.find_spec("greenback") is None, reason="greenback is not installed"
)
def test_signatures_are_the_same(python: Any) -> None:
    done = python(
        """
        import inspect, json
        import greenback as theirs
        from verdigris.compat import greenback as ours

        def shape(callable):
            return [
                (parameter.name, str(parameter.kind), repr(parameter.default))
                for parameter in inspect.signature(callable).parameters.values()
            ]

        public = [name for name in vars(theirs) if name in ours.__all__]
        assert set(public) == set(ours.__all__)
        differ = {
            name: (shape(getattr(ours, name)), shape(getattr(theirs, name)))
            for name in public
            if shape(getattr(ours, name)) != shape(getattr(theirs, name))
            or inspect.iscoroutinefunction(getattr(ours, name))
            != inspect.iscoroutinefunction(getattr(theirs, name))
        }
        print(json.dumps(differ))
        """
    )
    assert json.loads(done.stdout) == {}


# --- sniffio -----------------------------------------------------------------


@needs_native_stacks
def test_importing_loads_nothing_of_its_kind(python: Any) -> None:
    done = python(
        """
        import sys
        import verdigris.compat.greenback
        print({"greenback", "greenlet", "sniffio", "trio", "curio"} & set(sys.modules) or "none")
        """
    )
    assert done.stdout == "none\n"


def test_without_sniffio_a_portal_still_works(python: Any) -> None:
    done = python(
        """
        import asyncio, sys
        sys.modules["sniffio"] = None
        import verdigris
        from verdigris.compat import greenback

        async def main():
            await verdigris.ensure_portal()
            assert greenback.has_portal()
            greenback.await_(greenback.ensure_portal())
            greenback.await_(greenback.with_portal_run(asyncio.sleep, 0))
            with greenback.async_context(asyncio.Lock()):
                return greenback.await_(asyncio.sleep(0, "waited"))

        print(asyncio.run(main()))
        """
    )
    assert done.stdout == "waited\n"


def test_without_sniffio_setting_up_says_what_to_install(python: Any) -> None:
    done = python(
        """
        import asyncio, sys
        sys.modules["sniffio"] = None
        from verdigris.compat import greenback

        async def main():
            try:
                await greenback.ensure_portal()
            except ImportError as error:
                print(error)
            coroutine = asyncio.sleep(0)
            try:
                greenback.await_(coroutine)
            except ImportError as error:
                print(error)
            print(coroutine.cr_frame)

        asyncio.run(main())
        """
    )
    first, second, frame = done.stdout.splitlines()
    assert first == second
    assert "sniffio" in first and "pip install verdigris[greenback]" in first
    assert frame == "None", "the coroutine was left open"


def test_await_asks_nobody_which_library_runs(loop: Loop, monkeypatch: Any) -> None:
    def main() -> Any:
        monkeypatch.setattr(sniffio, "current_async_library", None)
        return await_(loop.checkpoint()), await_(value()), has_portal()

    assert loop.run(with_portal_run_sync, main) == (None, "value", True)


# --- await_ ------------------------------------------------------------------


def test_await_gives_the_result(loop: Loop) -> None:
    @types.coroutine
    def generator_based() -> Generator[Any, Any, str]:
        yield from loop.checkpoint().__await__()
        return "generator"

    async def main() -> None:
        await ensure_portal()
        assert await_(value()) == "value"
        assert await_(Step(loop)) == "stepped"
        assert await_(CoroutineClass()) == "value"
        assert await_(generator_based()) == "generator"
        assert await_(verdigris.async_def(lambda: await_(Step(loop)))) == "stepped"

    loop.run(main)


def test_await_takes_futures_and_tasks(aio: Any) -> None:
    async def main() -> None:
        await ensure_portal()
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "set")
        assert await_(future) == "set"
        assert await_(asyncio.create_task(value())) == "value"

    aio.run(main)


def test_any_exception_is_raised_at_the_call(loop: Loop) -> None:
    class Unheard(BaseException): ...

    async def fails() -> None:
        await loop.checkpoint()
        raise Unheard

    async def main() -> str:
        await ensure_portal()
        with pytest.raises(Unheard):
            await_(fails())
        return "went on"

    assert loop.run(main) == "went on"


def test_cancellation_is_raised_at_the_call(loop: Loop) -> None:
    seen = []

    def sync() -> None:
        try:
            await_(loop.event().wait())
        except loop.cancelled:
            seen.append("cancelled")
            raise

    async def child() -> None:
        await ensure_portal()
        sync()

    async def main() -> bool:
        async with loop.tasks() as start:
            task = start(child)
            for _ in range(3):
                await loop.checkpoint()
            task.cancel()
            outcome = await task.wait()
        return bool(outcome.cancelled)

    assert loop.run(main) is True
    assert seen == ["cancelled"]


class AsyncCallable:
    async def __call__(self) -> None: ...


async def async_function() -> None: ...


@pytest.mark.parametrize(
    "make",
    [
        lambda: 42,
        lambda: None,
        lambda: async_function,
        lambda: test_any_exception_is_raised_at_the_call,
        lambda: staticmethod(async_function),
        lambda: classmethod(async_function),
        lambda: functools.partial(async_function),
        lambda: AsyncCallable(),
        lambda: AsyncCallable,
        lambda: (number for number in "abc"),
    ],
    ids=lambda make: type(make()).__name__ + "-" + getattr(make(), "__name__", "object"),
)
def test_not_awaitable_is_said_as_by_the_await_statement(
    make: Callable[[], Any], loop: Loop
) -> None:
    async def native(candidate: Any) -> None:
        await candidate

    async def main() -> None:
        await ensure_portal()
        with pytest.raises(TypeError) as expected:
            await native(make())
        with pytest.raises(TypeError) as info:
            await_(make())
        assert str(info.value) == str(expected.value)
        # No frame of how the text was found out.
        assert frames(info.value) == ["main", "await_"]

    loop.run(main)


@pytest.mark.parametrize("result", [42, [], None])
def test_await_methods_must_give_an_iterator(result: Any, loop: Loop) -> None:
    class AwaitGives:
        def __await__(self) -> Any:
            return result

    async def main() -> None:
        await ensure_portal()
        # The words differ between versions.
        with pytest.raises(TypeError, match=r"__await__\(\)"):
            await_(AwaitGives())

    loop.run(main)


def test_not_awaitable_where_there_is_no_portal(loop: Loop) -> None:
    """The portal is looked for first."""
    with pytest.raises(sniffio.AsyncLibraryNotFoundError):
        await_(42)  # type: ignore[arg-type]

    async def main() -> None:
        with pytest.raises(RuntimeError, match="must create a greenback portal"):
            await_(42)  # type: ignore[arg-type]

    loop.run(main)


def test_nested_to_any_depth(loop: Loop) -> None:
    async def down(depth: int) -> int:
        if depth == 0:
            await loop.checkpoint()
            return 0
        return 1 + (await_(down(depth - 1)) if depth % 2 else await down(depth - 1))

    async def main() -> Any:
        await ensure_portal()
        return await down(30)

    assert loop.run(main) == 30


def test_context_variables_are_the_tasks(loop: Loop) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    async def inner() -> None:
        assert variable.get() == 2
        await loop.checkpoint()
        variable.set(3)

    def middle() -> None:
        assert variable.get() == 1
        variable.set(2)
        await_(inner())
        assert variable.get() == 3
        apart = contextvars.copy_context()
        apart.run(variable.set, 2)
        apart.run(await_, inner())
        assert apart[variable] == 3
        variable.set(4)

    async def main() -> int:
        variable.set(1)
        await ensure_portal()
        middle()
        return variable.get()

    assert loop.run(main) == 4


# --- where await_ can't wait --------------------------------------------------


def sniffed(loop: Loop) -> str:
    return "trio" if loop.name == "trio" else "asyncio"


def test_no_portal(loop: Loop) -> None:
    async def main() -> None:
        assert not has_portal()
        with pytest.raises(RuntimeError) as info:
            await_(value())
        assert type(info.value) is RuntimeError and str(info.value) == NO_PORTAL
        assert frames(info.value) == ["main", "await_"]

    loop.run(main)


def test_a_portal_that_does_not_work_yet(loop: Loop) -> None:
    async def main() -> None:
        bestow_portal(loop.current_task())
        assert not has_portal()
        assert not has_portal(loop.current_task())
        with pytest.raises(RuntimeError) as info:
            await_(value())
        assert type(info.value) is RuntimeError
        assert str(info.value) == NOT_YET.format(sniffed(loop))
        await loop.checkpoint()
        assert has_portal()
        assert has_portal(loop.current_task())
        assert await_(Step(loop)) == "stepped"

    loop.run(main)


def test_the_cause_names_the_place(loop: Loop) -> None:
    def entered_wrongly() -> None:
        await_(value())

    async def main() -> None:
        with pytest.raises(RuntimeError) as info:
            entered_wrongly()
        assert isinstance(info.value.__cause__, verdigris.NoAwaitContext)
        assert "'entered_wrongly' was entered without" in str(info.value.__cause__)

    loop.run(main)


def test_with_portal_run_need_not_wait_for_a_portal_to_come(loop: Loop) -> None:
    """greenback takes the portal to come for one, and `await_` then raises."""

    async def waits() -> str:
        return await_(Step(loop))

    async def main() -> None:
        for call in (
            lambda: with_portal_run(waits),
            lambda: with_portal_run_sync(lambda: await_(Step(loop))),
        ):
            bestow_portal(loop.current_task())
            assert await call() == "stepped"
        assert has_portal() and await_(Step(loop)) == "stepped"

    loop.run(main)


def test_a_portal_of_greenback_itself_is_seen(python: Any) -> None:
    if importlib.util.find_spec("greenback") is None:
        pytest.skip("greenback is not installed")
    done = python(
        """
        import asyncio
        import greenback as theirs
        from verdigris.compat import greenback as ours

        async def main():
            await theirs.ensure_portal()
            try:
                await ours.ensure_portal()
            except RuntimeError as error:
                print(error)

        asyncio.run(main())
        """
    )
    assert "has a portal of greenback already" in done.stdout


def test_outside_a_loop() -> None:
    assert has_portal() is False
    with pytest.raises(sniffio.AsyncLibraryNotFoundError):
        await_(value())
    for make in (
        ensure_portal,
        lambda: with_portal_run(value),
        lambda: with_portal_run_sync(int),
    ):
        with pytest.raises(sniffio.AsyncLibraryNotFoundError):
            make().send(None)


def test_in_a_callback_of_the_loop(aio: Any) -> None:
    async def main() -> None:
        await ensure_portal()
        running = asyncio.get_running_loop()

        def in_callback(fn: Callable[[], None]) -> asyncio.Future[None]:
            done = running.create_future()

            def callback() -> None:
                try:
                    done.set_result(fn())
                except BaseException as error:
                    done.set_exception(error)

            running.call_soon(callback)
            return done

        def unknown() -> None:
            assert has_portal() is False
            await_(value())

        def known() -> None:
            # A library that has named itself, as anyio and trio-asyncio do.
            sniffio.current_async_library_cvar.set("asyncio")
            await_(value())

        with pytest.raises(sniffio.AsyncLibraryNotFoundError):
            await in_callback(unknown)
        with pytest.raises(RuntimeError) as info:
            await in_callback(known)
        assert str(info.value) == "No asyncio task is running"

    aio.run(main)


def test_an_unknown_library(loop: Loop, monkeypatch: Any) -> None:
    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sniffio.thread_local, "name", "tokio")
            for call in (
                lambda: await_(value()),
                lambda: ensure_portal().send(None),
                lambda: with_portal_run(value).send(None),
                lambda: with_portal_run_sync(int).send(None),
            ):
                with pytest.raises(RuntimeError) as info:
                    call()
                assert str(info.value) == "greenback does not support tokio"

    loop.run(main)


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="curio 1.6, the last one, can't be imported from 3.12 on"
)
def test_curio_is_refused_with_its_name() -> None:
    curio = pytest.importorskip("curio", reason="curio is not installed")

    async def main() -> None:
        for refused in (ensure_portal(), with_portal_run(value)):
            with pytest.raises(RuntimeError, match=r"^greenback does not support curio$"):
                await refused
        with pytest.raises(RuntimeError, match=r"^greenback does not support curio$"):
            await_(value())

    curio.run(main)


@pytest.mark.parametrize("where", ["no loop", "no portal", "not yet"])
def test_coroutines_are_closed_when_there_is_no_portal(where: str, loop: Loop) -> None:
    def refused() -> None:
        native, of_a_class = value(), CoroutineClass()
        for awaitable in (native, of_a_class):
            with pytest.raises(RuntimeError):
                await_(awaitable)
        assert native.cr_frame is None
        assert of_a_class.closed

    async def main() -> None:
        if where == "not yet":
            bestow_portal(loop.current_task())
        refused()
        await loop.checkpoint()

    if where == "no loop":
        refused()
    else:
        loop.run(main)
    gc.collect()  # a coroutine that was never awaited warns here


def test_futures_are_left_alone_when_there_is_no_portal(aio: Any) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(RuntimeError, match="must create a greenback portal"):
            await_(future)
        assert not future.done()
        task = asyncio.create_task(value())
        with pytest.raises(RuntimeError, match="must create a greenback portal"):
            await_(task)
        assert await task == "value"

    aio.run(main)


def test_errors_of_the_awaitable_keep_their_own_text(loop: Loop) -> None:
    """`NoAwaitContext` is reworded only where this very call can't wait."""

    async def raises() -> None:
        await loop.checkpoint()
        raise verdigris.NoAwaitContext("of somebody else")

    async def main() -> None:
        await ensure_portal()
        with pytest.raises(verdigris.NoAwaitContext, match=r"^of somebody else$"):
            await_(raises())

    loop.run(main)


def test_an_error_that_a_future_holds_keeps_its_own_text(aio: Any) -> None:
    """It comes without any frame of its own."""

    async def main() -> None:
        await ensure_portal()
        future = asyncio.get_running_loop().create_future()
        future.set_exception(verdigris.NoAwaitContext("of somebody else"))
        with pytest.raises(verdigris.NoAwaitContext, match=r"^of somebody else$"):
            await_(future)

    aio.run(main)


# --- tracebacks --------------------------------------------------------------


def test_one_frame_for_each_await(loop: Loop) -> None:
    async def fails(depth: int) -> None:
        if depth == 0:
            await loop.checkpoint()
            raise ValueError("at the bottom")
        await_(fails(depth - 1))

    async def main() -> list[str]:
        await ensure_portal()
        with pytest.raises(ValueError, match="at the bottom") as info:
            await_(fails(2))
        return frames(info.value)

    assert loop.run(main) == ["main", "await_", "fails", "await_", "fails", "await_", "fails"]


def test_no_frame_between_await_and_an_awaitable(loop: Loop) -> None:
    async def main() -> list[str]:
        await ensure_portal()
        with pytest.raises(ValueError, match="nope") as info:
            await_(Step(loop, ValueError("nope")))
        return frames(info.value)

    assert loop.run(main) == ["main", "await_", "__await__"]


def test_sync_syntax_shows_its_call_and_the_await(loop: Loop) -> None:
    class Fails:
        async def __aenter__(self) -> None:
            raise ValueError

        async def __aexit__(self, *exc: object) -> None: ...

        def __aiter__(self) -> Fails:
            return self

        async def __anext__(self) -> None:
            raise ValueError

    @autoawait
    async def fails() -> None:
        raise ValueError

    def enters() -> None:
        with async_context(Fails()):
            pytest.fail("never entered")

    async def main() -> None:
        await ensure_portal()
        for call, shape in [
            (enters, ["enters", "__enter__", "await_", "__aenter__"]),
            (lambda: next(async_iter(Fails())), ["<lambda>", "__next__", "await_", "__anext__"]),
            (fails, ["call", "await_", "fails"]),
        ]:
            with pytest.raises(ValueError, match=r"^$") as info:
                call()
            assert frames(info.value) == ["main", *shape]

    loop.run(main)


def test_with_portal_run_sync_just_calls_where_there_is_a_portal(loop: Loop) -> None:
    def fails() -> None:
        await_(loop.checkpoint())
        raise ValueError("nope")

    async def main() -> list[str]:
        await ensure_portal()
        with pytest.raises(ValueError, match="nope") as info:
            await with_portal_run_sync(fails)
        return frames(info.value)

    assert loop.run(main) == ["main", "with_portal_run_sync", "fails"]


# --- portals -----------------------------------------------------------------


async def turns(loop: Loop, call: Callable[[], Awaitable[Any]]) -> int:
    """How often the loop gets its turn while `call()` is awaited."""
    count = 0

    def turn(*_: object) -> None:
        nonlocal count
        count += 1

    if isinstance(loop, TrioLoop):
        # Trio runs what is ready in any order, so another task would not do.
        lowlevel, this = loop.trio.lowlevel, loop.current_task()

        class Counter(loop.trio.abc.Instrument):  # type: ignore[name-defined, misc]
            def after_task_step(self, task: object) -> None:
                if task is this:
                    turn()

        counter = Counter()
        lowlevel.add_instrument(counter)
        await call()
        lowlevel.remove_instrument(counter)
        return count

    running = asyncio.get_running_loop()
    handle: asyncio.Handle | None = None

    def turn_and_again() -> None:
        nonlocal handle
        turn()
        handle = running.call_soon(turn_and_again)

    handle = running.call_soon(turn_and_again)
    await call()
    handle.cancel()
    return count


def test_ensure_portal_is_a_schedule_point(loop: Loop) -> None:
    async def main() -> None:
        assert await turns(loop, ensure_portal) > 0
        assert has_portal()
        assert await turns(loop, ensure_portal) > 0

    loop.run(main)


@pytest.mark.parametrize("had_one", [False, True])
def test_ensure_portal_is_a_cancellation_point(had_one: bool, loop: Loop) -> None:
    async def main() -> None:
        async def child() -> None:
            if had_one:
                await ensure_portal()
            task.cancel()
            await ensure_portal()
            pytest.fail("ensure_portal() was no cancellation point")

        async with loop.tasks() as start:
            task = start(child)
            outcome = await task.wait()
        assert outcome.cancelled and outcome.error is None

    loop.run(main)


def test_checkpoints_as_trio_sees_them(trio_loop: Any) -> None:
    testing = pytest.importorskip("trio.testing", reason="trio is not installed")

    async def main() -> None:
        for call in (with_portal_run, with_portal_run_tree):
            with testing.assert_no_checkpoints():
                assert await call(value) == "value"
        with testing.assert_no_checkpoints():
            assert await with_portal_run_sync(lambda: await_(value())) == "value"
        with testing.assert_checkpoints():
            await ensure_portal()
        with testing.assert_checkpoints():
            await ensure_portal()
        with testing.assert_checkpoints():
            await_(loop_step())
        with testing.assert_no_checkpoints():
            await_(value())
        with testing.assert_no_checkpoints():
            assert await with_portal_run(value) == "value"

    async def loop_step() -> None:
        await trio_loop.checkpoint()

    trio_loop.run(main)


@pytest.mark.parametrize("had_one", [False, True])
def test_with_portal_run_adds_no_checkpoint(had_one: bool, loop: Loop) -> None:
    async def main() -> None:
        if had_one:
            await ensure_portal()
        for call in (
            lambda: with_portal_run(value),
            lambda: with_portal_run_sync(lambda: await_(value())),
        ):
            assert await turns(loop, call) == 0
        assert await turns(loop, lambda: with_portal_run(loop.checkpoint)) > 0

    loop.run(main)


def test_with_portal_run_passes_everything_on(loop: Loop) -> None:
    async def async_fn(*args: int, **kwds: int) -> Any:
        await_(loop.checkpoint())
        return args, kwds

    def sync_fn(*args: int, **kwds: int) -> Any:
        await_(loop.checkpoint())
        return args, kwds

    class Fails:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __await__(self) -> Any:
            await_(loop.checkpoint())
            raise self.error

    async def main() -> None:
        assert await with_portal_run(async_fn, 1, two=2) == ((1,), {"two": 2})
        assert await with_portal_run_sync(sync_fn, 1, two=2) == ((1,), {"two": 2})
        error = KeyboardInterrupt()
        for call in (
            lambda: with_portal_run(Fails, error),
            lambda: with_portal_run_sync(lambda: await_(Fails(error))),
        ):
            with pytest.raises(KeyboardInterrupt) as info:
                await call()
            assert info.value is error

    loop.run(main)


def test_the_portal_of_with_portal_run_ends_with_the_call(loop: Loop) -> None:
    """Also when `ensure_portal` was called within."""

    async def ensures() -> bool:
        await ensure_portal()
        return has_portal()

    async def main() -> None:
        for call in (
            lambda: with_portal_run(ensures),
            lambda: with_portal_run(with_portal_run, ensures),
            lambda: with_portal_run_sync(lambda: await_(ensures())),
            lambda: with_portal_run(with_portal_run_sync, lambda: await_(ensures())),
        ):
            assert await call() is True
            assert has_portal() is False
            with pytest.raises(RuntimeError, match=r"greenback\.ensure_portal"):
                await_(value())
            await loop.checkpoint()
            assert has_portal() is False

    loop.run(main)


def test_with_portal_run_uses_the_portal_that_is_there(loop: Loop) -> None:
    def portal() -> Any:
        from verdigris import _engine

        return _engine.current_portal()

    async def async_portal() -> Any:
        return portal()

    async def main() -> None:
        await ensure_portal()
        its_own = portal()
        assert its_own is not None
        assert await with_portal_run(async_portal) is its_own
        assert await with_portal_run_sync(portal) is its_own

    loop.run(main)


def test_bestow_on_another_task(loop: Loop) -> None:
    async def child(go: Any) -> bool:
        await go.wait()
        with_portal = has_portal()
        await_(loop.checkpoint())
        return with_portal

    async def main() -> None:
        go = loop.event()
        results = []

        async def keeps() -> None:
            results.append(await child(go))

        async with loop.own_tasks() as spawn:
            task = spawn(keeps)
            await loop.checkpoint()
            assert has_portal(task) is False
            bestow_portal(task)
            assert has_portal(task) is True
            bestow_portal(task)
            go.set()
        assert results == [True]
        assert has_portal() is False
        assert has_portal(task) is False

    loop.run(main)


def test_bestow_on_a_task_that_has_ended_does_nothing(loop: Loop) -> None:
    async def main() -> None:
        async with loop.own_tasks() as spawn:
            task = spawn(value)
        bestow_portal(task)
        assert has_portal(task) is False

    loop.run(main)


def test_bestow_on_what_is_no_task(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="int"):
            bestow_portal(42)

    loop.run(main)


def test_a_portal_does_not_change_the_others_context(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def first(go: Any) -> None:
        variable.set("first")
        await go.wait()
        assert variable.get() == "first"
        await_(loop.checkpoint())
        assert variable.get() == "first"

    async def main() -> None:
        go = loop.event()
        async with loop.own_tasks() as spawn:
            task = spawn(first, go)
            await loop.checkpoint()
            variable.set("second")
            await ensure_portal()
            await_(loop.checkpoint())
            bestow_portal(task)
            go.set()
            await loop.checkpoint()
            assert variable.get() == "second"

    loop.run(main)


def test_what_ended_tasks_had_is_freed(loop: Loop) -> None:
    def portals() -> int:
        gc.collect()
        return sum(type(found) is verdigris.PortalCoroutine for found in gc.get_objects())

    async def child(go: Any) -> None:
        await ensure_portal()
        await_(go.wait())

    async def main() -> None:
        before = portals()
        go = loop.event()
        async with loop.tasks() as start:
            for _ in range(100):
                start(child, go)
            for _ in range(3):
                await loop.checkpoint()
            assert portals() == before + 100
            go.set()
        del start
        assert portals() == before

    loop.run(main)


def test_native_names_and_these_share_a_portal(loop: Loop) -> None:
    def sync() -> Any:
        return verdigris.await_(Step(loop)), await_(Step(loop))

    async def main() -> None:
        await verdigris.ensure_portal()
        assert has_portal() and sync() == ("stepped", "stepped")

    async def other() -> None:
        await ensure_portal()
        assert verdigris.has_portal() and sync() == ("stepped", "stepped")

    loop.run(main)
    loop.run(other)
    assert loop.run(verdigris.async_def, sync) == ("stepped", "stepped")


# --- trees: Trio only, as there ------------------------------------------------


def test_trees_are_refused_off_trio(aio: Any) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=f"^{TRIO_ONLY}$"):
            await with_portal_run_tree(value)
        with pytest.raises(RuntimeError, match=f"^{TRIO_ONLY}$"):
            async with portals_for_tree():
                pytest.fail("was entered")
        with pytest.raises(RuntimeError, match=f"^{TRIO_ONLY}$"), portals_for_children():
            pytest.fail("was entered")
        # Nothing was left behind.
        assert await asyncio.create_task(has_portal_later()) is False

    async def has_portal_later() -> bool:
        return has_portal()

    aio.run(main)
    with pytest.raises(RuntimeError, match=f"^{TRIO_ONLY}$"), portals_for_children():
        pytest.fail("was entered")


async def report(into: dict[str, bool], name: str) -> None:
    into[name] = has_portal()


def test_with_portal_run_tree(trio_loop: Any) -> None:
    trio = trio_loop.trio
    found: dict[str, bool] = {}

    async def child(depth: int) -> None:
        await report(found, f"depth {depth}")
        await_(trio.sleep(0))
        if depth:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, depth - 1)

    async def inside(outer: Any) -> str:
        outer.start_soon(report, found, "of the outer nursery")
        await child(2)
        return "returned"

    async def main() -> None:
        async with trio.open_nursery() as outer:
            assert await with_portal_run_tree(inside, outer) == "returned"
            assert has_portal() is False
            outer.start_soon(report, found, "after it")

    trio_loop.run(main)
    assert found == {
        "depth 2": True,
        "depth 1": True,
        "depth 0": True,
        "of the outer nursery": False,
        "after it": False,
    }


def test_portals_for_tree_and_for_children(trio_loop: Any) -> None:
    trio = trio_loop.trio
    found: dict[str, bool] = {}

    async def children(name: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(report, found, name)

    async def main() -> None:
        with portals_for_children():
            await report(found, "task with children")
            await children("child of it")
        async with portals_for_tree():
            await report(found, "task with tree")
            await_(children("child in tree"))
        await report(found, "task after")
        await children("child after")

    trio_loop.run(main)
    assert found == {
        "task with children": False,
        "child of it": True,
        "task with tree": True,
        "child in tree": True,
        "task after": False,
        "child after": False,
    }


def test_portals_for_tree_schedules_and_is_no_cancellation_point(trio_loop: Any) -> None:
    trio = trio_loop.trio

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with portals_for_tree():
                assert has_portal()
            assert not has_portal()
        assert not scope.cancelled_caught
        stack = contextlib.AsyncExitStack()
        assert await turns(trio_loop, lambda: stack.enter_async_context(portals_for_tree())) > 0
        assert await turns(trio_loop, stack.aclose) > 0
        assert not has_portal()

    trio_loop.run(main)


def test_instrument(trio_loop: Any) -> None:
    trio = trio_loop.trio
    found: dict[str, bool] = {}

    async def main() -> None:
        await report(found, "main")
        await_(trio.sleep(0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(report, found, "child")
            trio.lowlevel.spawn_system_task(report, found, "system task")

    trio.run(main, instruments=[greenback.AutoPortalInstrument()])
    assert found == {"main": True, "child": True, "system task": True}


# --- async things in sync syntax ---------------------------------------------


def test_autoawait(loop: Loop) -> None:
    class Box:
        @autoawait
        async def __init__(self, size: int) -> None:
            await loop.checkpoint()
            self.size = size

        @autoawait
        async def __len__(self) -> int:
            """Its size."""
            await loop.checkpoint()
            return self.size

    async def main() -> int:
        with pytest.raises(RuntimeError, match=r"greenback\.ensure_portal"):
            Box(3)
        await ensure_portal()
        return len(Box(3))

    assert loop.run(main) == 3
    assert Box.__len__.__name__ == "__len__" and Box.__len__.__doc__ == "Its size."


def test_finalizers_may_wait(loop: Loop) -> None:
    ended = []

    class Resource:
        @autoawait
        async def __del__(self) -> None:
            await loop.checkpoint()
            ended.append(has_portal())

    async def main() -> None:
        await ensure_portal()
        resource = Resource()
        del resource
        assert ended == [True]

    loop.run(main)


def test_decorate_as_sync(loop: Loop) -> None:
    calls = []

    @decorate_as_sync(functools.lru_cache())
    async def example(*args: int, **kwds: int) -> Any:
        """An example."""
        assert has_portal()
        calls.append(args)
        await loop.checkpoint()
        return sum(args), list(kwds)

    async def main() -> None:
        assert await example(1, 2, test=3) == (3, ["test"])
        assert await example(1, 2, test=3) == (3, ["test"])
        assert calls == [(1, 2)]
        assert await example(1) == (1, [])
        assert has_portal() is False

    loop.run(main)
    assert example.__name__ == "example" and example.__doc__ == "An example."
    assert example.__wrapped__.__name__ == "example"  # type: ignore[attr-defined]


def test_async_context(loop: Loop) -> None:
    seen: list[Any] = []

    class Manager:
        def __init__(self) -> None:
            self.__aenter__ = self.__aexit__ = None  # special methods are the type's

        async def __aenter__(self) -> str:
            await loop.checkpoint()
            return "entered"

        async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> bool:
            await loop.checkpoint()
            seen.append((kind, error))
            return kind is KeyError

    async def main() -> None:
        await ensure_portal()
        with async_context(Manager()) as entered:
            assert entered == "entered"
        error = KeyError()
        with async_context(Manager()):
            raise error
        with pytest.raises(ValueError, match=r"^$"), async_context(Manager()):
            raise ValueError
        assert seen[:2] == [(None, None), (KeyError, error)]
        assert seen[2][0] is ValueError

    loop.run(main)


def test_async_context_refuses_what_is_none(loop: Loop) -> None:
    class NoEnter:
        async def __aexit__(self, *exc: object) -> None: ...

    class NoExit:
        async def __aenter__(self) -> None:
            pytest.fail("was entered")

    text = "object does not support the asynchronous context manager protocol"

    async def main() -> None:
        await ensure_portal()
        for manager, refusal in [
            (NoEnter(), f"'NoEnter' {text}"),
            (NoExit(), f"'NoExit' {text} (missed __aexit__ method)"),
            (42, f"'int' {text}"),
        ]:
            wrapped = async_context(manager)  # type: ignore[arg-type]
            with pytest.raises(TypeError) as info, wrapped:
                pytest.fail("was entered")
            assert str(info.value) == refusal

    loop.run(main)


def test_async_iter(loop: Loop) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            await loop.checkpoint()
            yield number

    class Plain:
        def __init__(self) -> None:
            self.__aiter__ = None  # special methods are the type's
            self.left = 3

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> int:
            await loop.checkpoint()
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return self.left

    async def main() -> None:
        await ensure_portal()
        assert list(async_iter(numbers())) == [0, 1, 2]
        plain = async_iter(Plain())
        assert iter(plain) is plain
        assert list(plain) == [2, 1, 0]
        assert not any(hasattr(plain, name) for name in ("send", "throw", "close"))

    loop.run(main)


def test_async_iter_refuses_what_is_none() -> None:
    class NoNext:
        def __aiter__(self) -> NoNext:
            return self

    with pytest.raises(TypeError) as info:
        async_iter(42)  # type: ignore[arg-type]
    assert str(info.value) == "'async_iter' requires an object with __aiter__ method, got int"
    with pytest.raises(TypeError) as info:
        async_iter(NoNext())  # type: ignore[arg-type]
    assert str(info.value) == (
        "'async_iter' received an object from __aiter__ that does not implement __anext__: NoNext"
    )


def test_async_iter_over_a_generator_is_one(loop: Loop) -> None:
    closed = []

    async def example(suppress: bool = False) -> Any:
        try:
            await loop.checkpoint()
            yield (yield 10) + 1
        except BaseException as error:
            await loop.checkpoint()
            closed.append(type(error))
            if not suppress:
                raise

    def delegating(**kwds: bool) -> Iterator[Any]:
        yield from async_iter(example(**kwds))

    async def main() -> None:
        await ensure_portal()

        generator: Any = delegating()
        assert next(generator) == 10
        assert generator.send(20) == 21
        with pytest.raises(ValueError, match="hi"):
            generator.throw(ValueError("hi"))

        generator = delegating()
        assert generator.send(None) == 10
        generator.close()

        generator = delegating(suppress=True)
        assert generator.send(None) == 10
        with pytest.raises(StopIteration):
            generator.throw(ValueError("lo"))

        generator = delegating()
        assert next(generator) == 10
        assert generator.send(20) == 21
        with pytest.raises(StopIteration):
            generator.send(30)

    loop.run(main)
    assert closed == [ValueError, GeneratorExit, ValueError]


# --- its own suite -----------------------------------------------------------

RUN_ITS_SUITE = """
    import importlib.util, json, sys, types
    import pytest
    import verdigris.compat.greenback as drop_in

    configuration, *deselected = sys.argv[1:]
    (package,) = importlib.util.find_spec("greenback").submodule_search_locations

    # Its tests are modules of the package, and import from two of its private ones.
    drop_in.__path__ = [package]
    sys.modules["greenback"] = drop_in
    for name, more in (("_impl", {"current_task": drop_in._current_task}), ("_util", {})):
        stub = types.ModuleType(f"greenback.{name}")
        vars(stub).update({public: getattr(drop_in, public) for public in drop_in.__all__}, **more)
        setattr(drop_in, name, stub)
        sys.modules[stub.__name__] = stub

    class Outcomes:
        def __init__(self):
            self.collected, self.passed, self.others = set(), [], {}

        def pytest_itemcollected(self, item):
            self.collected.add(item.originalname)
            if item.originalname in deselected:
                item.add_marker(pytest.mark.deselected)

        def pytest_runtest_logreport(self, report):
            if report.when == "call" and report.passed:
                self.passed.append(report.nodeid.split("::")[-1])
            elif not report.passed:
                self.others[report.nodeid.split("::")[-1]] = str(report.longrepr)

    outcomes = Outcomes()
    options = ["-q", "-c", configuration, "--confcutdir", package, "-m", "not deselected"]
    pytest.main([f"{package}/_tests", *options], [outcomes])
    assert not hasattr(sys.modules["greenback._impl"], "__file__"), "the original was loaded"
    with open(configuration + ".json", "w") as file:
        json.dump({**vars(outcomes), "collected": sorted(outcomes.collected)}, file)
"""

NOT_APPLICABLE = {
    "test_find_ptr_in_object": "tests the private function that looks for a task's coroutine",
    "test_portal_map_does_not_leak": (
        "looks into the private mapping of tasks to portals; there is none "
        "(test_what_ended_tasks_had_is_freed is the same for the drop-in)"
    ),
    "test_uncleanable_traceback": (
        "counts the private frames above a coroutine class whose send() takes no argument; the "
        "drop-in waits by __await__, as the await statement does"
    ),
}


def text_of_await_42() -> str:
    async def waits() -> None:
        await 42  # type: ignore[misc]

    with pytest.raises(TypeError) as info:
        waits().send(None)
    return str(info.value)


if sys.version_info >= (3, 12):
    NOT_APPLICABLE["test_magic"] = (
        "counts on an object that dies in the garbage collector. From 3.12 on the frames of an "
        "exception hold their callers' frames, so the object lives as long as Trio holds the last "
        "Cancelled. With greenback that is part of a reference cycle, which the test collects in a "
        "task with a portal; here it ends with the task's step, as with native await "
        "(test_finalizers_may_wait has no exception in it)"
    )
if "int can't be used in 'await' expression" not in text_of_await_42():
    NOT_APPLICABLE["test_misuse"] = (
        "expects the words of older interpreters for `await 42`, and fails for greenback too "
        "(each part of it has a test above)"
    )


def test_its_own_suite_passes(python: Any, tmp_path: Any) -> None:
    for name in ("greenback", "greenlet", "anyio", "trio"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    configuration = tmp_path / "pytest.ini"
    # Its deprecation warnings depend on the versions of what it uses, and say nothing of us.
    configuration.write_text(
        "[pytest]\n"
        "addopts = -p no:cacheprovider\n"
        "markers = deselected\n"
        "faulthandler_timeout = 60\n"
        "faulthandler_exit_on_timeout = true\n"
        "filterwarnings =\n    error\n    ignore::DeprecationWarning\n"
    )
    done = python(RUN_ITS_SUITE, configuration, *NOT_APPLICABLE, options=("-B",))
    result = json.loads((tmp_path / "pytest.ini.json").read_text())
    assert result["others"] == {}, done.stdout
    # Nothing is left out without a reason, and every reason is about a test that is there.
    assert set(NOT_APPLICABLE) <= set(result["collected"])
    ran = {name.split("[")[0] for name in result["passed"]}
    assert ran == set(result["collected"]) - set(NOT_APPLICABLE)
    assert {name for name in result["passed"] if name.startswith("test_simple")} == {
        "test_simple[asyncio]",
        "test_simple[trio]",
    }
