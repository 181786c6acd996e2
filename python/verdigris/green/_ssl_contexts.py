"""The methods of `ssl.SSLContext` that read files: certificates, keys, the system's trust store.

OpenSSL reads and parses a trust store for 30 to 55 ms. Green functions have a thread do it.
"""

from __future__ import annotations

import ssl as _stdlib
from collections.abc import Callable
from typing import Any

from verdigris.green import _wait

# Taken before anything is patched.
_load_cert_chain = _stdlib.SSLContext.load_cert_chain


def load_cert_chain(self: Any, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
    """`SSLContext.load_cert_chain`. A function that knows the password is called right here."""
    if callable(password):
        # It may look at who calls it, and wait. In a thread it would be somebody else's.
        return _load_cert_chain(self, certfile, keyfile, password)
    return _wait.offload(_load_cert_chain, self, certfile, keyfile, password)


def _in_thread(name: str) -> Callable[..., None]:
    original = getattr(_stdlib.SSLContext, name)

    def load(self: Any, *args: Any, **kwargs: Any) -> None:
        _wait.offload(original, self, *args, **kwargs)

    load.__name__, load.__doc__ = name, original.__doc__
    load.__qualname__ = f"SSLContext.{name}"
    return load


METHODS: dict[str, Callable[..., Any]] = {
    "load_cert_chain": load_cert_chain,
    "load_verify_locations": _in_thread("load_verify_locations"),
    # `load_default_certs` calls it, after what it has of its own to do on Windows.
    "set_default_verify_paths": _in_thread("set_default_verify_paths"),
}
