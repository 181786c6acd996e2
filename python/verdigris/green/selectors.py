"""`selectors`, green: each selector waits by the green `select`.

A selector is told which one by an attribute of its class. The stdlib's `SelectSelector` has the
function there, and a function of Python's would become a method; so it is a static one.

KqueueSelector and DevpollSelector wait as ever: this module is written for Linux.
"""

from __future__ import annotations

import selectors as _original
from typing import Any

from verdigris.green import _twin
from verdigris.green import select as _select

REPLACED: dict[str, Any] = {}

METHODS: dict[str, dict[str, Any]] = {"SelectSelector": {"_select": staticmethod(_select.select)}}
if hasattr(_original, "PollSelector"):
    METHODS["PollSelector"] = {"_selector_cls": _select.poll}
if hasattr(_original, "EpollSelector"):
    METHODS["EpollSelector"] = {"_selector_cls": _select.epoll}

_twin.make(globals(), _original, REPLACED, METHODS)
