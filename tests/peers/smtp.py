"""An SMTP server: plain with STARTTLS, and with TLS from the start.

smtp.py PORT TLS_PORT CERTIFICATE KEY

What it says after a message is how long that was. A message to slow@... takes 0.3 s.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from functools import partial
from typing import Any

from aiosmtpd.smtp import SMTP


class Mailbox:
    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if envelope.rcpt_tos[0].startswith("slow"):
            await asyncio.sleep(0.3)
        return f"250 {len(envelope.content)} bytes"


async def main(port: str, tls_port: str, certificate: str, key: str) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    plain = partial(SMTP, Mailbox(), tls_context=tls, hostname="localhost")
    wrapped = partial(SMTP, Mailbox(), hostname="localhost")
    await loop.create_server(plain, "127.0.0.1", int(port))
    await loop.create_server(wrapped, "127.0.0.1", int(tls_port), ssl=tls)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
