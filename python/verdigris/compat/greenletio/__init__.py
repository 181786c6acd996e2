"""Drop-in for the package `greenletio` 0.11: its names, its modules, its command.

    import verdigris.compat.greenletio as greenletio

Below `async_` functions wait on any of asyncio, uvloop and Trio; outside of a loop `await_` starts
one, asyncio's, as there. The green modules are those of `verdigris.green`.
"""

from verdigris import spawn as spawn
from verdigris.compat.greenletio.core import async_ as async_
from verdigris.compat.greenletio.core import await_ as await_
from verdigris.compat.greenletio.patcher import patch_blocking as patch_blocking
from verdigris.compat.greenletio.patcher import patch_psycopg2 as patch_psycopg2

__all__ = ["async_", "await_", "patch_blocking", "patch_psycopg2", "spawn"]
