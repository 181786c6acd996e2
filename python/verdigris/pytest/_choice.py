"""Which tests run green, and on which loops.

A test that is run on several loops is parametrised with their names, in session scope: pytest then
groups the tests of a loop together, so that each loop begins once.
"""

from __future__ import annotations

import inspect
import unittest
from typing import Any

import pytest

from verdigris._coroutine_function import is_async
from verdigris.pytest._options import ALL, CHOSEN_LOOPS, problem_with
from verdigris.pytest._running import LOOP_OF_ITEM

_MARKS_OF_ASYNC_PLUGINS = ("asyncio", "anyio", "trio")


@pytest.fixture(scope="session")
def green_loop(request: pytest.FixtureRequest) -> str:
    """The name of the loop that green tests run on: asyncio, uvloop or trio."""
    # Of a test with several loops it is a parameter, which takes the place of this.
    return request.config.stash[CHOSEN_LOOPS][0]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test once for each loop."""
    item = metafunc.definition
    if not _is_wanted(item) or _is_async_test(metafunc.function):
        return
    try:
        loops = _loops_of(item)
    except pytest.UsageError:
        return  # said when the test has been collected, without pytest's traceback
    named_by_mark = loops is not item.config.stash[CHOSEN_LOOPS]
    if len(loops) == 1 and not (named_by_mark or len(item.config.stash[CHOSEN_LOOPS]) > 1):
        return
    if "green_loop" not in metafunc.fixturenames:
        metafunc.fixturenames.append("green_loop")
    # One loop needs no name in the test's; the parameter is for the order.
    ids = list(loops) if len(loops) > 1 else [pytest.HIDDEN_PARAM]
    metafunc.parametrize("green_loop", loops, ids=ids, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Notes for each test on which loop it runs green.

    Raises:
        pytest.UsageError: An async test is marked, and nobody else runs it.
    """
    for item in items:
        if not _is_wanted(item):
            continue
        if _is_async_test(getattr(item, "obj", None)) or _has_a_loop_of_its_own(item):
            if item.get_closest_marker("green") is not None:
                _check_that_somebody_runs(item)
            continue
        loops = _loops_of(item)
        params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        # What can't be parametrised (unittest, doctests) runs on the first.
        item.stash[LOOP_OF_ITEM] = params.get("green_loop", loops[0])


def _is_wanted(item: pytest.Item) -> bool:
    if item.get_closest_marker("no_green") is not None:
        return False
    return item.config.stash[ALL] or item.get_closest_marker("green") is not None


def _loops_of(item: pytest.Item) -> tuple[str, ...]:
    mark = item.get_closest_marker("green")
    if mark is None or not (mark.args or mark.kwargs):
        return item.config.stash[CHOSEN_LOOPS]
    if mark.kwargs:
        problem: str | None = f"it takes names of loops, and no {sorted(mark.kwargs)[0]!r}."
        if set(mark.kwargs) == {"loop"} and not mark.args:
            given = mark.kwargs["loop"]
            loops = (given,) if isinstance(given, str) else tuple(given)
            problem = None
    else:
        loops, problem = tuple(mark.args), None
    for name in () if problem else loops:
        problem = problem or problem_with(name)
    if problem:
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.green: {problem}")
    return loops


def _is_async_test(function: object) -> bool:
    # Hypothesis keeps the test function inside.
    inner = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    return is_async(inner) or inspect.isasyncgenfunction(inner)


def _has_a_loop_of_its_own(item: pytest.Item) -> bool:
    cls = getattr(item, "cls", None)
    return isinstance(cls, type) and issubclass(cls, unittest.IsolatedAsyncioTestCase)


def _check_that_somebody_runs(item: pytest.Item) -> None:
    others = (
        _has_a_loop_of_its_own(item),
        any(item.get_closest_marker(name) for name in _MARKS_OF_ASYNC_PLUGINS),
        "anyio_backend" in getattr(item, "fixturenames", ()),
        # Some plugins make items of a class of their own.
        not type(item).__module__.startswith("_pytest."),
    )
    if not any(others):
        raise pytest.UsageError(
            f"{item.nodeid} is async, and @pytest.mark.green is for sync tests. Make it a sync "
            f"function that uses await_; or mark it for a plugin that runs async tests "
            f"(pytest-asyncio, anyio, pytest-trio)."
        )
