"""What must hold after anything that a script of this directory does."""

import asyncio

from hand_driver import finish, suspend

from verdigris import async_def, await_


def still_works():
    """Functions wait, by hand and on a loop."""
    assert finish(async_def(lambda: await_(suspend("x"))), answer=lambda tag: tag) == "x"
    assert asyncio.run(async_def(lambda: await_(asyncio.sleep(0, "y")))) == "y"
