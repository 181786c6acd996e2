"""What several neighbours' tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from servers import postgresql  # noqa: F401

from verdigris import async_def, ensure_portal, patch_sqlalchemy

# Runs a plain function in a task, so that it may wait.
Entry = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["greenlets", "patched"])
def sqlalchemys_way(request: pytest.FixtureRequest) -> Iterator[str]:
    """SQLAlchemy as it is, and by `patch_sqlalchemy`."""
    with patch_sqlalchemy() if request.param == "patched" else contextlib.nullcontext():
        yield request.param


async def below_a_portal(function: Callable[..., Any], *args: Any) -> Any:
    await ensure_portal()
    return function(*args)


@pytest.fixture(params=[async_def, below_a_portal])
def entry(request: pytest.FixtureRequest) -> Entry:
    return request.param
