"""`threading.local`: values of a green function, or of an OS thread."""

from __future__ import annotations

import gc
import threading as stdlib
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from verdigris import async_def, spawn
from verdigris.green import _locals, _wait
from verdigris.green import threading as green_threading

threading: Any = green_threading


def green(loop: Any, function: Callable[..., Any], *args: Any) -> Any:
    return loop.run(async_def, function, *args)


class Value:
    pass


class Sub(threading.local):  # type: ignore[misc]
    default = "class's"

    def __init__(self, first: int, *, second: int = 2) -> None:
        self.inits = getattr(self, "inits", 0) + 1
        self.first, self.second = first, second

    @property
    def total(self) -> int:
        return int(self.first + self.second)

    @total.setter
    def total(self, value: int) -> None:
        self.first = value - self.second

    def itself(self) -> Sub:
        return self


class Slotted(threading.local):  # type: ignore[misc]
    __slots__ = ("shared",)


def test_each_function_has_its_own(loop: Any) -> None:
    data = threading.local()
    data.x = "the thread's"

    def work(number: int) -> None:
        assert not hasattr(data, "x") and data.__dict__ == {}
        data.x = number
        _wait.sleep(0.001)
        assert data.x == number and vars(data) == {"x": number}

    def main() -> None:
        data.x = "main's"
        for task in [spawn(work, n) for n in range(5)]:
            task.join()
        thread = threading.Thread(target=work, args=(5,))
        thread.start()
        thread.join()
        assert data.x == "main's"

    green(loop, main)
    assert data.x == "the thread's"
    thread = stdlib.Thread(target=work, args=(6,))
    thread.start()
    thread.join()


def test_values_die_with_the_function(loop: Any) -> None:
    data = threading.local()
    values: list[weakref.ref[Value]] = []

    def work() -> None:
        data.value = Value()
        mine = weakref.ref(data.value)
        values.append(mine)
        _wait.sleep(0.001)
        assert mine() is not None

    green(loop, lambda: [task.join() for task in [spawn(work) for _ in range(3)]])
    gc.collect()
    assert [value() for value in values] == [None] * 3
    assert not _locals._functions


def test_values_die_with_the_local(loop: Any) -> None:
    def main() -> None:
        for _ in range(3):
            data = threading.local()
            data.value, data.itself = Value(), data
            value, reference = weakref.ref(data.value), weakref.ref(data)
            del data
            gc.collect()
            assert value() is None and reference() is None

    green(loop, main)


WHERE = pytest.mark.parametrize("where", ["green", "thread"])


@pytest.fixture
def run(loop: Any, where: str) -> Callable[[Callable[[], Any]], Any]:
    """Calls a function green, or as it is."""
    return (lambda function: green(loop, function)) if where == "green" else (lambda f: f())


@WHERE
def test_subclass(run: Any) -> None:
    def main() -> None:
        data = Sub(1, second=3)
        assert (data.inits, data.total, data.default) == (1, 4, "class's")
        data.total = 10
        assert data.first == 7 and "total" not in vars(data)
        data.default = "own"
        assert data.default == "own" and Sub.default == "class's"
        del data.default
        assert data.default == "class's"
        assert data.itself() is data and isinstance(data, stdlib.local)
        assert "first" in dir(data) and "itself" in dir(data)

    run(main)


@WHERE
def test_init_runs_for_each_function_and_thread(loop: Any, run: Any) -> None:
    data = run(lambda: Sub(5))
    seen: list[Any] = []

    def look() -> None:
        seen.append((data.inits, data.first, data.second))
        data.first = 0

    look()
    green(loop, look)
    green(loop, look)
    thread = stdlib.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(1, 5, 2)] * 4
    assert data.first == 0


@WHERE
def test_slots_of_a_subclass_are_shared(loop: Any, run: Any) -> None:
    data = Slotted()
    run(lambda: setattr(data, "shared", 1))
    assert data.shared == 1
    run(lambda: delattr(data, "shared"))
    assert not hasattr(data, "shared")


@WHERE
def test_errors(run: Any) -> None:
    def main() -> None:
        data = Sub(1)
        for fails in (
            lambda: data.missing,
            lambda: delattr(data, "missing"),
            lambda: delattr(data, "itself"),
        ):
            with pytest.raises(AttributeError):
                fails()
        with pytest.raises(AttributeError, match="read-only"):
            data.__dict__ = {}
        with pytest.raises(AttributeError, match="read-only"):
            del data.__dict__
        with pytest.raises(TypeError, match="Initialization arguments"):
            threading.local(1)

    run(main)


@WHERE
@pytest.mark.parametrize("name", ["_values", "_arguments", "_awaits_init_in", "_local__impl"])
def test_any_name_is_free(run: Any, name: str) -> None:
    def main() -> None:
        data = threading.local()
        assert not hasattr(data, name)
        setattr(data, name, 1)
        assert vars(data) == {name: 1}

    run(main)


@WHERE
def test_getattr_of_a_subclass_is_asked_last(run: Any) -> None:
    class Asks(threading.local):  # type: ignore[misc]
        def __getattr__(self, name: str) -> str:
            return f"no {name}"

    def main() -> None:
        data = Asks()
        data.x = 1
        assert (data.x, data.y) == (1, "no y")

    run(main)


def test_a_failing_init_is_tried_again(loop: Any) -> None:
    class Fails(threading.local):  # type: ignore[misc]
        def __init__(self, failures: list[bool]) -> None:
            if failures.pop():
                raise ValueError("once")
            self.x = 1

    data = Fails([False, True, False])

    def main() -> None:
        with pytest.raises(ValueError, match="once"):
            _ = data.x
        assert data.x == 1

    green(loop, main)
