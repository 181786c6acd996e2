"""Bytes through a pair of sockets, more than fit into it at once."""

from __future__ import annotations

import zlib
from typing import Any

from program import Node

from operations.operation import Operation
from verdigris import spawn
from verdigris.green import socket


class Echo(Operation):
    name = "socket"
    weight = 0.2

    def size(self, node: Node) -> int:
        return 300_000 if node.tag % 10 == 0 else node.tag % 2000

    def sent(self, node: Node) -> bytes:
        return bytes(range(256)) * (self.size(node) // 256) + b"." * (node.tag % 256)

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(zlib.crc32(self.sent(node)))
        return 0

    def run(self, node: Node, world: Any) -> int:
        here, there = socket.socketpair()

        def echo() -> None:
            with there:
                while data := there.recv(65536):
                    there.sendall(data)

        def send() -> None:
            here.sendall(self.sent(node))
            here.shutdown(socket.SHUT_WR)

        with here:
            tasks = [spawn(echo), spawn(send)]
            seen = 0
            while data := here.recv(65536):
                seen = zlib.crc32(data, seen)
            for task in tasks:
                task.join()
        world.trail.append(seen)
        return 0


OPERATIONS = [Echo]
