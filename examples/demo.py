"""The demonstration: the echo program three ways, then ten thousand functions that wait at once.

Run by `make demo`. The echo program runs with threads; on asyncio, where only its top and bottom
layers were changed; and unchanged on each loop, by `python -m verdigris`. The last part calls
the same `send_receive_logic` over and over, with an implementation that waits for a gate to open
instead of a server: as verdigris functions, as threads, and as native coroutines. Each kind runs in
a fresh process, so that no kind inherits memory another one has left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import echo_asyncio
import echo_threads
from echo_layers import send_receive_logic

from verdigris import async_def, await_

FUNCTIONS = 10_000
LOOPS = ("asyncio", "uvloop", "trio")


@dataclass(frozen=True)
class Outcome:
    """What one kind of function cost. Memory is None where the kernel does not tell."""

    functions: int
    start_seconds: float
    finish_seconds: float
    bytes_each: int | None


def resident_bytes() -> int | None:
    """The resident memory of this process, exactly.

    `/proc/self/statm` is cheaper but may be off by a batch of pages per CPU since Linux 6.2.
    """
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():
        return None
    found = re.search(r"^Rss:\s+(\d+) kB$", rollup.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{rollup} has no Rss line: measure on a kernel of 4.14 or later")
    return int(found[1]) * 1024


class Stopwatch:
    """Takes time and memory at the three moments that matter: before, all waiting, all done."""

    def __init__(self) -> None:
        gc.collect()
        self._memory = resident_bytes()
        self._start = time.perf_counter()

    def all_waiting(self) -> None:
        self._waiting = time.perf_counter()
        self._peak = resident_bytes()
        self._opened = time.perf_counter()

    def all_done(self, functions: int) -> Outcome:
        done = time.perf_counter()
        each = None
        if self._memory is not None and self._peak is not None:
            each = (self._peak - self._memory) // functions
        return Outcome(functions, self._waiting - self._start, done - self._opened, each)


def unchanged(loop: str) -> str:
    """Runs the program with threads by `python -m verdigris`, and says what came of it."""
    command = [sys.executable, "-m", "verdigris", "--loop", loop, echo_threads.__file__]
    shown = f"python -m verdigris --loop {loop} {Path(echo_threads.__file__).name}"
    if importlib.util.find_spec(loop) is None:
        return f"{shown}: {loop} is not installed"
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    replies = ran.stdout.splitlines()
    return "\n".join([shown, f"  {replies[0]}", f"  ... and {len(replies) - 1} more"])


async def _wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


async def green(count: int) -> Outcome:
    gate = asyncio.Event()
    arrived: list[str] = []

    def implementation(host: str, port: int, message: str) -> str:
        arrived.append(host)
        await_(gate.wait())
        return message

    watch = Stopwatch()
    tasks = [
        asyncio.create_task(async_def(send_receive_logic, "n", "-", 0, implementation))
        for _ in range(count)
    ]
    await _wait_until(lambda: len(arrived) == count)
    watch.all_waiting()
    gate.set()
    await asyncio.gather(*tasks)
    return watch.all_done(count)


async def native(count: int) -> Outcome:
    gate = asyncio.Event()
    arrived: list[str] = []

    async def implementation(host: str, port: int, message: str) -> str:
        arrived.append(host)
        await gate.wait()
        return message

    # The rewrite that verdigris saves: send_receive_logic once more, with async and await.
    async def rewritten_logic(msg: str, host: str, port: int) -> str:
        message = f"message number {msg}\n"
        reply = await implementation(host, port, message)
        if reply != message:
            raise ValueError(f"sent {message!r}, got {reply!r}")
        return reply.rstrip("\n")

    watch = Stopwatch()
    tasks = [asyncio.create_task(rewritten_logic("n", "-", 0)) for _ in range(count)]
    await _wait_until(lambda: len(arrived) == count)
    watch.all_waiting()
    gate.set()
    await asyncio.gather(*tasks)
    return watch.all_done(count)


def threads(count: int) -> Outcome:
    gate = threading.Event()
    arrived: list[str] = []

    def implementation(host: str, port: int, message: str) -> str:
        arrived.append(host)  # list.append is atomic
        gate.wait()
        return message

    watch = Stopwatch()
    started: list[threading.Thread] = []
    for _ in range(count):
        thread = threading.Thread(target=send_receive_logic, args=("n", "-", 0, implementation))
        try:
            thread.start()
        except RuntimeError:
            break  # "can't start new thread": the machine's limit, which the table states
        started.append(thread)
    if not started:
        raise RuntimeError("no thread could be started: raise the limit on processes (ulimit -u)")
    while len(arrived) < len(started):
        time.sleep(0.001)
    watch.all_waiting()
    gate.set()
    for thread in started:
        thread.join()
    return watch.all_done(len(started))


SCENES: dict[str, Callable[[int], Outcome]] = {
    "native coroutines": lambda count: asyncio.run(native(count)),
    "verdigris functions": lambda count: asyncio.run(green(count)),
    "threads": threads,
}


def in_fresh_process(scene: str, count: int) -> Outcome:
    ran = subprocess.run(
        [sys.executable, __file__, "--scene", scene, "--functions", str(count)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    return Outcome(**json.loads(ran.stdout))


def table(outcomes: dict[str, Outcome], asked: int) -> str:
    lines = [f"{'':21}{'at once':>9}{'start all':>12}{'finish all':>12}{'memory each':>13}"]
    for scene, outcome in outcomes.items():
        memory = "unknown" if outcome.bytes_each is None else f"{outcome.bytes_each / 1024:.1f} KiB"
        lines.append(
            f"{scene:21}{outcome.functions:>9,}{outcome.start_seconds:>10.3f} s"
            f"{outcome.finish_seconds:>10.3f} s{memory:>13}"
        )
        if outcome.functions < asked:
            lines.append(f"  {outcome.functions:,} is all the {scene} this machine permits")
    lines.append("Memory is resident memory; a thread's kernel stack comes on top of it.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--functions", type=int, default=FUNCTIONS, help="how many wait at once")
    parser.add_argument("--scene", choices=SCENES, help="run one kind here and print it as JSON")
    options = parser.parse_args()
    count: int = options.functions
    if count < 1:
        parser.error("--functions must be at least 1")

    if options.scene is not None:
        print(json.dumps(asdict(SCENES[options.scene](count))))
        return

    print("The echo program, with threads:")
    echo_threads.main()
    print("\nThe echo program, on asyncio, send_receive_logic unchanged:")
    asyncio.run(echo_asyncio.main())
    print("\nThe program with threads again, unchanged; its threads, the server's too, are green:")
    for loop in LOOPS:
        print(unchanged(loop), flush=True)
    print(f"\n{count:,} calls of send_receive_logic that wait at once:", flush=True)
    print(table({scene: in_fresh_process(scene, count) for scene in SCENES}, count))


if __name__ == "__main__":
    main()
