"""Sync Python code that waits for Rust futures, in an asyncio program.

Build the module first, and put it where Python finds it:

    cargo build --release
    cp target/release/librust_futures.so rust_futures.so
    python program.py
"""

from __future__ import annotations

import asyncio

import rust_futures

from verdigris import async_, await_


def shout(address: str, word: str) -> str:
    """A sync function: the first wait is a timer of tokio's, the second a connection."""
    await_(rust_futures.sleep(0.01))
    answer: str = await_(rust_futures.ask(address, word))
    return answer + "!"


def shout_all(address: str, words: list[str]) -> list[str]:
    """Waits below a function of the standard library that knows nothing of async."""
    return sorted(words, key=lambda word: shout(address, word))


def nap() -> None:
    await_(rust_futures.sleep(3600))


async def echo_capitals(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server that is asked: asyncio's, in the same program."""
    writer.write((await reader.read()).upper())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def main() -> None:
    """Waits for several functions at once, and drops one with its future in Rust."""
    server = await asyncio.start_server(echo_capitals, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        address = f"{host}:{port}"
        shouts = await asyncio.gather(*(async_(shout)(address, word) for word in ("one", "two")))
        print(*shouts)
        print(*await async_(shout_all)(address, ["delta", "Alpha", "charlie"]))
        try:
            await asyncio.wait_for(async_(nap)(), 0.01)
        except TimeoutError:
            print("too slow")


if __name__ == "__main__":
    asyncio.run(main())
