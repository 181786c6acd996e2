"""Which engine carries functions that wait: native stacks, or greenlets.

Native stacks, as a rule. Greenlets do where the interpreter's thread state is not known, where
greenlet is loaded and can't be told about native stacks, or where `VERDIGRIS_ENGINE` asks for them.
The choice is the process's, and made before the first function: there are never both.
"""

import atexit
import gc
import os
import sys
from typing import Literal

from verdigris import _engine, _greenlet_note
from verdigris._interpreter import NEWEST, OLDEST
from verdigris._when_imported import when_imported

VARIABLE = "VERDIGRIS_ENGINE"
_NATIVE, _GREENLET = "native", "greenlet"
_EXTENSION = "greenlet._greenlet"

#: The engine's name, and why it is this one.
name = _NATIVE
reason = "the default"
#: What became of greenlet when it was met; None if it was not yet.
greenlet_is: Literal["isolated", "the engine", "refused"] | None = None


def choose() -> None:
    """Takes the engine that the environment asks for, or native stacks for now.

    Raises:
        ImportError: The environment asks for what does not exist, or can't be had.
    """
    global reason
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", _NATIVE, _GREENLET):
        raise ImportError(
            f"{VARIABLE} is {wanted!r}, and must be '{_NATIVE}' or '{_GREENLET}', or not be set"
        )
    if wanted:
        reason = f"{VARIABLE}={wanted}"
    if not _engine.knows_thread_state:
        unknown = "the thread state of CPython {}.{} is not known to this build".format(
            *sys.version_info[:2]
        )
        if wanted == _NATIVE:
            raise ImportError(
                f"{reason}, and {unknown} of verdigris, which native stacks need. Unset {VARIABLE} "
                "to have functions run on greenlets, look for a newer verdigris, or use CPython "
                "{}.{} to {}.{}.".format(*OLDEST, *NEWEST)
            )
        _use_greenlet(reason if wanted else unknown)
    elif wanted == _GREENLET:
        _use_greenlet(reason)
    else:
        when_imported(_EXTENSION, _meet_greenlet)


def import_greenlet() -> None:
    """Imports greenlet, to see what `greenlet_is` then.

    Raises:
        ImportError: It is not installed, or refused.
    """
    import greenlet  # noqa: F401


def _use_greenlet(why: str) -> None:
    global name, reason, greenlet_is
    try:
        import greenlet  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the engine on greenlets ({why}) needs the package greenlet: "
            "pip install 'verdigris[greenlet]'"
        ) from error
    _engine.use_greenlet()
    gc.callbacks.append(_engine.note_collection)
    # Before greenlet's own, after which it switches no more.
    atexit.register(_engine.unwind_waiting)
    name, reason = _GREENLET, why
    greenlet_is = "the engine"


def _meet_greenlet() -> None:
    """Called when greenlet was loaded, before its first greenlet is made."""
    global greenlet_is
    if _engine.isolate_greenlet():
        greenlet_is = "isolated"
        _greenlet_note.add_to(sys.modules[_EXTENSION].error)
        return
    greenlet_is = "refused"
    if os.environ.get(VARIABLE) == _NATIVE:
        raise ImportError(
            "verdigris could not find where greenlet keeps its state of a thread, so greenlets and "
            f"native stacks in one process would crash. Unset {VARIABLE}, or do not import "
            "greenlet (SQLAlchemy's asyncio extension, Playwright's sync API and gevent do)."
        )
    try:
        _use_greenlet("greenlet is loaded, and where it keeps its state of a thread was not found")
    except RuntimeError as error:
        raise ImportError(
            "verdigris could not find where greenlet keeps its state of a thread, so greenlets and "
            "native stacks in one process would crash, and functions wait on native stacks now. "
            f"Import greenlet before the first of them, or set {VARIABLE}={_GREENLET}."
        ) from error
