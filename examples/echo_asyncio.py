"""The classic program on asyncio: `echo_threads.py` with new ends and the same middle.

The implementation waits with `await_`, the API enters with `async_def`. Between them
`send_receive_logic` stays what it was: a plain function, without `async` and without `await`.
"""

from __future__ import annotations

import asyncio

from echo_layers import MESSAGES, send_receive_logic
from echo_server import echo_server

from verdigris import async_def, await_


def send_receive_implementation(host: str, port: int, message: str) -> str:
    reader, writer = await_(asyncio.open_connection(host, port))
    try:
        writer.write(message.encode())
        await_(writer.drain())
        return await_(reader.readline()).decode()
    finally:
        writer.close()
        await_(writer.wait_closed())


async def send_receive_api(msg: str, host: str, port: int) -> str:
    return await async_def(send_receive_logic, msg, host, port, send_receive_implementation)


async def main() -> None:
    with echo_server() as (host, port):
        replies = await asyncio.gather(*[send_receive_api(msg, host, port) for msg in MESSAGES])
        for reply in replies:
            print(f"Got back echo response: {reply}")


if __name__ == "__main__":
    asyncio.run(main())
