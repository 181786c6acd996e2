"""Portals for trees of tasks: which tasks get one, and what is as before afterwards.

The first part is the same on every loop. Then come the many ways to make a task on asyncio, and
the nurseries of Trio.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import threading
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest
import trio
import trio.testing
from hand_driver import suspend, value

from verdigris import (
    AutoPortalInstrument,
    PortalCoroutine,
    _engine,
    async_def,
    await_,
    bestow_portal,
    ensure_portal,
    has_portal,
    portals_for_children,
    portals_for_tree,
    with_portal_run,
    with_portal_run_tree,
)

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


async def run_tree(async_fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    return await with_portal_run_tree(async_fn, *args)


async def for_tree(async_fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    async with portals_for_tree():
        return await async_fn(*args)


async def for_children(async_fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    with portals_for_children():
        return await async_fn(*args)


@pytest.fixture(params=[run_tree, for_tree, for_children], ids=lambda way: way.__name__)
def within(request: pytest.FixtureRequest) -> Callable[..., Awaitable[Any]]:
    """`await within(async_fn, *args)` calls a function inside a block of each kind."""
    return request.param


def waits(loop: Any) -> bool:
    """Whether sync code of this task can wait. If it can, it has."""
    if not has_portal():
        return False
    await_(loop.checkpoint())
    return True


async def one_child(loop: Any) -> Any:
    """What `waits` says in a child that is started here."""

    async def child() -> bool:
        first = waits(loop)
        await loop.checkpoint()
        assert waits(loop) is first
        return first

    async with loop.tasks() as start:
        started = start(child)
    if started.outcome.error is not None:
        raise started.outcome.error
    return started.outcome.value


@types.coroutine
def counted(awaitable: Awaitable[Any]) -> Generator[Any, Any, tuple[int, Any]]:
    """Awaits something. Gives how often it yielded to the loop, and its result."""
    steps = awaitable.__await__()
    yields = 0
    reply = None
    while True:
        try:
            trap = steps.send(reply) if isinstance(steps, Generator) else next(steps)
        except StopIteration as end:
            return yields, end.value
        yields += 1
        reply = yield trap


# --- on every loop -----------------------------------------------------------


def test_every_generation_gets_portals(loop: Any, within: Any) -> None:
    async def generation(below: int) -> list[bool]:
        seen = [waits(loop)]
        if below:
            async with loop.tasks() as start:
                children = [start(generation, below - 1) for _ in range(2)]
            for child in children:
                seen += child.outcome.value
        return seen

    seen = loop.run(within, generation, 3)
    assert len(seen) == 15
    # `portals_for_children` leaves the task that calls it alone.
    assert seen[0] is (within is not for_children)
    assert all(seen[1:])


def test_the_task_itself_and_what_comes_later_have_none(loop: Any, within: Any) -> None:
    async def main() -> list[bool]:
        before = [has_portal(), await one_child(loop)]
        inside = await within(one_child, loop)
        return [*before, inside, has_portal(), await one_child(loop)]

    assert loop.run(main) == [False, False, True, False, False]


def test_a_sibling_outside_of_the_tree_gets_none(loop: Any, within: Any) -> None:
    async def sibling(entered: Any, leave: Any) -> tuple[bool, bool]:
        await entered.wait()
        try:
            return has_portal(), await one_child(loop)
        finally:
            leave.set()

    async def tree(entered: Any, leave: Any) -> bool:
        entered.set()
        await leave.wait()
        return await one_child(loop)

    async def main() -> tuple[Any, Any]:
        entered, leave = loop.event(), loop.event()
        async with loop.tasks() as start:
            outside = start(sibling, entered, leave)
            inside = start(within, tree, entered, leave)
        return outside.outcome.value, inside.outcome.value

    assert loop.run(main) == ((False, False), True)


def test_a_result_goes_out_and_arguments_go_in(loop: Any) -> None:
    async def add(x: int, *, plus: int) -> int:
        await_(loop.checkpoint())
        return x + plus

    async def main() -> int:
        return await with_portal_run_tree(add, 1, plus=2)

    assert loop.run(main) == 3


def test_an_error_inside_goes_out_and_ends_the_tree(loop: Any, within: Any) -> None:
    async def fail() -> None:
        assert await one_child(loop)
        raise ZeroDivisionError("inside")

    async def main() -> tuple[bool, bool]:
        with pytest.raises(ZeroDivisionError, match="inside"):
            await within(fail)
        return has_portal(), await one_child(loop)

    assert loop.run(main) == (False, False)


def test_a_function_that_cannot_be_called_ends_the_tree(loop: Any) -> None:
    async def main() -> tuple[bool, bool]:
        with pytest.raises(TypeError, match="argument"):
            await with_portal_run_tree(one_child)
        return has_portal(), await one_child(loop)

    assert loop.run(main) == (False, False)


@pytest.mark.parametrize("in_sync_code", [False, True])
def test_a_cancellation_inside_ends_the_tree(loop: Any, within: Any, in_sync_code: bool) -> None:
    portals: list[bool] = []

    async def forever(started: Any) -> None:
        portals.append(await one_child(loop))
        started.set()
        if in_sync_code and has_portal():
            await_(loop.event().wait())
        await loop.event().wait()

    async def main() -> tuple[bool, bool, bool]:
        started = loop.event()
        async with loop.tasks() as start:
            tree = start(within, forever, started)
            await started.wait()
            tree.cancel()
        return tree.outcome.cancelled, has_portal(), await one_child(loop)

    assert loop.run(main) == (True, False, False)
    assert portals == [True]


def test_the_end_of_an_inner_block_leaves_the_outer_one_open(loop: Any, within: Any) -> None:
    async def outer() -> list[bool]:
        itself = has_portal()
        seen = [await within(one_child, loop)]
        # Inside a portal that there was already nothing changes for the task itself.
        assert has_portal() is itself
        seen.append(await one_child(loop))
        with portals_for_children():
            seen.append(await one_child(loop))
        seen.append(await one_child(loop))
        return seen

    async def main() -> tuple[list[bool], bool]:
        return await within(outer), await one_child(loop)

    assert loop.run(main) == ([True] * 4, False)


def test_a_block_inside_a_child_ends_without_the_outer_one(loop: Any, within: Any) -> None:
    async def child() -> list[bool]:
        inside = await within(one_child, loop)
        return [inside, waits(loop), await one_child(loop)]

    async def tree() -> list[bool]:
        async with loop.tasks() as start:
            started = start(child)
        return [*started.outcome.value, await one_child(loop)]

    assert loop.run(within, tree) == [True] * 4


@pytest.mark.parametrize("first", [0, 1])
def test_blocks_of_two_tasks_end_in_any_order(loop: Any, within: Any, first: int) -> None:
    async def open_block(entered: Any, leave: Any, left: Any, end: Any) -> list[bool]:
        async def inside() -> None:
            seen.append(await one_child(loop))
            entered.set()
            await leave.wait()
            seen.append(await one_child(loop))

        seen: list[bool] = []
        try:
            await within(inside)
            seen.append(await one_child(loop))
        finally:
            # The test goes on when this fails.
            entered.set()
            left.set()
        await end.wait()
        seen.append(has_portal())
        return seen

    async def main() -> list[Any]:
        events = [tuple(loop.event() for _ in range(4)) for _ in range(2)]
        async with loop.tasks() as start:
            blocks = [start(open_block, *mine) for mine in events]
            for entered, *_ in events:
                await entered.wait()
            for which in (first, 1 - first):
                _, leave, left, _ = events[which]
                leave.set()
                await left.wait()
            for *_, end in events:
                end.set()
        return [*(block.outcome.value for block in blocks), await one_child(loop)]

    assert loop.run(main) == [[True, True, False, False]] * 2 + [False]


@contextlib.asynccontextmanager
async def children_block() -> AsyncIterator[None]:
    with portals_for_children():
        yield


@pytest.mark.parametrize("block", [children_block, portals_for_tree])
def test_blocks_of_one_task_end_in_any_order(loop: Any, block: Any) -> None:
    # Fixtures that are async generators can be ended like this.
    async def main() -> list[Any]:
        one, another = block(), block()
        await one.__aenter__()
        await another.__aenter__()
        await one.__aexit__(None, None, None)
        while_open = await one_child(loop)
        await another.__aexit__(None, None, None)
        return [while_open, has_portal(), await one_child(loop)]

    assert loop.run(main) == [True, False, False]


@pytest.mark.parametrize("block", [children_block, portals_for_tree])
def test_a_block_ends_in_another_task_than_it_began_in(loop: Any, block: Any) -> None:
    async def enters(manager: Any, entered: Any, left: Any) -> list[bool]:
        await manager.__aenter__()
        seen = [has_portal(), await one_child(loop)]
        entered.set()
        await left.wait()
        return [*seen, has_portal(), await one_child(loop)]

    async def leaves(manager: Any, entered: Any, left: Any) -> list[bool]:
        await entered.wait()
        await manager.__aexit__(None, None, None)
        left.set()
        return [has_portal(), await one_child(loop)]

    async def main() -> list[Any]:
        manager, entered, left = block(), loop.event(), loop.event()
        async with loop.tasks() as start:
            tasks = [start(way, manager, entered, left) for way in (enters, leaves)]
        return [*(task.outcome.value for task in tasks), await one_child(loop)]

    itself = block is portals_for_tree
    assert loop.run(main) == [[itself, True, False, False], [False, False], False]


def test_a_portal_is_taken_from_a_task_that_is_about_to_run(loop: Any) -> None:
    async def enters(manager: Any, entered: Any, left: Any) -> list[bool]:
        await manager.__aenter__()
        entered.set()
        await left.wait()
        return [waits(loop), has_portal()]

    async def main() -> list[bool]:
        manager, entered, left = portals_for_tree(), loop.event(), loop.event()
        async with loop.tasks() as start:
            task = start(enters, manager, entered, left)
            await entered.wait()
            await loop.checkpoint()
            # It is woken with the portal, and steps without.
            left.set()
            await manager.__aexit__(None, None, None)
        return task.outcome.value

    assert loop.run(main) == [False, False]


def test_a_block_ends_in_another_task_while_sync_code_waits(loop: Any) -> None:
    async def enters(manager: Any, entered: Any, left: Any) -> list[bool]:
        def wait() -> str:
            entered.set()
            await_(left.wait())
            return "waited"

        await manager.__aenter__()
        assert wait() == "waited"
        # The coroutine was in the middle of a step, so the portal had to stay.
        return [waits(loop), await one_child(loop)]

    async def main() -> list[bool]:
        manager, entered, left = portals_for_tree(), loop.event(), loop.event()
        async with loop.tasks() as start:
            task = start(enters, manager, entered, left)
            await entered.wait()
            await manager.__aexit__(None, None, None)
            left.set()
        return task.outcome.value

    assert loop.run(main) == [True, False]


@pytest.mark.parametrize("block", [children_block, portals_for_tree])
def test_a_block_ends_after_the_task_it_began_in(loop: Any, block: Any) -> None:
    async def main() -> list[bool]:
        manager = block()
        async with loop.tasks() as start:
            start(manager.__aenter__)
        await manager.__aexit__(None, None, None)
        return [has_portal(), await one_child(loop)]

    assert loop.run(main) == [False, False]


# --- with_portal_run_tree ----------------------------------------------------


def test_a_call_adds_no_yield_to_those_of_the_function(loop: Any) -> None:
    async def main() -> list[Any]:
        nothing = await counted(with_portal_run_tree(value, "result"))
        one = await counted(with_portal_run_tree(loop.checkpoint))
        native = await counted(loop.checkpoint())
        return [nothing, one[0], native[0]]

    nothing, one, native = loop.run(main)
    assert nothing == (0, "result")
    assert one == native > 0


def test_a_call_uses_the_portal_there_is(loop: Any) -> None:
    async def inside() -> object:
        return _engine.current_portal()

    async def main() -> bool:
        await ensure_portal()
        mine = _engine.current_portal()
        assert mine is not None
        return await with_portal_run_tree(inside) is mine

    assert loop.run(main)


def test_a_call_below_async_def(loop: Any) -> None:
    def sync() -> bool:
        return await_(with_portal_run_tree(one_child, loop))

    assert loop.run(async_def, sync)


# --- portals_for_tree --------------------------------------------------------


@pytest.mark.parametrize("has_one", [False, True])
def test_entry_and_exit_yield_once(loop: Any, has_one: bool) -> None:
    async def main() -> list[int]:
        if has_one:
            await ensure_portal()
        block = portals_for_tree()
        yields = [(await counted(block.__aenter__()))[0]]
        assert waits(loop)
        yields.append((await counted(block.__aexit__(None, None, None)))[0])
        assert waits(loop) is has_one
        return yields

    assert loop.run(main) == [1, 1]


@pytest.mark.parametrize("has_one", [False, True])
@pytest.mark.parametrize("when", ["before the entry", "before the exit"])
def test_entry_and_exit_are_no_cancellation_points(loop: Any, when: str, has_one: bool) -> None:
    steps: list[str] = []

    async def body(itself: list[Any]) -> None:
        if has_one:
            await ensure_portal()
        if when == "before the entry":
            itself[0].cancel()
        async with portals_for_tree():
            steps.append("within")
            if when == "before the exit":
                itself[0].cancel()
        steps.append("after")
        await loop.checkpoint()
        steps.append("after the cancellation")

    async def main() -> bool:
        itself: list[Any] = []
        async with loop.tasks() as start:
            itself.append(start(body, itself))
        assert itself[0].outcome.error is None
        return itself[0].outcome.cancelled

    assert loop.run(main)
    assert steps == ["within", "after"]


def test_a_cancellation_that_entry_put_off_is_raised_in_sync_code(loop: Any) -> None:
    async def body(itself: list[Any]) -> str:
        itself[0].cancel()
        async with portals_for_tree():
            try:
                await_(loop.checkpoint())
            except loop.cancelled:
                steps.append("raised by await_")
                raise
        return "went on"

    async def main() -> Any:
        itself: list[Any] = []
        async with loop.tasks() as start:
            itself.append(start(body, itself))
        return itself[0].outcome

    steps: list[str] = []
    outcome = loop.run(main)
    assert outcome.cancelled and outcome.error is None
    assert steps == ["raised by await_"]


def bestowed(loop: Any) -> None:
    bestow_portal(loop.current_task())


async def ensured(loop: Any) -> None:
    await ensure_portal()


@pytest.mark.parametrize("give", [bestowed, ensured])
def test_a_portal_from_before_stays(loop: Any, give: Any) -> None:
    async def main() -> list[bool]:
        given = give(loop)
        if given is not None:
            await given
        async with portals_for_tree():
            seen = [waits(loop), await one_child(loop)]
        return [*seen, waits(loop), await one_child(loop)]

    assert loop.run(main) == [True, True, True, False]


def test_the_portal_of_a_call_ends_with_the_call(loop: Any) -> None:
    async def called() -> list[bool]:
        async with portals_for_tree():
            seen = [waits(loop), await one_child(loop)]
        return [*seen, waits(loop), await one_child(loop)]

    async def main() -> list[bool]:
        return [*await with_portal_run(called), has_portal()]

    assert loop.run(main) == [True, True, True, False, False]


def test_a_task_can_get_its_portal_again_and_again(loop: Any) -> None:
    async def main() -> list[bool]:
        seen = []
        for _ in range(3):
            async with portals_for_tree():
                seen.append(waits(loop))
            seen.append(waits(loop))
        await ensure_portal()
        seen.append(waits(loop))
        return seen

    assert loop.run(main) == [True, False] * 3 + [True]


def test_a_portal_that_was_left_by_sync_code_stays(loop: Any) -> None:
    async def main() -> list[bool]:
        block = portals_for_tree()
        await block.__aenter__()

        def leave() -> None:
            await_(block.__aexit__(None, None, None))

        leave()
        return [waits(loop), await one_child(loop)]

    assert loop.run(main) == [True, False]


def test_a_portal_that_stayed_is_no_later_blocks_to_take(loop: Any) -> None:
    async def main() -> list[bool]:
        block = portals_for_tree()
        await block.__aenter__()

        def leave() -> None:
            await_(block.__aexit__(None, None, None))

        leave()
        async with portals_for_tree():
            seen = [waits(loop)]
        return [*seen, waits(loop)]

    # The later block found a portal, and leaves it.
    assert loop.run(main) == [True, True]


def test_a_portal_that_was_entered_by_sync_code(loop: Any) -> None:
    async def called() -> list[bool]:
        block = portals_for_tree()
        await_(block.__aenter__())
        seen = [waits(loop), await one_child(loop)]
        await block.__aexit__(None, None, None)
        return [*seen, waits(loop), await one_child(loop)]

    async def main() -> list[bool]:
        return [*await with_portal_run(called), has_portal()]

    assert loop.run(main) == [True, True, True, False, False]


def test_a_task_that_cannot_have_a_portal(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(task: Any) -> None:
        raise RuntimeError("no portal for this one")

    async def main() -> list[bool]:
        with monkeypatch.context() as patch:
            patch.setattr("verdigris._portal_tree.bestow_portal", refuse)
            with pytest.raises(RuntimeError, match="no portal for this one"):
                await portals_for_tree().__aenter__()
        return [has_portal(), await one_child(loop)]

    assert loop.run(main) == [False, False]


# --- where there is no loop --------------------------------------------------

NEEDS_A_LOOP = "need asyncio or Trio, and neither runs here"


def test_no_loop_runs() -> None:
    with pytest.raises(RuntimeError, match=NEEDS_A_LOOP), portals_for_children():
        pass
    for refused in (portals_for_tree().__aenter__(), with_portal_run_tree(value, 1)):
        with pytest.raises(RuntimeError, match=NEEDS_A_LOOP):
            refused.send(None)


def test_a_loop_that_is_not_known_here() -> None:
    async def program() -> None:
        await suspend("some loop")
        await with_portal_run_tree(value, 1)

    by_hand = program()
    assert by_hand.send(None) == "some loop"
    with pytest.raises(RuntimeError, match=NEEDS_A_LOOP):
        by_hand.send(None)


# --- asyncio: how tasks are made ---------------------------------------------


async def told() -> bool:
    """A task that tells whether it can wait."""
    if not has_portal():
        await asyncio.sleep(0)
        return has_portal()
    return await_(asyncio.sleep(0, True))


class Told:
    def __await__(self) -> Any:
        return told().__await__()


def by_create_task() -> Awaitable[bool]:
    return asyncio.create_task(told())


def by_the_loop() -> Awaitable[bool]:
    return asyncio.get_running_loop().create_task(told(), name="named")


def by_ensure_future() -> Awaitable[bool]:
    return asyncio.ensure_future(told())


def by_ensure_future_of_an_awaitable() -> Awaitable[bool]:
    return asyncio.ensure_future(Told())


def by_shield() -> Awaitable[bool]:
    return asyncio.shield(told())


def by_a_context_that_is_a_copy() -> Awaitable[bool]:
    return asyncio.create_task(told(), context=contextvars.copy_context())


def by_an_empty_context() -> Awaitable[bool]:
    return asyncio.create_task(told(), context=contextvars.Context())


async def by_gather() -> bool:
    return await asyncio.gather(told(), told()) == [True, True]


async def by_task_group() -> bool:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(told(), name="named")
    return task.result()


async def by_task_group_in_a_context() -> bool:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(told(), context=contextvars.Context())
    return task.result()


async def by_as_completed() -> bool:
    return all([await done for done in asyncio.as_completed([told(), told()])])


async def by_wait_for() -> bool:
    # From 3.12 on this makes no task, so ask a task that calls it.
    async def waits_for() -> bool:
        return await asyncio.wait_for(told(), timeout=60)

    return await asyncio.create_task(waits_for())


async def by_call_soon() -> bool:
    loop = asyncio.get_running_loop()
    made: asyncio.Future[bool] = loop.create_future()

    def callback() -> None:
        asyncio.create_task(told()).add_done_callback(lambda task: made.set_result(task.result()))

    loop.call_soon(callback)
    return await made


async def by_a_callback_of_a_callback() -> bool:
    loop = asyncio.get_running_loop()
    made: asyncio.Future[asyncio.Task[bool]] = loop.create_future()
    loop.call_later(0, loop.call_soon, lambda: made.set_result(loop.create_task(told())))
    return await (await made)


async def by_a_done_callback() -> bool:
    made: asyncio.Future[asyncio.Task[bool]] = asyncio.get_running_loop().create_future()
    first = asyncio.create_task(asyncio.sleep(0))
    first.add_done_callback(lambda _: made.set_result(asyncio.create_task(told())))
    return await (await made)


async def by_a_worker_thread() -> bool:
    # `to_thread` takes the context along, by which the tree is known.
    loop = asyncio.get_running_loop()

    def work() -> bool:
        return asyncio.run_coroutine_threadsafe(told(), loop).result(timeout=60)

    return await asyncio.to_thread(work)


async def by_a_step_of_an_async_generator() -> bool:
    async def generator() -> AsyncIterator[bool]:
        yield await told()

    made = generator()
    first = await asyncio.create_task(anext(made))
    await asyncio.create_task(made.aclose())
    return first


async def by_a_server() -> bool:
    answers: asyncio.Queue[bool] = asyncio.Queue()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers.put_nowait(await told())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        answer = await answers.get()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


MAKERS = [
    by_create_task,
    by_the_loop,
    by_ensure_future,
    by_ensure_future_of_an_awaitable,
    by_shield,
    by_a_context_that_is_a_copy,
    by_an_empty_context,
    by_gather,
    by_task_group,
    by_task_group_in_a_context,
    by_as_completed,
    by_wait_for,
    by_call_soon,
    by_a_callback_of_a_callback,
    by_a_done_callback,
    by_a_worker_thread,
    by_a_step_of_an_async_generator,
    by_a_server,
]


@pytest.mark.parametrize("make", MAKERS)
def test_every_way_to_make_a_task(aio: Any, make: Callable[[], Awaitable[bool]]) -> None:
    async def main() -> list[bool]:
        with portals_for_children():
            inside = await make()
        return [inside, await make()]

    assert aio.run(main) == [True, False]


def test_a_coroutine_of_generators_is_taken_as_the_loop_takes_it(aio: Any) -> None:
    @types.coroutine
    def steps() -> Generator[None, None, bool]:
        yield
        return has_portal()

    def plain() -> Generator[None, None, bool]:
        yield
        return has_portal()

    async def outcome(generator: Any) -> object:
        try:
            return await asyncio.get_running_loop().create_task(generator)
        except TypeError as error:
            return str(error).replace(repr(generator), "...")

    async def main() -> list[object]:
        outside = [await outcome(steps()), await outcome(plain())]
        with portals_for_children():
            inside = [await outcome(steps()), await outcome(plain())]
        return [inside, outside]

    inside, outside = aio.run(main)
    if sys.version_info < (3, 12):
        assert outside == [False, False]
        assert inside == [True, True]
    else:
        # What is no coroutine for the loop doesn't become one by a tree.
        assert all("a coroutine was expected" in str(answer) for answer in outside)
        assert inside == outside


@pytest.mark.parametrize("no_coroutine", [42, None, told])
def test_what_is_no_coroutine_gets_the_error_of_the_loop(aio: Any, no_coroutine: object) -> None:
    async def refusal() -> str:
        with pytest.raises(TypeError, match="a coroutine was expected") as caught:
            asyncio.get_running_loop().create_task(no_coroutine)  # type: ignore[arg-type]
        return str(caught.value)

    async def main() -> tuple[str, str]:
        outside = await refusal()
        with portals_for_children():
            return outside, await refusal()

    outside, inside = aio.run(main)
    assert inside == outside


def test_an_option_that_the_loop_refuses(aio: Any) -> None:
    async def main() -> bool:
        coroutine = told()
        with portals_for_children():
            with pytest.raises(TypeError, match="bogus"):
                asyncio.get_running_loop().create_task(coroutine, bogus=True)  # type: ignore[call-arg]
            # It was not started, and is still the caller's.
            return await asyncio.create_task(coroutine)

    assert aio.run(main)


def test_what_is_green_already_gets_no_portal(aio: Any) -> None:
    async def main() -> bool:
        green = async_def(lambda: await_(asyncio.sleep(0, "green")))
        with portals_for_children():
            task = asyncio.create_task(green)
            assert await task == "green"
            return task.get_coro() is green

    assert aio.run(main)


def test_the_name_and_the_context_of_a_task_arrive(aio: Any) -> None:
    async def child() -> str:
        seen = var.get()
        var.set("set by the child")
        return seen

    async def main() -> list[object]:
        var.set("of the tree")
        chosen = contextvars.Context()
        chosen.run(var.set, "chosen")
        with portals_for_children():
            task = asyncio.create_task(child(), name="child", context=chosen)
            return [task.get_name(), await task, chosen[var], var.get()]

    assert aio.run(main) == ["child", "chosen", "set by the child", "of the tree"]


def test_a_child_in_a_context_of_its_own_has_portals_for_its_children(aio: Any) -> None:
    async def child() -> list[bool]:
        return [await told(), await asyncio.create_task(told())]

    async def main() -> list[Any]:
        chosen = contextvars.Context()
        with portals_for_children():
            inside = await asyncio.create_task(child(), context=chosen)
        # The same context outside of a tree.
        return [inside, await asyncio.create_task(child(), context=chosen)]

    assert aio.run(main) == [[True, True], [False, False]]


def test_a_thread_with_no_context_of_the_tree(aio: Any) -> None:
    # `run_coroutine_threadsafe` uses the context of the thread that calls it.
    async def main() -> bool:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()

        def work() -> None:
            future = asyncio.run_coroutine_threadsafe(told(), loop)
            answer = future.result(timeout=60)
            loop.call_soon_threadsafe(done.set_result, answer)

        thread = threading.Thread(target=contextvars.Context().run, args=(work,))
        with portals_for_children():
            thread.start()
            answer = await done
        thread.join()
        return answer

    assert aio.run(main) is False


def test_a_callback_from_before_the_block_makes_no_child(aio: Any) -> None:
    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        made: list[asyncio.Task[bool]] = []
        loop.call_soon(lambda: made.append(loop.create_task(told())))
        with portals_for_children():
            await asyncio.sleep(0)
            return [await made[0]]

    assert aio.run(main) == [False]


def test_a_callback_from_within_that_comes_after_the_end(aio: Any) -> None:
    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        made: list[asyncio.Task[bool]] = []
        with portals_for_children():
            loop.call_soon(lambda: made.append(loop.create_task(told())))
        await asyncio.sleep(0)
        return [await made[0]]

    assert aio.run(main) == [False]


@pytest.mark.parametrize("another_is_open", [False, True])
def test_a_child_that_lives_on_keeps_its_own_portal_only(aio: Any, another_is_open: bool) -> None:
    async def child(go_on: asyncio.Event) -> list[bool]:
        before = [await told(), await asyncio.create_task(told())]
        await go_on.wait()
        return [*before, await told(), await asyncio.create_task(told())]

    async def another(end: asyncio.Event) -> None:
        with portals_for_children():
            await end.wait()

    async def main() -> list[bool]:
        go_on, end = asyncio.Event(), asyncio.Event()
        other = asyncio.create_task(another(end))
        if not another_is_open:
            end.set()
        await asyncio.sleep(0)
        with portals_for_children():
            task = asyncio.create_task(child(go_on))
            for _ in range(5):
                await asyncio.sleep(0)
        go_on.set()
        seen = await task
        end.set()
        await other
        return seen

    assert aio.run(main) == [True, True, True, False]


def objects_of_the_package() -> int:
    gc.collect()
    return sum(str(type(item).__module__).startswith("verdigris") for item in gc.get_objects())


@pytest.mark.parametrize("another_is_open", [False, True])
def test_a_chain_of_tasks_that_outlive_their_blocks(aio: Any, another_is_open: bool) -> None:
    # Like a service that starts its own successor. Nothing may grow with the number of links.
    links, counts = 1500, {}

    async def link(number: int, ended: asyncio.Future[bool], living: set[Any]) -> None:
        coroutine = told()
        try:
            outside = await asyncio.create_task(coroutine)
            if number in (100, 200):
                counts[number] = objects_of_the_package()
            if number == links or outside:
                ended.set_result(outside)
                return
            with portals_for_children():
                following = asyncio.create_task(link(number + 1, ended, living))
            living.add(following)
            following.add_done_callback(living.discard)
        except BaseException as error:
            coroutine.close()
            ended.set_exception(error)

    async def main() -> bool:
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        living: set[Any] = set()

        async def another() -> bool:
            # While a block is open anywhere, every task that is made is asked for its tree.
            with portals_for_children() if another_is_open else contextlib.nullcontext():
                return await ended

        other = asyncio.create_task(another())
        living.add(asyncio.create_task(link(0, ended, living)))
        return await other

    assert aio.run(main) is False
    assert counts[200] == counts[100]


def test_a_chain_of_blocks_that_overlap(aio: Any) -> None:
    # As before, but each block ends only when the next link has opened its own.
    counts = {}

    async def link(number: int, opened: asyncio.Event, living: set[Any]) -> None:
        if number in (100, 200):
            counts[number] = objects_of_the_package()
        if number < 200:
            following = asyncio.Event()
            with portals_for_children():
                opened.set()
                task = asyncio.create_task(link(number + 1, following, living))
                living.add(task)
                task.add_done_callback(living.discard)
                await following.wait()
        opened.set()

    async def main() -> None:
        living: set[Any] = set()
        await link(0, asyncio.Event(), living)
        while living:
            await asyncio.wait(living)

    aio.run(main)
    assert counts[200] == counts[100]


# --- asyncio: factories and loops --------------------------------------------


def python_tasks(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
    """A task factory: tasks that are written in Python."""
    return asyncio.tasks._PyTask(coro, loop=loop, **options)  # type: ignore[attr-defined]


class OwnTask(asyncio.Task):  # type: ignore[type-arg]
    pass


def own_tasks(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
    """A task factory: a subclass."""
    return OwnTask(coro, loop=loop, **options)


def wrapping_tasks(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
    """A task factory that puts a coroutine of its own around."""

    async def around() -> Any:
        return await coro

    return asyncio.Task(around(), loop=loop, **options)


FACTORIES = {
    python_tasks: asyncio.tasks._PyTask,  # type: ignore[attr-defined]
    own_tasks: OwnTask,
    wrapping_tasks: asyncio.Task,
}


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_task_factory_from_before_the_block(aio: Any, within: Any, factory: Any) -> None:
    async def inside() -> list[bool]:
        task = asyncio.create_task(told())
        kept = asyncio.get_running_loop().get_task_factory() is factory
        return [isinstance(task, FACTORIES[factory]), kept, await task]

    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        seen = await within(inside)
        return [*seen, loop.get_task_factory() is factory, await asyncio.create_task(told())]

    assert aio.run(main) == [True, True, True, True, False]


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_task_factory_that_is_set_within(aio: Any, within: Any, factory: Any) -> None:
    async def inside() -> list[bool]:
        loop = asyncio.get_running_loop()
        seen = [await asyncio.create_task(told())]
        loop.set_task_factory(factory)
        seen.append(await asyncio.create_task(told()))
        seen.append(loop.get_task_factory() is factory)
        return seen

    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        seen = await within(inside)
        seen.append(loop.get_task_factory() is factory)
        seen.append(await asyncio.create_task(told()))
        loop.set_task_factory(None)
        return [*seen, await asyncio.create_task(told())]

    assert aio.run(main) == [True, True, True, True, False, False]


@pytest.mark.parametrize("ends_by", ["return", "error", "cancellation"])
def test_the_loop_is_as_before_afterwards(aio: Any, within: Any, ends_by: str) -> None:
    async def inside() -> None:
        assert await asyncio.create_task(told())
        if ends_by == "error":
            raise ZeroDivisionError
        if ends_by == "cancellation":
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.sleep(0)

    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        names, method = set(vars(loop)), loop.create_task
        factory = loop.get_task_factory()
        # Through a future, whose result is the error too.
        await asyncio.gather(asyncio.ensure_future(within(inside)), return_exceptions=True)
        return [
            set(vars(loop)) == names,
            loop.create_task == method,
            loop.get_task_factory() is factory,
            await asyncio.create_task(told()),
        ]

    assert aio.run(main) == [True, True, True, False]


def noting(create_task: Any, made: list[asyncio.Task[Any]]) -> Any:
    """A `create_task` in front of another one, as other libraries set it."""

    def noted(coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(create_task(coro, **options))
        return made[-1]

    return noted


def test_a_create_task_that_the_loop_had_of_its_own(aio: Any, within: Any) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        made: list[asyncio.Task[Any]] = []

        async def inside() -> list[bool]:
            task = asyncio.create_task(told())
            return [await task, made[-1] is task]

        noted = noting(loop.create_task, made)
        loop.create_task = noted  # type: ignore[method-assign]
        seen = [*await within(inside), vars(loop)["create_task"] is noted]
        del loop.create_task
        return [*seen, len(made)]

    assert aio.run(main) == [True, True, True, 1]


def test_a_create_task_that_somebody_sets_within(aio: Any, within: Any) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        made: list[asyncio.Task[Any]] = []

        async def look() -> list[bool]:
            task = asyncio.create_task(told())
            return [await task, task in made]

        async def inside() -> list[bool]:
            loop.create_task = noting(loop.create_task, made)  # type: ignore[method-assign]
            return await look()

        # It is not taken away, and works on: outside, and in a later block.
        seen = [await within(inside), await look(), await within(look), await look()]
        del loop.create_task
        return seen

    assert aio.run(main) == [[True, True], [False, True], [True, True], [False, True]]


def test_a_create_task_that_somebody_sets_within_and_puts_back_later(aio: Any) -> None:
    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        block = portals_for_children()
        block.__enter__()
        found = loop.create_task
        loop.create_task = noting(found, [])  # type: ignore[method-assign]
        seen = [await asyncio.create_task(told())]
        block.__exit__(None, None, None)
        seen.append(await asyncio.create_task(told()))
        loop.create_task = found  # type: ignore[method-assign]
        seen.append(await asyncio.create_task(told()))
        with portals_for_children():
            seen.append(await asyncio.create_task(told()))
        return [*seen, await asyncio.create_task(told())]

    assert aio.run(main) == [True, False, False, True, False]


class ReadOnlyLoop(asyncio.SelectorEventLoop):
    """As a loop that is written in C without a `__dict__` would behave."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "create_task":
            raise AttributeError(f"{name} is read-only")
        super().__setattr__(name, value)


def test_a_loop_whose_create_task_cannot_be_replaced(within: Any) -> None:
    async def main() -> tuple[str, bool, bool]:
        with pytest.raises(RuntimeError) as caught:
            await within(value, 1)
        return str(caught.value), has_portal(), await asyncio.create_task(told())

    with asyncio.Runner(loop_factory=ReadOnlyLoop) as runner:
        error, *portals = runner.run(main())
        assert "ReadOnlyLoop does not let it" in error
        assert "ensure_portal()" in error
        assert portals == [False, False]
        # And again, so nothing of the first try was kept.
        assert runner.run(main()) == (error, False, False)


def test_a_task_whose_coroutine_cannot_be_replaced(
    aio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        names = set(vars(loop))
        with monkeypatch.context() as patch:
            patch.setattr(_engine, "swap_field", lambda *args: False)
            with pytest.raises(RuntimeError, match=r"with_portal_run\(\)"):
                await portals_for_tree().__aenter__()
            # These two change no task.
            seen = [await for_children(one_child, aio), await run_tree(one_child, aio)]
        return [*seen, set(vars(loop)) == names, has_portal(), await one_child(aio)]

    assert aio.run(main) == [True, True, True, False, False]


def test_a_block_in_a_callback_of_the_loop(aio: Any) -> None:
    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[asyncio.Task[bool]]] = loop.create_future()

        def callback() -> None:
            with portals_for_children():
                made = [loop.create_task(told())]
            made.append(loop.create_task(told()))
            done.set_result(made)

        loop.call_soon(callback)
        return [await task for task in await done]

    assert aio.run(main) == [True, False]


def test_portals_for_tree_in_a_callback_of_the_loop(aio: Any) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        names = set(vars(loop))
        done: asyncio.Future[BaseException] = loop.create_future()

        def callback() -> None:
            try:
                portals_for_tree().__aenter__().send(None)
            except BaseException as error:
                done.set_result(error)

        loop.call_soon(callback)
        error = await done
        return [type(error), str(error), set(vars(loop)) == names]

    kind, message, restored = aio.run(main)
    assert kind is RuntimeError and "No asyncio task is running" in message
    assert restored


def test_a_block_that_lasts_from_one_run_to_another(aio: Any) -> None:
    # As a plugin for tests does: set-up, test and tear-down are runs of their own, in one context.
    async def look() -> list[bool]:
        return [has_portal(), await asyncio.create_task(told())]

    with asyncio.Runner(loop_factory=aio.loop_factory) as runner:
        block = children_block()
        runner.run(block.__aenter__())
        names = vars(runner.get_loop()).keys()
        assert "create_task" in names
        assert runner.run(look()) == [False, True]
        runner.run(block.__aexit__(None, None, None))
        assert "create_task" not in names
        assert runner.run(look()) == [False, False]


def test_a_loop_of_another_thread(aio: Any) -> None:
    async def another(opened: asyncio.Event, end: asyncio.Event) -> None:
        with portals_for_children():
            opened.set()
            await end.wait()

    async def elsewhere() -> list[bool]:
        seen = [await asyncio.create_task(told())]
        opened, end = asyncio.Event(), asyncio.Event()
        other = asyncio.create_task(another(opened, end), context=contextvars.Context())
        await opened.wait()
        # Now this loop is watched too, and the context says that this is a tree of the first.
        seen.append(await asyncio.create_task(told()))
        end.set()
        await other
        with portals_for_children():
            seen.append(await asyncio.create_task(told()))
        return [*seen, await asyncio.create_task(told())]

    async def main() -> list[Any]:
        with portals_for_children():
            # The thread gets a copy of the context, but its loop is another one.
            other = await asyncio.to_thread(aio.run, elsewhere)
            return [other, await asyncio.create_task(told())]

    assert aio.run(main) == [[False, False, True, False], True]


def test_a_block_of_another_loop_asks_for_a_task_of_this_one(aio: Any) -> None:
    async def elsewhere(here: asyncio.AbstractEventLoop) -> bool:
        with portals_for_children():
            future = asyncio.run_coroutine_threadsafe(told(), here)
            return await asyncio.wrap_future(future)

    async def main() -> list[bool]:
        loop = asyncio.get_running_loop()
        with portals_for_children():
            return [await asyncio.to_thread(aio.run, elsewhere, loop)]

    # The inner block is not of this loop, but the one around it is.
    assert aio.run(main) == [True]


def test_two_loops_with_blocks_at_once(aio: Any) -> None:
    both = threading.Barrier(2, timeout=60)

    async def main() -> list[bool]:
        with portals_for_children():
            await asyncio.to_thread(both.wait)
            seen = [await asyncio.create_task(told())]
            await asyncio.to_thread(both.wait)
        return [*seen, await asyncio.create_task(told())]

    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(aio.run(main))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[True, False]] * 2


# --- asyncio: eager tasks ----------------------------------------------------


@pytest.fixture
def eager(aio: Any) -> Any:
    """A loop whose tasks can be eager. uvloop's are not on every version of Python."""
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with 3.12")

    async def probe() -> bool:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        nothing = value(None)
        try:
            task = asyncio.create_task(nothing)
        except TypeError:
            nothing.close()
            return False
        finally:
            # The runner starts tasks too, when it closes the loop.
            asyncio.get_running_loop().set_task_factory(None)
        eager = task.done()
        await task
        return eager

    if not aio.run(probe):
        pytest.skip(f"this {aio.name} makes no eager tasks on this Python")
    return aio


async def told_at_once() -> bool:
    return has_portal()


@pytest.mark.parametrize("set_within", [False, True])
def test_eager_tasks_get_portals(eager: Any, within: Any, set_within: bool) -> None:
    async def inside() -> list[bool]:
        if set_within:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        at_once = asyncio.create_task(told_at_once())
        later = asyncio.create_task(told())
        seen = [at_once.done(), at_once.result(), later.done(), await later]
        async with asyncio.TaskGroup() as group:
            grandchild = group.create_task(for_children(by_create_task))
        return [*seen, grandchild.result()]

    async def main() -> list[bool]:
        if not set_within:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        seen = await within(inside)
        outside = asyncio.create_task(told_at_once())
        return [*seen, outside.done(), outside.result(), await asyncio.create_task(told())]

    assert eager.run(main) == [True, True, False, True, True, True, False, False]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="eager_start came with 3.14")
def test_a_task_with_eager_start_gets_a_portal(eager: Any, within: Any) -> None:
    def start(coro: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(coro, eager_start=True)  # type: ignore[call-arg, unused-ignore]

    async def inside() -> list[bool]:
        at_once = start(told_at_once())
        later = start(told())
        return [at_once.done(), await at_once, later.done(), await later]

    async def main() -> list[bool]:
        seen = await within(inside)
        return [*seen, await start(told())]

    assert eager.run(main) == [True, True, False, True, False]


# --- asyncio: cancellation ---------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_a_cancellation_is_put_off_with_its_message_and_its_count(aio: Any, times: int) -> None:
    async def main() -> list[Any]:
        task = asyncio.current_task()
        assert task is not None
        for _ in range(times):
            task.cancel("the reason")
        async with portals_for_tree():
            seen: list[Any] = [task.cancelling()]
            with pytest.raises(asyncio.CancelledError) as caught:
                await asyncio.sleep(0)
            seen += [caught.value.args, task.cancelling()]
            await asyncio.sleep(0)
            # The cancellations were delivered, so the exit has none to put off.
        seen.append(task.cancelling())
        await asyncio.sleep(0)
        for _ in range(times):
            task.uncancel()
        return seen

    assert aio.run(main) == [times, ("the reason",), times, times]


def test_a_cancellation_during_the_entry(aio: Any) -> None:
    # Not before it: the callback runs at the schedule point itself.
    async def main() -> list[Any]:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel, "meanwhile")
        assert task.cancelling() == 0
        async with portals_for_tree():
            seen: list[Any] = [task.cancelling()]
            with pytest.raises(asyncio.CancelledError) as caught:
                await asyncio.sleep(0)
            seen.append(caught.value.args)
        task.uncancel()
        return seen

    assert aio.run(main) == [1, ("meanwhile",)]


def test_a_timeout_that_passes_during_the_entry(aio: Any) -> None:
    async def inside(steps: list[str]) -> None:
        async with asyncio.timeout(None) as timeout:
            timeout.reschedule(asyncio.get_running_loop().time() - 1)
            async with portals_for_tree():
                steps.append("within")
                await asyncio.sleep(0)
                steps.append("after the timeout")

    async def main() -> list[Any]:
        task = asyncio.current_task()
        assert task is not None
        steps: list[str] = []
        with pytest.raises(TimeoutError):
            await inside(steps)
        return [steps, task.cancelling(), has_portal(), await asyncio.create_task(told())]

    assert aio.run(main) == [["within"], 0, False, False]


def test_a_task_that_is_cancelled_in_its_last_block_ends_cancelled(aio: Any) -> None:
    # The exit puts the cancellation off, and no wait follows: as native code would end.
    async def native() -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]

    async def tree() -> None:
        async with portals_for_tree():
            asyncio.current_task().cancel()  # type: ignore[union-attr]

    async def main() -> list[bool]:
        tasks = [asyncio.create_task(native()), asyncio.create_task(tree())]
        await asyncio.wait(tasks)
        return [task.cancelled() for task in tasks]

    outcomes = aio.run(main)
    assert outcomes[0] is outcomes[1] is True


# --- Trio: nurseries ---------------------------------------------------------


def run_trio(async_fn: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    """No test here waits for real time to pass."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(async_fn, *args, clock=clock, **options)


@pytest.fixture(autouse=True)
def instruments(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """All that are installed in running loops. None stays when the last block has ended."""
    ever: list[object] = []
    installed: list[object] = []
    add, remove = trio.lowlevel.add_instrument, trio.lowlevel.remove_instrument

    def noted_add(instrument: Any) -> None:
        add(instrument)
        ever.append(instrument)
        installed.append(instrument)

    def noted_remove(instrument: Any) -> None:
        remove(instrument)
        installed.remove(instrument)

    monkeypatch.setattr(trio.lowlevel, "add_instrument", noted_add)
    monkeypatch.setattr(trio.lowlevel, "remove_instrument", noted_remove)
    yield ever
    assert installed == []


class Seen(dict[str, bool]):
    """What tasks have told, by their name."""

    async def tell(self, name: str) -> None:
        self[name] = has_portal()
        if has_portal():
            await_(trio.lowlevel.checkpoint())


async def starts_a_child(seen: Seen, name: str) -> None:
    await seen.tell(name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(seen.tell, f"child of {name}")


def test_trio_runs_a_whole_program_as_a_tree() -> None:
    seen = Seen()

    async def main() -> str:
        await starts_a_child(seen, "main")
        return "result"

    assert run_trio(with_portal_run_tree, main) == "result"
    assert seen == {"main": True, "child of main": True}


def test_nurseries_from_before_the_block_give_none(within: Any) -> None:
    seen = Seen()

    async def inside(outer: Any, middle: Any) -> None:
        for name, nursery in (("outer", outer), ("middle", middle)):
            nursery.start_soon(starts_a_child, seen, f"in {name} from within")
        async with trio.open_nursery() as inner:
            for name, nursery in (("outer", outer), ("middle", middle), ("inner", inner)):
                nursery.start_soon(starts_a_child, seen, f"in {name}")

    async def main() -> None:
        async with trio.open_nursery() as outer, trio.open_nursery() as middle:
            outer.start_soon(starts_a_child, seen, "before")
            await within(inside, outer, middle)
            middle.start_soon(starts_a_child, seen, "after")

    run_trio(main)
    assert len(seen) == 14
    assert {name for name in seen if seen[name]} == {"in inner", "child of in inner"}


def test_a_task_outside_starts_one_in_a_nursery_of_the_tree(within: Any) -> None:
    seen = Seen()

    async def outsider(nurseries: Any, started: trio.Event) -> None:
        nursery = await nurseries.receive()
        nursery.start_soon(starts_a_child, seen, "started by an outsider")
        started.set()
        await starts_a_child(seen, "outsider")

    async def inside(nurseries: Any, started: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            await nurseries.send(nursery)
            await started.wait()

    async def main() -> None:
        send, receive = trio.open_memory_channel[Any](1)
        started = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outsider, receive, started)
            await within(inside, send, started)

    run_trio(main)
    assert {name for name in seen if seen[name]} == {
        "started by an outsider",
        "child of started by an outsider",
    }
    assert len(seen) == 4


def test_nursery_start(within: Any) -> None:
    seen = Seen()

    async def service(name: str, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        await seen.tell(name)
        task_status.started(name)
        # From here on it is in the nursery it was started in.
        await starts_a_child(seen, f"{name}, started")

    async def inside() -> None:
        async with trio.open_nursery() as nursery:
            assert await nursery.start(service, "service") == "service"

    async def main() -> None:
        await within(inside)
        async with trio.open_nursery() as nursery:
            await nursery.start(service, "outside")

    run_trio(main)
    assert len(seen) == 6
    assert {name for name in seen if not seen[name]} == {
        "outside",
        "outside, started",
        "child of outside, started",
    }


def test_a_block_of_a_portal_child_and_its_earlier_nursery(within: Any) -> None:
    # The child's nurseries all give portals, for it was started in a tree itself.
    seen = Seen()

    async def inside(earlier: Any) -> None:
        earlier.start_soon(seen.tell, "in the earlier nursery")

    async def child() -> None:
        async with trio.open_nursery() as earlier:
            await within(inside, earlier)
            earlier.start_soon(seen.tell, "after the inner block")

    async def main() -> None:
        with portals_for_children():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)

    run_trio(main)
    assert seen == {"in the earlier nursery": True, "after the inner block": True}


@pytest.mark.parametrize("another_is_open", [False, True])
def test_a_trio_child_that_lives_on_keeps_its_own_portal_only(another_is_open: bool) -> None:
    seen = Seen()

    async def child(go_on: trio.Event) -> None:
        await starts_a_child(seen, "before")
        await go_on.wait()
        await starts_a_child(seen, "after")

    async def another(end: trio.Event) -> None:
        with portals_for_children():
            await end.wait()

    async def main() -> None:
        go_on, end = trio.Event(), trio.Event()
        async with trio.open_nursery() as outer:
            if another_is_open:
                outer.start_soon(another, end)
            await trio.testing.wait_all_tasks_blocked()
            block = portals_for_children()
            block.__enter__()
            async with trio.open_nursery() as inner:
                inner.start_soon(child, go_on)
                await trio.testing.wait_all_tasks_blocked()
                block.__exit__(None, None, None)
                go_on.set()
            end.set()

    run_trio(main)
    assert seen == {
        "before": True,
        "child of before": True,
        "after": True,
        "child of after": False,
    }


def test_trees_among_trees_and_tasks_without() -> None:
    # Blocks in blocks, in children and in sync code, among tasks outside that come and go.
    async def outside() -> None:
        for _ in range(3):
            await trio.sleep(0.3)
            assert not has_portal()

    async def leaf() -> None:
        assert has_portal()
        await_(trio.sleep(0.5))
        leaves.append(trio.lowlevel.current_task())

    async def branch(below: int) -> None:
        assert has_portal()
        await_(trio.sleep(0))
        if not below:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leaf)
            nursery.start_soon(branch, below - 1)
            for way in (run_tree, for_tree):
                nursery.start_soon(way, branch, below - 1)
                await_(way(branch, below - 1))

    async def main() -> None:
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            for way in (run_tree, for_tree):
                outer.start_soon(outside)
                await way(branch, 2)
                assert not has_portal()
                inner.start_soon(way, branch, 2)
                inner.start_soon(outside)
                await trio.sleep(0.4)
                outer.start_soon(outside)

    leaves: list[Any] = []
    run_trio(main)
    # 1 + 5 of each of four trees.
    assert len(leaves) == 4 * 6


def test_a_cancelled_scope_around_a_tree(within: Any) -> None:
    seen = Seen()

    async def child(name: str) -> None:
        try:
            if has_portal():
                await_(trio.sleep_forever())
            await trio.sleep_forever()
        finally:
            seen[name] = has_portal()

    async def inside(scope: Any) -> None:
        async with trio.open_nursery() as nursery:
            for name in ("one", "another"):
                nursery.start_soon(child, name)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()

    async def main() -> bool:
        with trio.CancelScope() as scope:
            await within(inside, scope)
        await starts_a_child(seen, "main")
        return scope.cancelled_caught

    assert run_trio(main)
    assert seen == {"one": True, "another": True, "main": False, "child of main": False}


def test_checkpoints_of_with_portal_run_tree() -> None:
    async def main() -> None:
        with trio.testing.assert_no_checkpoints():
            assert await with_portal_run_tree(value, 1) == 1
        with trio.testing.assert_checkpoints():
            await with_portal_run_tree(trio.lowlevel.checkpoint)

    run_trio(main)


def test_a_thread_calls_back_into_the_tree() -> None:
    seen = Seen()

    async def inside() -> None:
        def work() -> None:
            trio.from_thread.run(starts_a_child, seen, "called by a thread")

        await trio.to_thread.run_sync(work)

    trio.run(with_portal_run_tree, inside)
    assert seen == {"called by a thread": True, "child of called by a thread": True}


def test_one_instrument_serves_all_blocks_that_are_open(instruments: list[object]) -> None:
    counts: list[int] = []

    async def child_has_one() -> bool:
        seen = Seen()
        await starts_a_child(seen, "it")
        return seen["child of it"]

    async def block(leave: trio.Event) -> None:
        with portals_for_children():
            await leave.wait()
            assert await child_has_one()

    async def main() -> None:
        for _ in range(2):
            leave = [trio.Event() for _ in range(3)]
            async with trio.open_nursery() as nursery:
                for event in leave:
                    nursery.start_soon(block, event)
                await trio.testing.wait_all_tasks_blocked()
                for event in leave:
                    event.set()
                    await trio.testing.wait_all_tasks_blocked()
                    counts.append(len(instruments))
            assert not await child_has_one()

    run_trio(main)
    assert counts == [1, 1, 1, 2, 2, 2]


# --- Trio: AutoPortalInstrument ----------------------------------------------


def test_the_instrument_gives_every_task_of_a_run_a_portal() -> None:
    seen = Seen()

    async def main() -> str:
        await starts_a_child(seen, "main")
        done = trio.Event()

        async def system_task() -> None:
            await starts_a_child(seen, "system task")
            done.set()

        trio.lowlevel.spawn_system_task(system_task)
        await done.wait()
        init = trio.lowlevel.current_root_task()
        seen["root task"] = has_portal(init)
        seen["system tasks of Trio"] = all(
            has_portal(task) for nursery in init.child_nurseries for task in nursery.child_tasks
        )
        return "result"

    assert run_trio(main, instruments=[AutoPortalInstrument()]) == "result"
    assert len(seen) == 6 and all(seen.values())


def test_blocks_within_a_run_with_the_instrument(within: Any, instruments: list[object]) -> None:
    seen = Seen()

    async def main() -> None:
        await within(starts_a_child, seen, "inside")
        await starts_a_child(seen, "after")

    run_trio(main, instruments=[AutoPortalInstrument()])
    assert len(seen) == 4 and all(seen.values())
    # It serves the blocks too.
    assert instruments == []


def test_an_instrument_is_used_again() -> None:
    instrument = AutoPortalInstrument()
    for name in ("first", "second"):
        seen = Seen()
        run_trio(starts_a_child, seen, name, instruments=[instrument])
        assert seen == {name: True, f"child of {name}": True}
    # A run without it has nothing of it.
    seen = Seen()
    run_trio(starts_a_child, seen, "third")
    assert seen == {"third": False, "child of third": False}


def test_a_run_with_the_instrument_that_fails() -> None:
    async def main() -> None:
        assert has_portal()
        raise ZeroDivisionError("inside")

    with pytest.raises(ZeroDivisionError, match="inside"):
        run_trio(main, instruments=[AutoPortalInstrument()])


def test_the_instrument_leaves_green_tasks_alone() -> None:
    def main() -> bool:
        assert not isinstance(trio.lowlevel.current_task().coro, PortalCoroutine)
        await_(trio.lowlevel.checkpoint())
        return has_portal()

    assert run_trio(async_def, main, instruments=[AutoPortalInstrument()])


def test_two_threads_run_with_instruments() -> None:
    both = threading.Barrier(2, timeout=60)

    async def main(seen: Seen) -> None:
        await trio.to_thread.run_sync(both.wait)
        await starts_a_child(seen, "main")
        await trio.to_thread.run_sync(both.wait)

    def run(seen: Seen, **options: Any) -> None:
        trio.run(main, seen, **options)

    with_it, without = Seen(), Seen()
    threads = [
        threading.Thread(
            target=run, args=(with_it,), kwargs={"instruments": [AutoPortalInstrument()]}
        ),
        threading.Thread(target=run, args=(without,)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert with_it == {"main": True, "child of main": True}
    assert without == {"main": False, "child of main": False}
