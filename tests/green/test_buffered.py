"""The buffered files of green functions: the stdlib's, with a lock that knows functions.

What they do in functions is in test_socket.py and test_os.py. These are the methods themselves.
"""

from __future__ import annotations

import gc
import inspect
import io
import weakref
from typing import Any

import pytest

from verdigris._engine import in_turn
from verdigris.green import _buffered

FILES = pytest.mark.parametrize("kind", [io.BufferedReader, io.BufferedWriter, io.BufferedRWPair])


def file_of(kind: type) -> Any:
    raw = io.BytesIO(b"one\ntwo\n")
    return _buffered.GREEN[kind](*([raw, io.BytesIO()] if kind is io.BufferedRWPair else [raw]))


def replaced(green: type) -> list[str]:
    return [name for name, value in vars(green).items() if type(value).__name__ == "InTurn"]


@FILES
def test_each_method_looks_like_that_of_the_stdlib(kind: type) -> None:
    green = _buffered.GREEN[kind]
    assert replaced(green)
    for name in replaced(green):
        ours, theirs = getattr(green, name), getattr(kind, name)
        assert (ours.__name__, ours.__doc__) == (theirs.__name__, theirs.__doc__)
        assert inspect.unwrap(ours) is theirs
        assert f"{name!r}" in repr(ours)


def test_arguments_go_through() -> None:
    file = file_of(io.BufferedReader)
    assert file.readline(2) == b"on"
    assert file.readline() == b"e\n"
    with pytest.raises(TypeError, match="takes no keyword arguments"):
        file.readline(size=1)
    with pytest.raises(TypeError, match="expected"):
        file.readline(1, 2)


def test_a_subclass_may_call_them() -> None:
    class Loud(_buffered.Reader):
        def readline(self, size: Any = -1) -> bytes:
            return super().readline(size).upper()

    assert list(Loud(io.BytesIO(b"one\ntwo\n"))) == [b"ONE\n", b"TWO\n"]  # type: ignore[arg-type]


@FILES
def test_an_object_of_another_class_is_refused(kind: type) -> None:
    green = _buffered.GREEN[kind]
    for name in replaced(green):
        for arguments in ((), (object(),), (io.BytesIO(),)):
            with pytest.raises(TypeError, match="as its first argument"):
                getattr(green, name)(*arguments)


def test_a_lock_that_was_replaced_is_refused() -> None:
    file = file_of(io.BufferedReader)
    file._turn = "mine"
    with pytest.raises(TypeError, match="was replaced"):
        file.read()
    del file._turn
    assert file.read() == b"one\ntwo\n"


def test_an_error_gives_the_turn_to_the_next() -> None:
    file = file_of(io.BufferedReader)
    for _ in range(2):
        with pytest.raises(ValueError, match="read length"):
            file.read(-2)
        assert not file._turn.locked()


def test_a_file_in_a_cycle_is_collected() -> None:
    file = file_of(io.BufferedReader)
    file.readline()
    file.me = file
    gone = weakref.ref(file)
    del file
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "arguments", [(), (len,), (len, "turn"), (len, io.BufferedReader.raw), (len, slice.start)]
)
def test_the_lock_needs_a_slot(arguments: Any) -> None:
    with pytest.raises(TypeError, match=r"in_turn\(\) takes|__slots__"):
        in_turn(*arguments)
