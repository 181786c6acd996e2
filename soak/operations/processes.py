"""Child processes and forks."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from program import Node

from operations.operation import Operation
from operations.stepped import suspend
from verdigris import async_def, await_
from verdigris.green import os as green_os
from verdigris.green import subprocess


class Subprocess(Operation):
    name = "subprocess"
    weight = 0.01

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(f"{node.tag}\n".encode())
        return 0

    def run(self, node: Node, world: Any) -> int:
        done = subprocess.run(["/bin/echo", str(node.tag)], capture_output=True, check=True)
        world.trail.append(done.stdout)
        return 0


class Fork(Operation):
    """The child runs a function of its own, stepped by hand, and ends with what it returned."""

    name = "fork"
    weight = 0.01
    on_os_threads = False

    def expect(self, node: Node, model: Any) -> int:
        model.trail.append(node.tag % 100)
        return 0

    def run(self, node: Node, world: Any) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the pool has threads
            child = os.fork()
        if not child:
            code = 255
            try:
                function = async_def(lambda: await_(suspend(node.tag % 100)))
                code = function.send(None)
                function.close()
            finally:
                sys.stderr.flush()
                os._exit(code)
        world.trail.append(os.waitstatus_to_exitcode(green_os.waitpid(child, 0)[1]))
        return 0


OPERATIONS = [Subprocess, Fork]
