"""greenback's portals and awaitlet's functions beside ours, in other tasks and in the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import greenlet
import pytest
from conftest import ON_NATIVE_STACKS

greenback = pytest.importorskip("greenback", reason="greenback is not installed")
awaitlet = pytest.importorskip("awaitlet", reason="awaitlet is not installed")

import verdigris  # noqa: E402
from verdigris import NoAwaitContext, async_def, await_, ensure_portal, with_portal_run  # noqa: E402

OTHER_STACK = "another stack"
NO_FUNCTION_OF_OURS = "no function of ours"
NO_PORTAL_OF_GREENBACK = "no portal of greenback"
NO_FUNCTION_OF_AWAITLET = "no function of awaitlet"
PORTAL_OF_GREENBACK = "a portal of greenback already"


def attempt(wait: Callable[[Any], Any]) -> str:
    """What came of waiting: the value, or a name for the error."""
    waitable = asyncio.sleep(0.001, "value")
    try:
        return wait(waitable)
    except greenlet.error as error:
        assert "different thread" in str(error) and "native stack" in error.__notes__[0]
        return OTHER_STACK
    except NoAwaitContext as error:
        assert "without async_def" in str(error)
        return NO_FUNCTION_OF_OURS
    except awaitlet.NoAwaitletContext:
        return NO_FUNCTION_OF_AWAITLET
    except RuntimeError as error:
        assert "You must create a greenback portal" in str(error)
        return NO_PORTAL_OF_GREENBACK
    finally:
        waitable.close()


def both() -> list[tuple[str, str]]:
    """By our await_ and by greenback's, over and over."""
    return [(attempt(await_), attempt(greenback.await_)) for _ in range(3)]


async def async_both() -> list[tuple[str, str]]:
    result = both()
    await asyncio.sleep(0.001)
    assert both() == result
    return result


def each(ours: str, theirs: str) -> list[tuple[str, str]]:
    return [(ours, theirs)] * 3


OURS = each("value", NO_PORTAL_OF_GREENBACK)
THEIRS = each(NO_FUNCTION_OF_OURS, "value")
BOTH = each("value", "value")
OURS_ON_TOP = each("value", OTHER_STACK) if ON_NATIVE_STACKS else BOTH


async def beside_others(fn: Callable[[], Awaitable[Any]]) -> Any:
    """What several tasks of `fn` agree on, while others wait in their own ways."""

    async def ours() -> str:
        await ensure_portal()
        return attempt(await_)

    async def theirs() -> str:
        await greenback.ensure_portal()
        return attempt(greenback.await_)

    ways = (
        ours(),
        theirs(),
        async_def(attempt, await_),
        awaitlet.async_def(attempt, awaitlet.awaitlet),
    )
    *results, others = await asyncio.gather(*(fn() for _ in range(3)), asyncio.gather(*ways))
    assert others == ["value"] * 4
    assert results == results[:1] * 3
    return results[0]


# --- greenback ---------------------------------------------------------------


def test_async_def_in_a_task_with_a_portal_of_greenback(aio: Any) -> None:
    async def task() -> Any:
        await greenback.ensure_portal()
        awaited = await async_def(both)
        return awaited, greenback.await_(async_def(both)), both()

    assert aio.run(beside_others, task) == (OURS_ON_TOP, OURS_ON_TOP, THEIRS)


def test_a_portal_of_greenback_and_then_ours(aio: Any) -> None:
    async def task() -> Any:
        await greenback.ensure_portal()
        with pytest.raises(RuntimeError, match=PORTAL_OF_GREENBACK):
            await ensure_portal()
        return await async_both()

    assert aio.run(beside_others, task) == THEIRS


def test_our_portal_and_then_one_of_greenback(aio: Any) -> None:
    async def task() -> Any:
        await ensure_portal()
        await greenback.ensure_portal()
        return await async_both()

    assert aio.run(beside_others, task) == OURS_ON_TOP


@pytest.mark.parametrize(
    ("bestow", "result"),
    [
        ((verdigris.bestow_portal, greenback.bestow_portal), OURS_ON_TOP),
        ((greenback.bestow_portal, verdigris.bestow_portal), THEIRS),
    ],
    ids=["ours first", "theirs first"],
)
def test_both_portals_bestowed(aio: Any, bestow: Any, result: Any) -> None:
    async def late() -> Any:
        await asyncio.sleep(0.001)
        return await async_both()

    async def task() -> Any:
        other = asyncio.create_task(late())
        bestow[0](other)
        if bestow[1] is verdigris.bestow_portal:
            with pytest.raises(RuntimeError, match=PORTAL_OF_GREENBACK):
                bestow[1](other)
        else:
            bestow[1](other)
        return await other

    assert aio.run(beside_others, task) == result


@pytest.mark.parametrize("entry", ["async_def", "portal"])
def test_with_portal_run_of_greenback_on_our_stack(aio: Any, entry: str) -> None:
    async def in_portal() -> Any:
        await ensure_portal()
        inside = await greenback.with_portal_run(async_both)
        return inside, await greenback.with_portal_run_sync(both), both()

    def in_function() -> Any:
        inside = await_(greenback.with_portal_run(async_both))
        return inside, await_(greenback.with_portal_run_sync(both)), both()

    async def task() -> Any:
        return await (async_def(in_function) if entry == "async_def" else in_portal())

    assert aio.run(beside_others, task) == (BOTH, BOTH, OURS)


def test_our_stacks_in_with_portal_run_of_greenback(aio: Any) -> None:
    async def run() -> Any:
        return await with_portal_run(async_both), await async_def(both), await async_both()

    async def task() -> Any:
        return await greenback.with_portal_run(run)

    assert aio.run(beside_others, task) == (OURS_ON_TOP, OURS_ON_TOP, THEIRS)


def test_ensure_portal_of_greenback_in_a_function(aio: Any) -> None:
    def function() -> Any:
        before = both()
        await_(greenback.ensure_portal())
        return before, both()

    async def task() -> Any:
        return await async_def(function), await async_both()

    assert aio.run(beside_others, task) == ((OURS, OURS_ON_TOP), THEIRS)


# --- awaitlet ----------------------------------------------------------------


def by_awaitlet() -> tuple[str, str]:
    """By our await_ and by awaitlet."""
    return attempt(await_), attempt(awaitlet.awaitlet)


AWAITLETS = (NO_FUNCTION_OF_OURS, "value")
OURS_ONLY = ("value", NO_FUNCTION_OF_AWAITLET)
EITHER = ("value", "value")


def test_a_function_of_awaitlet_in_each_place(aio: Any) -> None:
    async def in_portal(ensure: Callable[[], Awaitable[Any]]) -> Any:
        await ensure()
        return await awaitlet.async_def(by_awaitlet)

    async def task() -> Any:
        return (
            await awaitlet.async_def(by_awaitlet),
            await async_def(lambda: await_(awaitlet.async_def(by_awaitlet))),
            await asyncio.create_task(in_portal(ensure_portal)),
            await asyncio.create_task(in_portal(greenback.ensure_portal)),
        )

    assert aio.run(beside_others, task) == (AWAITLETS, EITHER, EITHER, AWAITLETS)


def test_nested_both_ways(aio: Any) -> None:
    def awaitlets(depth: int) -> Any:
        inner = awaitlet.awaitlet(async_def(ours, depth - 1)) if depth else []
        return [by_awaitlet(), *inner]

    def ours(depth: int) -> Any:
        inner = await_(awaitlet.async_def(awaitlets, depth - 1)) if depth else []
        return [by_awaitlet(), *inner]

    async def task() -> Any:
        return await async_def(ours, 4), await awaitlet.async_def(awaitlets, 4)

    assert aio.run(beside_others, task) == (
        [OURS_ONLY, EITHER, OURS_ONLY, EITHER, OURS_ONLY],
        [AWAITLETS, OURS_ONLY, EITHER, OURS_ONLY, EITHER],
    )


def test_a_portal_begun_in_a_function_of_awaitlet(aio: Any) -> None:
    def function() -> None:
        awaitlet.awaitlet(ensure_portal())

    async def task() -> Any:
        expected = "different thread" if ON_NATIVE_STACKS else "left and resumed by await_"
        with pytest.raises(greenlet.error, match=expected):
            await awaitlet.async_def(function)
        return by_awaitlet()

    assert aio.run(beside_others, task) == OURS_ONLY
