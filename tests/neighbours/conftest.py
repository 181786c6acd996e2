"""What several neighbours' tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from servers import postgresql  # noqa: F401

from verdigris import patch_sqlalchemy


@pytest.fixture(params=["greenlets", "patched"])
def sqlalchemys_way(request: pytest.FixtureRequest) -> Iterator[str]:
    """SQLAlchemy as it is, and by `patch_sqlalchemy`."""
    with patch_sqlalchemy() if request.param == "patched" else contextlib.nullcontext():
        yield request.param
