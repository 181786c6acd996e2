"""The benchmark of both worlds: `make bench-worlds` runs this.

What it costs to call a blocking function from async code, an async one from blocking code, and many
of either at once: verdigris beside asyncio's own means, anyio, asgiref and a_sync, in one process,
in turns. Prints a table; a run in full keeps its results in `benchmarks/results/worlds.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib.metadata
import importlib.util
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import report
import results
from measure import NATIVE, Case, Contender, Settings, Target, time_case, with_own_code

import verdigris

OURS, GREEN = "verdigris", "verdigris, green"
TO_THREAD, RUN = "asyncio.to_thread", "asyncio.run"
ROWS = ("thread", "block", "portal", "parallel", "calls")
DISTRIBUTIONS = ("verdigris", "a_sync", "asgiref", "anyio")

# How many calls are made together.
WAITING, TRIVIAL = 1000, 10_000
PAUSE = 0.05


@dataclass(frozen=True)
class WorldsDocument(results.Document):
    """The results of this benchmark."""

    @property
    def name(self) -> str:
        return "worlds" if super().name == "latest" else f"worlds-{super().name}"


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def nothing() -> None:
    pass


async def no_wait() -> None:
    pass


async def one_step() -> None:
    await asyncio.sleep(0)


# --- how each is timed -------------------------------------------------------


def awaited(call: Callable[[], Awaitable[object]]) -> Callable[[int], Any]:
    """Awaits `call()` so many times."""

    async def timed(count: int) -> int:
        start = perf_counter_ns()
        for _ in range(count):
            await call()
        return perf_counter_ns() - start

    return with_own_code(timed)


def in_a_thread(call: Callable[[], object]) -> Callable[[int], Any]:
    """Calls `call()` so many times, in a thread that has no loop."""

    async def timed(count: int) -> int:
        taken = 0

        def body() -> None:
            nonlocal taken
            call()  # what is made once for a thread
            start = perf_counter_ns()
            for _ in range(count):
                call()
            taken = perf_counter_ns() - start

        thread = threading.Thread(target=body)
        thread.start()
        await asyncio.to_thread(thread.join)
        return taken

    return timed


def with_portal(call: Callable[[], object]) -> Callable[[int], Any]:
    """Calls `call()` so many times, in a task that has a portal."""

    async def timed(count: int) -> int:
        await verdigris.ensure_portal()
        return loop(count)

    def loop(count: int) -> int:
        start = perf_counter_ns()
        for _ in range(count):
            call()
        return perf_counter_ns() - start

    return timed


# --- the rows ----------------------------------------------------------------


def thread() -> Iterator[Case]:
    contenders = [
        Contender(TO_THREAD, awaited(lambda: asyncio.to_thread(nothing))),
        Contender(OURS, awaited(verdigris.to_async(nothing))),
        Contender(GREEN, awaited(verdigris.to_async(nothing, where="green"))),
    ]
    if has("asgiref"):
        from asgiref.sync import sync_to_async

        # Otherwise all calls share one thread.
        made = sync_to_async(nothing, thread_sensitive=False)
        contenders.append(Contender("asgiref", awaited(made)))
    if has("anyio"):
        import anyio.to_thread

        run_sync = anyio.to_thread.run_sync
        contenders.append(Contender("anyio", awaited(lambda: run_sync(nothing))))
    if has("a_sync"):
        import a_sync

        contenders.append(Contender("a_sync", awaited(a_sync.to_async(nothing))))
    yield Case(
        "thread",
        "a blocking function from async code: await to_async(nothing)()",
        contenders,
        TO_THREAD,
        [
            Target(OURS, "asgiref", "at least", 1.5),
            Target(OURS, TO_THREAD, "at most", 1.0),
            Target(GREEN, "asgiref", "at least", 100),
        ],
    )


def block() -> Iterator[Case]:
    for function, title in ((no_wait, "which does not wait"), (one_step, "one step of the loop")):
        contenders = [
            Contender(RUN, in_a_thread(lambda function=function: asyncio.run(function()))),
            Contender(OURS, in_a_thread(functools.partial(verdigris.block, function))),
        ]
        if has("asgiref"):
            from asgiref.sync import async_to_sync

            contenders.append(Contender("asgiref", in_a_thread(async_to_sync(function))))
        if has("a_sync"):
            import a_sync

            blocking = a_sync.to_blocking(function)
            contenders.append(Contender("a_sync", in_a_thread(blocking)))
        targets = [Target(OURS, RUN, "at least", 10)]
        yield Case(
            "block", f"an async function, {title}, in a plain thread", contenders, RUN, targets
        )


def portal() -> Iterator[Case]:
    for function, title in ((no_wait, "which does not wait"), (one_step, "one step of the loop")):
        blocking = verdigris.to_blocking(function)
        contenders = [
            Contender(NATIVE, awaited(function)),
            Contender(OURS, with_portal(functools.partial(verdigris.block, function))),
            Contender("to_blocking", with_portal(blocking)),
        ]
        targets = [Target(OURS, NATIVE, "at most", 1.3)]
        yield Case(
            "portal",
            f"an async function, {title}, in a task with a portal",
            contenders,
            NATIVE,
            targets,
        )


def together(count: int, function: Callable[..., Any], *args: Any) -> list[Contender]:
    """The same call many times at once."""

    def gathered(call: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        return lambda: asyncio.gather(*(call() for _ in range(count)))

    def scheduled(runner: Any) -> Any:
        for _ in range(count):
            runner.schedule(function, *args)
        return runner

    contenders = [
        Contender(TO_THREAD, awaited(gathered(lambda: asyncio.to_thread(function, *args)))),
        Contender(OURS, awaited(scheduled(verdigris.Parallel()).run)),
    ]
    if has("asgiref"):
        from asgiref.sync import sync_to_async

        made = sync_to_async(function, thread_sensitive=False)
        contenders.append(Contender("asgiref", awaited(gathered(lambda: made(*args)))))
    if has("a_sync"):
        import a_sync

        contenders.append(Contender("a_sync", awaited(scheduled(a_sync.Parallel()).run)))
    return contenders


def parallel() -> Iterator[Case]:
    yield Case(
        "parallel",
        f"{WAITING:,} blocking calls of {PAUSE * 1000:g} ms at once",
        together(WAITING, time.sleep, PAUSE),
        TO_THREAD,
        [Target(OURS, "a_sync", "at least", 4)],
    )


def calls() -> Iterator[Case]:
    yield Case(
        "calls",
        f"{TRIVIAL:,} trivial calls at once",
        together(TRIVIAL, nothing),
        TO_THREAD,
        [Target(OURS, "a_sync", "at most", 1.0), Target(OURS, "asgiref", "at most", 1.0)],
    )


CASES: dict[str, Callable[[], Iterator[Case]]] = {
    "thread": thread,
    "block": block,
    "portal": portal,
    "parallel": parallel,
    "calls": calls,
}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares what calls between both worlds.")
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument("--rounds", type=int, default=Settings.rounds)
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    settings = Settings(options.rounds)
    versions = {
        name: importlib.metadata.version(name)
        for name in DISTRIBUTIONS
        if has(name.replace("-", "_"))
    }
    missing = {name: "not installed" for name in DISTRIBUTIONS if name not in versions}
    document = WorldsDocument("asyncio", settings, versions, missing)
    print(report.head(document), flush=True)
    for row in options.rows:
        for case in CASES[row]():
            # A turn of these takes seconds, whatever is asked for.
            rounds = min(settings.rounds, 5) if row in ("parallel", "calls") else settings.rounds
            timings = asyncio.run(time_case(case, Settings(rounds)))
            section = results.of_timings(timings)
            document.sections.append(section)
            print(report.section(section), flush=True)
    print(report.summary(document))
    if set(options.rows) == set(ROWS) and settings == Settings():
        print(f"results: {document.write().name}")


if __name__ == "__main__":
    main()
