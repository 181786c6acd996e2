"""Native code that uses more stack than there is hits the guard page.

That is a SIGSEGV, as on the thread's own stack, and never a write into the
neighbouring stack. Run by tests/test_stacks.py.
"""

import ctypes

from hand_driver import suspend

from verdigris import async_def, await_

REG_EXTENDED = 1


def neighbour(n):
    return await_(suspend()), n


def native_recursion():
    """The C library parses a regular expression with one call a parenthesis.

    CPython's own limits do not see it, so only the guard page can stop it.
    """
    compiled = ctypes.create_string_buffer(4096)
    ctypes.CDLL(None).regcomp(compiled, b"(" * 1_000_000, REG_EXTENDED)


held = [async_def(neighbour, n) for n in range(20)]
for coro in held:
    coro.send(None)
print("before", flush=True)
async_def(native_recursion).send(None)
print("never", flush=True)
