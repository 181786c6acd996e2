"""A sync callback in an async program: the standard library's XML parser calls, the loop answers.

`xml.sax` is a library of somebody else. It is written in C in part, and calls the methods of a
handler, which are plain functions. This program's handler has to ask a server for the price of
every article. It waits with `await_` in the middle of the parser, and the loop goes on.

The server runs on the same loop. A handler that blocked the loop would never get an answer.
"""

from __future__ import annotations

import asyncio
import xml.sax
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesImpl

from verdigris import await_, ensure_portal

PRICES = {"tea": 3, "bread": 2, "salt": 1}

BASKETS = {
    "ada": b"<basket><article name='tea' count='3'/><article name='salt' count='1'/></basket>",
    "bob": b"<basket><article name='bread' count='5'/><article name='tea' count='1'/></basket>",
}


# --- the price server --------------------------------------------------------


async def serve_price(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = (await reader.readline()).decode().strip()
    writer.write(f"{PRICES[name]}\n".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask_price(port: int, name: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{name}\n".encode())
        return int(await reader.readline())
    finally:
        writer.close()
        await writer.wait_closed()


# --- the callback ------------------------------------------------------------


class Bill(ContentHandler):
    """Adds up what a basket costs."""

    def __init__(self, customer: str, port: int, log: list[str]) -> None:
        super().__init__()
        self.total = 0
        self._customer = customer
        self._port = port
        self._log = log

    def startElement(self, name: str, attrs: AttributesImpl) -> None:
        if name != "article":
            return
        article = attrs.getValue("name")
        self._log.append(f"{self._customer} asks for {article}")
        # The parser has called us, and does not know that anybody waits here.
        price = await_(ask_price(self._port, article))
        self._log.append(f"{self._customer} knows {article}")
        self.total += price * int(attrs.getValue("count"))


# --- the program -------------------------------------------------------------


async def bill(customer: str, port: int, log: list[str]) -> int:
    await ensure_portal()  # once for each task
    handler = Bill(customer, port, log)
    xml.sax.parseString(BASKETS[customer], handler)
    return handler.total


async def main() -> list[str]:
    """Print the bills. Give the order in which the callbacks asked and were answered."""
    log: list[str] = []
    server = await asyncio.start_server(serve_price, "127.0.0.1", 0)
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        totals = await asyncio.gather(*[bill(customer, port, log) for customer in BASKETS])
    for customer, total in zip(BASKETS, totals, strict=True):
        print(f"{customer} pays {total}")
    return log


if __name__ == "__main__":
    asyncio.run(main())
