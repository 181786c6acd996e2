"""As much of a POP3 server as `poplib` needs to log in, list and fetch two messages.

pop3.py PORT TLS_PORT CERTIFICATE KEY

NOOP takes 0.3 s.
"""

from __future__ import annotations

import sys
import time

from lines import LineHandler, serve

MESSAGES = [["Subject: one", "", "first"], ["Subject: two", "", "second"]]


class Pop3(LineHandler):
    def handle(self) -> None:
        self.say("+OK ready")
        while line := self.line():
            command, *arguments = line.split()
            match command.upper():
                case "STAT":
                    self.say(f"+OK {len(MESSAGES)} 100")
                case "CAPA":
                    self.say("+OK", "STLS", ".")
                case "STLS":
                    self.say("+OK begin")
                    self.start_tls()
                case "RETR":
                    self.say("+OK", *MESSAGES[int(arguments[0]) - 1], ".")
                case "NOOP":
                    time.sleep(0.3)
                    self.say("+OK slow")
                case "QUIT":
                    self.say("+OK bye")
                    return
                case _:
                    self.say("+OK")


serve(Pop3, *sys.argv[1:])
