"""What can't go to another process fails at once, and the error names the call and the part."""

from __future__ import annotations

import asyncio
import functools
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from executors import calls, kinds
from verdigris import CallsFailed, Parallel, to_async

pytestmark = [
    kinds.forks,
    # Dask logs what it could not pickle.
    pytest.mark.usefixtures("quiet"),
]

# Those that send functions by value: a lambda is nothing special there.
BY_VALUE = ["loky", "dask"]
# Interpreters take some functions by name, and others by value.
BY_NAME = kinds.PROCESSES


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "distributed")


class Holder:
    def __init__(self, held: object) -> None:
        self.held = held

    def method(self) -> None:
        return


def refusal(executor: Executor, function: Any, *args: Any, **kwargs: Any) -> str:
    """What the error says, which Parallel and to_async agree on."""
    others = Parallel(executor=executor, return_exceptions=True)
    others.schedule(calls.square, 2).schedule(function, *args, **kwargs).schedule(calls.square, 3)
    first, error, last = others.block()
    assert (first, last) == (4, 9)
    assert type(error) is pickle.PicklingError and error.__cause__ is not None
    assert error.__notes__[-1].startswith("in call 2 of 3: ")

    async def main() -> None:
        with pytest.raises(pickle.PicklingError) as caught:
            await to_async(function, executor=executor)(*args, **kwargs)
        assert str(caught.value) == str(error)

    asyncio.run(main())
    return str(error)


def test_a_lock_as_an_argument(apart: Executor) -> None:
    text = refusal(apart, calls.given, 1, threading.Lock())
    assert text.startswith("the call given(1, <unlocked")
    assert "its argument 2, <unlocked _thread.lock object" in text
    assert "can't be pickled (cannot pickle '_thread.lock' object)." in text
    assert text.endswith("Pass what can be, and make the rest there.")


def test_a_lock_inside_a_keyword_argument(apart: Executor) -> None:
    text = refusal(apart, calls.given, options={"first": [1, (2, threading.Lock())]})
    assert "its argument 'options', at ['first'][1][1], <unlocked _thread.lock" in text


def test_a_lock_in_an_attribute(apart: Executor) -> None:
    text = refusal(apart, calls.given, Holder(Holder(threading.Lock())))
    assert "its argument 1, at .held.held, <unlocked _thread.lock" in text


def test_an_open_file(apart: Executor, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert "its argument 1, <_io.TextIOWrapper" in refusal(apart, calls.given, file)


def test_a_generator(apart: Executor) -> None:
    assert "its argument 1, <generator object" in refusal(apart, calls.given, (n for n in [1]))


def test_a_partial_and_a_method_that_hold_one(apart: Executor) -> None:
    held = functools.partial(calls.given, 1, threading.Lock())
    assert "the function itself, at .args[1], <unlocked" in refusal(apart, held)
    method = Holder(threading.Lock()).method
    assert "the function itself, at .__self__.held, <unlocked" in refusal(apart, method)


@pytest.mark.parametrize("kind", BY_NAME)
def test_a_lambda(kind: str, kept: Callable[[str], Executor]) -> None:
    lock = threading.Lock()
    for function in (lambda: 1, lambda: lock):
        assert "the function itself, <function" in refusal(kept(kind), function)
    assert "its argument 1, <function" in refusal(kept(kind), calls.given, lambda: 1)


@pytest.mark.parametrize("kind", BY_VALUE)
def test_a_lambda_that_is_sent_by_value(kind: str, kept: Callable[[str], Executor]) -> None:
    lock = threading.Lock()
    two = 2
    assert Parallel(executor=kept(kind)).schedule(lambda: two).block() == [2]
    text = refusal(kept(kind), lambda: lock)
    assert "the function itself, at <variable lock>, <unlocked" in text


def test_a_result(apart: Executor) -> None:
    text = refusal(apart, calls.returns_lock)
    assert text.startswith("the call returns_lock() can't be made in another process: its result")


# A fork has what Dask's import changed about the pickling of exceptions, which then fails twice.
@pytest.mark.parametrize("kind", ["spawn", "forkserver"])
def test_an_exception(kind: str, kept: Callable[[str], Executor]) -> None:
    text = refusal(kept(kind), calls.raises_held)
    assert "the call raises_held() " in text and "the exception that it raised" in text


def test_an_exception_that_dask_replaces(kept: Callable[[str], Executor]) -> None:
    several = Parallel(executor=kept("dask")).schedule(calls.raises_held)
    with pytest.raises(CallsFailed) as caught:
        several.block()
    (error,) = caught.value.exceptions
    assert "Held('held')" in str(error)
    assert error.__notes__ == ["in call 1 of 1: raises_held()"]


def test_dask_fetches_several_results_at_once(kept: Callable[[str], Executor]) -> None:
    """One that can't be fetched must not cost those that were asked for together with it."""
    several = Parallel(executor=kept("dask"), return_exceptions=True)
    for number in range(60):
        several.schedule(calls.square if number % 20 else calls.returns_lock_for, number)
    for _ in range(3):
        for number, result in enumerate(several.block()):
            if number % 20:
                assert result == number**2
            else:
                assert f"returns_lock_for({number}) can't be made" in str(result)
                assert "its result can't be pickled" in str(result)


@pytest.mark.parametrize("kind", ["spawn", "loky"])
def test_one_that_can_not_be_made_again_breaks_the_pool(
    kind: str, new: Callable[[str], Executor]
) -> None:
    """The stdlib's pool finds out when it has the exception before it, and ends."""
    several = Parallel(executor=new(kind), return_exceptions=True)
    (error,) = several.schedule(calls.raises_odd).block()
    assert "the call raises_odd() was lost with it" in error.__notes__[0]


def test_a_function_that_refuses_an_argument_is_left_alone(executor: Executor) -> None:
    several = Parallel(executor=executor, return_exceptions=True).schedule(calls.mistakes, 1)
    (error,) = several.block()
    assert type(error) is TypeError and str(error) == "a mistake of the function's own"


def test_threads_take_everything(kept: Callable[[str], Executor]) -> None:
    lock = threading.Lock()
    several = Parallel(executor=kept("threads"), return_exceptions=True)
    several.schedule(lambda held: held, lock).schedule(lambda held: calls.mistakes(held), lock)
    same, error = several.block()
    assert same is lock
    assert type(error) is TypeError and str(error) == "a mistake of the function's own"


def test_what_has_no_representation_is_named_by_its_place(
    kept: Callable[[str], Executor],
) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert "its argument 1, <Shy instance" in refusal(kept("spawn"), calls.given, Shy())
