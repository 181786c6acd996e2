"""Every kind of operation, by its name. Each file has those of one part of verdigris."""

from __future__ import annotations

from operations import (
    calls,
    collections_,
    contexts,
    exceptions,
    greenlets,
    portals,
    processes,
    signals,
    sockets,
    stepped,
    tasks,
    threads,
    waits,
    worlds,
)
from operations.operation import Operation

OPERATIONS: dict[str, Operation] = {
    operation.name: operation()
    for module in (
        *(waits, exceptions, calls, contexts, stepped, collections_, tasks, portals),
        *(threads, worlds, sockets, greenlets, signals, processes),
    )
    for operation in module.OPERATIONS
}
