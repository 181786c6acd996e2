"""`socket`, green: all of it, name resolution too."""

import socket as _original

from verdigris.green import _dns, _socket_methods, _twin

REPLACED = {
    "getaddrinfo": _dns.getaddrinfo,
    "gethostbyname": _dns.gethostbyname,
    "gethostbyname_ex": _dns.gethostbyname_ex,
    "gethostbyaddr": _dns.gethostbyaddr,
    "getnameinfo": _dns.getnameinfo,
    "close": _socket_methods.close,
}
METHODS = {"socket": _socket_methods.METHODS}

_twin.make(globals(), _original, REPLACED, METHODS)
