"""Portals where the loop is not asyncio's or Trio's own: curio, anyio over both, and none at all.

curio's tasks can have portals, but its trees of tasks can't. anyio's tasks are those of the loop
below, so everything works. Anything else that drives coroutines has `with_portal_run`.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import pytest
from hand_driver import finish, suspend, value

from verdigris import (
    NoAwaitContext,
    _engine,
    async_context,
    async_def,
    async_iter,
    autoawait,
    await_,
    bestow_portal,
    ensure_portal,
    has_portal,
    portals_for_children,
    portals_for_tree,
    with_portal_run,
    with_portal_run_sync,
    with_portal_run_tree,
)

# --- curio -------------------------------------------------------------------


@pytest.fixture
def curio() -> Any:
    # Its last release can't be imported on Python 3.12 and later.
    return pytest.importorskip("curio", reason="curio is not installed", exc_type=ImportError)


def curio_waits(curio: Any) -> bool:
    """Whether sync code of this task can wait. If it can, it has."""
    if not has_portal():
        return False
    return await_(curio.sleep(0)) is not None


def test_curio_ensure_portal(curio: Any) -> None:
    async def main() -> list[bool]:
        task = await curio.current_task()
        seen = [curio_waits(curio), has_portal(task)]
        await ensure_portal()
        seen += [curio_waits(curio), has_portal(task)]
        await ensure_portal()
        await curio.sleep(0)
        return [*seen, curio_waits(curio)]

    assert curio.run(main) == [False, False, True, True, True]


def test_curio_ensure_portal_is_a_checkpoint(curio: Any) -> None:
    async def main() -> list[Any]:
        seen: list[Any] = []

        async def other(ended: Any) -> None:
            seen.append("other")
            await ended.set()

        for _ in range(2):
            task = await curio.spawn(other, curio.Event())
            seen.append("before")
            await ensure_portal()
            seen.append("after")
            await task.join()
        task = await curio.spawn(cancelled_at_once)
        await task.wait()
        seen.append(type(task.exception))
        return seen

    async def cancelled_at_once() -> None:
        # Put off, and delivered at the next point where it can be.
        async with curio.disable_cancellation():
            await (await curio.current_task()).cancel(blocking=False)
        await ensure_portal()
        raise AssertionError("not reached")

    order = ["before", "other", "after"] * 2
    assert curio.run(main) == [*order, curio.TaskCancelled]


def test_curio_bestow_portal_on_another_task(curio: Any) -> None:
    async def other(event: Any) -> list[bool]:
        seen = [has_portal()]
        await event.wait()
        return [*seen, curio_waits(curio), has_portal(await curio.current_task())]

    async def main() -> list[Any]:
        event = curio.Event()
        task = await curio.spawn(other, event)
        await curio.sleep(0)
        seen = [has_portal(task)]
        bestow_portal(task)
        bestow_portal(task)
        seen += [has_portal(task), has_portal()]
        await event.set()
        return [seen, await task.join(), has_portal(task)]

    assert curio.run(main) == [[False, True, False], [False, True, True], False]


def test_curio_bestow_portal_before_the_first_step(curio: Any) -> None:
    async def other() -> bool:
        return curio_waits(curio)

    async def main() -> bool:
        task = await curio.spawn(other)
        bestow_portal(task)
        return await task.join()

    assert curio.run(main)


def test_curio_bestow_portal_on_the_current_task(curio: Any) -> None:
    async def main() -> list[bool]:
        task = await curio.current_task()
        bestow_portal(task)
        seen = [has_portal(), has_portal(task)]
        await curio.sleep(0)
        return [*seen, curio_waits(curio), has_portal(task)]

    assert curio.run(main) == [False, False, True, True]


def test_curio_tasks_that_can_have_no_portal(curio: Any) -> None:
    async def main() -> Any:
        task = await curio.spawn(value, 1)
        await task.join()
        with pytest.raises(RuntimeError, match="has ended"):
            bestow_portal(task)
        assert not has_portal(task)
        return await curio.spawn(curio.sleep, 0, daemon=True)

    task = curio.run(main)
    with pytest.raises(RuntimeError):
        bestow_portal(task)


def test_curio_task_of_another_thread(curio: Any) -> None:
    # Known as long as this thread runs no curio of its own: its tasks don't tell their kernel.
    started, end = threading.Event(), threading.Event()
    tasks: list[Any] = []

    async def there() -> bool:
        tasks.append(await curio.current_task())
        started.set()
        await curio.run_in_thread(end.wait)
        return has_portal()

    async def here() -> None:
        with pytest.raises(RuntimeError, match="another thread"):
            bestow_portal(tasks[0])

    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(curio.run(there)))
    thread.start()
    started.wait()
    try:
        finish(here())
    finally:
        end.set()
        thread.join()
    assert results == [False]


def test_curio_with_portal_run(curio: Any) -> None:
    async def add(x: int, *, plus: int) -> int:
        assert curio_waits(curio)
        await curio.sleep(0)
        assert curio_waits(curio)
        return x + plus

    def add_sync(x: int, *, plus: int) -> int:
        assert curio_waits(curio)
        return x + plus

    async def main() -> list[Any]:
        return [
            await with_portal_run(add, 1, plus=2),
            await with_portal_run_sync(add_sync, 3, plus=4),
            await async_def(add_sync, 5, plus=6),
            has_portal(),
        ]

    assert curio.run(main) == [3, 7, 11, False]


def test_curio_a_portal_for_the_task_inside_with_portal_run(curio: Any) -> None:
    async def inside() -> bool:
        await ensure_portal()
        bestow_portal(await curio.current_task())
        await curio.sleep(0)
        return curio_waits(curio)

    async def main() -> list[bool]:
        seen = [await with_portal_run(inside)]
        await curio.sleep(0)
        return [*seen, has_portal()]

    # The portal that there was is that of the call.
    assert curio.run(main) == [True, False]


def test_curio_many_tasks_with_portals_wait_in_turns(curio: Any) -> None:
    async def worker(number: int, queue: Any) -> int:
        await ensure_portal()
        total = 0
        for _ in range(10):
            autoawait(queue.put)(number)
            total += await_(queue.get())
        return total

    async def main() -> list[int]:
        queue = curio.Queue()
        async with curio.TaskGroup() as group:
            for number in range(20):
                await group.spawn(worker, number, queue)
        return group.results

    assert sum(curio.run(main)) == 10 * sum(range(20))


@pytest.mark.parametrize("way", ["portal of the task", "portal of a call"])
def test_curio_cancellation_in_sync_code(curio: Any, way: str) -> None:
    log: list[str] = []

    def forever(started: Any) -> None:
        try:
            await_(started.set())
            await_(curio.Event().wait())
        except curio.TaskCancelled:
            # Cleaning up may wait.
            await_(curio.sleep(0))
            log.append("cleaned up")
            raise

    async def ensured(started: Any) -> None:
        await ensure_portal()
        try:
            forever(started)
        finally:
            # The test goes on when this fails.
            await started.set()

    async def main() -> Any:
        started = curio.Event()
        if way == "portal of the task":
            task = await curio.spawn(ensured, started)
        else:
            task = await curio.spawn(with_portal_run_sync, forever, started)
        await started.wait()
        await task.cancel()
        return [task.cancelled, type(task.exception), has_portal(task)]

    assert curio.run(main) == [True, curio.TaskCancelled, False]
    assert log == ["cleaned up"]


def test_curio_timeout_in_sync_code(curio: Any) -> None:
    def work() -> str:
        with async_context(curio.ignore_after(0.001)) as ignored:
            await_(curio.Event().wait())
        assert ignored.expired
        with pytest.raises(curio.TaskTimeout):
            await_(curio.timeout_after(0.001, curio.Event().wait))
        return "went on"

    async def main() -> str:
        await ensure_portal()
        return work()

    assert curio.run(main) == "went on"


def test_curio_error_in_sync_code(curio: Any) -> None:
    def fail() -> None:
        await_(curio.sleep(0))
        raise ZeroDivisionError("inside")

    async def task() -> None:
        await ensure_portal()
        fail()

    async def main() -> BaseException | None:
        with pytest.raises(curio.TaskError) as caught:
            await (await curio.spawn(task)).join()
        return caught.value.__cause__

    error = curio.run(main)
    assert type(error) is ZeroDivisionError and str(error) == "inside"


def test_curio_sockets_and_threads_in_sync_code(curio: Any) -> None:
    def talk() -> bytes:
        one, another = curio.socket.socketpair()
        with async_context(one), async_context(another):
            sending = await_(curio.spawn(one.sendall, b"hello"))
            received: bytes = await_(another.recv(100))
            await_(sending.join())
        return received + await_(curio.run_in_thread(bytes, b" from a thread"))

    async def main() -> bytes:
        return await with_portal_run_sync(talk)

    assert curio.run(main) == b"hello from a thread"


@pytest.mark.parametrize("portal", [False, True])
def test_curio_has_no_portals_for_trees(curio: Any, portal: bool) -> None:
    refusal = "need asyncio or Trio, and neither runs here"

    async def main() -> None:
        if portal:
            await ensure_portal()
        with pytest.raises(RuntimeError, match=refusal), portals_for_children():
            raise AssertionError("not reached")
        with pytest.raises(RuntimeError, match=refusal):
            await portals_for_tree().__aenter__()
        with pytest.raises(RuntimeError, match=refusal):
            await with_portal_run_tree(value, 1)
        assert has_portal() is portal

    curio.run(main)


# --- anyio, over asyncio and Trio --------------------------------------------


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def anyio_run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    anyio = pytest.importorskip("anyio", reason="anyio is not installed")
    library = pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    options: dict[str, Any] = {"backend": request.param}
    if request.param == "uvloop":
        options = {
            "backend": "asyncio",
            "backend_options": {"loop_factory": library.new_event_loop},
        }

    def run(async_fn: Callable[..., Any], *args: Any) -> Any:
        return anyio.run(async_fn, *args, **options)

    return run


@pytest.fixture
def anyio() -> Any:
    return pytest.importorskip("anyio", reason="anyio is not installed")


def anyio_waits(anyio: Any) -> bool:
    """Whether sync code of this task can wait. If it can, it has."""
    if not has_portal():
        return False
    await_(anyio.lowlevel.checkpoint())
    return True


def test_anyio_every_task_of_a_tree_gets_a_portal(anyio: Any, anyio_run: Any) -> None:
    seen: dict[str, bool] = {}

    async def service(name: str, task_status: Any) -> None:
        seen[name] = anyio_waits(anyio)
        task_status.started(name)
        await anyio.lowlevel.checkpoint()
        async with anyio.create_task_group() as group:
            group.start_soon(child, f"child of {name}")

    async def child(name: str) -> None:
        seen[name] = anyio_waits(anyio)

    async def tree() -> str:
        seen["itself"] = anyio_waits(anyio)
        async with anyio.create_task_group() as group:
            group.start_soon(child, "child")
            return await group.start(service, "service")

    async def main() -> list[Any]:
        result = await with_portal_run_tree(tree)
        inside = dict(seen)
        seen.clear()
        async with anyio.create_task_group() as group:
            group.start_soon(child, "later")
        return [result, inside, dict(seen), has_portal()]

    names = ("itself", "child", "service", "child of service")
    assert anyio_run(main) == [
        "service",
        dict.fromkeys(names, True),
        {"later": False},
        False,
    ]


def test_anyio_portals_for_a_block(anyio: Any, anyio_run: Any) -> None:
    seen: dict[str, bool] = {}

    async def child(name: str) -> None:
        seen[name] = anyio_waits(anyio)

    async def main() -> list[bool]:
        async with portals_for_tree():
            within = anyio_waits(anyio)
            async with anyio.create_task_group() as group:
                group.start_soon(child, "of the tree")
        with portals_for_children():
            without = anyio_waits(anyio)
            async with anyio.create_task_group() as group:
                group.start_soon(child, "of the children")
        async with anyio.create_task_group() as group:
            group.start_soon(child, "later")
        return [within, without]

    assert anyio_run(main) == [True, False]
    assert seen == {"of the tree": True, "of the children": True, "later": False}


def test_anyio_task_groups_in_sync_code(anyio: Any, anyio_run: Any) -> None:
    ended: list[int] = []

    async def child(number: int) -> None:
        await anyio.lowlevel.checkpoint()
        ended.append(number)

    def work() -> int:
        with async_context(anyio.create_task_group()) as group:
            for number in range(5):
                group.start_soon(child, number)
        return len(ended)

    async def main() -> int:
        await ensure_portal()
        return work()

    assert anyio_run(main) == 5


def test_anyio_errors_of_children_come_out_in_sync_code(anyio: Any, anyio_run: Any) -> None:
    cancelled: list[bool] = []

    async def fail() -> None:
        raise ZeroDivisionError("a child")

    def work() -> None:
        with async_context(anyio.create_task_group()) as group:
            group.start_soon(fail)
            try:
                await_(anyio.sleep_forever())
            except anyio.get_cancelled_exc_class():
                cancelled.append(True)
                raise

    async def main() -> str:
        await ensure_portal()
        with pytest.raises(BaseExceptionGroup) as caught:
            work()
        assert caught.group_contains(ZeroDivisionError, match="a child")
        # The cancellation of the group has not stayed.
        await_(anyio.lowlevel.checkpoint())
        return "went on"

    assert anyio_run(main) == "went on"
    assert cancelled == [True]


def test_anyio_cancel_scopes_in_sync_code(anyio: Any, anyio_run: Any) -> None:
    def work() -> list[Any]:
        log: list[Any] = []
        with anyio.CancelScope() as scope:
            scope.cancel()
            log.append("before")
            with anyio.CancelScope(shield=True):
                await_(anyio.lowlevel.checkpoint())
                log.append("shielded")
            await_(anyio.lowlevel.checkpoint())
            log.append("not reached")
        log.append(scope.cancelled_caught)
        with anyio.move_on_after(0) as passed:
            await_(anyio.sleep_forever())
        log.append(passed.cancelled_caught)
        with pytest.raises(TimeoutError), anyio.fail_after(0):
            await_(anyio.sleep_forever())
        await_(anyio.lowlevel.checkpoint())
        return log

    async def main() -> list[Any]:
        await ensure_portal()
        return work()

    assert anyio_run(main) == ["before", "shielded", True, True]


def test_anyio_cancels_tasks_with_portals_as_it_does_without(anyio: Any, anyio_run: Any) -> None:
    # anyio looks at the coroutine of a task to see whether it has begun.
    async def child(name: str, sync: bool, log: list[str]) -> None:
        log.append(f"{name} began")
        try:
            if sync and has_portal():
                await_(anyio.sleep_forever())
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            log.append(f"{name} cancelled")
            raise

    async def group_of_tasks() -> list[str]:
        log: list[str] = []
        async with anyio.create_task_group() as group:
            group.start_soon(child, "waiting", False, log)
            group.start_soon(child, "waiting in sync code", True, log)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(child, "not yet begun", False, log)
            group.cancel_scope.cancel()
        return sorted(log)

    async def main() -> list[Any]:
        return [await with_portal_run_tree(group_of_tasks), await group_of_tasks()]

    with_portals, without = anyio_run(main)
    assert with_portals == without
    assert "waiting in sync code cancelled" in with_portals


def test_anyio_knows_the_tasks_of_a_tree(anyio: Any, anyio_run: Any) -> None:
    async def child(told: dict[str, Any]) -> None:
        current = anyio.get_current_task()
        told["name"], told["parent"] = current.name, current.parent_id
        told["listed"] = current in anyio.get_running_tasks()
        with anyio.CancelScope() as scope:
            told["pending before"] = current.has_pending_cancellation()
            scope.cancel()
            told["pending"] = current.has_pending_cancellation()

    async def tree() -> tuple[dict[str, Any], bool]:
        told: dict[str, Any] = {}
        mine = anyio.get_current_task()
        async with anyio.create_task_group() as group:
            group.start_soon(child, told, name="a child")
        return told, told.pop("parent") == mine.id

    async def main() -> list[Any]:
        return [await with_portal_run_tree(tree), await tree()]

    with_portals, without = anyio_run(main)
    assert with_portals == without
    assert with_portals == (
        {"name": "a child", "listed": True, "pending before": False, "pending": True},
        True,
    )


def test_anyio_threads(anyio: Any, anyio_run: Any) -> None:
    seen: list[bool] = []

    async def called_back() -> int:
        seen.append(anyio_waits(anyio))
        return 3

    def in_a_thread(x: int) -> int:
        return x * anyio.from_thread.run(called_back)

    def work() -> int:
        return await_(anyio.to_thread.run_sync(in_a_thread, 2))

    async def tree() -> int:
        return work()

    assert anyio_run(with_portal_run_tree, tree) == 6
    assert seen == [True]


def test_anyio_memory_streams_in_sync_code(anyio: Any, anyio_run: Any) -> None:
    def produce(stream: Any) -> None:
        with stream:
            for number in range(5):
                await_(stream.send(number))

    def consume(stream: Any) -> list[int]:
        with stream:
            return list(async_iter(stream))

    async def main() -> list[int]:
        send, receive = anyio.create_memory_object_stream(0)
        async with anyio.create_task_group() as group:
            group.start_soon(with_portal_run_sync, produce, send)
            return await with_portal_run_sync(consume, receive)

    assert anyio_run(main) == list(range(5))


def test_anyio_sockets_in_sync_code(anyio: Any, anyio_run: Any) -> None:
    def handle(client: Any) -> None:
        with async_context(client):
            for chunk in async_iter(client):
                await_(client.send(chunk.upper()))

    async def serve(listener: Any) -> None:
        await listener.serve(autohandle)

    async def autohandle(client: Any) -> None:
        handle(client)

    def talk(port: int) -> bytes:
        with async_context(await_(anyio.connect_tcp("127.0.0.1", port))) as stream:
            await_(stream.send(b"hello"))
            return await_(stream.receive())

    async def tree() -> bytes:
        listener = await_(anyio.create_tcp_listener(local_host="127.0.0.1"))
        async with listener, anyio.create_task_group() as group:
            group.start_soon(serve, listener)
            answer = talk(listener.extra(anyio.abc.SocketAttribute.local_port))
            group.cancel_scope.cancel()
        return answer

    assert anyio_run(with_portal_run_tree, tree) == b"HELLO"


def test_anyio_locks_in_sync_code(anyio: Any, anyio_run: Any) -> None:
    log: list[str] = []

    async def work(lock: Any, name: str) -> None:
        locked(lock, name)

    def locked(lock: Any, name: str) -> None:
        with async_context(lock):
            log.append(name)
            await_(anyio.lowlevel.checkpoint())
            log.append(name)

    async def tree() -> None:
        lock = anyio.Lock()
        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(work, lock, name)

    anyio_run(with_portal_run_tree, tree)
    assert len(log) == 6
    # In whatever order, but never two at once.
    assert all(first == second for first, second in zip(log[::2], log[1::2], strict=True))


def test_anyio_blocking_portal(anyio: Any, anyio_run: Any) -> None:
    # anyio's own portals go the other way: from threads into the loop.
    def work(x: int) -> int:
        await_(anyio.lowlevel.checkpoint())
        return 2 * x

    async def main() -> int:
        async with anyio.from_thread.BlockingPortal() as portal:
            return await anyio.to_thread.run_sync(portal.call, with_portal_run_sync, work, 4)

    assert anyio_run(main) == 8


# --- no loop at all ----------------------------------------------------------


def test_by_hand_with_portal_run() -> None:
    def sync(tag: str) -> object:
        return await_(suspend(tag))

    async def program(x: int) -> list[object]:
        return [x, sync("one"), await suspend("two"), sync("three"), has_portal()]

    coroutine = with_portal_run(program, 0)
    assert coroutine.send(None) == "one"
    assert coroutine.send(1) == "two"
    assert coroutine.send(2) == "three"
    with pytest.raises(StopIteration) as caught:
        coroutine.send(3)
    assert caught.value.value == [0, 1, 2, 3, True]


def test_by_hand_with_portal_run_of_any_awaitable() -> None:
    class Awaitable:
        def __await__(self) -> Generator[object, Any, tuple[object, bool]]:
            received = yield "a trap"
            return received, has_portal()

    coroutine = with_portal_run(Awaitable)
    assert coroutine.send(None) == "a trap"
    with pytest.raises(StopIteration) as caught:
        coroutine.send("received")
    assert caught.value.value == ("received", True)


def test_by_hand_an_exception_is_thrown_into_sync_code() -> None:
    def sync() -> str:
        try:
            await_(suspend())
        except ZeroDivisionError as error:
            return str(error)
        return "went on"

    async def program() -> str:
        return sync()

    coroutine = with_portal_run(program)
    coroutine.send(None)
    with pytest.raises(StopIteration) as caught:
        coroutine.throw(ZeroDivisionError("thrown"))
    assert caught.value.value == "thrown"


def test_by_hand_a_close_unwinds_sync_code() -> None:
    log: list[str] = []

    def sync() -> None:
        try:
            await_(suspend())
        finally:
            log.append("unwound")

    async def program() -> None:
        try:
            sync()
        finally:
            log.append("and the coroutine")

    coroutine = with_portal_run(program)
    coroutine.send(None)
    coroutine.close()
    assert log == ["unwound", "and the coroutine"]


def test_by_hand_layers_of_calls_share_one_portal() -> None:
    portals: list[object] = []

    async def innermost() -> object:
        portals.append(_engine.current_portal())
        return await_(suspend("from the depth"))

    def middle() -> object:
        portals.append(_engine.current_portal())
        return await_(with_portal_run(innermost))

    async def outer() -> object:
        portals.append(_engine.current_portal())
        return await with_portal_run(with_portal_run_sync, middle)

    tags: list[object] = []

    def answer(tag: object) -> str:
        tags.append(tag)
        return "answer"

    assert finish(with_portal_run(outer), answer) == "answer"
    assert tags == ["from the depth"]
    assert len(portals) == 3 and len(set(portals)) == 1 and None not in portals


def test_by_hand_many_programs_take_turns() -> None:
    def sync(number: int) -> Any:
        return await_(suspend(number))

    async def program(number: int) -> list[Any]:
        return [sync(number), await suspend(number), sync(number)]

    programs = [with_portal_run(program, number) for number in range(50)]
    assert [each.send(None) for each in programs] == list(range(50))
    for step in (1, 2):
        assert [each.send(step) for each in reversed(programs)] == list(reversed(range(50)))
    results = []
    for each in programs:
        with pytest.raises(StopIteration) as caught:
            each.send(3)
        results.append(caught.value.value)
    assert results == [[1, 2, 3]] * 50


def test_by_hand_sync_syntax_works() -> None:
    class Manager:
        async def __aenter__(self) -> object:
            return await suspend("enter")

        async def __aexit__(self, *error: object) -> None:
            await suspend("exit")

    async def numbers() -> AsyncIterator[Any]:
        for number in range(2):
            yield await suspend(number)

    def work() -> list[Any]:
        with async_context(Manager()) as entered:
            return [entered, *async_iter(numbers())]

    tags: list[object] = []

    def answer(tag: object) -> object:
        tags.append(tag)
        return f"answer to {tag}"

    assert finish(with_portal_run_sync(work), answer) == [
        "answer to enter",
        "answer to 0",
        "answer to 1",
    ]
    assert tags == ["enter", 0, 1, "exit"]


def test_by_hand_what_needs_a_loop_says_so() -> None:
    async def program() -> None:
        await suspend()
        assert not has_portal()
        with pytest.raises(RuntimeError, match=r"with_portal_run\(fn, \.\.\.\)"):
            await ensure_portal()
        with pytest.raises(TypeError, match="needs a task of asyncio, Trio or curio"):
            bestow_portal(object())
        with pytest.raises(NoAwaitContext):
            await_(value(1))

    finish(program())


def test_by_hand_ensure_portal_inside_a_call_needs_a_loop_too() -> None:
    # It has to be a checkpoint, and only a loop knows what that is.
    async def program() -> None:
        with pytest.raises(RuntimeError, match="none of these runs here"):
            await ensure_portal()
        assert has_portal()

    finish(with_portal_run(program))


def test_a_loop_that_keeps_its_coroutines_to_itself() -> None:
    # A loop of the simplest kind: a list of what is ready.
    class Loop:
        def __init__(self) -> None:
            self.ready: list[tuple[Any, Any]] = []
            self.results: dict[str, object] = {}

        def spawn(self, name: str, coroutine: Any) -> None:
            self.ready.append((name, coroutine))

        def run(self) -> dict[str, object]:
            while self.ready:
                name, coroutine = self.ready.pop(0)
                try:
                    coroutine.send(None)
                except StopIteration as end:
                    self.results[name] = end.value
                else:
                    self.ready.append((name, coroutine))
            return self.results

    log: list[str] = []

    def sync(name: str) -> None:
        for _ in range(3):
            log.append(name)
            await_(suspend())

    async def program(name: str) -> str:
        sync(name)
        return f"{name} ended"

    loop = Loop()
    for name in "ab":
        loop.spawn(name, with_portal_run(program, name))
    assert loop.run() == {"a": "a ended", "b": "b ended"}
    assert log == ["a", "b"] * 3
