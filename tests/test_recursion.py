"""Deep recursion on a green stack ends as it does on the thread's own stack.

A stack too small, or a recursion limit not carried over a switch, turns each of
these into a segmentation fault, so each runs in an interpreter of its own.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hand_driver import finish, suspend

from verdigris import async_def, await_

KINDS = [
    "pure_python",
    "through_sorted",
    "through_map",
    "through_getattr",
    "through_repr",
    "through_eq",
    "through_new",
    "through_hash",
    "through_partial",
    "through_import_machinery",
    "through_lru_cache",
    "through_property",
    "through_format",
    "through_instance_check",
    "through_reduce",
    "through_json_default",
    "through_re_sub",
    "through_ctypes_callback",
    "repr_of_nested_lists",
    "compare_nested_lists",
    "json_dumps",
    "json_loads",
    "pickle_dumps",
    "pickle_loads",
    "marshal_dumps",
    "deepcopy",
    "re_compile",
    "ast_parse_parentheses",
    "ast_parse_operators",
    "compile_attributes",
    "literal_eval_nested",
    "isinstance_nested",
    "generators",
    "coroutines",
    "await_in_coroutines",
    "async_def_for_ever",
    "async_def_for_ever_by_hand",
]
GREEN_ONLY = {"await_in_coroutines", "async_def_for_ever", "async_def_for_ever_by_hand"}


@pytest.mark.parametrize("kind", KINDS)
def test_ends_as_on_the_threads_own_stack(python: Any, kind: str) -> None:
    native, green = python("recursion.py", kind).stdout.split("\n")[:2]
    if kind in GREEN_ONLY:
        assert green == "RecursionError"
    else:
        # The stacks differ in size, so which limit comes first may differ too.
        assert green in (native, "RecursionError")


def test_the_limit_in_force_is_the_interpreters(python: Any) -> None:
    python(
        """
        import sys
        from hand_driver import finish
        from verdigris import async_def

        def depth_left(depth=0):
            try:
                return depth_left(depth + 1)
            except RecursionError:
                return depth

        for limit in (200, 1000, 3000):
            sys.setrecursionlimit(limit)
            green = finish(async_def(depth_left))
            assert abs(green - depth_left()) < 50, (limit, green, depth_left())
        """
    )


def depth_left(depth: int = 0) -> int:
    try:
        return depth_left(depth + 1)
    except RecursionError:
        return depth


def recurse(depth: int, tags: int) -> int:
    if depth:
        return 1 + recurse(depth - 1, tags)
    for tag in range(tags):
        await_(suspend(tag))
    return 0


def test_waiting_deep_down_costs_the_driver_none_of_its_depth() -> None:
    before = depth_left()
    coros = [async_def(recurse, 300, 2) for _ in range(20)]
    for coro in coros:
        assert coro.send(None) == 0
        assert depth_left() == before
    for coro in coros[:5]:
        assert coro.send(None) == 1
        with pytest.raises(StopIteration) as end:
            coro.send(None)
        assert end.value.value == 300
        assert depth_left() == before
    for coro in coros[5:10]:
        coro.close()
    for coro in coros[10:15]:
        with pytest.raises(KeyError):
            coro.throw(KeyError())
    del coro, coros
    assert depth_left() == before


def test_a_function_resumed_from_another_depth_keeps_its_own() -> None:
    def f() -> tuple[int, int]:
        before = depth_left()
        await_(suspend())
        return before, depth_left()

    def resume_at(coro: Any, depth: int) -> Any:
        if depth:
            return resume_at(coro, depth - 1)
        return finish(coro)

    coro = async_def(f)
    coro.send(None)
    limit = sys.getrecursionlimit()
    before, after = resume_at(coro, 200)
    # It may share the driver's budget or own one, but must never exceed the limit.
    assert 0 < after <= limit and before - 250 <= after <= before + 250


def test_a_recursion_error_deep_down_can_be_caught_and_waited_on() -> None:
    def endless() -> None:
        endless()

    def f() -> object:
        try:
            endless()
        except RecursionError:
            return await_(suspend("caught"))
        return "never"

    assert finish(async_def(f), answer=lambda tag: tag) == "caught"


def test_deeply_nested_objects_are_freed_on_a_green_stack(python: Any) -> None:
    """The trashcan's nesting belongs to the stack it happens on."""
    python(
        """
        from hand_driver import suspend, finish
        from verdigris import async_def, await_

        class Node:
            alive = 0
            def __init__(self, child):
                self.child = child
                Node.alive += 1
            def __del__(self):
                Node.alive -= 1

        def chain():
            node = None
            for _ in range(200_000):
                node = Node(node)
            return node

        def nested_tuples():
            nested = ()
            for _ in range(200_000):
                nested = (nested,)
            return nested

        def f():
            for _ in range(3):
                node, nested = chain(), nested_tuples()
                await_(suspend())
                del node, nested
                assert Node.alive == 0, Node.alive
                await_(suspend())

        finish(async_def(f))
        node = chain()
        del node
        assert Node.alive == 0
        """
    )
