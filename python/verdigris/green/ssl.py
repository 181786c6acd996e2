"""`ssl`, green: `SSLSocket` and `SSLContext` are made green in place, once this is imported.

There is no twin of its classes. A context that was made before is as good as one that is made
afterwards, and what checks certificates and host names is the stdlib's own code. It also stands on
the twin's socket now: `isinstance` finds it to be one, and what it does below TLS is green.
"""

import socket as _sockets
import ssl as _original
from typing import Any

# The twin of `socket` must be there first.
from verdigris.green import _ssl_contexts, _ssl_methods, _twin, socket  # noqa: F401

REPLACED = {name: getattr(_original, name) for name in ("SSLContext", "SSLObject", "SSLSocket")}
METHODS: dict[str, dict[str, Any]] = {
    "SSLSocket": {"__bases__": (_twin.green_of(_sockets.socket),), **_ssl_methods.METHODS},
    "SSLContext": _ssl_contexts.METHODS,
}

_twin.patch(_original, REPLACED, METHODS)
_twin.make(globals(), _original, REPLACED)
