"""The tests that are not run on verdigris, each with its reason."""

from __future__ import annotations


def ids(module: str, version: str, mode: str) -> dict[str, str]:
    return {}
