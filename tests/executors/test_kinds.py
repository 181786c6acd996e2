"""Every runner with every kind of executor, on every loop."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import pytest

from executors import calls, kinds
from verdigris import CallsFailed, Parallel, Serial, async_def, block, to_async

pytestmark = kinds.forks


def test_to_async(loop: Any, executor: Executor) -> None:
    async def main() -> None:
        assert await to_async(calls.square, executor=executor)(7) == 49
        called = to_async(calls.given, executor=executor)
        assert await called(1, [2], three=3) == ((1, [2]), {"three": 3})

    loop.run(main)


def test_errors_come_as_they_were_raised(loop: Any, executor: Executor) -> None:
    async def main() -> None:
        with pytest.raises(LookupError, match="lost it") as caught:
            await to_async(calls.fails, executor=executor)("lost it")
        assert type(caught.value) is LookupError
        with pytest.raises(TypeError, match=r"^a mistake of the function's own$"):
            await to_async(calls.mistakes, executor=executor)(1)

    loop.run(main)


def test_parallel_keeps_the_order(loop: Any, executor: Executor) -> None:
    async def twice(number: int) -> int:
        await loop.checkpoint()
        return 2 * number

    async def main() -> None:
        several = Parallel(executor=executor)
        for number in range(6):
            several.schedule(calls.square, number).schedule(twice, number)
        expected = [result for n in range(6) for result in (n * n, 2 * n)]
        assert await several.run() == expected
        assert await several.run() == expected

    loop.run(main)


def test_parallel_with_a_limit(loop: Any, executor: Executor) -> None:
    async def main() -> None:
        several = Parallel(executor=executor, limit=2)
        for number in range(7):
            several.schedule(calls.square, number)
        assert await several.run() == [n * n for n in range(7)]

    loop.run(main)


def test_a_failure_leaves_the_other_results(loop: Any, executor: Executor) -> None:
    async def main() -> None:
        several = Parallel(executor=executor).schedule(calls.square, 3)
        several.schedule(calls.fails, "first").schedule(calls.fails, "second")
        with pytest.raises(CallsFailed) as caught:
            await several.run()
        assert caught.value.results[0] == 9
        assert [
            (type(error), error.args, error.__notes__) for error in caught.value.exceptions
        ] == [
            (LookupError, ("first",), ["in call 2 of 3: fails('first')"]),
            (LookupError, ("second",), ["in call 3 of 3: fails('second')"]),
        ]

    loop.run(main)


def test_as_completed(loop: Any, executor: Executor) -> None:
    async def main() -> None:
        several = Parallel(executor=executor).schedule(calls.fails, "no")
        for number in range(4):
            several.schedule(calls.square, number)
        seen = {}
        async for one in several.as_completed():
            seen[one.index] = one.exception() or one.result()
        assert isinstance(seen.pop(0), LookupError)
        assert seen == {1: 0, 2: 1, 3: 4, 4: 9}

    loop.run(main)


def test_serial(loop: Any, executor: Executor, tmp_path: Any) -> None:
    path = tmp_path / "marks"

    async def main() -> None:
        order = Serial(executor=executor)
        for number in range(5):
            order.schedule(calls.leaves_mark, str(path), number)
        assert await order.run() == list(range(5))

    loop.run(main)
    assert path.read_text() == "0\n1\n2\n3\n4\n"


def test_from_a_thread_without_a_loop(executor: Executor) -> None:
    several = Parallel(executor=executor).schedule(calls.square, 2).schedule(calls.square, 3)
    assert several.block() == [4, 9]
    assert sorted(one.result() for one in several.as_completed()) == [4, 9]
    assert Serial(executor=executor).schedule(calls.square, 4).block() == [16]
    assert block(to_async(calls.square, executor=executor), 5) == 25


def test_in_a_green_function(loop: Any, executor: Executor) -> None:
    def green() -> list[Any]:
        several = Parallel(executor=executor).schedule(calls.square, 2).schedule(calls.square, 3)
        return [
            several.block(),
            sorted(one.result() for one in several.as_completed()),
            Serial(executor=executor).schedule(calls.square, 4).block(),
            block(to_async(calls.square, executor=executor), 5),
        ]

    assert loop.run(async_def, green) == [[4, 9], [4, 9], [16], 25]


def test_equal_calls_are_made_each(loop: Any, executor: Executor, tmp_path: Any) -> None:
    path = tmp_path / "marks"

    async def main() -> None:
        several = Parallel(executor=executor)
        for _ in range(3):
            several.schedule(calls.leaves_mark, str(path), "again")
        assert await several.run() == ["again"] * 3
        await to_async(calls.leaves_mark, executor=executor)(str(path), "again")

    loop.run(main)
    assert path.read_text() == "again\n" * 4


# Names of parameters of `submit`, in one executor or another.
OPTIONS = ["self", "fn", "func", "key", "workers", "priority", "resources", "pure", "retries"]


def test_keyword_arguments_are_the_functions(executor: Executor) -> None:
    options = {name: number for number, name in enumerate(OPTIONS)}
    called = Parallel(executor=executor).schedule(calls.given, 1, **options, other=2)
    assert called.block() == [((1,), {**options, "other": 2})]


def test_calls_are_made_elsewhere(apart: Executor) -> None:
    (number,) = Parallel(executor=apart).schedule(calls.process).block()
    assert (number == os.getpid()) == (type(apart).__name__ == "InterpreterPoolExecutor")


def test_context_variables_reach_threads_only(loop: Any, kept: Callable[[str], Executor]) -> None:
    async def main() -> None:
        calls.variable.set("here")
        for kind, seen in [("threads", "here"), ("spawn", "unset")]:
            assert await to_async(calls.reads_variable, executor=kept(kind))() == seen
            several = Parallel(executor=kept(kind)).schedule(calls.reads_variable)
            assert await several.run() == [seen]

    loop.run(main)


def test_a_thread_of_an_executor_knows_what_loop_it_works_for(
    loop: Any, kept: Callable[[str], Executor]
) -> None:
    seen = []

    async def on_the_loop() -> str:
        await loop.sleep(0)
        seen.append(threading.get_ident())
        return "waited"

    async def main() -> None:
        pool = kept("threads")
        assert await to_async(lambda: block(on_the_loop), executor=pool)() == "waited"
        assert await Parallel(executor=pool).schedule(lambda: block(on_the_loop)).run() == [
            "waited"
        ]

    loop.run(main)
    if loop.name == "trio":  # there it is the run that waits for the thread
        assert seen == [threading.get_ident()] * 2


def test_the_coroutine_of_a_plain_wrapper_is_awaited(
    loop: Any, kept: Callable[[str], Executor]
) -> None:
    async def main() -> None:
        pool = kept("threads")
        assert await to_async(calls.begins_a_coroutine, executor=pool)() == "awaited"
        several = Parallel(executor=pool).schedule(calls.begins_a_coroutine)
        assert await several.run() == ["awaited"]

    loop.run(main)


def test_one_executor_for_several_loops(executor: Executor, loop: Any) -> None:
    def on_a_loop() -> None:
        async def main() -> None:
            assert await to_async(calls.square, executor=executor)(6) == 36

        loop.run(main)

    threads = [threading.Thread(target=on_a_loop) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    on_a_loop()
