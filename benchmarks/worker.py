"""A contender in a process of its own: `worker.py SETTING`.

For what a process can't have both ways at once: greenlet loaded or not, this engine or that one.
Reads counts, a line each; does its work that often and prints the nanoseconds. Started by
`rows/with_greenlet.py`, which measures several in turns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from types import coroutine

SETTINGS = ("alone", "greenlet loaded", "greenlet used", "engine on greenlets")


@coroutine
def _suspend() -> Generator[None, None, None]:
    yield


def main(setting: str) -> None:
    if setting not in ("alone", "engine on greenlets"):
        import greenlet
    from peers import OURS, load
    from work import driving, waiting

    peer = load(OURS)
    timed = waiting(peer.wait, _suspend)
    work: Callable[[int], int] = timed
    if setting == "greenlet used":

        def in_a_greenlet(count: int) -> int:
            spent: int = greenlet.greenlet(timed).switch(count)
            return spent

        work = in_a_greenlet
    for line in sys.stdin:
        print(driving(peer.enter(work, int(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
