"""The blocking modules of the stdlib, cooperative where that is possible.

`verdigris.green.socket` is `socket` with the same names, classes and errors. In a function that
runs on a stack of verdigris, its waits suspend that function and leave the event loop free.
Everywhere else, in a plain coroutine, in an executor's thread, without any loop, it does exactly
what the stdlib's does.
"""

from verdigris.green import _at_exit as _at_exit  # when the interpreter ends
