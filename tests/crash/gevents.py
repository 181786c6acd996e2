"""Native stacks, gevent's greenlets, kills and collections, mixed by chance.

`gevents.py FIRST COUNT` plays COUNT seeds from FIRST on, and prints how many functions finished and
how often greenlet refused.
"""

from __future__ import annotations

import gc
import random
import sys
import warnings
from typing import Any

import gevent
from greenlet import error
from hand_driver import suspend

from verdigris import NoAwaitContext, _engine, async_def, await_


class Play:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.jobs: list[gevent.Greenlet] = []
        self.finished = 0
        self.refused = 0

    def run(self, steps: int) -> None:
        functions: list[Any] = []
        for _ in range(steps):
            kind = self.random.randrange(8)
            if kind < 3 or not functions:
                functions.append(async_def(self.body))
            elif kind < 6:
                self.step(functions, self.random.randrange(len(functions)))
            elif kind == 6:
                self.act(3)
            else:
                functions.pop(self.random.randrange(len(functions)))
        functions.clear()
        self.jobs.clear()
        gc.collect()

    def step(self, functions: list[Any], index: int) -> None:
        try:
            functions[index].send(None)
        except StopIteration:
            self.finished += 1
            functions.pop(index)

    def body(self, depth: int = 0) -> None:
        for _ in range(self.random.randrange(1, 6)):
            self.act(depth)

    def act(self, depth: int) -> None:
        kind = self.random.randrange(7)
        try:
            if kind == 0:
                gevent.sleep(0)
            elif kind == 1:
                await_(suspend())
            elif kind == 2 and depth < 3:
                self.jobs.append(gevent.spawn(self.body, depth + 1))
            elif kind == 3 and depth < 3:
                gevent.spawn(self.body, depth + 1).get()
            elif kind == 4 and self.jobs:
                gevent.joinall([self.random.choice(self.jobs)], timeout=0.001)
            elif kind == 5 and self.jobs:
                job = self.jobs.pop(self.random.randrange(len(self.jobs)))
                job.kill(block=self.random.random() < 0.5)
            else:
                gc.collect(0)
        except NoAwaitContext:
            pass  # this greenlet runs on the thread's own stack
        except error as refusal:
            assert "native stack" in refusal.__notes__[0]
            self.refused += 1


warnings.simplefilter("ignore")
finished = refused = 0
for seed in range(int(sys.argv[1]), int(sys.argv[1]) + int(sys.argv[2])):
    gevent.get_hub().destroy(destroy_loop=True)
    if seed % 2:
        gevent.sleep(0)  # the hub is the thread's own; else it is the first function's
    gevent.get_hub().exception_stream = None
    play = Play(seed)
    play.run(200)
    finished += play.finished
    refused += play.refused
assert _engine.stats()["stacks_in_use"] == 0
print(finished, refused)
