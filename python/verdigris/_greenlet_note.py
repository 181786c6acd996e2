"""What greenlet's error about a different thread means where native stacks are."""

from typing import Any

_A_THREAD_MEANS = (
    "To greenlet a thread can be a native stack: verdigris gives one to each function that it "
    "starts, and to each task with a portal. Greenlets, and so gevent's hub, a portal of greenback "
    "or a Playwright, can be used only on the stack where they were first used. See "
    "docs/neighbours.md."
)


def add_to(error: Any) -> None:
    """Has `greenlet.error` carry a note when it speaks of a different thread."""

    def __init__(self: Exception, *args: object) -> None:
        Exception.__init__(self, *args)
        if args and "different thread" in str(args[0]):
            self.add_note(_A_THREAD_MEANS)

    error.__init__ = __init__
