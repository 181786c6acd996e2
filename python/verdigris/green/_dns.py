"""Name resolution, which blocks in C: in a thread where a function runs green.

A numeric address and None need no resolver, so they are answered at once, without a thread.
`addressed` does the same for the host names in the addresses that sockets are given: `connect`
would resolve them inside its C call.
"""

from __future__ import annotations

import _socket
import socket as _stdlib
from typing import Any

from verdigris.green import _wait

# What the stdlib has, also when these functions stand in its place. The module's own
# `getaddrinfo` makes enums of what the C function returns.
_getaddrinfo = _stdlib.getaddrinfo
_gethostbyname = _socket.gethostbyname
_gethostbyname_ex = _socket.gethostbyname_ex
_gethostbyaddr = _socket.gethostbyaddr
_getnameinfo = _socket.getnameinfo

_INTERNET = (_socket.AF_INET, _socket.AF_INET6)
_NUMERIC_NAME = _socket.NI_NUMERICHOST | _socket.NI_NUMERICSERV


def getaddrinfo(
    host: Any,
    port: Any,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
) -> Any:
    """`socket.getaddrinfo`."""
    if _is_numeric(host) and _is_number(port):
        return _getaddrinfo(host, port, family, type, proto, flags)
    return _wait.offload(_getaddrinfo, host, port, family, type, proto, flags)


def gethostbyname(*args: Any) -> str:
    """`socket.gethostbyname`."""
    if len(args) == 1 and _is_numeric(args[0]):
        return _gethostbyname(*args)
    return _wait.offload(_gethostbyname, *args)


def gethostbyname_ex(*args: Any) -> tuple[str, list[str], list[str]]:
    """`socket.gethostbyname_ex`."""
    if len(args) == 1 and _is_numeric(args[0]):
        return _gethostbyname_ex(*args)
    return _wait.offload(_gethostbyname_ex, *args)


def gethostbyaddr(*args: Any) -> tuple[str, list[str], list[str]]:
    """`socket.gethostbyaddr`."""
    return _wait.offload(_gethostbyaddr, *args)


def getnameinfo(*args: Any) -> tuple[str, str]:
    """`socket.getnameinfo`."""
    match args:
        case (_, int(flags)) if flags & _NUMERIC_NAME == _NUMERIC_NAME:
            return _getnameinfo(*args)
    return _wait.offload(_getnameinfo, *args)


def addressed(family: int, address: Any) -> Any:
    """The address with its host name resolved, so that a C call that takes it need not.

    What is no address of that family is returned as it is: the C call says what is wrong with it,
    and it does so before it asks a resolver.

    Raises:
        socket.gaierror: As the C call would.
    """
    if family not in _INTERNET or not isinstance(address, tuple) or not 2 <= len(address) <= 4:
        return address
    host, port, *rest = address
    if not isinstance(host, str | bytes | bytearray) or not hasattr(port, "__index__"):
        return address
    if _is_numeric(host) or host in ("<broadcast>", b"<broadcast>"):
        return address
    try:
        name = host.encode("idna") if isinstance(host, str) else bytes(host)
    except UnicodeError:
        return address
    if b"\0" in name:
        return address
    found = _wait.offload(_socket.getaddrinfo, name, None, family)
    return (found[0][4][0], port, *rest)


def _is_numeric(host: Any) -> bool:
    """Whether a host is None, empty, or an address in digits."""
    if host is None:
        return True
    if isinstance(host, bytes | bytearray):
        host = host.decode("latin-1")
    if not isinstance(host, str):
        return False
    # `%` and an interface's name may follow an address of IPv6.
    for family, digits in ((_socket.AF_INET, host), (_socket.AF_INET6, host.partition("%")[0])):
        try:
            _socket.inet_pton(family, digits)
        except (OSError, ValueError):  # ValueError: a NUL is in it
            continue
        return True
    return not host


def _is_number(port: Any) -> bool:
    """Whether a port needs no look-up among the services."""
    if isinstance(port, str | bytes):
        return port.isdigit()
    return port is None or isinstance(port, int)
