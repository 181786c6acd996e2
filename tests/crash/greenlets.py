"""Native stacks, raw greenlets, dropped greenlets and collections, mixed by chance.

`greenlets.py FIRST COUNT STEPS` plays COUNT seeds from FIRST on, two threads each. Without the
isolation of greenlet every handful of seeds ends in a segmentation fault.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
import warnings
from typing import Any

import greenlet
from hand_driver import suspend

from verdigris import _engine, async_def, await_


class Play:
    """What one thread does with its functions and greenlets."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.functions: list[Any] = []
        self.greenlets: list[greenlet.greenlet] = []
        self.switches = 0
        self.refused = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            kind = self.random.randrange(10)
            if kind < 3 or not self.functions:
                self.functions.append(async_def(self.body))
            elif kind < 9:
                self.step(self.random.choice(self.functions))
            else:
                self.functions.pop(self.random.randrange(len(self.functions)))
            if len(self.functions) > 30:
                del self.functions[:10]
            if len(self.greenlets) > 40:
                del self.greenlets[:15]
        self.functions.clear()
        self.greenlets.clear()
        gc.collect()

    def body(self, *_: object) -> float:
        for _ in range(self.random.randrange(1, 6)):
            self.act_below(self.random.choice((0, 0, 1, 3, 8)))
            # No name for it in this frame: greenlet can't collect a greenlet that refers to itself.
            if self.random.random() < 0.3 and greenlet.getcurrent().parent is not None:
                self.switch(greenlet.getcurrent().parent)
        if self.random.random() < 0.1:
            raise ZeroDivisionError
        return self.random.random()

    def act_below(self, depth: int) -> Any:
        """Does something with C frames below it."""
        if depth:
            return sorted([0], key=lambda _: self.act_below(depth - 1) or 0)
        return self.act()

    def act(self) -> None:
        kind = self.random.randrange(12)
        if kind < 4:
            assert await_(suspend("tag")) == "answer"
        elif kind < 6:
            child = greenlet.greenlet(self.body)
            self.greenlets.append(child)
            self.switch(child)
        elif kind < 8 and self.greenlets:
            self.switch(self.random.choice(self.greenlets))
        elif kind == 8 and self.greenlets:
            del self.greenlets[self.random.randrange(len(self.greenlets))]
        elif kind == 9:
            gc.collect(self.random.randrange(2))
        elif kind == 10:
            function = async_def(self.body)
            self.functions.append(function)
            if self.random.random() < 0.5:
                self.step(function)
        else:
            self.handle_an_exception(kind)

    def handle_an_exception(self, kind: int) -> None:
        try:
            raise KeyError(kind)
        except KeyError as error:
            cycle: list[Any] = [error]
            cycle.append(cycle)
            if self.random.random() < 0.5:
                await_(suspend("tag"))
            assert sys.exc_info()[1] is error

    def switch(self, target: greenlet.greenlet) -> None:
        try:
            target.switch()
            self.switches += 1
        except greenlet.error:  # it belongs to another stack, or has ended
            self.refused += 1
        except ZeroDivisionError:
            pass

    def step(self, function: Any) -> None:
        try:
            function.send("answer" if function.cr_suspended else None)
        except (StopIteration, ZeroDivisionError):
            if function in self.functions:
                self.functions.remove(function)
        except (ValueError, RuntimeError):
            pass  # it runs already, or has ended
        # Where greenlets carry functions, what a wrong switch leads to is raised here.
        except (greenlet.error, GeneratorExit):
            self.refused += 1


def play(first: int, count: int, steps: int) -> None:
    warnings.simplefilter("ignore")  # functions that nobody starts
    sys.unraisablehook = lambda _: None  # what is raised in greenlets that are dropped
    ended: list[Play] = []

    def thread(seed: int) -> None:
        game = Play(seed)
        game.run(steps)
        ended.append(game)

    for seed in range(first, first + count):
        threads = [threading.Thread(target=thread, args=(seed * 10 + n,)) for n in range(2)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert len(ended) == 2 * count
    assert _engine.isolate_greenlet()
    print(sum(game.switches for game in ended), sum(game.refused for game in ended))


if __name__ == "__main__":
    play(*map(int, sys.argv[1:]))
