"""As much of an IMAP server as `imaplib` needs to log in, select, search and fetch two messages.

imap.py PORT TLS_PORT CERTIFICATE KEY

Searching for the subject "slow" takes 0.3 s.
"""

from __future__ import annotations

import sys
import time

from lines import LineHandler, serve

MESSAGES = ["Subject: one\r\n\r\nfirst\r\n", "Subject: two\r\n\r\nsecond\r\n"]


class Imap(LineHandler):
    def handle(self) -> None:
        self.say("* OK ready")
        while line := self.line():
            tag, command, *arguments = line.split()
            match command.upper():
                case "CAPABILITY":
                    self.say("* CAPABILITY IMAP4rev1 STARTTLS")
                case "STARTTLS":
                    self.say(f"{tag} OK begin")
                    self.start_tls()
                    continue
                case "SELECT":
                    self.say(f"* {len(MESSAGES)} EXISTS")
                case "SEARCH":
                    if "slow" in line:
                        time.sleep(0.3)
                    self.say("* SEARCH 1 2")
                case "FETCH":
                    message = MESSAGES[int(arguments[0]) - 1]
                    self.say(f"* {arguments[0]} FETCH (RFC822 {{{len(message)}}}", f"{message})")
                case "LOGOUT":
                    self.say("* BYE", f"{tag} OK done")
                    return
            self.say(f"{tag} OK done")


serve(Imap, *sys.argv[1:])
