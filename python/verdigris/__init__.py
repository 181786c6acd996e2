"""Ordinary synchronous functions that can wait inside asyncio and Trio programs.

Each function started by :func:`async_def` runs on a native stack of its own. When it calls
:func:`await_`, that stack is put aside and the event loop goes on with other work.

This file lists the public names and holds no code. Those of `worlds` come from `_later`. The
interpreter check comes first, because loading the extension on a CPython it was not written for
would crash instead of raising.
"""

# ruff: noqa: E402

from typing import TYPE_CHECKING as _TYPE_CHECKING

from verdigris._interpreter import check as _check_interpreter

_check_interpreter()

from verdigris._which_engine import choose as _choose_engine

_choose_engine()

from verdigris import _neighbours as _neighbours
from verdigris._async import async_ as async_
from verdigris._blocking_detector import Blockage as Blockage
from verdigris._blocking_detector import detect_blocking as detect_blocking
from verdigris._decorate import await_ as await_
from verdigris._engine import GreenCoroutine as GreenCoroutine
from verdigris._engine import NoAwaitContext as NoAwaitContext
from verdigris._engine import NoAwaitOccurred as NoAwaitOccurred
from verdigris._engine import PortalCoroutine as PortalCoroutine
from verdigris._engine import async_def as async_def
from verdigris._engine import can_await as can_await
from verdigris._held_originals import PatchWarning as PatchWarning
from verdigris._patch_imports import patch_blocking as patch_blocking
from verdigris._patch_in_place import get_original as get_original
from verdigris._patch_in_place import is_patched as is_patched
from verdigris._patch_in_place import patch_all as patch_all
from verdigris._portal import bestow_portal as bestow_portal
from verdigris._portal import ensure_portal as ensure_portal
from verdigris._portal import has_portal as has_portal
from verdigris._portal import with_portal_run as with_portal_run
from verdigris._portal import with_portal_run_sync as with_portal_run_sync
from verdigris._portal_tree import portals_for_children as portals_for_children
from verdigris._portal_tree import portals_for_tree as portals_for_tree
from verdigris._portal_tree import with_portal_run_tree as with_portal_run_tree
from verdigris._psycopg import PatchedPsycopg as PatchedPsycopg
from verdigris._psycopg import PatchedPsycopg2 as PatchedPsycopg2
from verdigris._psycopg import patch_psycopg as patch_psycopg
from verdigris._psycopg import patch_psycopg2 as patch_psycopg2
from verdigris._spawn import GreenTask as GreenTask
from verdigris._spawn import spawn as spawn
from verdigris._sqlalchemy import PatchedSQLAlchemy as PatchedSQLAlchemy
from verdigris._sqlalchemy import patch_sqlalchemy as patch_sqlalchemy
from verdigris._sync_syntax import async_context as async_context
from verdigris._sync_syntax import async_iter as async_iter
from verdigris._sync_syntax import autoawait as autoawait
from verdigris._sync_syntax import decorate_as_sync as decorate_as_sync
from verdigris._trio_tree import AutoPortalInstrument as AutoPortalInstrument
from verdigris.loops import TaskCancelled as TaskCancelled

if _TYPE_CHECKING:
    from verdigris.worlds._atomic import atomic as atomic
    from verdigris.worlds._blocking import block as block
    from verdigris.worlds._blocking import queue_background_thread as queue_background_thread
    from verdigris.worlds._blocking import to_blocking as to_blocking
    from verdigris.worlds._completed import CallCancelled as CallCancelled
    from verdigris.worlds._completed import CallsFailed as CallsFailed
    from verdigris.worlds._completed import CallsTimedOut as CallsTimedOut
    from verdigris.worlds._completed import Completed as Completed
    from verdigris.worlds._input import a_input as a_input
    from verdigris.worlds._parallel import Parallel as Parallel
    from verdigris.worlds._pool import PoolFull as PoolFull
    from verdigris.worlds._pool import ThreadPool as ThreadPool
    from verdigris.worlds._serial import Serial as Serial
    from verdigris.worlds._thread_executor import ExitOption as ExitOption
    from verdigris.worlds._thread_executor import ThreadExecutor as ThreadExecutor
    from verdigris.worlds._thread_loop import idle_event_loop as idle_event_loop
    from verdigris.worlds._to_async import run as run
    from verdigris.worlds._to_async import to_async as to_async

# Loaded when they are first asked for: they bring threads, queues and the green modules along.
from verdigris._later import __getattr__ as __getattr__
from verdigris._later import inspect_from_the_start as _inspect_from_the_start

_inspect_from_the_start()

__version__ = "0.1.0"

__all__ = [
    "AutoPortalInstrument",
    "Blockage",
    "CallCancelled",
    "CallsFailed",
    "CallsTimedOut",
    "Completed",
    "ExitOption",
    "GreenCoroutine",
    "GreenTask",
    "NoAwaitContext",
    "NoAwaitOccurred",
    "Parallel",
    "PatchWarning",
    "PatchedPsycopg",
    "PatchedPsycopg2",
    "PatchedSQLAlchemy",
    "PoolFull",
    "PortalCoroutine",
    "Serial",
    "TaskCancelled",
    "ThreadExecutor",
    "ThreadPool",
    "__version__",
    "a_input",
    "async_",
    "async_context",
    "async_def",
    "async_iter",
    "atomic",
    "autoawait",
    "await_",
    "bestow_portal",
    "block",
    "can_await",
    "decorate_as_sync",
    "detect_blocking",
    "ensure_portal",
    "get_original",
    "has_portal",
    "idle_event_loop",
    "is_patched",
    "patch_all",
    "patch_blocking",
    "patch_psycopg",
    "patch_psycopg2",
    "patch_sqlalchemy",
    "portals_for_children",
    "portals_for_tree",
    "queue_background_thread",
    "run",
    "spawn",
    "to_async",
    "to_blocking",
    "with_portal_run",
    "with_portal_run_sync",
    "with_portal_run_tree",
]
