"""Native code that uses more stack than there is hits the guard page.

That is a SIGSEGV, as on the thread's own stack, and never a write into the
neighbouring stack. Run by tests/test_stacks.py.
"""

import ctypes
import sys

from hand_driver import suspend

from verdigris import async_def, await_


def neighbour(n):
    return await_(suspend()), n


def main():
    held = [async_def(neighbour, n) for n in range(20)]
    for coro in held:
        coro.send(None)

    # A comparator that sorts again from inside: endless, and unseen by CPython's limit.
    libc = ctypes.CDLL(None)
    compare_type = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
    )
    sys.setrecursionlimit(10**9)

    @compare_type
    def compare(a, b):
        numbers = (ctypes.c_int * 2)(2, 1)
        libc.qsort(numbers, 2, ctypes.sizeof(ctypes.c_int), compare)
        return 0

    print("before", flush=True)
    async_def(lambda: compare(ctypes.c_int(1), ctypes.c_int(2))).send(None)
    print("never", flush=True)


main()
