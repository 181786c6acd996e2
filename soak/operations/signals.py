"""Signals: handlers that record, and handlers that raise into whatever runs."""

from __future__ import annotations

import itertools
import signal
import threading
from types import FrameType
from typing import Any

from model import Failure
from program import Node
from world import Expected

from operations.operation import Operation
from verdigris import await_

recorded = 0
alarms = itertools.count()
to_raise: list[int] = []


def record(number: int, frame: FrameType | None) -> None:
    global recorded
    recorded += 1


def raise_expected(number: int, frame: FrameType | None) -> None:
    raise Expected(to_raise.pop())


def alarm(number: int, frame: FrameType | None) -> None:
    next(alarms)


stopped = threading.Event()


def install(every: float = 0.007) -> None:
    """Sets the handlers, and has an alarm interrupt whatever the main thread runs, again and again.

    A timer's signal may come on any thread. CPython's handler there would write to a descriptor
    that the main thread closes just then, with its loop, and that another file may have by now.
    """
    signal.signal(signal.SIGUSR1, record)
    signal.signal(signal.SIGUSR2, raise_expected)
    signal.signal(signal.SIGALRM, alarm)

    def interrupt() -> None:
        while not stopped.wait(every):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    threading.Thread(target=interrupt, daemon=True).start()


def stop() -> None:
    """No more alarms."""
    stopped.set()


class Recorded(Operation):
    name = "signal"
    weight = 0.2
    on_os_threads = False
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append("recorded")
        return 0

    def run(self, node: Node, world: Any) -> int:
        before = recorded
        signal.raise_signal(signal.SIGUSR1)
        await_(world.loop.checkpoint(0))
        world.trail.append("recorded" if recorded > before else "not recorded")
        return 0


class Raising(Operation):
    name = "signal that raises"
    weight = 0.1
    on_os_threads = False
    cancellable = True

    def expect(self, node: Node, model: Any) -> int:
        model.raise_(Failure(node.tag))

    def run(self, node: Node, world: Any) -> int:
        to_raise.append(node.tag)
        signal.raise_signal(signal.SIGUSR2)
        raise AssertionError("the handler has not raised")


OPERATIONS = [Recorded, Raising]
