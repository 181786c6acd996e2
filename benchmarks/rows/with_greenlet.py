"""A switch to a function's stack and back, by hand, beside the extension greenlet.

Where greenlet is loaded, each switch exchanges its state of the thread too. The contenders can't
share a process, and work in processes of their own, in turns as everywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from measure import Case, Contender, Target
from peers import OURS, Peer
from worker import SETTINGS

WORKER = Path(__file__).resolve().parent.parent / "worker.py"
ALONE, LOADED, USED, ON_GREENLETS = SETTINGS


def _in_a_process(setting: str) -> Callable[[int], Coroutine[Any, Any, int]]:
    environment = dict(os.environ)
    if setting == ON_GREENLETS:
        environment["VERDIGRIS_ENGINE"] = "greenlet"
    worker = subprocess.Popen(
        [sys.executable, WORKER, setting],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert worker.stdin is not None and worker.stdout is not None
    ask, answers = worker.stdin, worker.stdout

    async def timed(count: int) -> int:
        # The loop has nothing else to do.
        print(count, file=ask, flush=True)
        return int(answers.readline())

    return timed


def cases(peers: list[Peer]) -> list[Case]:
    if not any(peer.name == OURS for peer in peers):
        return []
    return [
        Case(
            row="greenlet",
            title="a switch there and back by hand, and greenlet",
            contenders=[Contender(setting, _in_a_process(setting)) for setting in SETTINGS],
            baseline=ALONE,
            targets=[Target(LOADED, ALONE, "at most", 1.05)],
        )
    ]
