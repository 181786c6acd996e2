"""What engines call a future can be scheduled as it is: Dask's, Ray's, and the stdlib's."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from typing import Any

import pytest

from executors import calls, kinds
from verdigris import CallCancelled, CallsFailed, Parallel, Serial, async_def

pytestmark = [kinds.forks, pytest.mark.usefixtures("quiet")]


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "distributed")


def test_dask_futures_of_a_client_for_blocking_code(loop: Any, dask_client: Any) -> None:
    future = dask_client.submit(calls.square, 3)
    failed = dask_client.submit(calls.fails, "over there")

    async def main() -> None:
        several = Parallel().schedule(future).schedule(loop.checkpoint)
        assert await several.run() == [9, None]
        assert await Serial().schedule(future).run() == [9]
        with pytest.raises(CallsFailed) as caught:
            await Parallel().schedule(failed).schedule(future).run()
        assert caught.value.results[1] == 9
        (error,) = caught.value.exceptions
        assert isinstance(error, LookupError) and "in call 1 of 2: <Future" in error.__notes__[0]

    loop.run(main)
    assert Parallel().schedule(future).block() == [9]
    assert loop.run(async_def, lambda: Parallel().schedule(future).block()) == [9]


def test_dask_futures_of_an_asynchronous_client(aio: Any, dask_client: Any) -> None:
    from distributed import Client

    async def main() -> None:
        address = dask_client.scheduler.address
        async with Client(address, asynchronous=True, set_as_default=False) as client:
            future = client.submit(calls.square, 3)
            assert await Parallel().schedule(future).schedule(future).run() == [9, 9]
            executor = client.get_executor()
            several = Parallel(executor=executor).schedule(calls.square, 4)
            assert await several.run() == [16]
            # Of use on this loop: what blocks it would wait for itself.
            assert [one.result() async for one in several.as_completed()] == [16]

    aio.run(main)


def test_a_dask_future_that_is_cancelled(loop: Any, dask_client: Any, tmp_path: Any) -> None:
    go_on = tmp_path / "go-on"
    future = dask_client.submit(
        calls.says_so_and_waits_for, str(tmp_path / "begun"), str(go_on), pure=False
    )
    future.cancel()
    go_on.touch()

    async def main() -> None:
        several = Parallel(return_exceptions=True).schedule(future)
        several.schedule(dask_client.submit(calls.square, 5))
        cancelled, result = await several.run()
        assert result == 25
        assert isinstance(cancelled, Exception) and "cancelled" in str(cancelled)

    loop.run(main)


def test_a_run_that_ends_leaves_what_it_did_not_submit(
    loop: Any, dask_client: Any, tmp_path: Any
) -> None:
    go_on = tmp_path / "go-on"
    future = dask_client.submit(
        calls.says_so_and_waits_for, str(tmp_path / "begun"), str(go_on), "done", pure=False
    )

    async def main() -> None:
        async with loop.tasks() as start:
            run = start(Parallel().schedule(future).run)
            await loop.sleep(0.02)
            run.cancel()
            assert (await run.wait()).cancelled
        go_on.touch()
        assert await Parallel().schedule(future).run() == ["done"]

    loop.run(main)


def test_a_client_that_is_closed_in_the_middle(loop: Any, dask_client: Any, tmp_path: Any) -> None:
    from distributed import Client

    client = Client(dask_client.scheduler.address, set_as_default=False)
    begun, go_on = tmp_path / "begun", tmp_path / "go-on"

    async def main() -> None:
        several = Parallel(executor=client.get_executor(), return_exceptions=True)
        several.schedule(calls.square, 2)
        several.schedule(calls.says_so_and_waits_for, str(begun), str(go_on))
        async with loop.tasks() as start:
            run = start(several.run)
            while not begun.exists():
                await loop.sleep(0.005)
            client.close()
            outcome = await run.wait()
        assert outcome.value[0] == 4 or isinstance(outcome.value[0], Exception)
        assert isinstance(outcome.value[1], Exception)
        (error,) = (
            await Parallel(executor=client.get_executor(), return_exceptions=True)
            .schedule(calls.square, 2)
            .run()
        )
        assert isinstance(error, Exception)
        assert error.__notes__[-1] == "in call 1 of 1: square(2)"

    loop.run(main)
    go_on.touch()


def test_futures_of_the_stdlib(loop: Any, kept: Callable[[str], Executor]) -> None:
    future = kept("spawn").submit(calls.square, 4)
    given: concurrent.futures.Future[str] = concurrent.futures.Future()
    given.set_result("given")
    cancelled: concurrent.futures.Future[str] = concurrent.futures.Future()
    cancelled.cancel()

    async def main() -> None:
        several = Parallel(return_exceptions=True)
        several.schedule(future).schedule(given).schedule(cancelled)
        first, second, third = await several.run()
        assert (first, second) == (16, "given") and isinstance(third, CallCancelled)

    loop.run(main)


class Reference:
    """What a reference of Ray's looks like: awaited on asyncio only, and a maker of futures."""

    def __init__(self, future: concurrent.futures.Future[Any]) -> None:
        self._future = future

    def future(self) -> concurrent.futures.Future[Any]:
        return self._future

    def __await__(self) -> Generator[Any, Any, Any]:
        return asyncio.wrap_future(self._future).__await__()


class Unrelated:
    """An awaitable whose `future` is something else."""

    def future(self) -> str:
        return "a date, perhaps"

    def __await__(self) -> Generator[Any, Any, str]:
        return "awaited"
        yield


def test_what_makes_a_future(loop: Any, kept: Callable[[str], Executor]) -> None:
    async def main() -> None:
        executor = kept("threads")
        several = Parallel(return_exceptions=True)
        several.schedule(Reference(executor.submit(calls.square, 3)))
        several.schedule(Reference(executor.submit(calls.fails, "there"))).schedule(Unrelated())
        result, error, awaited = await several.run()
        assert (result, awaited) == (9, "awaited")
        assert isinstance(error, LookupError)

    loop.run(main)


def test_references_of_ray(loop: Any, ray: Any) -> None:
    square, fails = ray.remote(calls.square), ray.remote(calls.fails)

    async def main() -> None:
        several = Parallel(return_exceptions=True)
        several.schedule(square.remote(3)).schedule(fails.remote("there"))
        several.schedule(calls.square, 4)
        result, error, here = await several.run()
        assert (result, here) == (9, 16)
        assert isinstance(error, LookupError)

    loop.run(main)


@pytest.fixture(scope="session")
def ray() -> Any:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    paths = {"PYTHONPATH": kinds.TESTS}
    ray.init(
        num_cpus=1, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": paths}
    )
    yield ray
    ray.shutdown()
