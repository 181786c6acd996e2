"""Async functions, context managers and iterators in sync syntax.

What `async with` and `async for` do is not written down here again: where it can be, the same
object goes through the native statement too, and both have to do the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest
import trio
import trio.testing
from hand_driver import finish, suspend, value

from verdigris import (
    NoAwaitContext,
    async_context,
    async_iter,
    autoawait,
    await_,
    decorate_as_sync,
    ensure_portal,
    has_portal,
    with_portal_run,
    with_portal_run_sync,
)


def run_sync(loop: Any, fn: Callable[..., Any], *args: Any) -> Any:
    """Runs a sync function of which every part may wait."""

    async def main() -> Any:
        return await with_portal_run_sync(fn, *args)

    return loop.run(main)


def by_hand(fn: Callable[..., Any], *args: Any) -> Any:
    """The same with no loop. `suspend(x)` gives what was handed in: nothing."""
    return finish(with_portal_run_sync(fn, *args))


# --- autoawait ---------------------------------------------------------------


def test_a_function_waits_for_its_result(loop: Any) -> None:
    @autoawait
    async def add(x: int, *, plus: int = 1) -> int:
        await loop.checkpoint()
        return x + plus

    assert run_sync(loop, lambda: (add(1), add(2, plus=3))) == (2, 5)


def test_the_portal_of_a_task_is_used(loop: Any) -> None:
    @autoawait
    async def waits() -> str:
        await loop.checkpoint()
        return "waited"

    async def main() -> str:
        await ensure_portal()
        return waits()

    assert loop.run(main) == "waited"


def test_an_exception_comes_out_of_the_call(loop: Any) -> None:
    @autoawait
    async def fail() -> None:
        await loop.checkpoint()
        raise ZeroDivisionError("inside")

    def main() -> str:
        with pytest.raises(ZeroDivisionError, match="inside"):
            fail()
        return "caught"

    assert run_sync(loop, main) == "caught"


def test_a_call_with_no_portal_is_refused_and_leaves_nothing(loop: Any) -> None:
    begun = []

    @autoawait
    async def waits() -> None:
        begun.append(True)

    async def main() -> None:
        # A coroutine that was never awaited would be a warning, which is an error here.
        with pytest.raises(NoAwaitContext):
            waits()

    loop.run(main)
    assert begun == []


def test_special_methods_wait(loop: Any) -> None:
    log: list[str] = []

    class Resource:
        @autoawait
        async def __init__(self, name: str) -> None:
            await loop.checkpoint()
            self.name = name
            log.append(f"opened {name}")

        @autoawait
        async def __len__(self) -> int:
            await loop.checkpoint()
            return len(self.name)

        @autoawait
        async def __getitem__(self, index: int) -> str:
            await loop.checkpoint()
            return self.name[index]

        @autoawait
        async def __del__(self) -> None:
            await loop.checkpoint()
            log.append(f"closed {self.name}")

        @property
        @autoawait
        async def size(self) -> int:
            await loop.checkpoint()
            return len(self.name)

        @size.setter
        @autoawait
        async def size(self, size: int) -> None:
            await loop.checkpoint()
            self.name = self.name[:size]

    def main() -> list[Any]:
        resource = Resource("file")
        seen: list[Any] = [len(resource), resource[0], list(resource), resource.size]
        resource.size = 2
        seen.append(resource.name)
        del resource
        gc.collect()
        # It waited in the finalizer, and the deletion with it.
        log.append("deleted")
        return seen

    assert run_sync(loop, main) == [4, "f", ["f", "i", "l", "e"], 4, "fi"]
    assert log == ["opened file", "closed fi", "deleted"]


def test_inside_classmethod_and_staticmethod(loop: Any) -> None:
    class Kind:
        @classmethod
        @autoawait
        async def of_class(cls, x: int) -> tuple[type, int]:
            await loop.checkpoint()
            return cls, x

        @staticmethod
        @autoawait
        async def of_none(x: int) -> int:
            await loop.checkpoint()
            return x

        @autoawait
        async def of_instance(self, x: int) -> tuple[Kind, int]:
            await loop.checkpoint()
            return self, x

    class Derived(Kind):
        pass

    def main() -> list[Any]:
        one = Derived()
        return [
            Derived.of_class(1) == (Derived, 1),
            one.of_class(2) == (Derived, 2),
            Kind.of_none(3),
            one.of_none(4),
            one.of_instance(5) == (one, 5),
            Kind.of_instance(one, 6) == (one, 6),
        ]

    assert run_sync(loop, main) == [True, True, 3, 4, True, True]


def test_what_is_told_about_the_function_stays() -> None:
    async def original(x: int, *, y: str = "y") -> int:
        """What it does."""
        return x

    original.note = "kept"  # type: ignore[attr-defined]
    sync = autoawait(original)
    assert sync.__name__ == "original"
    assert sync.__qualname__ == original.__qualname__
    assert sync.__module__ == __name__
    assert sync.__doc__ == "What it does."
    assert sync.__wrapped__ is original
    assert sync.note == "kept"
    assert inspect.signature(sync) == inspect.signature(original)


def test_it_is_a_plain_function_for_those_who_ask() -> None:
    async def native() -> None:
        pass

    async def marked() -> None:
        pass

    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(marked)
    # How asyncio (up to 3.13) and Cython mark one. The attribute is copied by `functools.wraps`.
    marked._is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", True)  # type: ignore[attr-defined]

    assert inspect.iscoroutinefunction(native) and inspect.iscoroutinefunction(marked)
    for async_fn in (native, marked):
        sync = autoawait(async_fn)
        assert not inspect.iscoroutinefunction(sync)
        if sys.version_info < (3, 14):
            assert asyncio.iscoroutinefunction(async_fn)
            assert not asyncio.iscoroutinefunction(sync)
    # The original is as it was.
    assert hasattr(marked, "_is_coroutine") and inspect.iscoroutinefunction(marked)


def test_whatever_gives_an_awaitable() -> None:
    class Suspends:
        def __await__(self) -> Generator[object, None, str]:
            yield "a trap"
            return "awaited"

    async def named(name: str) -> str:
        await suspend()
        return name

    class Object:
        async def __call__(self) -> str:
            await suspend()
            return "called"

    @types.coroutine
    def of_generators() -> Generator[object, None, str]:
        yield
        return "of generators"

    sync: list[Callable[..., Any]] = [
        autoawait(Suspends),
        autoawait(lambda: named("from a lambda")),
        autoawait(functools.partial(named)),
        autoawait(Object()),
        autoawait(of_generators),
    ]
    calls = [(), (), ("from a partial",), (), ()]
    assert by_hand(lambda: [each(*args) for each, args in zip(sync, calls, strict=True)]) == [
        "awaited",
        "from a lambda",
        "from a partial",
        "called",
        "of generators",
    ]


def test_a_checkpoint_exactly_when_the_function_is_one() -> None:
    nothing, checkpoint = autoawait(value), autoawait(trio.lowlevel.checkpoint)

    async def main() -> None:
        await ensure_portal()
        with trio.testing.assert_no_checkpoints():
            assert nothing(1) == 1
        with trio.testing.assert_checkpoints():
            checkpoint()

    trio.run(main)


# --- decorate_as_sync --------------------------------------------------------


def doubling(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A sync decorator that changes arguments and the result."""

    @functools.wraps(fn)
    def changed(x: int, **options: Any) -> str:
        return f"<{fn(2 * x, extra=True, **options)}>"

    return changed


@pytest.mark.parametrize("portal", [False, True])
def test_a_cache(loop: Any, portal: bool) -> None:
    calls: list[tuple[Any, ...]] = []

    @decorate_as_sync(functools.lru_cache(maxsize=10))
    async def fetch(*args: int, **options: str) -> tuple[int, list[str]]:
        calls.append(args)
        assert has_portal()
        await loop.checkpoint()
        return sum(args), list(options)

    async def main() -> list[Any]:
        if portal:
            await ensure_portal()
        results = [await fetch(1, 2, test="x"), await fetch(1, 2, test="x"), await fetch(1)]
        return [results, has_portal()]

    assert loop.run(main) == [[(3, ["test"]), (3, ["test"]), (1, [])], portal]
    assert calls == [(1, 2), (1,)]
    info = fetch.__wrapped__.cache_info()  # type: ignore[attr-defined]
    assert (info.hits, info.misses) == (1, 2)


def test_a_decorator_that_changes_arguments(loop: Any) -> None:
    @decorate_as_sync(doubling)
    async def show(x: int, *, extra: bool, sep: str = ":") -> str:
        await loop.checkpoint()
        return f"{x}{sep}{extra}"

    async def main() -> list[str]:
        return [await show(1), await show(x=2, sep="|")]

    assert loop.run(main) == ["<2:True>", "<4|True>"]


def test_a_decorator_that_calls_many_times_or_never(loop: Any) -> None:
    attempts: list[int] = []

    def retried(fn: Callable[..., Any]) -> Callable[..., Any]:
        def retry() -> Any:
            while True:
                try:
                    return fn()
                except ConnectionError:
                    continue

        return retry

    def switched_off(fn: Callable[..., Any]) -> Callable[..., Any]:
        return lambda: "off"

    @decorate_as_sync(retried)
    async def flaky() -> str:
        attempts.append(len(attempts))
        await loop.checkpoint()
        if len(attempts) < 3:
            raise ConnectionError
        return "connected"

    @decorate_as_sync(switched_off)
    async def never() -> None:
        attempts.append(-1)

    async def main() -> list[Any]:
        return [await flaky(), await never()]

    assert loop.run(main) == ["connected", "off"]
    assert attempts == [0, 1, 2]


def test_keywords_of_async_def_are_the_functions(loop: Any) -> None:
    @decorate_as_sync(functools.lru_cache)
    async def options(**options: Any) -> dict[str, Any]:
        await loop.checkpoint()
        return options

    async def main() -> Any:
        return await options(assert_await_occurs=True, fn=1, async_fn=2)

    assert loop.run(main) == {"assert_await_occurs": True, "fn": 1, "async_fn": 2}


def test_a_decorated_method(loop: Any) -> None:
    class Shop:
        @decorate_as_sync(functools.lru_cache)
        async def price(self, name: str) -> tuple[object, str]:
            await loop.checkpoint()
            return self, name

    async def main() -> bool:
        shop = Shop()
        return await shop.price("tea") == (shop, "tea")

    assert loop.run(main)


@pytest.mark.parametrize("where", ["function", "decorator"])
def test_an_exception_of_either_comes_out(loop: Any, where: str) -> None:
    def failing(fn: Callable[..., Any]) -> Callable[..., Any]:
        def fails() -> None:
            fn()
            raise ZeroDivisionError("decorator")

        return fails

    @decorate_as_sync(failing)
    async def function() -> None:
        await loop.checkpoint()
        if where == "function":
            raise ZeroDivisionError("function")

    async def main() -> bool:
        with pytest.raises(ZeroDivisionError, match=where):
            await function()
        return has_portal()

    assert loop.run(main) is False


def test_a_cancellation_passes_the_decorator(loop: Any) -> None:
    log: list[str] = []

    def noting(fn: Callable[..., Any]) -> Callable[..., Any]:
        def noted(started: Any) -> None:
            try:
                fn(started)
            except loop.cancelled:
                log.append("cancelled")
                raise
            finally:
                started.set()

        return noted

    @decorate_as_sync(noting)
    async def forever(started: Any) -> None:
        started.set()
        await loop.event().wait()

    async def main() -> bool:
        started = loop.event()
        async with loop.tasks() as start:
            task = start(forever, started)
            await started.wait()
            task.cancel()
        return task.outcome.cancelled

    assert loop.run(main)
    assert log == ["cancelled"]


def test_what_is_told_about_a_decorated_function() -> None:
    async def original(x: int) -> int:
        """What it does."""
        return x

    cached = decorate_as_sync(functools.lru_cache())(original)
    assert cached.__name__ == "original"
    assert cached.__qualname__ == original.__qualname__
    assert cached.__doc__ == "What it does."
    assert inspect.iscoroutinefunction(cached)
    # What the decorator has made, with all its own methods.
    decorated = cached.__wrapped__  # type: ignore[attr-defined]
    assert decorated.__name__ == "original"
    assert not inspect.iscoroutinefunction(decorated)
    assert decorated.cache_info().currsize == 0
    assert inspect.unwrap(cached) is original
    assert inspect.signature(cached) == inspect.signature(original)


def test_a_call_adds_no_checkpoint() -> None:
    same = decorate_as_sync(lambda fn: fn)
    nothing, checkpoint = same(value), same(trio.lowlevel.checkpoint)

    async def calls() -> None:
        with trio.testing.assert_no_checkpoints():
            assert await nothing(1) == 1
        with trio.testing.assert_checkpoints():
            await checkpoint()

    trio.run(calls)
    trio.run(with_portal_run, calls)


# --- async_context: as the statement -----------------------------------------


class Manager:
    """Notes what happens to it. `enter` and `leave` say how it ends."""

    def __init__(self, checkpoint: Any, enter: Any = "entered", leave: Any = None) -> None:
        self.checkpoint, self.enter, self.leave = checkpoint, enter, leave
        self.log: list[Any] = []

    async def __aenter__(self) -> Any:
        await self.checkpoint()
        self.log.append("enter")
        if isinstance(self.enter, BaseException):
            raise self.enter
        return self.enter

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> Any:
        await self.checkpoint()
        self.log.append(("exit", kind, error, traceback is not None))
        if isinstance(self.leave, BaseException):
            raise self.leave
        return self.leave


async def native_with(manager: Any, body: Callable[[Any], Any]) -> Any:
    async with manager as entered:
        return body(entered)
    return "swallowed"


async def sync_with(manager: Any, body: Callable[[Any], Any]) -> Any:
    def statement() -> Any:
        with async_context(manager) as entered:
            return body(entered)
        return "swallowed"

    return await with_portal_run_sync(statement)


def raises(error: BaseException) -> Callable[..., Any]:
    def body(*args: Any) -> Any:
        raise error

    return body


def same(entered: Any) -> Any:
    return entered


async def outcome_of(awaitable: Awaitable[Any]) -> Any:
    """What it returns, or what it raises and how that came about."""
    try:
        return await awaitable
    except BaseException as error:
        return error, error.__context__, error.__cause__, error.__suppress_context__


ERROR, ANOTHER = ZeroDivisionError("of the body"), KeyError("of the manager")

CASES: list[tuple[Any, dict[str, Any], Callable[..., Any]]] = [
    ("nothing special", {}, same),
    ("an error", {}, raises(ERROR)),
    ("an error is swallowed", {"leave": True}, raises(ERROR)),
    ("by anything true", {"leave": "yes"}, raises(ERROR)),
    ("not by anything false", {"leave": []}, raises(ERROR)),
    ("nothing to swallow", {"leave": True}, same),
    ("entering fails", {"enter": ANOTHER}, same),
    ("leaving fails", {"leave": ANOTHER}, same),
    ("both fail", {"leave": ANOTHER}, raises(ERROR)),
    ("the same error again", {"leave": ERROR}, raises(ERROR)),
    ("a base exception", {}, raises(SystemExit(3))),
]


@pytest.mark.parametrize(
    ("options", "body"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_with_does_what_async_with_does(loop: Any, options: Any, body: Any) -> None:
    async def main() -> list[Any]:
        seen = []
        for statement in (native_with, sync_with):
            for error in (ERROR, ANOTHER):
                error.__context__ = None
            manager = Manager(loop.checkpoint, **options)
            seen.append((await outcome_of(statement(manager, body)), manager.log))
        return seen

    native, ours = loop.run(main)
    assert ours == native
    assert native[1][0] == "enter"


def test_special_methods_are_those_of_the_type(loop: Any) -> None:
    class Misleading(Manager):
        def __init__(self) -> None:
            super().__init__(loop.checkpoint)
            self.__aenter__ = raises(AssertionError("the instance's"))  # type: ignore[method-assign]
            self.__aexit__ = None  # type: ignore[assignment]

    async def main() -> list[Any]:
        seen = []
        for statement in (native_with, sync_with):
            manager = Misleading()
            seen.append((await statement(manager, same), manager.log))
        return seen

    native, ours = loop.run(main)
    assert native == ours == ("entered", ["enter", ("exit", None, None, False)])


def test_the_exit_is_found_before_the_entry_is_awaited(loop: Any) -> None:
    class Changing(Manager):
        async def __aenter__(self) -> Any:
            entered = await super().__aenter__()
            Changing.__aexit__ = raises(AssertionError("too late"))  # type: ignore[assignment]
            return entered

    async def main() -> list[Any]:
        seen = []
        for statement in (native_with, sync_with):
            original = Changing.__aexit__
            manager = Changing(loop.checkpoint)
            try:
                seen.append((await statement(manager, same), manager.log))
            finally:
                Changing.__aexit__ = original  # type: ignore[method-assign]
        return seen

    native, ours = loop.run(main)
    assert native == ours == ("entered", ["enter", ("exit", None, None, False)])


class NoManager:
    pass


class NoEnter:
    async def __aexit__(self, *error: object) -> None:
        raise AssertionError("not reached")


class NoExit:
    async def __aenter__(self) -> None:
        raise AssertionError("not reached")


class SyncManager:
    def __enter__(self) -> None:
        raise AssertionError("not reached")

    def __exit__(self, *error: object) -> None:
        raise AssertionError("not reached")


class OfTheInstance:
    def __init__(self) -> None:
        self.__aenter__ = self.__aexit__ = raises(AssertionError("not reached"))


PROTOCOL = "object does not support the asynchronous context manager protocol"


@pytest.mark.parametrize(
    ("no_manager", "message"),
    [
        (NoManager, f"'NoManager' {PROTOCOL}"),
        (NoEnter, f"'NoEnter' {PROTOCOL}"),
        (NoExit, f"'NoExit' {PROTOCOL} (missed __aexit__ method)"),
        (SyncManager, f"'SyncManager' {PROTOCOL}"),
        (OfTheInstance, f"'OfTheInstance' {PROTOCOL}"),
    ],
)
def test_what_is_no_async_context_manager(no_manager: Any, message: str) -> None:
    # Making one looks at nothing yet.
    context = async_context(no_manager())

    def statement() -> None:
        with pytest.raises(TypeError) as caught, context:
            raise AssertionError("not reached")
        assert str(caught.value) == message
        assert caught.value.__cause__ is None and caught.value.__context__ is None

    by_hand(statement)
    # The native statement says so too, on newer versions with more around it.
    (error, *_) = finish(outcome_of(native_with(no_manager(), same)))
    assert type(error) is TypeError and PROTOCOL in str(error)


def test_an_entry_that_cannot_be_awaited(loop: Any) -> None:
    class Sync:
        def __aenter__(self) -> int:
            return 42

        async def __aexit__(self, *error: object) -> None:
            raise AssertionError("not reached")

    async def main() -> list[Any]:
        return [(await outcome_of(way(Sync(), same)))[0] for way in (native_with, sync_with)]

    native, ours = loop.run(main)
    assert type(native) is type(ours) is TypeError


def test_a_manager_with_no_portal_is_not_entered(loop: Any) -> None:
    async def main() -> list[Any]:
        manager = Manager(loop.checkpoint)
        with pytest.raises(NoAwaitContext), async_context(manager):
            raise AssertionError("not reached")
        return manager.log

    assert loop.run(main) == []


def test_checkpoints_are_those_of_the_manager() -> None:
    async def main() -> None:
        await ensure_portal()
        manager = Manager(trio.lowlevel.checkpoint)
        with async_context(manager), trio.testing.assert_no_checkpoints():
            manager.checkpoint = functools.partial(value, None)
        with trio.testing.assert_no_checkpoints(), async_context(manager):
            pass
        manager.checkpoint = trio.lowlevel.checkpoint
        context = async_context(manager)
        with trio.testing.assert_checkpoints():
            context.__enter__()
        with trio.testing.assert_checkpoints():
            context.__exit__(None, None, None)
        assert len(manager.log) == 6

    trio.run(main)


@pytest.mark.parametrize("where", ["entry", "body", "exit"])
def test_a_cancellation_in_a_manager(loop: Any, where: str) -> None:
    async def wait_in(place: str, started: Any) -> None:
        if place == where:
            started.set()
            await loop.event().wait()

    class Waiting:
        def __init__(self, started: Any, log: list[str]) -> None:
            self.started, self.log = started, log

        async def __aenter__(self) -> None:
            await wait_in("entry", self.started)
            self.log.append("entered")

        async def __aexit__(self, kind: Any, *error: object) -> None:
            self.log.append("cancelled" if kind and issubclass(kind, loop.cancelled) else "left")
            await wait_in("exit", self.started)
            self.log.append("waited at the exit")

    def statement(started: Any, log: list[str]) -> None:
        with async_context(Waiting(started, log)):
            await_(wait_in("body", started))

    async def native(started: Any, log: list[str]) -> None:
        async with Waiting(started, log):
            await wait_in("body", started)

    async def main() -> list[Any]:
        seen = []
        for way in (native, functools.partial(with_portal_run_sync, statement)):
            started, log = loop.event(), []
            async with loop.tasks() as start:
                task = start(way, started, log)
                await started.wait()
                task.cancel()
            seen.append((task.outcome.cancelled, task.outcome.error, log))
        return seen

    native_seen, ours = loop.run(main)
    assert ours == native_seen
    assert ours[0] is True


def test_managers_of_contextlib(loop: Any) -> None:
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def opened(name: str) -> AsyncIterator[str]:
        await loop.checkpoint()
        log.append(f"open {name}")
        try:
            yield name
        except ZeroDivisionError:
            log.append(f"swallowed in {name}")
        finally:
            await loop.checkpoint()
            log.append(f"close {name}")

    def main() -> str:
        with async_context(opened("outer")) as outer, async_context(opened("inner")) as inner:
            assert (outer, inner) == ("outer", "inner")
            raise ZeroDivisionError
        with contextlib.ExitStack() as stack:
            stack.enter_context(async_context(opened("on a stack")))
            return "done"

    assert run_sync(loop, main) == "done"
    assert log == [
        "open outer",
        "open inner",
        "swallowed in inner",
        "close inner",
        "close outer",
        "open on a stack",
        "close on a stack",
    ]


def test_a_lock_of_asyncio(aio: Any) -> None:
    log: list[str] = []

    def work(lock: asyncio.Lock, name: str) -> None:
        with async_context(lock) as nothing:
            assert nothing is None and lock.locked()
            log.append(f"{name} in")
            await_(asyncio.sleep(0))
            log.append(f"{name} out")

    async def main() -> bool:
        lock = asyncio.Lock()
        await asyncio.gather(*(with_portal_run_sync(work, lock, name) for name in "ab"))
        return lock.locked()

    assert aio.run(main) is False
    assert log == ["a in", "a out", "b in", "b out"]


def test_a_task_group_of_asyncio(aio: Any) -> None:
    def work() -> list[int]:
        with async_context(asyncio.TaskGroup()) as group:
            tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
        return [task.result() for task in tasks]

    assert run_sync(aio, work) == [0, 1, 2]


def test_a_timeout_of_asyncio(aio: Any) -> None:
    def work() -> None:
        with async_context(asyncio.timeout(None)) as timeout:
            timeout.reschedule(asyncio.get_running_loop().time() - 1)
            await_(asyncio.Event().wait())

    def main() -> str:
        with pytest.raises(TimeoutError):
            work()
        return "timed out"

    assert run_sync(aio, main) == "timed out"


def test_a_nursery_of_trio(trio_loop: Any) -> None:
    ended: list[str] = []

    async def child(name: str) -> None:
        await trio.lowlevel.checkpoint()
        ended.append(name)

    async def fail() -> None:
        raise ZeroDivisionError

    def with_a_child_that_fails() -> None:
        with async_context(trio.open_nursery()) as nursery:
            nursery.start_soon(fail)
            await_(trio.sleep_forever())

    def main() -> str:
        with async_context(trio.open_nursery()) as nursery:
            nursery.start_soon(child, "one")
            nursery.start_soon(child, "another")
        assert sorted(ended) == ["another", "one"]
        with pytest.raises(BaseExceptionGroup) as caught:
            with_a_child_that_fails()
        assert caught.group_contains(ZeroDivisionError)
        return "left"

    assert run_sync(trio_loop, main) == "left"


# --- async_iter: as the statement --------------------------------------------


async def counting(checkpoint: Any, to: int = 3) -> AsyncIterator[int]:
    for number in range(to):
        await checkpoint()
        yield number


class Counting:
    """An async iterator that is no generator."""

    def __init__(self, checkpoint: Any, to: int = 3, end: BaseException | None = None) -> None:
        self.checkpoint, self.numbers = checkpoint, iter(range(to))
        self.end = end or StopAsyncIteration()

    def __aiter__(self) -> Counting:
        return self

    async def __anext__(self) -> int:
        await self.checkpoint()
        for number in self.numbers:
            return number
        raise self.end


class Elsewhere:
    """Its iterator is another object, and its own `__anext__` is not asked."""

    def __init__(self, checkpoint: Any) -> None:
        self.checkpoint = checkpoint

    def __aiter__(self) -> Any:
        return Counting(self.checkpoint, 2)

    async def __anext__(self) -> int:
        raise AssertionError("not reached")


class OfTheTypeOnly(Counting):
    def __init__(self, checkpoint: Any) -> None:
        super().__init__(checkpoint)
        self.__aiter__ = raises(AssertionError("the instance's"))  # type: ignore[method-assign]
        self.__anext__ = raises(AssertionError("the instance's"))  # type: ignore[method-assign]


async def failing(checkpoint: Any) -> AsyncIterator[int]:
    yield 1
    await checkpoint()
    raise ZeroDivisionError("in the generator")


async def empty(checkpoint: Any) -> AsyncIterator[int]:
    await checkpoint()
    return
    yield 0


def failing_iterator(checkpoint: Any) -> Counting:
    return Counting(checkpoint, 2, ZeroDivisionError("in the iterator"))


def stopped_with_arguments(checkpoint: Any) -> Counting:
    return Counting(checkpoint, 2, StopAsyncIteration("arguments"))


def stopped_wrongly(checkpoint: Any) -> Counting:
    return Counting(checkpoint, 2, StopIteration("not allowed in a coroutine"))


class FailsToIterate:
    def __init__(self, checkpoint: Any) -> None:
        pass

    def __aiter__(self) -> Any:
        raise ZeroDivisionError("in __aiter__")


class NoIterable:
    def __init__(self, checkpoint: Any) -> None:
        pass


class NoIterator(NoIterable):
    def __aiter__(self) -> Any:
        return NoIterable(None)


class SyncIterable(NoIterable):
    def __iter__(self) -> Any:
        return iter([1, 2])


class InstanceIterable(NoIterable):
    def __init__(self, checkpoint: Any) -> None:
        self.__aiter__ = lambda: counting(checkpoint)


class InstanceIterator(NoIterable):
    def __init__(self, checkpoint: Any) -> None:
        self.__anext__ = raises(AssertionError("the instance's"))

    def __aiter__(self) -> Any:
        return self


class SyncNext(NoIterable):
    def __aiter__(self) -> Any:
        return self

    def __anext__(self) -> Any:
        return 42


ITERABLES: list[Callable[[Any], Any]] = [
    counting,
    Counting,
    Elsewhere,
    OfTheTypeOnly,
    failing,
    empty,
    failing_iterator,
    stopped_with_arguments,
    stopped_wrongly,
    FailsToIterate,
    NoIterable,
    NoIterator,
    SyncIterable,
    InstanceIterable,
    InstanceIterator,
    SyncNext,
]


@pytest.mark.parametrize("iterable", ITERABLES)
def test_for_does_what_async_for_does(loop: Any, iterable: Callable[[Any], Any]) -> None:
    async def native(values: list[Any]) -> None:
        async for each in iterable(loop.checkpoint):
            values.append(each)
        else:
            values.append("to the end")

    def statement(values: list[Any]) -> None:
        for each in async_iter(iterable(loop.checkpoint)):
            values.append(each)
        else:
            values.append("to the end")

    async def main() -> list[Any]:
        seen = []
        for way in (native, functools.partial(with_portal_run_sync, statement)):
            values: list[Any] = []
            try:
                await way(values)
            except Exception as error:
                values.append(type(error))
                if type(error) is not TypeError:
                    values.append(str(error))
            seen.append(values)
        return seen

    ours, native_seen = reversed(loop.run(main))
    assert ours == native_seen
    assert ours[-1] == "to the end" or isinstance(ours[-1], type) or isinstance(ours[-2], type)


@pytest.mark.parametrize(
    ("iterable", "message"),
    [
        (NoIterable, "'async_iter' requires an object with __aiter__ method, got NoIterable"),
        (SyncIterable, "'async_iter' requires an object with __aiter__ method, got SyncIterable"),
        (
            InstanceIterable,
            "'async_iter' requires an object with __aiter__ method, got InstanceIterable",
        ),
        (
            NoIterator,
            "'async_iter' received an object from __aiter__ that does not implement __anext__: "
            "NoIterable",
        ),
        (
            InstanceIterator,
            "'async_iter' received an object from __aiter__ that does not implement __anext__: "
            "InstanceIterator",
        ),
    ],
)
def test_what_is_no_async_iterable(iterable: Any, message: str) -> None:
    # At once, and where nothing could wait.
    with pytest.raises(TypeError) as caught:
        async_iter(iterable(None))
    assert str(caught.value) == message
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_the_arguments_of_the_end_stay() -> None:
    class Ending:
        def __init__(self, *args: object) -> None:
            self.args = args

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> Any:
            raise StopAsyncIteration(*self.args)

        async def asend(self, value: Any) -> Any:
            raise StopAsyncIteration("sent", value)

        async def athrow(self, *error: Any) -> Any:
            raise StopAsyncIteration("thrown", *error)

        async def aclose(self) -> None:
            raise AssertionError("not reached")

    def main() -> list[Any]:
        error = KeyError()
        endings: list[Callable[[], Any]] = [
            lambda: next(async_iter(Ending("one", 2))),
            lambda: next(async_iter(Ending())),
            lambda: async_iter(Ending()).send(3),  # type: ignore[attr-defined]
            lambda: async_iter(Ending()).throw(error),  # type: ignore[attr-defined]
        ]
        seen: list[Any] = []
        for ending in endings:
            with pytest.raises(StopIteration) as caught:
                ending()
            assert caught.value.__suppress_context__
            seen.append(caught.value.args)
        seen[-1] = (seen[-1][0], seen[-1][1] is error)
        return seen

    assert by_hand(main) == [("one", 2), (), ("sent", 3), ("thrown", True)]


def test_the_result_of_a_for_can_be_had_by_yield_from() -> None:
    def delegating() -> Generator[Any, Any, Any]:
        return (yield from async_iter(stopped_with_arguments(suspend)))

    def main() -> Any:
        generator = delegating()
        assert [next(generator), next(generator)] == [0, 1]
        with pytest.raises(StopIteration) as caught:
            next(generator)
        return caught.value.value

    assert by_hand(main) == "arguments"


def test_a_step_with_no_portal_leaves_the_iterator_usable(loop: Any) -> None:
    async def main() -> list[int]:
        iterator = async_iter(Counting(loop.checkpoint))
        with pytest.raises(NoAwaitContext):
            next(iterator)
        return await with_portal_run_sync(list, iterator)

    assert loop.run(main) == [0, 1, 2]


def test_an_iterator_is_stepped_in_parts_and_by_others(loop: Any) -> None:
    def main() -> list[Any]:
        iterator = async_iter(counting(loop.checkpoint, 6))
        assert iter(iterator) is iterator
        first = next(iterator)
        second = []
        for each in iterator:
            second.append(each)
            break
        rest = list(zip(iterator, iterator, strict=True))
        return [first, second, rest, next(iterator, "end"), next(iterator, "end")]

    assert run_sync(loop, main) == [0, [1], [(2, 3), (4, 5)], "end", "end"]


def test_checkpoints_are_those_of_the_iterator() -> None:
    async def main() -> None:
        await ensure_portal()
        with trio.testing.assert_no_checkpoints():
            assert list(async_iter(counting(functools.partial(value, None)))) == [0, 1, 2]
        iterator = async_iter(counting(trio.lowlevel.checkpoint, 1))
        with trio.testing.assert_checkpoints():
            assert next(iterator) == 0
        with trio.testing.assert_no_checkpoints(), pytest.raises(StopIteration):
            next(iterator)

    trio.run(main)


def test_a_cancellation_while_an_iterator_waits(loop: Any) -> None:
    log: list[str] = []

    async def waiting(started: Any) -> AsyncIterator[int]:
        try:
            yield 1
            started.set()
            await loop.event().wait()
        except loop.cancelled:
            log.append("in the generator")
            raise

    def work(started: Any) -> None:
        try:
            for each in async_iter(waiting(started)):
                log.append(f"got {each}")
        except loop.cancelled:
            log.append("in the loop")
            raise

    async def main() -> bool:
        started = loop.event()
        async with loop.tasks() as start:
            task = start(with_portal_run_sync, work, started)
            await started.wait()
            task.cancel()
        return task.outcome.cancelled

    assert loop.run(main)
    assert log == ["got 1", "in the generator", "in the loop"]


# --- async_iter over generators ----------------------------------------------


async def echo(checkpoint: Any, log: list[Any], swallows: bool = False) -> Any:
    """An async generator in which everything that can happen is noted."""
    try:
        received = yield "first"
        while True:
            await checkpoint()
            received = yield ("got", received)
    except ZeroDivisionError as error:
        await checkpoint()
        log.append(str(error))
        if not swallows:
            raise
        yield "swallowed"
    finally:
        await checkpoint()
        log.append("closed")


def test_a_generator_is_sent_to_and_thrown_into(loop: Any) -> None:
    log: list[Any] = []

    def main() -> list[Any]:
        generator: Any = async_iter(echo(loop.checkpoint, log, True))
        seen = [generator.send(None), generator.send(1), next(generator), generator.send(2)]
        seen.append(generator.throw(ZeroDivisionError("thrown")))
        with pytest.raises(StopIteration):
            generator.send(3)
        with pytest.raises(StopIteration):
            next(generator)
        return seen

    assert run_sync(loop, main) == ["first", ("got", 1), ("got", None), ("got", 2), "swallowed"]
    assert log == ["thrown", "closed"]


def test_an_exception_that_is_thrown_comes_out(loop: Any) -> None:
    log: list[Any] = []

    def main() -> bool:
        generator: Any = async_iter(echo(loop.checkpoint, log))
        next(generator)
        thrown = ZeroDivisionError("thrown")
        with pytest.raises(ZeroDivisionError) as caught:
            generator.throw(thrown)
        return caught.value is thrown

    assert run_sync(loop, main)
    assert log == ["thrown", "closed"]


def test_the_first_value_that_is_sent_must_be_none(loop: Any) -> None:
    def main() -> str:
        generator: Any = async_iter(echo(loop.checkpoint, []))
        with pytest.raises(TypeError, match="just-started async generator"):
            generator.send(1)
        first: str = next(generator)
        generator.close()
        return first

    async def native() -> str:
        generator = echo(loop.checkpoint, [])
        with pytest.raises(TypeError, match="just-started async generator"):
            await generator.asend(1)
        first = await anext(generator)
        await generator.aclose()
        return first

    assert run_sync(loop, main) == loop.run(native) == "first"


def test_a_generator_is_closed_and_waits_for_that(loop: Any) -> None:
    log: list[Any] = []

    def main() -> Any:
        generator: Any = async_iter(echo(loop.checkpoint, log))
        next(generator)
        assert generator.close() is None
        log.append("after close()")
        assert generator.close() is None
        return next(generator, "end")

    assert run_sync(loop, main) == "end"
    assert log == ["closed", "after close()"]


def test_a_generator_that_was_not_begun_is_closed(loop: Any) -> None:
    log: list[Any] = []

    def main() -> Any:
        generator: Any = async_iter(echo(loop.checkpoint, log))
        generator.close()
        return next(generator, "end")

    assert run_sync(loop, main) == "end"
    assert log == []


def test_a_generator_that_ignores_its_close(loop: Any) -> None:
    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    def main() -> str:
        generator: Any = async_iter(stubborn())
        next(generator)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            generator.close()
        return "refused"

    assert run_sync(loop, main) == "refused"


def test_yield_from_a_generator(loop: Any) -> None:
    log: list[Any] = []

    def delegating(swallows: bool = False) -> Generator[Any, Any, str]:
        yield from async_iter(echo(loop.checkpoint, log, swallows))
        return "returned"

    def main() -> list[Any]:
        generator = delegating(True)
        seen = [next(generator), generator.send("x"), next(generator)]
        seen.append(generator.throw(ZeroDivisionError("swallowed inside")))
        with pytest.raises(StopIteration) as caught:
            next(generator)
        seen.append(caught.value.value)

        generator = delegating()
        next(generator)
        with pytest.raises(ZeroDivisionError, match="came out"):
            generator.throw(ZeroDivisionError("came out"))

        generator = delegating()
        next(generator)
        generator.close()
        return seen

    seen = run_sync(loop, main)
    assert seen == ["first", ("got", "x"), ("got", None), "swallowed", "returned"]
    assert log == ["swallowed inside", "closed", "came out", "closed", "closed"]


def test_a_generator_is_a_generator_for_those_who_ask(loop: Any) -> None:
    generator, iterator = async_iter(counting(None)), async_iter(Counting(None))
    assert isinstance(generator, async_iter) and isinstance(iterator, async_iter)
    assert isinstance(generator, Generator)
    assert isinstance(iterator, Iterator) and not isinstance(iterator, Generator)
    assert not any(hasattr(iterator, name) for name in ("send", "throw", "close"))


class Generating:
    """Not a generator, but it has what one has."""

    def __init__(self, checkpoint: Any) -> None:
        self.checkpoint = checkpoint
        self.log: list[Any] = []

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> str:
        await self.checkpoint()
        return "next"

    async def asend(self, value: Any) -> Any:
        await self.checkpoint()
        return "sent", value

    async def athrow(self, error: BaseException) -> Any:
        await self.checkpoint()
        return "thrown", error

    async def aclose(self) -> None:
        await self.checkpoint()
        self.log.append("closed")


def test_a_class_that_has_what_a_generator_has(loop: Any) -> None:
    def main() -> list[Any]:
        generating = Generating(loop.checkpoint)
        iterator: Any = async_iter(generating)
        error = KeyError()
        seen: list[Any] = [
            next(iterator),
            iterator.send(1),
            iterator.throw(error) == ("thrown", error),
        ]
        iterator.close()
        return [*seen, generating.log]

    assert run_sync(loop, main) == ["next", ("sent", 1), True, ["closed"]]


@pytest.mark.parametrize("missing", ["asend", "athrow", "aclose"])
def test_a_class_that_has_not_all_of_a_generator(loop: Any, missing: str) -> None:
    methods = {name: method for name, method in vars(Generating).items() if name != missing}
    kind = type("Incomplete", (), methods)

    def main() -> list[Any]:
        iterator = async_iter(kind(loop.checkpoint))
        return [next(iterator), [hasattr(iterator, name) for name in ("send", "throw", "close")]]

    assert run_sync(loop, main) == ["next", [False, False, False]]


def test_a_break_leaves_the_generator_open(loop: Any) -> None:
    log: list[Any] = []

    def main() -> list[Any]:
        source = echo(loop.checkpoint, log)
        for first in async_iter(source):
            log.append(first)
            break
        log.append("after the loop")
        # As after `async for`, another loop goes on where this one has stopped.
        for second in async_iter(source):
            log.append(second)
            break
        await_(source.aclose())
        return log

    assert run_sync(loop, main) == ["first", "after the loop", ("got", None), "closed"]


def test_a_generator_nobody_keeps_is_closed_by_the_loop(aio: Any) -> None:
    # Trio does the same, and warns.
    async def native(log: list[Any], closed: asyncio.Event) -> None:
        async for _ in noted(log, closed):
            break
        log.append("after the loop")
        await closed.wait()

    def statement(log: list[Any], closed: asyncio.Event) -> None:
        for _ in async_iter(noted(log, closed)):
            break
        log.append("after the loop")
        await_(closed.wait())

    async def noted(log: list[Any], closed: asyncio.Event) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            log.append("closed")
            closed.set()

    async def main() -> list[Any]:
        seen = []
        for way in (native, functools.partial(with_portal_run_sync, statement)):
            log: list[Any] = []
            await way(log, asyncio.Event())
            seen.append(log)
        return seen

    native_seen, ours = aio.run(main)
    assert ours == native_seen == ["after the loop", "closed"]


def test_an_error_in_the_body_leaves_the_generator_open(loop: Any) -> None:
    log: list[Any] = []

    def fails(source: Any) -> None:
        for _ in async_iter(source):
            raise KeyError

    def main() -> Any:
        source = echo(loop.checkpoint, log)
        with pytest.raises(KeyError):
            fails(source)
        assert log == []
        received = await_(source.asend("still open"))
        await_(source.aclose())
        return received

    assert run_sync(loop, main) == ("got", "still open")
    assert log == ["closed"]


def test_a_comprehension_over_a_chain_of_generators(loop: Any) -> None:
    # Sync code in async code in sync code: each layer is stepped by the other kind.
    async def inner() -> AsyncIterator[int]:
        for number in range(3):
            await loop.checkpoint()
            yield number

    def doubled() -> Iterator[int]:
        return (2 * number for number in async_iter(inner()))

    async def outer() -> AsyncIterator[int]:
        for number in doubled():
            await loop.checkpoint()
            yield number + 1

    assert run_sync(loop, lambda: list(async_iter(outer()))) == [1, 3, 5]
