"""Has green tests and their fixtures run on the loop; begins the loop, and ends it.

There is one loop at a time. It begins with the first fixture or test that needs it. It ends with
the session, or before a test that runs on another loop; all fixtures that were set up on it are
torn down before, whatever their scope.

Only the fixture's function, the test's function and what ends them run on the loop. pytest's own
code and other plugins' run outside, where no loop runs: pytest-asyncio, anyio and pytest-trio find
the thread as it would be without us.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any

import pytest
from _pytest import fixtures

from verdigris._coroutine_function import is_async
from verdigris.pytest import _loop

#: The name of the loop that a test runs on. Only green tests have it.
LOOP_OF_ITEM = pytest.StashKey[str]()

Request = fixtures.SubRequest
Fixture = pytest.FixtureDef[Any]


class _Result:
    """A fixture's value, which may be None: to pytest None means that the hook has done nothing."""

    def __init__(self, value: object) -> None:
        self.value = value


class Running:
    """The hooks that run tests."""

    def __init__(self) -> None:
        """Begins no loop."""
        self._loop: _loop.TestLoop | None = None
        self._item: pytest.Item | None = None
        # What was set up on the loop, in this order.
        self._fixtures: dict[Fixture, Request] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Notes which test it is."""
        self._item = item
        try:
            return (yield)
        finally:
            self._item = None

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Ends the loop if the test needs another one. Comes after a skip, before fixtures."""
        name = item.stash.get(LOOP_OF_ITEM, None)
        if name is None:
            return
        if self._loop is not None and (self._loop.name != name or self._loop.broken):
            self._end_loop()
        # What is registered here, as `request.addfinalizer` of a test does, may wait.
        vars(item)["addfinalizer"] = self._finalizers(item.addfinalizer, name, item)
        teardown = item.teardown
        vars(item)["teardown"] = lambda: self._run(name, teardown, item)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Has the test's code run on the loop."""
        name = item.stash.get(LOOP_OF_ITEM, None)
        if name is None:
            return (yield)
        run = item.runtest

        def on_the_loop() -> None:
            __tracebackhide__ = True
            self._run(name, run, item)

        vars(item)["runtest"] = on_the_loop
        try:
            return (yield)
        finally:
            del vars(item)["runtest"]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Ends the tasks that a test has left behind."""
        try:
            return (yield)
        finally:
            # What was put over the methods holds the item.
            for name in ("addfinalizer", "teardown"):
                vars(item).pop(name, None)
            if LOOP_OF_ITEM in item.stash and self._loop is not None and not self._loop.broken:
                left = self._loop.end_tasks_of(item)
                if left:
                    item.warn(
                        _loop.LeakedTaskWarning(
                            f"{item.name} has left tasks behind, which were cancelled: "
                            f"{', '.join(left)}. Join or cancel them in the test, or start them "
                            f"in a fixture of a wider scope."
                        )
                    )

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Fixture, request: Request) -> _Result | None:
        """Sets a fixture up on the loop, if a green test has asked for it."""
        __tracebackhide__ = True
        item = self._item
        name = item.stash.get(LOOP_OF_ITEM, None) if item is not None else None
        if name is None or _is_async_plugins(fixturedef):
            return None
        owner = item if fixturedef.scope == "function" else None
        self._fixtures[fixturedef] = request
        vars(fixturedef)["addfinalizer"] = self._finalizers(fixturedef.addfinalizer, name, owner)
        set_up = functools.partial(fixtures.pytest_fixture_setup, fixturedef, request)
        return _Result(self._run(name, set_up, owner))

    @pytest.hookimpl(wrapper=True, trylast=True, specname="pytest_fixture_setup")
    def pytest_fixture_setup_unpack(self) -> Generator[None, object, object]:
        """Gives pytest the value."""
        __tracebackhide__ = True
        result = yield
        return result.value if isinstance(result, _Result) else result

    def pytest_fixture_post_finalizer(self, fixturedef: Fixture) -> None:
        """Forgets a fixture that was torn down."""
        if self._fixtures.pop(fixturedef, None) is not None:
            vars(fixturedef).pop("addfinalizer", None)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Ends the loop, after pytest has torn down what was left."""
        try:
            return (yield)
        finally:
            self._end_loop()

    def _run(self, name: str, function: Callable[[], Any], owner: object) -> Any:
        __tracebackhide__ = True
        if self._loop is None:
            self._loop = _loop.start(name)
        return self._loop.run(function, owner)

    def _finalize(self, name: str, function: Callable[[], Any], owner: object) -> Any:
        __tracebackhide__ = True
        if self._loop is None or self._loop.name != name or self._loop.broken:
            return function()  # its loop has ended by an error
        return self._loop.run(function, owner)

    def _finalizers(
        self, add: Callable[[Callable[[], object]], None], name: str, owner: object
    ) -> Callable[[Callable[[], object]], None]:
        """The method that adds finalizers, which has them run on the loop."""

        def add_for_the_loop(finalizer: Callable[[], object]) -> None:
            if not _is_end_of_fixture(finalizer):
                finalizer = functools.partial(self._finalize, name, finalizer, owner)
            add(finalizer)

        return add_for_the_loop

    def _end_loop(self) -> None:
        if self._loop is None:
            return
        errors: list[BaseException] = []
        for fixture, request in reversed(list(self._fixtures.items())):
            try:
                fixture.finish(request)
            except BaseException as error:
                errors.append(error)
        self._fixtures.clear()
        loop, self._loop = self._loop, None
        try:
            loop.close()
        except BaseException as error:
            errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup(f"errors while the {loop.name} loop was ended", errors)


def _is_end_of_fixture(finalizer: Callable[[], object]) -> bool:
    """Whether it tears down a whole fixture, whose own finalizers know where they run."""
    return isinstance(finalizer, functools.partial) and isinstance(
        getattr(finalizer.func, "__self__", None), pytest.FixtureDef
    )


# Plugins that run loops of their own in fixtures.
_ASYNC_PLUGINS = ("pytest_asyncio", "anyio", "pytest_trio")


def _is_async_plugins(fixture: Fixture) -> bool:
    """Whether a fixture is async, or one that a plugin for async tests takes care of."""
    function: Any = fixture.func
    inner = inspect.unwrap(function)
    return (
        is_async(inner)
        or inspect.isasyncgenfunction(inner)
        or (getattr(function, "__module__", None) or "").partition(".")[0] in _ASYNC_PLUGINS
        # pytest-asyncio runs a sync function too that is decorated with its own `fixture`.
        or getattr(function, "_force_asyncio_fixture", False)
    )
