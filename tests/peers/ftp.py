"""An FTP server for an anonymous user, who may write; TLS by AUTH TLS.

ftp.py PORT DIRECTORY CERTIFICATE KEY

Its own command SLOW takes 0.3 s.
"""

from __future__ import annotations

import sys
from typing import Any

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import TLS_FTPHandler
from pyftpdlib.servers import FTPServer

port, directory, certificate, key = sys.argv[1:]


class Handler(TLS_FTPHandler):
    authorizer = DummyAuthorizer()
    certfile = certificate
    keyfile = key
    proto_cmds = TLS_FTPHandler.proto_cmds | {
        "SLOW": {"perm": None, "auth": True, "arg": False, "help": "Syntax: SLOW."}
    }

    def ftp_SLOW(self, _line: Any) -> None:
        self.ioloop.call_later(0.3, self.respond, "200 slow")


Handler.authorizer.add_anonymous(directory, perm="elradfmw")
FTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
