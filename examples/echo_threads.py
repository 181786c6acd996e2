"""The classic program with threads: five messages to an echo server, a thread for each.

Three layers: the implementation does the input and output, the logic decides what is sent, the
API is what the rest of the program calls. `echo_asyncio.py` is the same program on asyncio.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

from echo_layers import MESSAGES, send_receive_logic
from echo_server import echo_server


def send_receive_implementation(host: str, port: int, message: str) -> str:
    with socket.create_connection((host, port)) as sock:
        sock.sendall(message.encode())
        with sock.makefile("r", encoding="utf-8", newline="\n") as replies:
            return replies.readline()


def send_receive_api(msg: str, host: str, port: int) -> str:
    return send_receive_logic(msg, host, port, send_receive_implementation)


def main() -> None:
    with echo_server() as (host, port), ThreadPoolExecutor(len(MESSAGES)) as threads:
        for reply in threads.map(lambda msg: send_receive_api(msg, host, port), MESSAGES):
            print(f"Got back echo response: {reply}")


if __name__ == "__main__":
    main()
