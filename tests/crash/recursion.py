"""One kind of endless recursion, natively and then in a green function.

Prints the two outcomes, one a line. Afterwards the loop must still work and the
recursion budget must be what it was. Run by tests/test_recursion.py.
"""

import ast
import asyncio
import copy
import ctypes
import functools
import json
import marshal
import pickle
import re
import sys

from verdigris import async_def, await_

DEEP = 100_000


def pure_python():
    pure_python()


def through_sorted(_=None):
    sorted([1, 2], key=through_sorted)


def through_map(_=None):
    list(map(through_map, [1]))


def through_getattr():
    class Endless:
        def __getattr__(self, name):
            return getattr(self, name + "x" if len(name) < 9 else "x")

    return Endless().x


def through_repr():
    class Endless:
        def __repr__(self):
            return repr([self])

    repr(Endless())


def through_eq():
    class Endless:
        def __eq__(self, other):
            return [self] == [other]

        __hash__ = None

    return Endless() == Endless()


def through_new():
    class Endless:
        def __init__(self):
            type(self)()

    Endless()


def through_hash():
    class Endless:
        def __hash__(self):
            return hash((self,))

    hash(Endless())


def through_partial():
    functools.partial(through_partial)()


def through_import_machinery():
    exec("through_import_machinery()", globals())


@functools.lru_cache(maxsize=0)
def through_lru_cache():
    through_lru_cache()


def through_property():
    class Endless:
        @property
        def x(self):
            return self.x

    Endless().x  # noqa: B018


def through_format():
    class Endless:
        def __format__(self, spec):
            return f"{self}"

    f"{Endless()}"


def through_instance_check():
    class Endless(type):
        def __instancecheck__(cls, instance):
            return isinstance(instance, (str, cls))

    isinstance(3, Endless("Endless", (), {}))


def through_reduce():
    functools.reduce(lambda a, b: through_reduce(), [1, 2])


def through_json_default():
    json.dumps(object(), default=lambda _: through_json_default())


def through_re_sub():
    re.sub("a", lambda _: through_re_sub(), "a")


def through_ctypes_callback():
    """ctypes can't pass an exception on; it reports it, and the sort goes on."""
    pointer = ctypes.POINTER(ctypes.c_int)
    array = (ctypes.c_int * 2)(1, 2)
    compare = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)(
        lambda a, b: through_ctypes_callback() or 0
    )
    ctypes.CDLL(None).qsort(array, 2, ctypes.sizeof(ctypes.c_int), compare)


def nested_list():
    nested = []
    for _ in range(DEEP):
        nested = [nested]
    return nested


def repr_of_nested_lists():
    repr(nested_list())


def compare_nested_lists():
    return nested_list() == nested_list()


def json_dumps():
    json.dumps(nested_list())


def json_loads():
    json.loads("[" * DEEP + "]" * DEEP)


def pickle_dumps():
    pickle.dumps(nested_list())


def pickle_loads():
    pickle.loads(b"(" * DEEP + b"t" * DEEP + b".")


def marshal_dumps():
    marshal.dumps(nested_list())


def deepcopy():
    copy.deepcopy(nested_list())


def re_compile():
    re.compile("(" * DEEP + ")" * DEEP)


def ast_parse_parentheses():
    ast.parse("(" * 150 + ")" * 150)
    ast.parse("(" * DEEP + ")" * DEEP)


def ast_parse_operators():
    ast.parse("-" * DEEP + "1")


def compile_attributes():
    compile("a" + ".b" * DEEP, "deep", "eval")


def literal_eval_nested():
    ast.literal_eval("[" * DEEP + "]" * DEEP)


def isinstance_nested():
    nested = int
    for _ in range(DEEP):
        nested = (nested,)
    isinstance("", nested)


def generators():
    def nest(inner):
        yield from inner

    # Not DEEP: CPython 3.11 itself cannot free 100,000 nested generators.
    inner = iter([1])
    for _ in range(3_000):
        inner = nest(inner)
    list(inner)


def coroutines():
    async def nest(depth):
        await nest(depth + 1)

    nest(0).send(None)


def await_in_coroutines():
    async def nest():
        up()

    def up():
        await_(nest())

    up()


def async_def_for_ever():
    async_def(async_def_for_ever_inside).send(None)


def async_def_for_ever_inside():
    await_(async_def(async_def_for_ever_inside))


def async_def_for_ever_by_hand():
    async_def(async_def_for_ever_by_hand).send(None)


# Without a green function around them there is nowhere to wait.
GREEN_ONLY = {"await_in_coroutines"}

ENDINGS = (RecursionError, MemoryError, SyntaxError)


def outcome(fn):
    try:
        fn()
    except ENDINGS as error:
        return type(error).__name__
    except Exception as error:  # a module's own error type is an orderly end too
        return f"{type(error).__name__}: {str(error)[:80]}"
    return "returned"


def depth_left(depth=0):
    """How many more Python calls fit."""
    try:
        return depth_left(depth + 1)
    except RecursionError:
        return depth


def main(kind):
    sys.unraisablehook = lambda unraisable: None
    fn = globals()[kind]
    print("-" if kind in GREEN_ONLY else outcome(fn))

    def green():
        before = depth_left()
        first = outcome(fn)
        await_(asyncio.sleep(0))
        second = outcome(fn)
        await_(asyncio.sleep(0))
        return first, second, before, depth_left()

    async def run():
        before = depth_left()
        first, second, inside_before, inside_after = await async_def(green)
        await asyncio.sleep(0)
        assert abs(inside_before - inside_after) <= 2, (inside_before, inside_after)
        assert before == depth_left(), "the driver's budget changed"
        assert first == second, (first, second)
        print(first)
        assert await async_def(lambda: await_(asyncio.sleep(0, "works"))) == "works"

    asyncio.run(run())


if __name__ == "__main__":
    main(sys.argv[1])
