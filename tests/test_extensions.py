"""Functions that wait below callbacks of other extensions, several of them at once.

Each extension is of another make: PyO3 (pydantic, orjson), Cython (lxml), CFFI, and numpy's own C.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from hand_driver import finish, suspend

from verdigris import async_def, await_


def in_turns(functions: list[Callable[[], Any]], seed: int) -> list[Any]:
    """Steps functions in a seeded order; each gets back what it waits with. Their results."""
    rng = random.Random(seed)
    waiting: dict[int, tuple[Any, object]] = {
        n: (async_def(function), None) for n, function in enumerate(functions)
    }
    results: dict[int, Any] = {}
    while waiting:
        n = rng.choice(list(waiting))
        coro, answer = waiting[n]
        try:
            waiting[n] = coro, coro.send(answer)
        except StopIteration as end:
            results[n] = end.value
            del waiting[n]
    return [results[n] for n in range(len(functions))]


def many(make: Callable[[int], Callable[[], Any]], expected: Callable[[int], Any]) -> None:
    """Twenty functions at once, in three orders, are all right; and so is one that is closed."""
    for seed in range(3):
        assert in_turns([make(n) for n in range(20)], seed) == [expected(n) for n in range(20)]
    left, other = async_def(make(1)), async_def(make(2))
    left.send(None)
    answer = other.send(None)
    # orjson makes an error of its own of whatever its callback raises.
    with contextlib.suppress(TypeError):
        left.close()
    assert left.cr_frame is None
    assert finish_with_answers(other, answer) == expected(2)


def finish_with_answers(coro: Any, answer: object) -> Any:
    """Goes on with a function whose first wait asked for `answer`."""
    while True:
        try:
            answer = coro.send(answer)
        except StopIteration as end:
            return end.value


def test_pydantic_validators_and_serializers() -> None:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")

    class Inner(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        number: int

        @pydantic.field_validator("number", mode="wrap")
        @classmethod
        def waits(cls, value: Any, handler: Any) -> Any:
            return handler(await_(suspend(value)))

        @pydantic.field_serializer("number")
        def waits_too(self, number: int) -> Any:
            return await_(suspend(number))

    class Outer(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        inner: list[Inner]

        @pydantic.model_validator(mode="after")
        def last(self) -> Any:
            return await_(suspend(self))

    def make(n: int) -> Callable[[], Any]:
        def function() -> Any:
            model = Outer.model_validate({"inner": [{"number": n}, {"number": n + 1}]})
            return model.model_dump_json(), model.model_dump()

        return function

    def expected(n: int) -> Any:
        plain = {"inner": [{"number": n}, {"number": n + 1}]}
        return f'{{"inner":[{{"number":{n}}},{{"number":{n + 1}}}]}}', plain

    for seed in range(3):
        functions = [make(n) for n in range(20)]
        assert in_turns(functions, seed) == [expected(n) for n in range(20)]

    # An exception out of the wait goes through the extension as it does without a wait.
    coro = async_def(make(1))
    assert coro.send(None) == 1
    # The next item is validated all the same.
    answer = coro.throw(ValueError("thrown"))
    with pytest.raises(pydantic.ValidationError, match="thrown"):
        finish_with_answers(coro, answer)
    coro = async_def(make(1))
    coro.send(None)
    coro.close()
    assert coro.cr_frame is None


def test_orjson_default() -> None:
    orjson = pytest.importorskip("orjson", reason="orjson is not installed")

    class Thing:
        def __init__(self, n: int) -> None:
            self.n = n

    def make(n: int) -> Callable[[], Any]:
        def default(thing: Thing) -> Any:
            return await_(suspend(thing.n))

        return lambda: orjson.dumps([Thing(n), {"a": [Thing(n)]}, Thing(-n)], default=default)

    many(make, lambda n: b'[%d,{"a":[%d]},%d]' % (n, n, -n))

    coro = async_def(make(1))
    coro.send(None)
    with pytest.raises(orjson.JSONEncodeError):
        coro.throw(ValueError("thrown"))


def test_lxml_parser_targets_and_xpath_functions() -> None:
    etree = pytest.importorskip("lxml.etree", reason="lxml is not installed")

    class Target:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def start(self, tag: str, attributes: Any) -> None:
            self.seen.append(await_(suspend(tag)))

        def end(self, tag: str) -> None:
            self.seen.append(await_(suspend(f"/{tag}")))

        def data(self, data: str) -> None:
            self.seen.append(await_(suspend(data)))

        def close(self) -> list[str]:
            return self.seen

    def make(n: int) -> Callable[[], Any]:
        def function() -> Any:
            parsed = etree.fromstring(f"<a><b>{n}</b></a>", etree.XMLParser(target=Target()))
            extensions = {(None, "wait"): lambda context, value: await_(suspend(value * 2))}
            doubled = etree.fromstring("<a/>").xpath(f"wait({n}) + wait(1)", extensions=extensions)
            return parsed, doubled

        return function

    many(make, lambda n: (["a", "b", str(n), "/b", "/a"], 2.0 * n + 2))


def test_cffi_callbacks() -> None:
    cffi = pytest.importorskip("cffi", reason="cffi is not installed")
    ffi = cffi.FFI()
    ffi.cdef(
        "void qsort(void *base, size_t count, size_t size, int (*f)(const void *, const void *));"
    )
    libc = ffi.dlopen(None)

    def make(n: int) -> Callable[[], Any]:
        def function() -> list[int]:
            @ffi.callback("int(const void *, const void *)")  # type: ignore[untyped-decorator]
            def compare(a: Any, b: Any) -> int:
                one, other = (ffi.cast("int *", pointer)[0] for pointer in (a, b))
                result: int = await_(suspend((one > other) - (one < other)))
                return result

            numbers = ffi.new("int[]", [(n * 7 + k * 5) % 11 for k in range(8)])
            libc.qsort(numbers, 8, ffi.sizeof("int"), compare)
            return list(numbers)

        return function

    expected = [sorted((n * 7 + k * 5) % 11 for k in range(8)) for n in range(20)]
    for seed in range(3):
        assert in_turns([make(n) for n in range(20)], seed) == expected


def test_numpy_callbacks() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")

    def wait(number: Any) -> Any:
        return await_(suspend(number))

    class Lazy:
        """An object that numpy asks for its array."""

        def __init__(self, n: int) -> None:
            self.n = n

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return numpy.full(3, wait(self.n))

    class Ordered:
        def __init__(self, n: int) -> None:
            self.n = n

        def __lt__(self, other: Ordered) -> bool:
            return bool(wait(self.n < other.n))

    def make(n: int) -> Callable[[], Any]:
        def function() -> Any:
            numbers = numpy.arange(4.0) + n
            return [
                numpy.vectorize(wait)(numbers).tolist(),
                numpy.frompyfunc(wait, 1, 1)(numbers).tolist(),
                numpy.apply_along_axis(lambda row: wait(row.sum()), 1, numpy.eye(3) * n).tolist(),
                numpy.frompyfunc(lambda a, b: wait(a + b), 2, 1).reduce(numbers),
                numpy.asarray(Lazy(n)).tolist(),
                [one.n for one in numpy.sort([Ordered(n), Ordered(n - 2), Ordered(n + 1)])],
                numpy.fromiter((wait(number) for number in range(n)), float).tolist(),
                numpy.piecewise(numbers, [numbers > n], [wait, lambda x: -x]).tolist(),
            ]

        return function

    def expected(n: int) -> Any:
        numbers = [float(n + k) for k in range(4)]
        return [
            numbers,
            numbers,
            [float(n)] * 3,
            sum(numbers),
            [n] * 3,
            [n - 2, n, n + 1],
            [float(k) for k in range(n)],
            [-numbers[0], *numbers[1:]],
        ]

    for seed in range(3):
        assert in_turns([make(n) for n in range(20)], seed) == [expected(n) for n in range(20)]


def test_numpys_errstate_belongs_to_its_task(loop: Any) -> None:
    """Each task has its own; a function has its task's, through all waits."""
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    outcomes = []

    def divides(how: str) -> str:
        zero = numpy.zeros(1)
        with numpy.errstate(divide=how):
            for _ in range(5):
                await_(loop.checkpoint())
                assert numpy.geterr()["divide"] == how
            try:
                # The processor's flag, numpy's mode: both must be this function's.
                numpy.ones(1) / zero
            except FloatingPointError:
                outcomes.append(how)
                return "raised"
        outcomes.append(how)
        return "passed"

    async def main() -> list[Any]:
        async with loop.tasks() as start:
            tasks = [start(async_def, divides, how) for how in ("raise", "ignore") * 10]
        return [task.outcome.value for task in tasks]

    assert loop.run(main) == ["raised", "passed"] * 10
    assert numpy.geterr()["divide"] == "warn"
    assert sorted(outcomes) == ["ignore"] * 10 + ["raise"] * 10


def test_a_callback_of_numpy_that_fails() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    coro = async_def(lambda: numpy.frompyfunc(lambda a: await_(suspend(a)), 1, 1)([1, 2]))
    coro.send(None)
    with pytest.raises(KeyError):
        coro.throw(KeyError())
    assert finish(async_def(lambda: await_(suspend("x"))), answer=lambda tag: tag) == "x"
