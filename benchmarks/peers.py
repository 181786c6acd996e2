"""The peers: the libraries that let a synchronous function wait in an asyncio program.

Each is reduced to the few calls that the rows need. They are the library's own functions, not
wrappers around them, so that a row measures nothing of this file.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import ModuleType
from typing import Any

OURS = "verdigris"
# greenback's names over verdigris. It is no peer, and stands beside greenback in one row only.
DROP_IN = "compat.greenback"


@dataclass(frozen=True)
class Portal:
    """What a library offers to tasks that it has not started."""

    # Gives the current task a portal, at once.
    ensure: Callable[[], Coroutine[Any, Any, None]]
    # Gives another task one.
    bestow: Callable[[Any], None]


@dataclass(frozen=True)
class Peer:
    name: str
    version: str
    # Waits for an awaitable, from a synchronous function.
    wait: Callable[[Awaitable[Any]], Any]
    # Runs a synchronous function that may wait: enter(function, *args).
    enter: Callable[..., Coroutine[Any, Any, Any]]
    # For a library that only decorates functions: `enter` made from this costs one more call.
    decorate: Callable[[Callable[..., Any]], Callable[..., Coroutine[Any, Any, Any]]] | None = None
    # None for a library that can only enter functions.
    portal: Portal | None = None


def _verdigris() -> Peer:
    import verdigris

    portal = Portal(verdigris.ensure_portal, verdigris.bestow_portal)
    return Peer(OURS, _version(OURS), verdigris.await_, verdigris.async_def, portal=portal)


def _drop_in() -> Peer:
    # By name, because a checkout may be older than it.
    greenback = importlib.import_module("verdigris.compat.greenback")
    return _of_greenback(DROP_IN, OURS, greenback)


def _awaitlet() -> Peer:
    import awaitlet  # type: ignore[import-untyped]

    return Peer("awaitlet", _version("awaitlet"), awaitlet.awaitlet, awaitlet.async_def)


def _greenback() -> Peer:
    import greenback

    return _of_greenback("greenback", "greenback", greenback)


def _of_greenback(name: str, distribution: str, greenback: ModuleType) -> Peer:
    return Peer(
        name,
        _version(distribution),
        greenback.await_,
        greenback.with_portal_run_sync,
        portal=Portal(greenback.ensure_portal, greenback.bestow_portal),
    )


def _greenletio() -> Peer:
    import greenletio  # type: ignore[import-untyped]

    def enter(function: Callable[..., Any], *args: Any) -> Coroutine[Any, Any, Any]:
        entered: Coroutine[Any, Any, Any] = greenletio.async_(function)(*args)
        return entered

    return Peer("greenletio", _version("greenletio"), greenletio.await_, enter, greenletio.async_)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"  # importable from a source tree, but not installed


_LOADERS: dict[str, Callable[[], Peer]] = {
    OURS: _verdigris,
    "awaitlet": _awaitlet,
    "greenback": _greenback,
    "greenletio": _greenletio,
    DROP_IN: _drop_in,
}
NAMES = tuple(name for name in _LOADERS if name != DROP_IN)


def load(name: str) -> Peer:
    """Import one peer.

    Raises:
        ImportError: it is not installed, or refuses this interpreter.
    """
    return _LOADERS[name]()


def load_all() -> tuple[list[Peer], dict[str, str]]:
    """The peers that can be imported, and for each of the others the reason why it cannot."""
    found: list[Peer] = []
    missing: dict[str, str] = {}
    for name in NAMES:
        try:
            found.append(load(name))
        except ImportError as error:
            missing[name] = str(error)
    return found, missing


def with_drop_in(peers: list[Peer]) -> list[Peer]:
    """The peers, and the drop-in for greenback where it can be imported."""
    try:
        return [*peers, load(DROP_IN)]
    except ImportError:
        return peers


def with_portals(peers: list[Peer]) -> list[tuple[Peer, Portal]]:
    """Those of the peers that have portals."""
    return [(peer, peer.portal) for peer in peers if peer.portal is not None]
