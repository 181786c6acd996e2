"""`await_` under C code that keeps pointers into its own stack.

Stacks that are copied, as greenlet's are, corrupt these: the C code's buffers
lie at addresses that mean something else once the stack is copied back.
"""

from __future__ import annotations

import ctypes
import json
import platform
import re
import sqlite3
import sys
import xml.parsers.expat
from typing import Any

import pytest
from hand_driver import finish, suspend

from verdigris import async_def, await_

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs libc's qsort by name")


def libc() -> Any:
    return ctypes.CDLL(None)


def compare_type() -> Any:
    pointer = ctypes.POINTER(ctypes.c_int)
    return ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)


def sorts(numbers: list[int]) -> list[int]:
    """qsort, whose comparator waits at every comparison."""

    def compare(a: Any, b: Any) -> int:
        await_(suspend())
        return a[0] - b[0]

    array = (ctypes.c_int * len(numbers))(*numbers)
    libc().qsort(array, len(numbers), ctypes.sizeof(ctypes.c_int), compare_type()(compare))
    return list(array)


def test_a_qsort_comparator_that_waits() -> None:
    assert finish(async_def(sorts, [5, 3, 9, 1, 7])) == [1, 3, 5, 7, 9]


def test_many_sorts_interleaved() -> None:
    numbers = [[(n * 37 + k * 101) % 251 for k in range(40)] for n in range(25)]
    waiting = {n: async_def(sorts, given) for n, given in enumerate(numbers)}
    results: dict[int, list[int]] = {}
    while waiting:
        for n, coro in list(waiting.items()):
            try:
                coro.send(None)
            except StopIteration as end:
                results[n] = end.value
                del waiting[n]
    assert all(results[n] == sorted(given) for n, given in enumerate(numbers))


def test_a_ctypes_callback_finds_its_pointers_where_they_were() -> None:
    """A pointer to a C local, handed out before the wait, is read after it."""

    def f() -> list[int]:
        seen: list[int] = []

        def compare(a: Any, b: Any) -> int:
            before = (ctypes.addressof(a.contents), a[0], ctypes.addressof(b.contents), b[0])
            await_(suspend())
            after = (ctypes.addressof(a.contents), a[0], ctypes.addressof(b.contents), b[0])
            assert before == after
            seen.append(a[0])
            return a[0] - b[0]

        array = (ctypes.c_int * 8)(*range(8, 0, -1))
        libc().qsort(array, 8, ctypes.sizeof(ctypes.c_int), compare_type()(compare))
        assert list(array) == list(range(1, 9))
        return seen

    coros = [async_def(f) for _ in range(10)]
    done = 0
    while done < len(coros):
        done = 0
        for coro in coros:
            if coro.cr_frame is None:
                done += 1
                continue
            try:
                coro.send(None)
            except StopIteration as end:
                assert end.value


def test_closing_with_c_code_on_the_stack() -> None:
    """ctypes cannot pass an exception on: it reports it and the sort goes on."""
    reported: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda u: reported.append(u.exc_type)
    try:
        coro = async_def(sorts, [3, 2, 1])
        coro.send(None)
        # The comparator after the swallowed one waits again, so closing is refused.
        with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
            coro.close()
        assert reported == [GeneratorExit]
        while coro.cr_frame is not None:
            try:
                coro.send(None)
            except StopIteration as end:
                assert len(end.value) == 3
    finally:
        sys.unraisablehook = hook


def test_callbacks_of_the_standard_librarys_c_modules() -> None:
    def in_re() -> str:
        return re.sub("a", lambda match: await_(suspend("b")), "banana")

    def in_json() -> object:
        return json.loads('[{"a": 1}, {"a": 2}]', object_hook=lambda d: await_(suspend(d["a"])))

    def in_expat() -> list[object]:
        seen: list[object] = []
        parser = xml.parsers.expat.ParserCreate()
        parser.StartElementHandler = lambda name, attrs: seen.append(await_(suspend(name)))
        parser.Parse("<a><b/><c/></a>", True)
        return seen

    def in_sqlite() -> list[object]:
        connection = sqlite3.connect(":memory:")
        connection.create_function("wait", 1, lambda x: await_(suspend(x * 2)))
        connection.create_collation("waiting", lambda a, b: await_(suspend((a > b) - (a < b))))
        try:
            rows = connection.execute(
                "select wait(column1) from (values ('a'), ('c'), ('b'))"
                " order by column1 collate waiting"
            )
            return [row[0] for row in rows]
        finally:
            connection.close()

    def in_sort() -> list[int]:
        return sorted([3, 1, 2], key=lambda n: await_(suspend(n)))

    functions = [in_re, in_json, in_expat, in_sqlite, in_sort]
    expected = ["bbnbnb", [1, 2], ["a", "b", "c"], ["aa", "bb", "cc"], [1, 2, 3]]
    waiting = {fn: (async_def(fn), None) for fn in functions}
    results: dict[Any, object] = {}
    # Interleaved: each suspends inside its C code while the others run theirs.
    while waiting:
        for fn, (coro, answer) in list(waiting.items()):
            try:
                waiting[fn] = coro, coro.send(answer)
            except StopIteration as end:
                results[fn] = end.value
                del waiting[fn]
    assert [results[fn] for fn in functions] == expected


def test_floating_point_modes_stay_with_their_stack() -> None:
    """A rounding mode set inside must not leak to the driver, nor the reverse."""
    libm = ctypes.CDLL("libm.so.6") if sys.platform.startswith("linux") else None
    if libm is None:
        pytest.skip("needs libm's fesetround by name")
    nearest = libm.fegetround()
    # FE_UPWARD of the two architectures whose switch is written by hand.
    upward = {"x86_64": 0x800, "aarch64": 0x400000}.get(platform.machine())
    if upward is None:
        pytest.skip("FE_UPWARD of this machine is not known here")

    def f() -> int:
        assert libm.fesetround(upward) == 0
        await_(suspend())
        return libm.fegetround()

    coro = async_def(f)
    coro.send(None)
    assert libm.fegetround() == nearest
    with pytest.raises(StopIteration) as end:
        coro.send(None)
    assert end.value.value == upward
    assert libm.fegetround() == nearest
    # The next function, most likely on the same stack, begins with the caller's.
    assert finish(async_def(libm.fegetround)) == nearest
