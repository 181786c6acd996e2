"""Random programs against a model of what must come out.

A program is a tree of steps: wait, raise, catch, clean up, go down into a
coroutine, a nested function, a generator, a context, collect garbage. The same
tree is run natively (`async def` all the way) and green (functions that call
`await_`, on one or many stacks), by a driver that interleaves several of them,
throws into some and closes others. What each logs, returns and raises must be
the same, step by step. A failing seed is printed and repeats itself.
"""

from __future__ import annotations

import contextvars
import gc
import random
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from hand_driver import suspend

from verdigris import _engine, async_def, await_

SEEDS = 400

level: contextvars.ContextVar[int] = contextvars.ContextVar("level", default=0)


class Expected(Exception):
    """What the programs raise and the driver throws."""


@dataclass
class Step:
    kind: str
    tag: int
    children: list[Step] = field(default_factory=list)


KINDS = {
    # kind: (weight, has children)
    "wait": (6, False),
    "log exc_info": (2, False),
    "raise": (1, False),
    "collect": (0.3, False),
    "catch": (2, True),
    "finally": (2, True),
    "handle": (2, True),
    "coroutine": (2, True),
    "function": (2, True),
    "loop": (1, True),
    "context": (1, True),
    "recurse": (1, True),
}


def program(rng: random.Random, depth: int = 0) -> list[Step]:
    kinds = [kind for kind, (_, children) in KINDS.items() if depth < 5 or not children]
    weights = [KINDS[kind][0] for kind in kinds]
    steps = []
    for kind in rng.choices(kinds, weights, k=rng.randint(1, 4)):
        children = program(rng, depth + 1) if KINDS[kind][1] else []
        steps.append(Step(kind, rng.randrange(1000), children))
    return steps


Log = list[object]


# Whether the step that runs now was begun by `throw`. CPython then leaves out the
# handlers of the coroutines in between, so there is nothing to compare.
thrown_into = False


def handled() -> str:
    return "unknown" if thrown_into else repr(sys.exc_info()[1])


def described(error: BaseException) -> tuple[str, ...]:
    """With what it was raised under, unless that was during a throw.

    CPython also overwrites the `__context__` of the thrown exception itself at every
    coroutine that handles one; a green stack has only the innermost.
    """
    return (repr(error),) if thrown_into else (repr(error), repr(error.__context__))


# --- natively: the model -----------------------------------------------------


async def native(steps: list[Step], log: Log) -> int:
    total = 0
    for step in steps:
        log.append((step.kind, step.tag))
        match step.kind:
            case "wait":
                answer = await suspend(step.tag)
                log.append(("answer", answer))
                total += answer
            case "log exc_info":
                log.append(handled())
            case "raise":
                raise Expected(step.tag)
            case "collect":
                gc.collect(0)
            case "catch":
                try:
                    total += await native(step.children, log)
                except Expected as error:
                    log.append(("caught", *described(error)))
            case "finally":
                try:
                    total += await native(step.children, log)
                finally:
                    log.append(("finally", handled()))
            case "handle":
                try:
                    raise Expected(step.tag)
                except Expected:
                    total += await native(step.children, log)
                    log.append(handled())
            case "coroutine" | "function" | "recurse":
                total += await native(step.children, log)
            case "loop":
                for _ in range(2):
                    total += await native(step.children, log)
            case "context":
                before = level.set(level.get() + 1)
                try:
                    total += await native(step.children, log)
                    log.append(("level", level.get()))
                finally:
                    level.reset(before)
    return total


# --- the same, green ---------------------------------------------------------


def green(steps: list[Step], log: Log) -> int:
    total = 0
    for step in steps:
        log.append((step.kind, step.tag))
        match step.kind:
            case "wait":
                answer = await_(suspend(step.tag))
                log.append(("answer", answer))
                total += answer
            case "log exc_info":
                log.append(handled())
            case "raise":
                raise Expected(step.tag)
            case "collect":
                gc.collect(0)
            case "catch":
                try:
                    total += green(step.children, log)
                except Expected as error:
                    log.append(("caught", *described(error)))
            case "finally":
                try:
                    total += green(step.children, log)
                finally:
                    log.append(("finally", handled()))
            case "handle":
                try:
                    raise Expected(step.tag)
                except Expected:
                    total += green(step.children, log)
                    log.append(handled())
            case "coroutine":
                total += await_(coroutine(step.children, log))
            case "function":
                total += await_(async_def(green, step.children, log))
            case "recurse":
                total += recurse(step.children, log, step.tag % 30)
            case "loop":
                for subtotal in generator(step.children, log):
                    total += subtotal
            case "context":
                # Natively `set` and `reset`; here a context open on the stack.
                total += contextvars.copy_context().run(in_context, step.children, log)
    return total


async def coroutine(steps: list[Step], log: Log) -> int:
    """Half of the way down by `await`, half by a plain call."""
    middle = len(steps) // 2
    first = await native_or_green(steps[:middle], log)
    return first + green(steps[middle:], log)


async def native_or_green(steps: list[Step], log: Log) -> int:
    return await async_def(green, steps, log)


def recurse(steps: list[Step], log: Log, depth: int) -> int:
    return recurse(steps, log, depth - 1) if depth else green(steps, log)


def generator(steps: list[Step], log: Log) -> Any:
    for _ in range(2):
        yield green(steps, log)


def in_context(steps: list[Step], log: Log) -> int:
    level.set(level.get() + 1)
    total = green(steps, log)
    log.append(("level", level.get()))
    return total


# --- the driver --------------------------------------------------------------


def drive(make: Any, seed: int, trees: list[list[Step]]) -> list[Log]:
    """Interleave all trees; every choice is a function of the seed alone."""
    global thrown_into
    rng = random.Random(seed)
    logs: list[Log] = [[] for _ in trees]
    running = {n: make(tree, logs[n]) for n, tree in enumerate(trees)}
    started: set[int] = set()
    contexts = {n: contextvars.copy_context() for n in running}
    while running:
        n = rng.choice(sorted(running))
        coro, log = running[n], logs[n]
        action = rng.choices(["send", "throw", "close", "drop"], [20, 2, 0.7, 0.3])[0]
        answer = rng.randrange(100) if n in started else None
        started.add(n)
        thrown_into = action == "throw"
        # Without knowledge of the thread state a function that handles an exception itself goes
        # back, when it has done so, to what its driver handled when that began.
        under_handler = rng.random() < 0.3 if _engine.knows_thread_state else n % 3 == 0
        try:
            if action == "drop":
                # It is unwound in its context, as all its steps were.
                del coro
                contexts[n].run(running.__delitem__, n)
                log.append("dropped")
                continue
            if under_handler:
                try:
                    raise LookupError(n)
                except LookupError:
                    yielded = contexts[n].run(act, coro, action, answer)
            else:
                yielded = contexts[n].run(act, coro, action, answer)
            log.append(("yielded", yielded))
            if action == "close":
                del running[n]
        except StopIteration as end:
            log.append(("returned", end.value))
            del running[n]
        except (Expected, RuntimeError) as error:
            log.append(("raised", *described(error)))
            del running[n]
        log.append(("driver handles", handled()))
    return logs


def act(coro: Any, action: str, answer: object) -> object:
    if action == "throw":
        return coro.throw(Expected("thrown"))
    if action == "close":
        return coro.close() or "closed"
    return coro.send(answer)


@pytest.mark.parametrize("block", range(8))
def test_random_programs_do_what_native_code_does(block: int) -> None:
    leaked = _engine.stats()["stacks_leaked"]
    for seed in range(block * SEEDS // 8, (block + 1) * SEEDS // 8):
        rng = random.Random(seed)
        trees = [program(rng) for _ in range(rng.randint(1, 6))]
        with pytest.MonkeyPatch.context() as patch:
            # Some are dropped before their start, and both kinds would warn.
            patch.setattr("warnings.warn", lambda *args, **kwargs: None)
            expected = drive(native, seed, trees)
            seen = drive(lambda tree, log: async_def(green, tree, log), seed, trees)
        for n, (want, got) in enumerate(zip(expected, seen, strict=True)):
            assert got == want, f"seed {seed}, tree {n}"
    assert _engine.stats()["stacks_leaked"] == leaked
