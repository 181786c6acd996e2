"""A recursion that ends in a process: plain, then on asyncio, then on Trio.

The top calls `print_fact`, which calls itself, and the last call runs a process that prints the
number. On a loop nobody may block while the process runs. So the bottom waits with `await_`, the
top makes its task able to with `ensure_portal`, and `print_fact` between them stays what it was.
"""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess

from fact_layers import print_fact

from verdigris import await_, ensure_portal

NUMBER = 5


class Turns:
    """Counts the turns of another task, to show that the loop is not blocked."""

    def __init__(self) -> None:
        self.taken = 0


# --- without a loop ----------------------------------------------------------


def print_value_sync(value: int) -> None:
    subprocess.run(["echo", str(value)], check=True)


# --- asyncio -----------------------------------------------------------------


async def echo_on_asyncio(value: int) -> None:
    process = await asyncio.create_subprocess_exec("echo", str(value))
    if await process.wait() != 0:
        raise RuntimeError(f"echo ended with {process.returncode}")


def print_value_asyncio(value: int) -> None:
    await_(echo_on_asyncio(value))


async def main_asyncio() -> int:
    """Give the number of turns that the other task took meanwhile."""
    turns = Turns()

    async def other() -> None:
        while True:
            await asyncio.sleep(0)
            turns.taken += 1

    other_task = asyncio.create_task(other())
    await ensure_portal()
    before = turns.taken
    print_fact(NUMBER, print_value_asyncio)
    meanwhile = turns.taken - before
    other_task.cancel()
    return meanwhile


# --- Trio --------------------------------------------------------------------


async def main_trio() -> int:
    """Give the number of turns that the other task took meanwhile."""
    import trio

    turns = Turns()

    async def other() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns.taken += 1

    def print_value_trio(value: int) -> None:
        await_(trio.run_process(["echo", str(value)]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await ensure_portal()
        before = turns.taken
        print_fact(NUMBER, print_value_trio)
        meanwhile = turns.taken - before
        nursery.cancel_scope.cancel()
    return meanwhile


# -----------------------------------------------------------------------------


def main() -> None:
    # The processes write to the same place, so nothing may stay in Python's buffer.
    print("plain:", flush=True)
    print_fact(NUMBER, print_value_sync)

    print("on asyncio:", flush=True)
    meanwhile = asyncio.run(main_asyncio())
    print(f"another task ran meanwhile: {meanwhile > 0}", flush=True)

    if importlib.util.find_spec("trio") is None:
        print("on Trio: it is not installed")
        return
    import trio

    print("on Trio:", flush=True)
    meanwhile = trio.run(main_trio)
    print(f"another task ran meanwhile: {meanwhile > 0}")


if __name__ == "__main__":
    main()
